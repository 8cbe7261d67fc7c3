# SPDX-License-Identifier: Apache-2.0
"""How many pairs or boots a plan needs, by its pilot."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests import factories
from tests.factories import changed

from zclab.analysis import pilot, verdict
from zclab.analysis.document import RunDocument
from zclab.analysis.pilot import Need
from zclab.plan import schedule
from zclab.plan.plan import Plan


def plan(**changes: Any) -> Plan:
    metrics: dict[str, list[str]] = {"receiver_usec_per_mib": []}
    data = {
        "comparisons": [factories.comparison(metrics=metrics)],
        "repeats": {"at_least": 6, "at_most": 30},
        "precision": 0.02,
        "aa_pairs": 8,
        "integrity_bytes": 4096,
    }
    return factories.plan(**data | changes)


def piloted(of: Plan, spread: float = 0.03) -> tuple[RunDocument, list[Need]]:
    manifest = factories.manifest(plan=pilot.pilot_of(of))
    document = verdict.judge(manifest, factories.records(manifest, spread=spread))
    return document, pilot.needs(document, of, 0.02)


def test_a_pilot_measures_a_few_pairs_and_nothing_else() -> None:
    made = schedule.measurements(pilot.pilot_of(plan()))
    assert len(made) == 2 * pilot.PAIRS
    assert {one.phase for one in made} == {"compare"}


def test_how_many_pairs_are_needed_follows_from_their_spread() -> None:
    """At 96.25 %, as the plan's own interval is computed while it may end early."""
    (found,) = piloted(plan())[1]
    assert found.spread == pytest.approx(0.03 * 2**0.5, rel=0.5)
    assert found.needed is not None
    expected = (2.08 * math.sqrt(math.pi / 3) * found.spread / 0.02) ** 2
    assert expected <= found.needed < expected + 2
    assert found.needed % 2 == 0
    assert found.reached == pytest.approx(0.02 * math.sqrt(expected / 30), rel=0.01)


@pytest.mark.parametrize(
    ("precision", "at_most", "code"), [(0.05, 30, 0), (0.001, 30, 3), (0.001, 1000, 3), (None, 30, 0)]
)
def test_its_exit_code_says_whether_the_limits_suffice(
    precision: float | None, at_most: int, code: int
) -> None:
    repeats = {"at_least": 6 if precision else at_most, "at_most": at_most}
    document, found = piloted(plan(precision=precision, repeats=repeats))
    assert pilot.exit_code(document, found) == code


def test_an_invalid_pilot_says_so() -> None:
    of = plan()
    manifest = factories.manifest(plan=pilot.pilot_of(of))
    records = factories.records(manifest)
    records[0] = changed(records[0], {"after.receiver1.mtu": 1500})
    document = verdict.judge(manifest, records)
    assert pilot.exit_code(document, pilot.needs(document, of, 0.02)) == 4


def test_a_pilot_that_measured_nothing_of_use_does_not_pass() -> None:
    document, _ = piloted(plan())
    assert pilot.exit_code(document, []) == 3


def test_no_fewer_pairs_than_an_interval_needs() -> None:
    (found,) = piloted(plan(precision=0.5), spread=0.001)[1]
    assert (found.needed, found.for_none) == (6, 8)


def test_of_a_comparison_of_kernels_boots_are_needed() -> None:
    comparison = factories.comparison(metrics={"receiver_usec_per_mib": []})
    comparison["b"]["kernel"] = "mine"
    of = plan(comparisons=[comparison], boots={"at_least": 4, "at_most": 10})
    manifest = factories.manifest(plan=pilot.pilot_of(of))
    boots = [
        changed(one, {"boots": {"sender1": str(one.planned.boot), "receiver1": str(one.planned.boot)}})
        for one in factories.records(manifest, spread=0.03)
    ]
    (found,) = pilot.needs(verdict.judge(manifest, boots), of, 0.02)
    assert (found.by_boot, found.at_most) == (True, 10)
    assert found.needed is not None and found.needed >= 4
