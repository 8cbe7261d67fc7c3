# SPDX-License-Identifier: Apache-2.0
"""What is judged of a guest that counts instructions: its count, its emulator, and whether it was idle."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

import pytest
from tests import factories
from tests.factories import RECEIVER, SENDER, changed

from zclab.analysis import measurement, one_guest, samples, verdict
from zclab.analysis.document import MeasurementDocument, RunDocument
from zclab.analysis.metric_values import value
from zclab.backends.exact.emulator import EmulatorFacts
from zclab.base.metrics import Metric
from zclab.lab.model import Threshold
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.records import Manifest, Record

METRIC: Metric = "guest_instructions_per_mib"
EMULATOR = EmulatorFacts(version="QEMU emulator version 7.2.22", options=["-machine pc", "-icount shift=0"])
GUEST: dict[str, Any] = {
    "seed": 1,
    "place": 0,
    "idle_ns": 0,
    "emulator": EMULATOR.model_dump(),
    "digest": "ab",
}


def plan(**changes: Any) -> Plan:
    """Return a plan that boots for each arm: copy against map_once, both on the lab's kernel, in bytes."""
    compared = factories.comparison(metrics={METRIC: []})
    in_bytes = {"seconds": None, "warmup_seconds": 0, "bytes": factories.TOTAL_BYTES}
    own = {"comparisons": [compared], "boot_each_arm": True, "boots": 4, "boot_measurements": 2}
    return factories.plan(**in_bytes | own | changes)


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of a run in a guest that counts instructions."""
    emulated = {"emulated": True, "accelerator": "tcg", "counts_instructions": True, "emulator": EMULATOR}
    return factories.manifest(**emulated | {"plan": plan()} | changes)


def records(of: Manifest, count: dict[str, float], first: float = 1.0) -> list[Record]:
    """Return a run in which arm X takes count[X] of the usual time, first of a boot `first` times that."""
    made = []
    for planned in schedule.measurements(of.plan):
        place = planned.pair % of.plan.boot_measurements
        seconds = (
            2.0 * count[planned.arm] * (first if place == 0 else 1.0) * (1 + 0.0001 * (planned.boot or 0))
        )
        boots = {host: f"{host}-{planned.comparison}-{planned.boot}" for host in (SENDER, RECEIVER)}
        state = {f"{when}.{host}.boot_id": boots[host] for when in ("before", "after") for host in boots}
        window = {
            f"{end}.document.{part}": seconds
            for end in ("receiver", "sender")
            for part in ("window.seconds", "streams.0.window.seconds")
        }
        made.append(
            changed(
                factories.record(planned),
                state | window | {"boots": boots, "guest": GUEST | {"place": place}},
            )
        )
    return made


def judged(of: Manifest, made: list[Record]) -> RunDocument:
    return verdict.judge(of, made)


def only(document: RunDocument) -> list[str]:
    """Return the reasons of the first measurement."""
    return document.measurements[0].invalid_reasons


def test_the_whole_guests_count_is_the_window_of_its_clock() -> None:
    of = manifest()
    made = records(of, {"a": 1.0, "b": 1.0})[0]
    document = measurement.document(of, made)
    mib = factories.WINDOW_BYTES / 2**20
    assert made.receiver is not None and made.receiver.document is not None
    seconds = made.receiver.document.window.seconds
    assert seconds is not None
    assert value(document, METRIC) == pytest.approx(seconds * 1e9 / mib)
    # Both threads took a second each, by the records of a healthy measurement.
    other = value(document, "guest_other_instructions_per_mib")
    assert other == pytest.approx((seconds - 2.0) * 1e9 / mib)
    assert value(document, "receiver_system_calls_per_mib") == 2048 / mib


RPC = {"name": "rpc", "a": "map_recvmsg", "b": "map_copy_buffer", "request_bytes": 100, "reply_bytes": 200}
PER_RPC: Metric = "guest_instructions_per_rpc"


@pytest.mark.parametrize(
    ("guest", "counted"),
    [
        # The server's window of 2 s has 1000 RPCs.
        (GUEST, 2e6),
        (GUEST | {"instructions": {"functions": {"tcp_ack": {"softirq": 1_990_000_000}}}}, 1.99e6),
    ],
    ids=["by the clock", "one by one"],
)
def test_a_ping_pong_counts_what_the_whole_guest_executed_for_each_rpc(
    guest: dict[str, Any], counted: float
) -> None:
    record = changed(factories.ping_pong(RPC), {"guest": guest})
    document = measurement.document(manifest(), record)
    assert document.rpc is not None and document.rpc.rpcs == 1000
    assert value(document, PER_RPC) == pytest.approx(counted)
    assert value(measurement.document(manifest(counts_instructions=False), record), PER_RPC) is None
    idle = changed(record, {"guest.idle_ns": 20_000_000})
    shown = "for 0.500% of the window" if "instructions" in guest else "for 20000000 ns"
    assert [shown in doubt for doubt in one_guest.doubts(manifest(), idle)] == [True]


def test_ping_pongs_have_boots_of_their_own_for_each_arm() -> None:
    of = plan(comparisons=[], seconds=0.1, bytes=None, rpc_comparisons=[RPC | {"metrics": {PER_RPC: []}}])
    listed = schedule.measurements(of)
    assert len({one.boot for one in listed}) == 8 and len(listed) == 16
    assert {len({one.arm for one in listed if one.boot == boot}) for boot in range(8)} == {1}


@pytest.mark.parametrize(
    ("changes", "record_changes"),
    [({"counts_instructions": False}, {}), ({}, {"guest": None}), ({}, {"planned.pace_gbit_per_s": 1.0})],
    ids=["a clock of its own", "no guest", "at a fixed pace"],
)
def test_no_count_elsewhere(changes: dict[str, Any], record_changes: dict[str, Any]) -> None:
    of = manifest(**changes)
    document = measurement.document(of, changed(records(of, {"a": 1.0, "b": 1.0})[0], record_changes))
    assert document.guest_instructions_per_mib is None
    assert document.guest_other_instructions_per_mib is None


@pytest.mark.parametrize(("ratio", "found"), [(0.98, "pass"), (1.02, "fail"), (1.0005, "inconclusive")])
def test_the_count_is_gated(ratio: float, found: str) -> None:
    bound = factories.threshold(metric=METRIC, at_most=1.001)
    of = manifest(thresholds=[bound])
    document = judged(of, records(of, {"a": 1.0, "b": ratio}, first=1.1))
    assert document.problems == []
    (one,) = document.comparisons
    assert one.invalid_reasons == []
    assert (one.gated, one.n_boots, one.verdict) == (True, 4, found)
    assert one.ratio_median == pytest.approx(ratio, rel=1e-3)
    uncounted = changed(of, {"expectations.counts_instructions": False})
    (one,) = judged(uncounted, records(uncounted, {"a": 1.0, "b": ratio})).comparisons
    assert (one.gated, one.not_gated_because) == (False, "emulated CPU")


def test_a_threads_count_cannot_be_bound() -> None:
    """By its clock, which books a soft interrupt's time on the thread that it interrupts."""
    with pytest.raises(ValueError, match="shown beside other figures and never judged"):
        Threshold.model_validate(factories.threshold(metric="receiver_instructions_per_mib"))


