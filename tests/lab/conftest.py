# SPDX-License-Identifier: Apache-2.0
"""The lab that several files share: each asks for the kernel and the plan that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.virtual_lab import LabUnderTest


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    """A lab whose hosts come up when a file first uses it."""
    lab = LabUnderTest(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        lab.zclab("down")
