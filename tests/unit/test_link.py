# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of whole pages."""

from __future__ import annotations

import pytest

from zclab.lab import link


@pytest.mark.parametrize(("ip_version", "pages", "mtu"), [(6, 1, 4168), (4, 1, 4148), (6, 15, 61512)])
def test_mtu_and_mss_are_inverse(ip_version: int, pages: int, mtu: int) -> None:
    assert link.whole_page_mtu(ip_version, pages) == mtu
    assert link.mss(ip_version, mtu) == pages * 4096


def test_ipv4_on_an_ipv6_link_carries_no_whole_page() -> None:
    assert link.mss(4, 4168) == 4116
