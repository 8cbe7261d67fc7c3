# SPDX-License-Identifier: Apache-2.0
"""Records that cannot be true: an honest record, one edit a case, and none of them is valid."""

from __future__ import annotations

from typing import Any

import pytest
from tests import factories
from tests.factories import RECEIVER, SENDER, WINDOW_BYTES, changed

from zclab.analysis import measurement, path
from zclab.plan import schedule
from zclab.runs.records import Manifest, Record

RPC = {"name": "rpc", "a": "map_recvmsg", "b": "recvmsg", "request_bytes": 100, "reply_bytes": 200}
PLAN = factories.plan(
    comparisons=[
        factories.comparison("receive", b=("copy", "map_once")),
        factories.comparison("hybrid", b=("zerocopy", "map_once_hybrid")),
    ],
    integrity_bytes=factories.TOTAL_BYTES,
)
TOTAL = factories.TOTAL_BYTES


def manifest() -> Manifest:
    return factories.manifest(plan=PLAN)


def honest(name: str = "receive-262144-unpaced-01b") -> Record:
    return factories.record(next(one for one in schedule.measurements(PLAN) if one.id == name))


def reasons(record: Record) -> list[str]:
    return measurement.document(manifest(), record).invalid_reasons


COPYING = "receive-262144-unpaced-01a"
HYBRID = "hybrid-262144-unpaced-01b"


@pytest.mark.parametrize("name", [one.id for one in schedule.measurements(PLAN) if one.phase == "compare"])
def test_an_honest_record_is_valid(name: str) -> None:
    assert reasons(honest(name)) == []


#: The record that is edited, the edits, and a part of the one reason.
EDITS: dict[str, tuple[str, dict[str, Any], str]] = {}


def edit(name: str, changes: dict[str, Any], reason: str, record: str = "receive-262144-unpaced-01b") -> None:
    EDITS[name] = (record, changes, reason)


