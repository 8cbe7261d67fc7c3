# SPDX-License-Identifier: Apache-2.0
"""The plan's measurements and verdicts."""

from __future__ import annotations

import pytest

from zclab.analysis.stopping import counted
from zclab.base.metrics import METRICS
from zclab.lab.model import Lab
from zclab.pytest_plugin import Measured


@pytest.mark.claim("Z1", "Z3")
def test_every_measurement_is_valid(measured: Measured) -> None:
    """Kernel, MTU, MSS, mapped and copied fractions, completions, retransmits and drops are as declared."""
    final = counted(measured.document.measurements)
    assert final
    invalid = {one.id: one.invalid_reasons for one in final if one.invalid_reasons}
    assert not invalid
    assert not measured.document.problems


@pytest.mark.claim("F1", "F2", "F3", "F4", "F8")
def test_comparison(measured: Measured, cell: tuple[str, str]) -> None:
    """A comparison that the lab gates passes; one that it does not gate is sound."""
    name, metric = cell
    found = [one for one in measured.document.comparisons if (one.name, one.metric) == (name, metric)]
    assert found
    if skipped := [
        one.skipped for one in measured.document.measurements if one.comparison == name and one.skipped
    ]:
        pytest.skip(f"{skipped[0]}")
    for one in found:
        kind = METRICS[one.metric]
        assert one.n > 0 or not kind.everywhere or kind.shown_only
        if one.gated:
            assert one.verdict == "pass", one
        else:
            assert one.not_gated_because
            assert one.verdict is None, one


def test_every_byte_arrives(measured: Measured) -> None:
    """Where the plan checks integrity, every byte of every combination of modes arrives as it was sent."""
    checked = [one for one in measured.document.measurements if one.phase == "integrity"]
    if not checked:
        pytest.skip("this plan checks no bytes")
    assert {one.id: one.integrity for one in checked if not one.skipped} == {
        one.id: "verified" for one in checked if not one.skipped
    }


def test_headers_are_split(measured: Measured, lab: Lab) -> None:
    """The receiver's NIC counted split headers in every measurement, and mapped bytes come from them."""
    counts = [one.header_split for one in measured.document.measurements if one.rpc is None]
    if not lab.traits.emulators and (not counts or None in counts):
        pytest.skip(f"{lab.pair().receiver.data_interface} does not count split headers")
    assert counts
    assert all(count is not None and count > 0 for count in counts)