def test_figures_are_compared_place_by_place() -> None:
    """The first of a boot costs half as much again: a boot's figure does not depend on which are missing."""
    of = manifest(plan=plan(boot_measurements=3))
    made = records(of, {"a": 1.0, "b": 1.0}, first=1.5)
    documents = [measurement.document(of, one) for one in made]
    cell = next(iter(schedule.cells(of.plan)))

    def figures(members: list[MeasurementDocument]) -> list[float]:
        return [point.value for point in samples.of_cell(of.plan, cell, members, METRIC).points]

    whole = figures(documents)
    assert len(whole) == 8
    assert max(whole) / min(whole) == pytest.approx(1.0007, rel=1e-4)
    # Of every boot of arm B only the first place is left, of arm A only the others.
    parted = [one for one in documents if (one.pair % 3 == 0) == (one.arm == "b")]
    assert max(figures(parted)) / min(figures(parted)) < 1.001
    # Place by place, and not by the median of what there is: that would be 1.5.
    raw = {arm: median(value(one, METRIC) or 0 for one in parted if one.arm == arm) for arm in ("a", "b")}
    assert raw["b"] / raw["a"] > 1.49
    # In the metric's own unit.
    assert median(whole) == pytest.approx(2e9 / 1024, rel=1e-3)


# ----------------------------------------------------------------------------------------------- what counts


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"guest.idle_ns": 1}, "the guest was idle for 1 ns, in which its clock counted no instructions"),
        ({"guest.idle_ns": None}, "it is not known for how long the guest was idle"),
        ({"guest": None}, "the record does not say which emulator made it"),
        (
            {"guest.emulator.version": "QEMU emulator version 10.0.2"},
            "the run began with QEMU emulator version 7.2.22 and QEMU emulator version 10.0.2: "
            "figures of two emulators are never compared",
        ),
        (
            {"guest.emulator.options": ["-machine pc", "-icount shift=1"]},
            "the run began with QEMU emulator version 7.2.22 with other options "
            "(-icount shift=0, -icount shift=1): not compared",
        ),
        (
            {"guest.emulator.options": ["-icount shift=0", "-machine pc"]},
            "the run began with QEMU emulator version 7.2.22 with other options (in another order): "
            "not compared",
        ),
    ],
    ids=["healthy", "idle", "idleness unknown", "no guest", "version", "option", "order"],
)
def test_what_makes_a_measurement_in_a_guest_invalid(changes: dict[str, Any], reason: str | None) -> None:
    of = manifest()
    made = records(of, {"a": 1.0, "b": 1.0})
    made[0] = changed(made[0], changes)
    document = judged(of, made)
    assert only(document) == ([] if reason is None else [reason])
    assert {one.verdict for one in document.comparisons} == ({None} if reason is None else {"invalid"})


