# SPDX-License-Identifier: Apache-2.0
"""What disturbs one arm only makes its comparison invalid; what disturbs both alike does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests import factories
from tests.factories import RECEIVER, SENDER, changed

from zclab.analysis import disturbance, verdict
from zclab.runs.records import Manifest, Record

BOUNDS = {
    "window_share": 0.05,
    "foreign_cpu_share": 0.25,
    "stolen_cpu_share": 0.05,
    "receive_window_limited_share": 0.2,
    "rtt_factor": 10,
    "retransmitted_share": 0.0005,
    "segment_bytes_factor": 1.02,
    "softnet_share": 0.01,
    "foreign_packets_per_s": 100,
    "pause_s": 0.1,
    "within_arm_factor": 3,
}
CELL = "receive-262144-unpaced"
TICKS = {"busy": 1000, "softirq": 10, "steal": 0, "idle": 1000}


def manifest(bounds: dict[str, Any] | None = None) -> Manifest:
    found = changed(
        factories.manifest(), {"expectations.validity.disturbance": BOUNDS if bounds is None else bounds}
    )
    return changed(found, {"pair.0.traffic_cpus": [0], "pair.1.traffic_cpus": [1]})


def honest(of: Manifest) -> list[Record]:
    """Return records of threads that ran on declared CPUs, of hosts that counted their ticks."""
    counted: dict[str, Any] = {f"before.{host}.cpus": {"0": TICKS, "1": TICKS} for host in (SENDER, RECEIVER)}
    later = {**TICKS, "busy": 1100, "idle": 1100}
    counted |= {f"after.{host}.cpus": {"0": later, "1": later} for host in (SENDER, RECEIVER)}
    counted |= {"sender.document.streams.0.cpu": 0, "receiver.document.streams.0.cpu": 1}
    for host in (SENDER, RECEIVER):
        counted[f"before.{host}.link_counters.rx_packets"] = 0
        counted[f"after.{host}.link_counters.rx_packets"] = 1000
    quiet = [{"cpu": cpu, "busy_s": 0.3, "softirq_s": 0.25, "idle_s": 1.5} for cpu in (0, 1)]
    counted |= {f"{end}.document.host_cpu.per_cpu": quiet for end in ("sender", "receiver")}
    return [changed(one, counted) for one in factories.records(of)]


def found(records: list[Record], of: Manifest | None = None) -> list[str]:
    return disturbance.reasons(of or manifest(), records).get(CELL, [])


R, S = "receiver.document", "sender.document"
BUSY = [{"cpu": cpu, "busy_s": 2.0, "softirq_s": 0.05, "idle_s": 0.0} for cpu in (0, 1)]
#: What is different in arm B, and the begin of the reason.
DISTURBED: dict[str, tuple[dict[str, Any], str]] = {
    "a longer window": ({f"{R}.window.seconds": 2.15}, f"{RECEIVER}: the length of its window"),
    "a busy CPU of the receiver": ({f"{R}.host_cpu.per_cpu": BUSY}, f"{RECEIVER}: foreign CPU time"),
    "a busy CPU of the sender": ({f"{S}.host_cpu.per_cpu": BUSY}, f"{SENDER}: foreign CPU time"),
    "stolen CPU": ({f"after.{RECEIVER}.cpus.1.steal": 100}, f"{RECEIVER}: stolen CPU time"),
    "a receiver that was stopped": (
        {
            f"{S}.tcp.window.receive_window_limited_us": 600000,
            f"{S}.tcp.total.receive_window_limited_us": 600000,
        },
        f"{SENDER}: time without room in the receiver's window",
    ),
    "a receiver that was stopped for a while": (
        {f"{R}.window.longest_pause_s": 0.3},
        f"{RECEIVER}: the longest pause of an end (s)",
    ),
    "a sender that was stopped for a while": (
        {f"{S}.window.longest_pause_s": 0.3},
        f"{SENDER}: the longest pause of an end (s)",
    ),
    "a slow link": ({f"{S}.tcp.rtt_us": 5000}, f"{SENDER}: round-trip time"),
    "losses": ({f"{S}.tcp.total.retransmits": 600}, f"{SENDER}: retransmitted segments"),
    "short segments": ({f"{S}.tcp.total.data_segs_out": 900000}, f"{SENDER}: bytes per segment"),
    "squeezed polls": ({f"{R}.host_cpu.softnet.squeezed": 9000}, f"{RECEIVER}: packets dropped or polls"),
    "packets of others": (
        {f"after.{SENDER}.link_counters.rx_packets": 10000},
        f"{SENDER}: packets of others",
    ),
}


def test_honest_arms() -> None:
    assert found(honest(manifest())) == []


@pytest.mark.parametrize("what", DISTURBED)
def test_one_arm_that_was_disturbed(what: str) -> None:
    changes, reason = DISTURBED[what]
    records = honest(manifest())
    one_arm = [changed(one, changes) if one.planned.arm == "b" else one for one in records]
    (said,) = found(one_arm)
    assert said.startswith(reason)
    assert "differs between the arms: A " in said and "disturbed arm" in said
    assert found([changed(one, changes) for one in records]) == []  # both arms alike
    assert found([changed(records[0], changes), *records[1:]]) == []  # one of six does not move a median
    assert found(one_arm, manifest({})) == []  # the lab declares no bound


def test_an_odd_measurement_of_an_arm() -> None:
    records = honest(manifest())
    records[4] = changed(records[4], {f"{R}.system_calls": 20480})
    (said,) = found(records)
    assert said.startswith(f"{RECEIVER}: system calls per MiB of {records[4].planned.id} is 20,")
    by_mode = [
        changed(one, {f"{R}.system_calls": 20480}) if one.planned.arm == "b" else one
        for one in honest(manifest())
    ]
    assert found(by_mode) == []  # what the mode changes


def test_what_was_not_recorded_is_not_judged() -> None:
    assert found(factories.records(manifest())) == []


def test_what_comes_and_goes_in_both_arms_is_no_difference() -> None:
    """A hog beside every second measurement or so: the medians are far apart, by chance."""
    of = manifest()
    seen = {"a": 0, "b": 0}
    records = []
    for one in honest(of) * 3:
        arm = one.planned.arm
        seen[arm] += 1
        busy = seen[arm] <= (10 if arm == "b" else 8)
        records.append(changed(one, {f"{R}.host_cpu.per_cpu": BUSY}) if busy else one)
    assert seen == {"a": 18, "b": 18}
    assert found(records, of) == []


def test_a_disturbed_comparison_is_invalid_and_says_why() -> None:
    declared = changed(manifest(), {"expectations.thresholds": [factories.threshold()]})
    records = honest(declared)
    assert verdict.judge(declared, records).verdict == "pass"
    records = [
        changed(one, {f"{R}.host_cpu.per_cpu": BUSY}) if one.planned.arm == "b" else one for one in records
    ]
    document = verdict.judge(declared, records)
    assert document.verdict == "invalid"
    assert {one.verdict for one in document.comparisons} == {"invalid"}
    for one in document.comparisons:
        (reason,) = one.invalid_reasons
        assert reason.startswith(f"{RECEIVER}: foreign CPU time differs between the arms")
