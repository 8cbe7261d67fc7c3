# SPDX-License-Identifier: Apache-2.0
"""Rules that stand in a role's module and in the package, which a module on a host cannot import.

One table of cases for each, in tests/data/rules, feeds both.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from tests.role_modules import load

from zclab.analysis import declared_state
from zclab.base.paths import project_root
from zclab.host import state
from zclab.lab import link
from zclab.lab.model import Limits

zclab_ethtool = load("link_tuning/module_utils/zclab_ethtool.py")
zclab_host = load("common/module_utils/zclab_host.py")
zclab_link = load("link_tuning/library/zclab_link.py")
zclab_limits = load("host_limits/library/zclab_limits.py")


def cases(name: str) -> list[dict[str, Any]]:
    """Return a table of cases; an empty one would test nothing."""
    text = (project_root() / f"tests/data/rules/{name}.yml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = yaml.safe_load(text)
    assert found
    return found


@pytest.mark.parametrize("case", cases("ipv4_route_mtu"), ids=lambda case: str(case["mtu"]))
def test_ipv4_route_mtu(case: dict[str, Any]) -> None:
    assert link.ipv4_route_mtu(case["mtu"]) == case["route_mtu"]
    assert zclab_link.whole_page_ipv4_mtu(case["mtu"]) == case["route_mtu"]


@pytest.mark.parametrize("case", cases("build_id"), ids=lambda case: str(case["name"]))
def test_build_id(case: dict[str, Any]) -> None:
    notes = bytes.fromhex(case["notes"])
    assert state.build_id(notes) == case["build_id"]
    assert zclab_host.build_id(notes) == (case["build_id"] or "")


@pytest.mark.parametrize("case", cases("rcvlowat"), ids=lambda case: f"{case['tcp_rmem']}: {case['bytes']}")
def test_low_water_mark(case: dict[str, Any]) -> None:
    assert (zclab_limits.rcvlowat_problem(case["tcp_rmem"], case["bytes"]) == "") == case["fits"]
    declared = {"rcvlowat_bytes": case["bytes"], "sysctls": {"net.ipv4.tcp_rmem": case["tcp_rmem"]}}
    if case["fits"]:
        Limits.model_validate(declared)
    else:
        with pytest.raises(ValidationError, match="where the kernel caps it"):
            Limits.model_validate(declared)


def test_names_of_offloads() -> None:
    """What the role sets by a short name is looked for by the same long one."""
    assert declared_state.OFFLOADS == zclab_ethtool.OFFLOAD_NAMES
