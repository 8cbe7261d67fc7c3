# SPDX-License-Identifier: Apache-2.0
"""The conditions of a published measurement: read back, and not taken to hold where they do not."""

from __future__ import annotations

from typing import Any

import pytest
from tests import factories

from zclab.analysis import preconditions, verdict
from zclab.analysis.document import RunDocument
from zclab.host import placement
from zclab.host.placement import Placement
from zclab.plan import plan as plans
from zclab.runs.records import Manifest

CONDITIONS = plans.load("published").preconditions
#: What the command prints on a host that is set up as published.
PRINTED = """allowed:2
irq:40 3
irq:41 3
/sys/class/net/data0/queues/rx-0/rps_cpus:00000000,00000000
/sys/class/net/data0/queues/rx-0/rps_flow_cnt:0
/proc/sys/net/core/rps_sock_flow_entries:0
cmdline:BOOT_IMAGE=/boot/vmlinuz ro idle=halt
"""
INTERRUPTS = "CPUs of the interrupts of data0"


def manifest(*readings: Placement, **changes: Any) -> Manifest:
    plan = factories.plan(preconditions={"sender": CONDITIONS["sender"].model_dump()})
    placements = {factories.SENDER: [one.model_dump() for one in readings]} if readings else {}
    return factories.manifest(plan=plan, placements=placements, thresholds=[factories.threshold()], **changes)


def judged(*readings: Placement) -> RunDocument:
    of = manifest(*readings)
    return verdict.judge(of, factories.records(of))


def printed(old: str = "", new: str = "") -> Placement:
    assert old in PRINTED
    return placement.parse(PRINTED.replace(old, new) if old else PRINTED)


def test_a_host_that_is_set_up_as_published_is_gated() -> None:
    document = judged(printed(), printed())
    assert {one.met for one in document.preconditions} == {True}
    (gate,) = (one for one in document.comparisons if one.threshold is not None)
    assert (gate.gated, gate.verdict, document.verdict) == (True, "pass", "pass")


@pytest.mark.parametrize(
    ("old", "new", "what", "found"),
    [
        ("allowed:2", "allowed:0-3", "CPUs of the traffic threads", "0-3"),
        ("allowed:2", "allowed:3", "CPUs of the traffic threads", "3"),
        ("irq:41 3", "irq:41 0-3", INTERRUPTS, "3 and 0-3"),
        ("irq:41 3", "irq:41 2", INTERRUPTS, "3 and 2"),
        ("0,00000000", "0,00000002", "RPS", "on"),
        (
            "flow_cnt:0\n/proc/sys/net/core/rps_sock_flow_entries:0",
            "flow_cnt:64\n/proc/sys/net/core/rps_sock_flow_entries:64",
            "RFS",
            "on",
        ),
        ("idle=halt", "idle=poll", "idle=halt", "idle=poll"),
        ("idle=halt", "idle=halt idle=poll", "idle=halt", "idle=halt idle=poll"),
        ("idle=halt", "quiet", "idle=halt", "absent"),
    ],
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["before", "after"])
def test_what_is_otherwise_is_named_and_nothing_is_gated(
    old: str, new: str, what: str, found: str, order: tuple[int, int]
) -> None:
    """Also if it was so before the measurements, or after them, only."""
    readings = (printed(old, new), printed())
    document = judged(*(readings[at] for at in order))
    (unmet,) = (one for one in document.preconditions if not one.met)
    assert (unmet.host, unmet.what, unmet.found, unmet.met) == (factories.SENDER, what, found, False)
    for one in document.comparisons:
        assert (one.gated, one.verdict) == (False, None)
        assert one.not_gated_because == f"not as published: {factories.SENDER}: {what}"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("allowed:2", "allowed:", "CPUs of the traffic threads"),
        ("irq:40 3\nirq:41 3\n", "", INTERRUPTS),
        ("/sys/class/net/data0/queues/rx-0/rps_cpus:00000000,00000000\n", "", "RPS"),
        (
            "/sys/class/net/data0/queues/rx-0/rps_flow_cnt:0\n/proc/sys/net/core/rps_sock_flow_entries:0\n",
            "",
            "RFS",
        ),
        ("cmdline:BOOT_IMAGE=/boot/vmlinuz ro idle=halt\n", "cmdline:\n", "idle=halt"),
    ],
)
def test_what_cannot_be_read_is_not_taken_to_be_as_published(old: str, new: str, what: str) -> None:
    document = judged(printed(), printed(old, new))
    (unknown,) = (one for one in document.preconditions if not one.met)
    assert (unknown.what, unknown.found, unknown.met) == (what, None, None)
    assert not any(one.gated for one in document.comparisons)


@pytest.mark.parametrize(
    ("count", "entries", "off"),
    [("0", "64", True), ("64", "0", True), ("64", None, None), (None, "64", None), (None, "0", True)],
)
def test_either_table_alone_shows_that_flows_are_not_steered(
    count: str | None, entries: str | None, off: bool | None
) -> None:
    text = f"/sys/class/net/x/queues/rx-0/rps_flow_cnt:{count}\n" if count else ""
    text += f"/proc/sys/net/core/rps_sock_flow_entries:{entries}\n" if entries else ""
    (rfs,) = (one for one in preconditions.judged(manifest(placement.parse(text))) if one.what == "RFS")
    assert rfs.met is off


def test_a_run_that_was_never_read_back_is_not_gated() -> None:
    document = judged()
    assert {one.met for one in document.preconditions} == {None}
    assert not any(one.gated for one in document.comparisons)


def test_a_plan_without_conditions_has_none() -> None:
    assert preconditions.judged(factories.manifest()) == []
    assert preconditions.unmet([]) is None