R, S = "receiver.document", "sender.document"
edit("mapped above received", {f"{R}.window.mapped_bytes": WINDOW_BYTES + 1}, "mapped 1073741825 and copied")
edit("mapped and copied unlike received", {f"{R}.window.copied_bytes": 0}, "received were 1073741824")
edit("negative copied bytes", {f"{R}.window.copied_bytes": -4096}, "copied_bytes of the window is -4096")
edit(
    "mapped in copy mode",
    {f"{R}.window.mapped_bytes": 4096, f"{R}.window.copied_bytes": WINDOW_BYTES - 4096},
    "was to copy all",
    COPYING,
)
edit("mapped in copy mode, in all", {f"{R}.total.mapped_bytes": 4096}, "mapped 4096 bytes in all", COPYING)
edit(
    "window above total",
    {f"{R}.total": {"bytes": 4096, "mapped_bytes": 4096, "copied_bytes": 0}},
    "and 4096 in all",
)
edit("sender's window above total", {f"{S}.total.bytes": 4096}, "and 4096 in all")
edit(
    "a window of half the length", {f"{R}.window.seconds": 1.0}, "its window lasted 1.000 s, planned were 2 s"
)
edit(
    "a window of twice the length",
    {f"{S}.window.seconds": 4.0},
    "its window lasted 4.000 s, planned were 2 s",
)
edit("a window of no length", {f"{R}.window.seconds": 0.0}, "its window lasted 0.0 s")
edit("no window", {f"{R}.window.seconds": None}, "its window lasted None s")
for end in ("receiver", "sender"):
    cpu = f"{end}.document.cpu"
    edit(f"negative CPU of the {end}", {f"{cpu}.user_s": -0.5}, f"{end}: its user CPU time is -0.5 s")
    edit(
        f"no CPU of the {end}", {f"{cpu}.user_s": 0.0, f"{cpu}.system_s": 0.0}, f"{end}: its CPU time is 0 s"
    )
    edit(
        f"missing CPU of the {end}", {f"{cpu}.system_s": None}, f"{end}: its system CPU time was not measured"
    )
    edit(
        f"no CPU of the {end} by its threads' clock",
        {f"{cpu}.thread_s": 0.0},
        f"{end}: its CPU time is 0.000 s by the clock",
    )
    edit(
        f"half the CPU of the {end} by its threads' clock",
        {f"{cpu}.thread_s": 0.5},
        f"{end}: its CPU time is 0.500 s by the clock",
    )
    edit(
        f"a pause of the {end} beyond its window",
        {f"{end}.document.window.longest_pause_s": 3.0},
        f"{end}: its longest pause was 3.000 s, in a window of 2.000 s",
    )
    edit(
        f"a negative pause of the {end}",
        {f"{end}.document.window.longest_pause_s": -1.0},
        f"{end}: its longest pause was -1.000 s",
    )
    edit(f"CPU of the {end} above its window", {f"{cpu}.user_s": 2.5}, f"{end}: its CPU time is 3.250 s")
    edit(f"{end}: another tool", {f"{end}.document.version": "0.0.9"}, "is version 0.0.9 of the traffic tool")
    edit(
        f"{end}: exit status", {f"{end}.status": 1}, f"{end}: said that all is done, and ended with status 1"
    )
    edit(
        f"{end}: killed", {f"{end}.status": None}, f"{end}: said that all is done, and ended with status None"
    )
    edit(
        f"{end}: another address",
        {f"{end}.document.addresses.local": "fd5a::9"},
        f"{end}: its address was fd5a::9",
    )
    edit(
        f"{end}: another peer",
        {f"{end}.document.addresses.peer": "fd5a::9"},
        f"{end}: the peer's address was fd5a::9",
    )
    edit(f"{end}: another connection", {f"{end}.document.addresses.local_port": 1}, "ports")
    edit(f"{end}: without an address", {f"{end}.document.addresses.local": None}, "its address was None")
    edit(
        f"{end}: host CPU", {f"{end}.document.host_cpu.busy_s": 60.0}, "its host's busy CPU time is 60.000 s"
    )
    edit(
        f"{end}: negative host CPU",
        {f"{end}.document.host_cpu.softirq_s": -1.0},
        "softirq CPU time is -1.0 s",
    )
    edit(f"{end}: negative idle time", {f"{end}.document.host_cpu.per_cpu.0.idle_s": -1.0}, "a time of CPU 0")
    edit(f"{end}: softnet backwards", {f"{end}.document.host_cpu.softnet.dropped": -1}, "softnet_stat")
    edit(f"{end}: system calls", {f"{end}.document.system_calls": -4}, "counted -4 system calls")
    edit(
        f"{end}: negative switches", {f"{cpu}.voluntary_context_switches": -1}, "counted -1 context switches"
    )
    edit(
        f"{end}: cycles",
        {f"{end}.document.perf.process": {"cycles": -1, "instructions": 1}},
        "negative number of cycles",
    )
    edit(f"{end}: tcp_info backwards", {f"{end}.document.tcp.window.segs_in": -1}, "segs_in ran backwards")
    edit(
        f"{end}: window of tcp_info",
        {f"{end}.document.tcp.window.segs_out": 10**9},
        "segs_out is 1000000000 in the window",
    )
    edit(
        f"{end}: data segments", {f"{end}.document.tcp.total.data_segs_out": 10**9}, "more than its segs_out"
    )
    edit(f"{end}: no timestamps", {f"{end}.document.tcp.timestamps": False}, "no TCP timestamps")
    edit(
        f"{end}: streams' bytes",
        {f"{end}.document.streams.0.window.bytes": 4096},
        "its streams moved 4096 bytes",
    )