def test_idleness_matters_where_the_count_is_compared() -> None:
    of = manifest(plan=plan(integrity_bytes=2**20))
    check, *_ = schedule.measurements(of.plan)
    assert check.phase == "integrity"
    idle = records(of, {"a": 1.0, "b": 1.0})[0]
    idle = changed(idle, {"guest.idle_ns": 5})
    assert [*one_guest.doubts(of, idle)] == []


def test_a_run_without_a_guest_is_comparable_with_one_of_its_kind() -> None:
    assert one_guest.difference(None, None) is None
    assert one_guest.difference(EMULATOR, EMULATOR.model_copy()) is None
    assert "the other was not" in (one_guest.difference(EMULATOR, None) or "")


# -------------------------------------------------------------------------------------------- plans in bytes


def test_a_plan_in_bytes() -> None:
    planned = schedule.measurements(plan())
    assert {(one.bytes, one.seconds, one.warmup_seconds) for one in planned} == {
        (factories.TOTAL_BYTES, 0, 0)
    }
    assert math.isclose(schedule.expected_seconds(plan(), 3, 10), 16 * 3 + 9 * 10)


def test_each_arm_has_boots_of_its_own() -> None:
    """Two cells on one kernel do not share their boots, and a boot holds one arm of one cell."""
    of = plan(comparisons=[factories.comparison(name, metrics={METRIC: []}) for name in ("one", "two")])
    first, second = schedule.steps(of)
    planned = schedule.measurements(of)
    by_boot: dict[tuple[str, int | None], list[Measurement]] = {}
    for one in planned:
        by_boot.setdefault((one.comparison, one.boot), []).append(one)
    assert {len(members) for members in by_boot.values()} == {2}
    assert {len({one.arm for one in members}) for members in by_boot.values()} == {1}
    assert len(by_boot) == 16
    for step in (first, second):
        for boot in range(8):
            found = schedule.of_boot(of, step, boot)
            assert [one.id for one in found] == [one.id for one in by_boot[step.cells[0].name, boot]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seconds": 1}, "a plan has either seconds or bytes"),
        ({"bytes": None}, "a plan has either seconds or bytes"),
        ({"warmup_seconds": 1}, "has no warm-up"),
        ({"baseline": True}, "no baseline"),
    ],
)
def test_what_a_plan_in_bytes_cannot_have(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan(**changes)


# ------------------------------------------------------------------------- what was executed one by one


def counted(made: Record, executed: int, idle_ns: int) -> Record:
    """Return a record in whose window so much was executed, with the guest idle around it for so long."""
    functions = {"tcp_recvmsg": {"receiver": executed - 1}, "[zclab-traffic]": {"sender": 1}}
    return changed(made, {"guest.idle_ns": idle_ns, "guest.instructions": {"functions": functions}})


def test_executed_instructions_are_the_count_where_they_are_known() -> None:
    of = manifest()
    made = counted(records(of, {"a": 1.0, "b": 1.0})[0], 10**9, 0)
    document = measurement.document(of, made)
    assert document.guest_instructions_per_mib == pytest.approx(1e9 / 1024)
    assert document.invalid_reasons == []


@pytest.mark.parametrize(
    ("share", "idle_ns", "bound", "reason"),
    [
        (0.001, 5000, 0.002, None),
        (0.003, 5000, 0.002, "the guest was idle for 0.300% of the window, more than 0.200%"),
        (0.001, 5000, 0, "the guest was idle for 0.100% of the window, more than 0.000%"),
        (0.003, 0, 0, None),  # the guest's clock is calibrated by itself: it was not idle at all
        (0.0, 5000, 0, None),  # outside the window
    ],
)
def test_how_long_a_guest_was_idle_in_the_window(
    share: float, idle_ns: int, bound: float, reason: str | None
) -> None:
    of = manifest()
    of = changed(of, {"expectations.validity.guest_idle_share_at_most": bound})
    made = records(of, {"a": 1.0, "b": 1.0})[0]
    assert made.receiver is not None and made.receiver.document is not None
    seconds = made.receiver.document.window.seconds
    assert seconds is not None
    made = counted(made, round(seconds * 1e9 * (1 - share)), idle_ns)
    assert [*one_guest.doubts(of, made)] == ([] if reason is None else [reason])