edit("chunk size", {f"{R}.chunk_bytes": 4096}, "received 4096 bytes a call, planned were 524288")
edit("keep size", {f"{R}.keep_bytes": 4096}, "kept 4096 bytes, planned were 0")
edit("copy buffer of a plain receiver", {f"{R}.copy_buffer_bytes": 4095}, "copy buffer of 4095 bytes")
edit(
    "copy buffer of the mapping's size",
    {f"{R}.copy_buffer_bytes": 524288},
    "copy buffer of 524288 bytes",
    HYBRID,
)
edit("hybrid without copy buffer", {f"{R}.copy_buffer_bytes": None}, "copy buffer of 0 bytes", HYBRID)
edit("receiver's headers", {f"{R}.header_bytes": 100}, "expected headers of 100 bytes")
edit("low-water mark asked for", {f"{R}.rcvlowat.asked": 4096}, "SO_RCVLOWAT 4096 was set")
edit("rcv_mss", {f"{R}.tcp.rcv_mss": 1428}, "got segments of 1428 bytes, the link carries 4096")
edit("causes of copies", {f"{R}.unmapped.refused": 4096}, "by cause")
edit(
    "completions of a copying sender",
    {f"{S}.completions": {"sends": 1, "completed": 1, "copied": 0, "no_buffers": 0}},
    "was to copy",
)
edit("more copied than completed", {f"{S}.completions.copied": 10**6}, "1000000 of", HYBRID)
edit("too few sends", {f"{S}.completions.sends": 5, f"{S}.completions.completed": 5}, "by 5 calls", HYBRID)
edit(
    "completions at a receiver",
    {f"{R}.completions": {"sends": 1, "completed": 1, "copied": 0, "no_buffers": 0}},
    "sends nothing",
)
edit("TCP sent less than the tool", {f"{S}.tcp.total.bytes_sent": TOTAL - 1}, f"TCP sent {TOTAL - 1}")
edit("TCP sent more than the tool", {f"{S}.tcp.total.bytes_sent": TOTAL + 10**6}, f"TCP sent {TOTAL + 10**6}")
edit("the other arm", {"planned.arm": "a"}, "the record says that arm a was planned")
edit("another pair", {"planned.pair": 3}, "the record says that pair 3 was planned")
edit("another phase", {"planned.phase": "profile"}, "the record says that phase profile was planned")
edit("another window", {"planned.seconds": 1.9}, "the record says that seconds 1.9 was planned")
edit(
    "planned modes and document alike",
    {"planned.receive_mode": "copy", f"{R}.mode": "copy"},
    "receive_mode copy",
)
edit(
    "a measurement of no plan",
    {"planned.id": "receive-1-unpaced-01b"},
    "the plan has no measurement receive-1-unpaced-01b",
)
edit("ended before it began", {"ended_at": "2025-01-01T00:00:00.000+00:00"}, "before it began")
for host in (SENDER, RECEIVER):
    edit(
        f"{host}: counters backwards",
        {f"before.{host}.link_counters.rx_dropped": 6},
        "counter rx_dropped of data0 ran backwards, from 6 to 5",
    )
    edit(
        f"{host}: bytes backwards",
        {f"before.{host}.link_counters.tx_bytes": 10**12},
        "counter tx_bytes of data0 ran backwards",
    )
    edit(f"{host}: drops backwards", {f"before.{host}.drops": 1}, "counter drops of data0 ran backwards")
    edit(
        f"{host}: carrier backwards",
        {f"before.{host}.carrier_changes": 3},
        "counter carrier_changes of data0 ran backwards",
    )
    edit(f"{host}: softnet backwards", {f"before.{host}.softnet.dropped": 9}, "counter softnet dropped")
    edit(
        f"{host}: tx bytes",
        {f"after.{host}.link_counters.tx_bytes": 1000},
        "data0 sent 0 bytes, the connection at least",
    )
    edit(
        f"{host}: rx bytes",
        {f"after.{host}.link_counters.rx_bytes": 1000},
        "data0 received 0 bytes, the connection at least",
    )
    edit(
        f"{host}: other bytes sent",
        {f"after.{host}.link_counters.tx_bytes": 10**12},
        "other traffic was on the link",
    )
    edit(
        f"{host}: other bytes received",
        {f"after.{host}.link_counters.rx_bytes": 10**12},
        "other traffic was on the link",
    )
    edit(
        f"{host}: events",
        {
            f"after.{host}.changes": [
                "2: data0@if3: <UP> mtu 1500 state UP",
                "2: data0@if3: <UP> mtu 4168 state UP",
            ]
        },
        "2 changes of data0, its addresses or routes during the measurement, first: data0 mtu 1500 state UP",
    )
    edit(f"{host}: lost events", {f"after.{host}.changes_lost": 2}, "`ip monitor` lost 2 events")
    edit(
        f"{host}: nobody watched",
        {f"after.{host}.changes": None},
        "changes during the measurement are not known: `ip monitor`: nobody watched",
    )
    edit(f"{host}: another interface", {f"after.{host}.ifindex": 9}, "data0 was removed and made anew")
    edit(f"{host}: route", {f"after.{host}.routes.6.device": "data1"}, "goes over data1, not over data0")
    edit(f"{host}: link down", {f"before.{host}.operstate": "down"}, "data0 is down")
    edit(
        f"{host}: TCP drops",
        {f"after.{host}.tcp_drops": {"TCPBacklogDrop": 4}},
        "TCP dropped 1 segments (TCPBacklogDrop)",
    )
    edit(
        f"{host}: backlog",
        {f"after.{host}.link_counters.rx_dropped": 7, f"after.{host}.softnet.dropped": 9},
        "data0 dropped 2 packets",
    )


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_is_invalid(name: str) -> None:
    record, changes, reason = EDITS[name]
    found = reasons(changed(honest(record), changes))
    assert any(reason in one for one in found), found
    assert len(set(found)) == len(found)


def ping_pong() -> Record:
    return factories.ping_pong(RPC)


def rpc_reasons(changes: dict[str, Any]) -> list[str]:
    plan = factories.plan(rpc_comparisons=[{**RPC, "metrics": {"rpcs_per_s": []}}])
    return measurement.document(factories.manifest(plan=plan), changed(ping_pong(), changes)).invalid_reasons


def test_an_honest_ping_pong_is_valid() -> None:
    assert rpc_reasons({}) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({f"{R}.total.rpcs": 1501}, "served 1501 RPCs in all, the sender made 1500"),
        ({f"{S}.rpcs": 2000}, "sender: counted 2000 RPCs in the window, and 1500 in all"),
        ({f"{R}.copied_bytes": 1}, "mapped 0 and copied 1 bytes in the window, 1000 RPCs have 100000"),
        ({f"{R}.total.mapped_bytes": 4096}, "mapped 4096 and copied 150000 bytes in all"),
        ({f"{S}.latency.total": 999, f"{S}.latency.counts": [[99840, 999]]}, "999 latencies of 1000 RPCs"),
        ({f"{S}.calls.poll": 10**6}, "system calls by name"),
        ({f"{R}.cpu.user_s": 0.0, f"{R}.cpu.system_s": 0.0}, "receiver: its CPU time is 0 s"),
        ({f"{S}.window.seconds": 0.5}, "its window lasted 0.500 s"),
        ({f"{S}.tcp.snd_mss": 1428}, "MSS was 1428"),
        (
            {f"{S}.tcp.total.retransmits": 30, f"{S}.tcp.total.bytes_retransmitted": 3000},
            "30 of 1500 segments",
        ),
        ({f"after.{RECEIVER}.link_counters.rx_bytes": 1000}, "another interface carried it"),
        ({f"after.{SENDER}.link_counters.tx_bytes": 10**9}, "other traffic was on the link"),
    ],
)
def test_an_edited_ping_pong_is_invalid(changes: dict[str, Any], reason: str) -> None:
    found = rpc_reasons(changes)
    assert any(reason in one for one in found), found


def test_frames_that_no_protocol_wants_are_no_loss() -> None:
    """rx_dropped grows, and softnet_stat does not say that the backlog overflowed."""
    record = changed(honest(), {f"after.{RECEIVER}.link_counters.rx_dropped": 100})
    assert reasons(record) == []
    record = changed(record, {f"after.{RECEIVER}.softnet.dropped": 8})
    assert reasons(record) == [f"{RECEIVER}: data0 dropped 1 packets"]


@pytest.mark.parametrize(
    ("again", "segments", "valid"),
    [(1, 100, True), (2, 900, True), (3, 900, False), (787, 786432, False), (786, 786432, True)],
)
def test_a_rate_of_retransmissions_needs_some_of_them(again: int, segments: int, valid: bool) -> None:
    total = {"data_segs_out": segments, "retransmits": again, "segs_out": 786432}
    record = changed(
        honest(),
        {f"{S}.tcp.total.{name}": value for name, value in total.items()}
        | {f"{S}.tcp.window.data_segs_out": 1},
    )
    # Fewer segments than payload needs, so that only the rate is looked at.
    rate = [one for one in reasons(record) if "retransmitted" in one]
    assert (rate == []) is valid


def test_an_older_record_has_no_counters_to_be_judged_by() -> None:
    """What it did not keep gives no false reason."""
    new = (
        "link_counters",
        "routes",
        "operstate",
        "ifindex",
        "sysctls",
        "softnet",
        "tcp_drops",
        "changes",
        "changes_lost",
    )
    absent = {
        f"{when}.{host}.{field}": None
        for when in ("before", "after")
        for host in (SENDER, RECEIVER)
        for field in new
    }
    assert reasons(changed(honest(), absent)) == []


def test_a_tool_of_others_whose_bytes_went_elsewhere() -> None:
    """Of what it counts there is a lower bound only."""
    record = honest()
    assert [*path.too_little(manifest(), record, TOTAL)] == []
    elsewhere = changed(record, {f"after.{SENDER}.link_counters.tx_bytes": 1000 + TOTAL - 1})
    (reason,) = path.too_little(manifest(), elsewhere, TOTAL)
    assert reason.startswith(f"{SENDER}: data0 sent {TOTAL - 1} bytes, the tool {TOTAL}")
