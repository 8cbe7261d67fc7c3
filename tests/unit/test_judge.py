# SPDX-License-Identifier: Apache-2.0
"""The verdict: one planted fault a test, on top of a run that is healthy in every other way."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from pydantic import ValidationError
from tests import factories
from tests.factories import RECEIVER, SENDER, changed

from zclab.analysis import measurement, validity
from zclab.analysis import verdict as judge
from zclab.analysis.document import ComparisonDocument, RunDocument
from zclab.base import exit_codes
from zclab.base.exit_codes import Verdict
from zclab.host.snapshot import Snapshot
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Threshold
from zclab.plan import schedule
from zclab.plan.schedule import Measurement
from zclab.runs.records import Manifest, Record


def planned(receive_mode: str = "map_once", send_mode: str = "copy") -> Measurement:
    plan = factories.plan(comparisons=[factories.comparison(b=(send_mode, receive_mode))], ip_versions=[6])
    return next(one for one in schedule.measurements(plan) if one.arm == "b")


def healthy(receive_mode: str = "map_once", send_mode: str = "copy") -> Record:
    return factories.record(planned(receive_mode, send_mode))


def reasons(record: Record, manifest: Manifest | None = None) -> list[str]:
    manifest = factories.as_scheduled(manifest or factories.manifest(), record)
    return measurement.document(manifest, record).invalid_reasons


def run(manifest: Manifest, records: list[Record] | None = None) -> RunDocument:
    return judge.judge(manifest, factories.records(manifest) if records is None else records)


def gated(manifest: Manifest, records: list[Record] | None = None) -> ComparisonDocument:
    """Return the one comparison of a run that is gated."""
    found = [one for one in run(manifest, records).comparisons if one.gated]
    assert len(found) == 1
    return found[0]


# ------------------------------------------------------------------------------------------ one measurement

MODES = [
    (receive, send) for receive in ("copy", "map_once", "map_once_hybrid") for send in ("copy", "zerocopy")
]


@pytest.mark.parametrize(("receive_mode", "send_mode"), MODES)
def test_a_healthy_measurement_is_valid(receive_mode: str, send_mode: str) -> None:
    record = healthy(receive_mode, send_mode)
    document = measurement.document(factories.as_scheduled(factories.manifest(), record), record)
    assert document.invalid_reasons == []
    assert document.valid


SENT = 3 * factories.WINDOW_BYTES


def mapped_bytes(share: float) -> dict[str, Any]:
    """Return a receiver's document in which this share of all bytes was mapped, and the rest copied."""
    document = factories.traffic_document("receive", "map_once")
    document["unmapped"]["short_segment"] = 0
    for part in (document["window"], document["total"]):
        part["mapped_bytes"] = int(part["bytes"] * share)
        part["copied_bytes"] = part["bytes"] - part["mapped_bytes"]
    document["unmapped"]["short_segment"] = document["window"]["copied_bytes"]
    return document


#: path in the record, the planted value, the reason that has to be given.
FAULTS: dict[str, tuple[str, Any, str]] = {
    "the distribution kernel": (
        f"before.{RECEIVER}.kernel_release",
        "6.1.0-40-amd64",
        f"{RECEIVER}: runs 6.1.0-40-amd64, not the artifact {factories.RELEASE}",
    ),
    "another kernel afterwards": (
        f"after.{SENDER}.kernel_release",
        "6.1.0-40-amd64",
        f"{SENDER}: runs 6.1.0-40-amd64, not the artifact {factories.RELEASE}",
    ),
    "a kernel of the same name": (
        f"before.{SENDER}.kernel_build_id",
        "ab" * 20,
        f"{SENDER}: build id {'ab' * 20} is not the artifact's {factories.BUILD_ID}",
    ),
    "a kernel without build id": (
        f"before.{SENDER}.kernel_build_id",
        None,
        f"{SENDER}: build id None is not the artifact's {factories.BUILD_ID}",
    ),
    "a reboot before": (f"before.{SENDER}.boot_id", "new", f"{SENDER}: rebooted since the run began"),
    "a reboot during": (f"after.{RECEIVER}.boot_id", "new", f"{RECEIVER}: rebooted since the run began"),
    "MTU 1500": (f"before.{RECEIVER}.mtu", 1500, f"{RECEIVER}: MTU is 1500, the lab declares 4168"),
    "MTU changed meanwhile": (f"after.{SENDER}.mtu", 4148, f"{SENDER}: MTU is 4148, the lab declares 4168"),
    "timestamps off": (
        f"before.{SENDER}.tcp_timestamps",
        0,
        f"{SENDER}: net.ipv4.tcp_timestamps is 0, not 1",
    ),
    "a lost address": (
        f"after.{RECEIVER}.addresses",
        ["fe80::1/64"],
        f"{RECEIVER}: lost its data address fd5a::2/64",
    ),
    "an address of another length": (
        f"before.{SENDER}.addresses",
        ["fd5a::1/128"],
        f"{SENDER}: lost its data address fd5a::1/64",
    ),
    "unknown state before": (
        "before",
        {SENDER: factories.snapshot(SENDER)},
        f"{RECEIVER}: its state before the measurement is not known",
    ),
    "unknown state after": (
        "after",
        {RECEIVER: factories.snapshot_after(RECEIVER)},
        f"{SENDER}: its state after the measurement is not known",
    ),
    "MSS": ("sender.document.tcp.snd_mss", 1428, "sender: MSS was 1428, the lab's link carries 4096"),
    "MSS unknown": (
        "sender.document.tcp.snd_mss",
        None,
        "sender: this kernel does not say the MSS of its connection",
    ),
    "retransmits": (
        "sender.document.tcp.total.retransmits",
        787,
        "sender: 787 of 786432 segments were retransmitted, more than 0.10%",
    ),
    "retransmits not counted": (
        "sender.document.tcp.total.retransmits",
        None,
        "sender: this kernel does not count retransmitted segments",
    ),
    "drops at the receiver": (f"after.{RECEIVER}.drops", 1, f"{RECEIVER}: data0 dropped 1 packets"),
    "drops at the sender": (f"after.{SENDER}.drops", 7, f"{SENDER}: data0 dropped 7 packets"),
    "too little mapped": (
        "receiver.document",
        mapped_bytes(0.9),
        "receiver: mapped fraction 0.9000 is below 0.99",
    ),
    "nothing mapped": (
        "receiver.document",
        mapped_bytes(0),
        "receiver: mapped fraction 0.0000 is below 0.99",
    ),
    "mapped bytes not counted": (
        "receiver.document.window.mapped_bytes",
        None,
        "receiver: mapped and copied bytes were not counted",
    ),
    "a cut-short receiver": ("receiver.document.outcome", "cut_short", "receiver: cut_short: no message"),
    "a stopped sender": ("sender.document.outcome", "stopped", "sender: stopped: no message"),
    "an error": ("sender.document.outcome", "error", "sender: error: no message"),
    "a timeout": ("receiver.document.outcome", "timeout", "receiver: timeout: no message"),
    "an incomplete window": (
        "receiver.document.window.complete",
        False,
        "receiver: the measured window was cut short",
    ),
    "an incomplete window at the sender": (
        "sender.document.window.complete",
        False,
        "sender: the measured window was cut short",
    ),
    "bytes lost between the ends": (
        "receiver.document.total",
        {"bytes": SENT - 1, "mapped_bytes": SENT - 1, "copied_bytes": 0},
        f"receiver: got {SENT - 1} bytes of the {SENT} that were sent",
    ),
    "zero bytes": (
        "receiver.document.total",
        {"bytes": 0, "mapped_bytes": 0, "copied_bytes": 0},
        f"receiver: moved {factories.WINDOW_BYTES} bytes in the window, and 0 in all",
    ),
    "no receiver": ("receiver", None, "receiver: left no result: did not start"),
    "no sender": ("sender", None, "sender: left no result: did not start"),
    "a receiver that said why": (
        "receiver",
        {"document": None, "status": 1, "stderr": "binding\nfd5a::2: no such address\n"},
        "receiver: left no result: fd5a::2: no such address",
    ),
    "a sender that said nothing": (
        "sender",
        {"document": None, "status": None, "stderr": ""},
        "sender: left no result: no message",
    ),
    "a low-water mark that was capped": (
        "receiver.document.rcvlowat.got",
        131072,
        "receiver: SO_RCVLOWAT 524288 was set and 131072 was read back: "
        "raise the third value of net.ipv4.tcp_rmem",
    ),
    "a link that went down": (
        f"after.{RECEIVER}.carrier_changes",
        4,
        f"{RECEIVER}: the link of data0 went down during the measurement",
    ),
    "fewer streams": (
        "receiver.document.streams",
        [],
        f"receiver: its streams moved 0 bytes in the window, together {factories.WINDOW_BYTES}",
    ),
    "planted CPU": (
        "receiver.document.inject_usec_per_mib",
        5.0,
        "receiver: 5 µs/MiB of CPU were injected, planned were 0",
    ),
    "headers": ("sender.document.header_bytes", 100, "sender: sent headers of 100 bytes, not 0"),
    "another IP version": ("sender.document.addresses.ip_version", 4, "sender: used IPv4"),
    "a lost connection": (
        "problem",
        f"{RECEIVER}: the connection was lost",
        f"{RECEIVER}: the connection was lost",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_the_one_reason(fault: str) -> None:
    path, value, reason = FAULTS[fault]
    record = changed(healthy(), {path: value})
    found = reasons(record)
    assert found[0] == reason
    assert len(found) == (2 if fault == "zero bytes" else 1)  # zero bytes are not what was sent, either
    manifest = factories.manifest()
    records = [changed(one, {path: value}) if one.planned.arm == "b" else one for one in _all(manifest)]
    document = run(manifest, records)
    assert (document.verdict, document.exit_code) == ("invalid", 4)


# ----------------------------------------------------------------------- a second pair of addresses, for IPv4


def two_families() -> Manifest:
    addresses = {
        "pair.0.data_address_ipv4": "198.18.1.1/30",
        "pair.0.peer_address_ipv4": "198.18.1.2",
        "pair.1.data_address_ipv4": "198.18.1.2/30",
        "pair.1.peer_address_ipv4": "198.18.1.1",
    }
    return changed(factories.manifest(), addresses)


def over_ipv4_counters(when: str, host: str) -> dict[str, int]:
    """Return the counters of a data interface; the header of IPv4 is 20 bytes shorter."""
    state = (factories.snapshot if when == "before" else factories.snapshot_after)(host)
    packets = {"tx_bytes": factories.SEGMENTS, "rx_bytes": factories.ACKNOWLEDGEMENTS}
    if host == RECEIVER:
        packets = {"rx_bytes": factories.SEGMENTS, "tx_bytes": factories.ACKNOWLEDGEMENTS}
    less = 20 if when == "after" else 0
    counters: dict[str, int] = state["link_counters"]
    return {name: value - less * packets.get(name, 0) for name, value in counters.items()}


FOURTH = {"device": "data0", "source": None, "mtu": 4148}


def over_ipv4() -> Record:
    """Return a healthy measurement over the second addresses, by a route that carries whole pages."""
    return changed(
        healthy(),
        {
            "planned.ip_version": 4,
            "planned.id": f"{healthy().planned.comparison}-ipv4-01b",
            "planned.comparison": f"{healthy().planned.comparison}-ipv4",
            "receiver.document.addresses.ip_version": 4,
            "sender.document.addresses.ip_version": 4,
            "receiver.document.addresses.local": "198.18.1.2",
            "receiver.document.addresses.peer": "198.18.1.1",
            "sender.document.addresses.local": "198.18.1.1",
            "sender.document.addresses.peer": "198.18.1.2",
        }
        | {
            f"{when}.{host}.{field}": value
            for when in ("before", "after")
            for host, number in ((SENDER, 1), (RECEIVER, 2))
            for field, value in (
                ("addresses", [f"fd5a::{number}/64", f"198.18.1.{number}/30"]),
                ("route_mtu_ipv4", 4148),
                ("link_counters", over_ipv4_counters(when, host)),
                ("routes", {"4": FOURTH, "6": {"device": "data0", "source": f"fd5a::{number}", "mtu": None}}),
            )
        },
    )


def test_second_addresses_and_their_route_are_there() -> None:
    assert reasons(over_ipv4(), two_families()) == []
    over_ipv6 = changed(
        over_ipv4(),
        {
            f"before.{SENDER}.route_mtu_ipv4": None,
            "planned.ip_version": 6,
            "planned.id": healthy().planned.id,
        },
    )
    assert not any("route" in reason for reason in reasons(over_ipv6, two_families()))


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (f"after.{SENDER}.addresses", ["fd5a::1/64"], f"{SENDER}: lost its data address 198.18.1.1/30"),
        (
            f"before.{RECEIVER}.route_mtu_ipv4",
            4168,
            f"{RECEIVER}: MTU of the route to 198.18.1.1 is 4168, not 4148",
        ),
        (
            f"before.{SENDER}.route_mtu_ipv4",
            None,
            f"{SENDER}: MTU of the route to 198.18.1.2 is that of the link, not 4148",
        ),
    ],
)
def test_a_fault_of_the_second_addresses(path: str, value: Any, reason: str) -> None:
    assert reasons(changed(over_ipv4(), {path: value}), two_families()) == [reason]


# ----------------------------------------------------------------------------------- the machine's own kernel


def test_without_an_artifact_the_kernel_is_the_one_of_the_start() -> None:
    manifest = factories.manifest(artifact=None)
    assert reasons(healthy(), manifest) == []
    other = changed(healthy(), {f"after.{SENDER}.kernel_release": "6.1.0-40-amd64"})
    assert reasons(other, manifest) == [
        f"{SENDER}: runs 6.1.0-40-amd64, not what ran when the run began: {factories.RELEASE}"
    ]
    same_name = changed(healthy(), {f"before.{SENDER}.kernel_build_id": "ab" * 20})
    assert reasons(same_name, manifest) == [
        f"{SENDER}: build id {'ab' * 20} is not what ran when the run began: {factories.BUILD_ID}"
    ]


def _all(manifest: Manifest) -> list[Record]:
    return factories.records(manifest)


ZEROCOPY_FAULTS: dict[str, tuple[str, Any, str]] = {
    "copied completions": (
        "sender.document.completions.copied",
        123,
        "sender: copied fraction 0.0100 is above 0.0",
    ),
    "one copied completion": (
        "sender.document.completions.copied",
        1,
        "sender: copied fraction 0.0001 is above 0.0",
    ),
    "no completions": ("sender.document.completions", None, "sender: a zerocopy sender without completions"),
    "no sends": (
        "sender.document.completions",
        {"sends": 0, "completed": 0, "copied": 0, "no_buffers": 0},
        "sender: a zerocopy sender without completions",
    ),
    "a NIC that cannot gather": (
        f"before.{SENDER}.missing_offloads",
        ["scatter-gather"],
        f"{SENDER}: data0 has scatter-gather off: sent pages are copied on the way",
    ),
    "fewer completions than sends": (
        "sender.document.completions.completed",
        12287,
        "sender: 12287 of 12288 zerocopy sends were completed",
    ),
}


@pytest.mark.parametrize("fault", ZEROCOPY_FAULTS)
@pytest.mark.parametrize("receive_mode", ["copy", "map_once"])
def test_a_zerocopy_sender_has_to_pin(fault: str, receive_mode: str) -> None:
    path, value, reason = ZEROCOPY_FAULTS[fault]
    assert reasons(changed(healthy(receive_mode, "zerocopy"), {path: value})) == [reason]


def test_a_copying_sender_needs_no_offloads() -> None:
    record = changed(healthy(), {f"before.{SENDER}.missing_offloads": ["scatter-gather", "tx-checksumming"]})
    assert reasons(record) == []


def test_a_mapping_receiver_of_zerocopy_has_its_own_bound() -> None:
    record = changed(healthy("map_once", "zerocopy"), {"receiver.document": mapped_bytes(0.98)})
    assert reasons(record) == []
    record = changed(record, {"receiver.document": mapped_bytes(0.96)})
    assert reasons(record) == ["receiver: mapped fraction 0.9600 is below 0.97"]


def test_a_mode_that_the_lab_says_nothing_of() -> None:
    manifest = changed(factories.manifest(), {"expectations.validity.mapped_fraction": {}})
    assert reasons(healthy(), manifest) == ["zclab_validity.mapped_fraction has no bounds for map_once, copy"]
    assert reasons(healthy("copy"), manifest) == []


@pytest.mark.parametrize(("host", "index"), [(SENDER, 0), (RECEIVER, 1)])
def test_another_nic_than_declared(host: str, index: int) -> None:
    manifest = changed(factories.manifest(), {f"hosts.{index}.nic.driver": "8139cp"})
    declared = manifest.pair[index].nic_model
    assert reasons(healthy(), manifest) == [f"{host}: data0 is 8139cp, the lab declares {declared}"]


def test_virtio_net_as_the_receivers_nic() -> None:
    """Nothing is mapped then, but the NIC is the reason to look at first."""
    manifest = changed(factories.manifest(), {"hosts.1.nic.driver": "virtio_net"})
    record = changed(healthy(), {"receiver.document": mapped_bytes(0)})
    assert reasons(record, manifest)[0] == f"{RECEIVER}: data0 is virtio_net, the lab declares e1000e"


def test_hardware_declares_no_nic_model() -> None:
    manifest = changed(factories.manifest(), {"pair.1.nic_model": None, "hosts.1.nic.driver": "mlx4_en"})
    assert reasons(healthy(), manifest) == []


def test_several_faults_are_all_named() -> None:
    record = changed(
        healthy(),
        {
            f"before.{RECEIVER}.mtu": 1500,
            f"after.{RECEIVER}.mtu": 1500,
            "sender.document.tcp.snd_mss": 1428,
            "receiver.document": mapped_bytes(0),
        },
    )
    assert reasons(record) == [
        f"{RECEIVER}: MTU is 1500, the lab declares 4168",
        "sender: MSS was 1428, the lab's link carries 4096",
        "receiver: mapped fraction 0.0000 is below 0.99",
    ]


def test_what_the_lab_allows_is_valid() -> None:
    manifest = changed(
        factories.manifest(),
        {
            "expectations.validity.drops_at_most": 5,
            "expectations.validity.retransmitted_share_at_most": 0.01,
            "expectations.validity.copied_fraction": {"at_most": 1},
        },
    )
    record = changed(
        healthy("map_once", "zerocopy"),
        {
            f"after.{RECEIVER}.drops": 5,
            "sender.document.tcp.total.retransmits": 2000,
            "sender.document.completions.copied": 12288,
        },
    )
    assert reasons(record, manifest) == []


def test_a_lab_that_expects_copies_refuses_pins() -> None:
    manifest = changed(factories.manifest(), {"expectations.validity.copied_fraction": {"at_least": 1}})
    assert reasons(healthy("copy", "zerocopy"), manifest) == ["sender: copied fraction 0.0000 is below 1.0"]


def test_after_a_lost_connection_states_that_are_known_are_judged() -> None:
    record = changed(healthy(), {"problem": "receiver1: gone", "after": {}, f"before.{SENDER}.mtu": 1500})
    assert reasons(record) == ["receiver1: gone", f"{SENDER}: MTU is 1500, the lab declares 4168"]


def test_hosts_are_refused_before_the_first_measurement() -> None:
    state = {host: Snapshot.model_validate(factories.snapshot(host)) for host in (SENDER, RECEIVER)}
    assert validity.host_reasons(factories.manifest(), healthy(), state) == []
    state[RECEIVER] = Snapshot.model_validate(factories.snapshot(RECEIVER, mtu=1500))
    assert validity.host_reasons(factories.manifest(), healthy(), state) == [
        f"{RECEIVER}: MTU is 1500, the lab declares 4168"
    ]


def test_no_bytes_in_the_measured_window() -> None:
    """Everything came while warming up: nothing was measured."""
    record = changed(
        healthy(),
        {
            "receiver.document.window": {
                "complete": True,
                "seconds": 2.0,
                "bytes": 0,
                "mapped_bytes": 0,
                "copied_bytes": 0,
            }
        },
    )
    assert reasons(record)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("receiver.document.mode", "copy"),
        ("sender.document.mode", "zerocopy"),
        ("sender.document.message_bytes", 4096),
        ("sender.document.pace_gbit", 0.5),
        ("receiver.document.addresses.ip_version", 4),
    ],
)
def test_what_ran_is_what_was_planned(path: str, value: Any) -> None:
    assert reasons(changed(healthy(), {path: value}))


@pytest.mark.parametrize("rcvlowat", [None, {"asked": 65536, "got": 65536}, {"asked": None, "got": 1}])
def test_the_low_water_mark_is_the_declared_one(rcvlowat: Any) -> None:
    assert reasons(changed(healthy(), {"receiver.document.rcvlowat": rcvlowat}))


# --------------------------------------------------------------------------------- figures of a measurement


def test_figures() -> None:
    one = measurement.document(factories.manifest(), healthy("map_once", "zerocopy"))
    assert one.bytes_received == factories.WINDOW_BYTES
    assert one.gbit_per_s == pytest.approx(factories.WINDOW_BYTES * 8 / 2.0 / 1e9)
    assert one.mapped_fraction == pytest.approx(0.998, abs=1e-6)
    assert one.mapped_bytes is not None and one.copied_bytes is not None
    assert one.mapped_bytes + one.copied_bytes == factories.WINDOW_BYTES
    assert one.receiver_cpu is not None
    assert one.receiver_cpu.usec_per_mib == pytest.approx(1e6 / 1024)
    assert one.receiver_cpu.softirq_s == 0.5
    assert one.receiver_cpu.host_busy_s == 1.0  # less the idle baseline of 0.5 s
    assert one.receiver_cpu.host_usec_per_mib == pytest.approx(1e6 / 1024)
    assert one.receiver_cpu.softirq_usec_per_mib == pytest.approx(0.5e6 / 1024)
    assert one.receiver_cpu.per_cpu is not None
    assert [(cpu.cpu, cpu.busy_s) for cpu in one.receiver_cpu.per_cpu] == [(0, 0.75), (1, 0.75)]
    assert one.receiver_cpu.cycles_per_mib is None
    assert one.receiver_cpu.perf_unavailable == "no cycles here"
    assert one.nic_counters == {SENDER: {}, RECEIVER: {}}
    assert one.receiver_context_switches == 1000
    assert (one.retransmitted_segments, one.retransmitted_share) == (0, 0.0)
    assert one.mss == 4096
    assert one.completions is not None
    assert (one.completions.sends, one.completions.copied) == (12288, 0)
    assert one.header_split == 249000
    assert one.drops == 0
    assert one.integrity == "not checked"
    assert one.system_calls == 2048


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("receiver.document.cpu.user_s", "receiver_cpu.usec_per_mib"),
        ("receiver.document.cpu.voluntary_context_switches", "receiver_context_switches"),
        ("sender.document.tcp.total.retransmits", "retransmitted_segments"),
        ("sender.document.tcp.total.data_segs_out", "retransmitted_share"),
        ("receiver.document.window.mapped_bytes", "mapped_fraction"),
        ("receiver.document.window.seconds", "gbit_per_s"),
        ("receiver.document.system_calls", "system_calls"),
        (f"after.{RECEIVER}.header_split", "header_split"),
        ("receiver.document.host_cpu.softirq_s", "receiver_cpu.softirq_s"),
    ],
)
def test_what_was_not_measured_is_null(path: str, field: str) -> None:
    value: Any = measurement.document(factories.manifest(), changed(healthy(), {path: None}))
    for name in field.split("."):
        value = getattr(value, name)
    assert value is None


def test_nothing_is_measured_of_ends_that_are_not_there() -> None:
    record = changed(healthy(), {"receiver": None, "sender": None, "before": {}, "after": {}})
    one = measurement.document(factories.manifest(), record)
    figures = one.model_dump(
        include={
            "seconds",
            "bytes_received",
            "gbit_per_s",
            "mapped_bytes",
            "copied_bytes",
            "mapped_fraction",
            "receiver_cpu",
            "sender_cpu",
            "receiver_context_switches",
            "retransmitted_segments",
            "mss",
            "completions",
            "system_calls",
            "header_split",
            "drops",
        }
    )
    assert set(figures.values()) == {None}
    assert not one.valid


# ---------------------------------------------------------------------------------------------- the verdict


def gated_manifest(**changes: Any) -> Manifest:
    return factories.manifest(thresholds=[factories.threshold(**changes)])


def test_a_healthy_run_passes() -> None:
    document = run(factories.manifest())
    assert (document.verdict, document.exit_code, document.problems) == ("pass", 0, [])
    assert {one.not_gated_because for one in document.comparisons} == {"not declared by the lab"}
    assert {one.verdict for one in document.comparisons} == {None}


def test_a_kept_gate_passes() -> None:
    document = run(gated_manifest())
    assert (document.verdict, document.exit_code) == ("pass", 0)
    one = next(one for one in document.comparisons if one.gated)
    assert (one.verdict, one.threshold, one.direction, one.unit) == ("pass", 0.5, "at_most", "ratio")
    assert one.n == 6
    assert one.ratio_median == pytest.approx(0.4, abs=0.03)
    assert one.claim_ids == ["F4"]
    assert one.reference["F4"] == {"receiver_usec_per_mib_ratio": 0.37}


def test_a_missed_gate_fails() -> None:
    manifest = gated_manifest()
    document = run(manifest, factories.records(manifest, ratio=0.8))
    assert (document.verdict, document.exit_code) == ("fail", 1)


def test_a_gate_inside_of_the_interval_is_inconclusive() -> None:
    manifest = gated_manifest()
    document = run(manifest, factories.records(manifest, ratio=0.5, spread=0.2))
    assert (document.verdict, document.exit_code) == ("inconclusive", 3)


@pytest.mark.parametrize("repeats", [1, 5])
@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_too_few_pairs_are_inconclusive(repeats: int, ratio: float) -> None:
    manifest = factories.manifest(plan=factories.plan(repeats=repeats), thresholds=[factories.threshold()])
    document = run(manifest, factories.records(manifest, ratio=ratio))
    assert (document.verdict, document.exit_code) == ("inconclusive", 3)
    assert document.comparisons[0].ratio_ci95 == (None, None)


def test_better_never_fails() -> None:
    manifest = gated_manifest()
    assert gated(manifest, factories.records(manifest, ratio=0.001)).verdict == "pass"
    manifest = gated_manifest(metric="gbit_per_s", at_most=None, at_least=0.98)
    faster = [
        changed(one, {"receiver.document.window.seconds": 1.9}) if one.planned.arm == "b" else one
        for one in factories.records(manifest)
    ]
    assert gated(manifest, faster).verdict == "pass"


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [({"at_least": 4.2}, "pass"), ({"at_least": 4.4}, "fail"), ({"at_most": 4.2}, "fail")],
)
@pytest.mark.parametrize("arm", ["a", "b"])
def test_the_median_of_one_arm(bound: dict[str, float], verdict: str, arm: str) -> None:
    """An arm's gbit_per_s is 4.295 here."""
    one = gated(
        gated_manifest(arm=arm, metric="gbit_per_s", unit="gbit_per_s", at_most=None, **bound)
        if "at_least" in bound
        else gated_manifest(arm=arm, metric="gbit_per_s", unit="gbit_per_s", **bound)
    )
    assert one.verdict == verdict
    assert one.unit == "gbit_per_s"
    assert one.arm_a is None
    assert one.arm_b == ("copy to copy" if arm == "a" else "copy to map_once")
    assert one.ratio_median == pytest.approx(4.295, abs=0.001)


def test_pairs_are_compared_not_pools() -> None:
    """A machine that gets slower by the hour changes both arms of a pair alike."""
    manifest = factories.manifest(
        plan=factories.plan(repeats=10), thresholds=[factories.threshold(at_most=0.55)]
    )
    records = [
        factories.record(one, receiver_cpu_s=(0.1 if one.arm == "a" else 0.05) * (1 + one.pair))
        for one in schedule.measurements(manifest.plan)
    ]
    comparison = gated(manifest, records)
    assert comparison.ratio_median == pytest.approx(0.5)
    assert comparison.verdict == "pass"


@pytest.mark.parametrize("metric", ["receiver_usec_per_mib", "sender_usec_per_mib"])
@pytest.mark.parametrize("ratio", [0.1, 2.0])
def test_an_emulated_cpu_is_never_gated(metric: str, ratio: float) -> None:
    manifest = factories.manifest(
        emulated=True,
        accelerator="tcg",
        plan=factories.plan(comparisons=[factories.comparison(metrics={metric: []})]),
        thresholds=[
            factories.threshold(metric=metric),
            factories.threshold(metric=metric, arm="b", unit="usec_per_mib"),
        ],
    )
    document = run(manifest, factories.records(manifest, ratio=ratio))
    assert document.emulated
    assert len(document.comparisons) == 2
    for one in document.comparisons:
        assert (one.gated, one.not_gated_because, one.verdict) == (False, "emulated CPU", None)
        assert one.ratio_median is not None
    assert document.verdict == "pass"


def test_throughput_of_an_emulated_lab_is_gated_where_declared() -> None:
    manifest = factories.manifest(
        emulated=True, thresholds=[factories.threshold(metric="gbit_per_s", at_most=None, at_least=1.5)]
    )
    assert gated(manifest).verdict == "fail"


@pytest.mark.parametrize(("paced", "cells"), [(None, 2), (True, 1), (False, 1)])
def test_a_threshold_may_be_for_paced_cells_only(paced: bool | None, cells: int) -> None:
    manifest = factories.manifest(
        plan=factories.plan(pace_gbit_per_s=[None, 10]), thresholds=[factories.threshold(paced=paced)]
    )
    found = [one for one in run(manifest).comparisons if one.gated]
    assert len(found) == cells
    assert {one.name.endswith("unpaced") for one in found} == (
        {True, False} if paced is None else {not paced}
    )


def test_throughput_is_not_compared_at_a_fixed_pace() -> None:
    manifest = factories.manifest(plan=factories.plan(pace_gbit_per_s=[10]))
    assert {one.metric for one in run(manifest).comparisons} == {"receiver_usec_per_mib"}


# ------------------------------------------------------------------------------------------ what goes first


@pytest.mark.parametrize(
    ("verdicts", "first"),
    [
        ([], "pass"),
        (["pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
        (["fail", "invalid", "inconclusive"], "invalid"),
    ],
)
def test_of_several_verdicts(verdicts: list[Verdict], first: Verdict) -> None:
    assert exit_codes.worst_verdict(verdicts) == first


def test_exit_codes() -> None:
    assert exit_codes.EXIT_CODES == {"pass": 0, "fail": 1, "inconclusive": 3, "invalid": 4}


def test_one_invalid_measurement_makes_its_comparisons_and_the_run_invalid() -> None:
    manifest = factories.manifest(
        plan=factories.plan(comparisons=[factories.comparison("receive"), factories.comparison("other")]),
        thresholds=[factories.threshold()],
    )
    records = _all(manifest)
    records[3] = changed(records[3], {f"after.{SENDER}.boot_id": "new"})
    document = run(manifest, records)
    assert (document.verdict, document.exit_code) == ("invalid", 4)
    assert {(one.name, one.verdict) for one in document.comparisons} == {
        ("receive-262144-unpaced", "invalid"),
        ("other-262144-unpaced", None),
    }


def test_invalid_goes_before_fail() -> None:
    manifest = gated_manifest()
    records = factories.records(manifest, ratio=0.8)
    records[-1] = changed(records[-1], {f"after.{RECEIVER}.mtu": 1500})
    assert run(manifest, records).verdict == "invalid"


def test_a_report_on_a_console_fails_the_run() -> None:
    manifest = changed(
        factories.manifest(), {"console_reports": {SENDER: [], RECEIVER: ["[ 1.0] WARNING: CPU: 0"]}}
    )
    document = run(manifest)
    assert (document.verdict, document.exit_code) == ("fail", 1)
    assert document.console_reports[RECEIVER] == ["[ 1.0] WARNING: CPU: 0"]


def test_quiet_consoles_are_no_fault() -> None:
    manifest = changed(factories.manifest(), {"console_reports": {SENDER: [], RECEIVER: []}})
    assert run(manifest).verdict == "pass"


@pytest.mark.parametrize("kept", [0, 1, 11])
def test_measurements_that_were_not_made(kept: int) -> None:
    manifest = factories.manifest()
    document = run(manifest, _all(manifest)[:kept])
    assert (document.verdict, document.exit_code) == ("invalid", 4)
    assert any(problem.startswith(f"{12 - kept} planned measurements") for problem in document.problems)


def test_a_run_that_did_not_finish() -> None:
    document = run(changed(factories.manifest(), {"finished_at": None}))
    assert document.verdict == "invalid"
    assert document.problems == ["the run did not finish"]


def test_a_record_twice_does_not_stand_for_another() -> None:
    manifest = factories.manifest()
    records = _all(manifest)
    assert run(manifest, [*records[:-1], records[0]]).verdict == "invalid"


@pytest.mark.parametrize("declared", [True, False])
def test_a_skipped_mode_never_passes(declared: bool) -> None:
    manifest = gated_manifest() if declared else factories.manifest()
    records = [
        changed(one, {"skipped": "this kernel has no such call"}) if one.planned.arm == "b" else one
        for one in _all(manifest)
    ]
    document = run(manifest, records)
    assert (document.verdict, document.exit_code) == ("inconclusive", 3)
    skipped = next(one for one in document.measurements if one.arm == "b")
    assert (skipped.skipped, skipped.valid, skipped.invalid_reasons) == (
        "this kernel has no such call",
        False,
        [],
    )
    for one in document.comparisons:
        assert one.verdict == "inconclusive"
        assert one.not_gated_because == "skipped: this kernel has no such call"


def test_a_skipped_mode_never_passes_where_nothing_is_compared() -> None:
    """A cell at a fixed pace whose only metric is throughput has no comparison."""
    manifest = factories.manifest(
        plan=factories.plan(
            pace_gbit_per_s=[1], comparisons=[factories.comparison(metrics={"gbit_per_s": []})]
        )
    )
    records = [changed(one, {"skipped": "no such call"}) for one in _all(manifest)]
    assert run(manifest, records).verdict == "inconclusive"


def test_the_wrong_kernel_is_no_reason_to_skip() -> None:
    manifest = factories.manifest()
    records = [
        changed(one, {"skipped": "no such call", f"before.{RECEIVER}.kernel_release": "6.1.0-40-amd64"})
        for one in _all(manifest)
    ]
    assert run(manifest, records).verdict == "invalid"


def test_a_gate_on_figures_that_are_missing_is_not_decided_by_the_rest() -> None:
    """Ten pairs were measured, the CPU of one is unknown: nine are not what was planned."""
    manifest = gated_manifest()
    records = _all(manifest)
    records[1] = changed(records[1], {"receiver.document.cpu.user_s": None})
    assert run(manifest, records).verdict == "invalid"


def test_a_claim_that_is_gone_does_not_stop_the_judge() -> None:
    """An old run can be judged after docs/claims.yml changed."""
    assert gated(gated_manifest(claims=["F4", "F99"])).claim_ids == ["F4", "F99"]


# ------------------------------------------------------------------------------------------------ integrity


def checked(**integrity: Any) -> Record:
    """Return a measurement that checked every byte."""
    plan = factories.plan(integrity_bytes=3 * factories.WINDOW_BYTES)
    one = next(one for one in schedule.checks(plan) if one.arm == "b")
    total = 3 * factories.WINDOW_BYTES
    found = {"checked_bytes": total, "mismatch": None, "reused_early": None}
    own = {"checked_bytes": None, "mismatch": None, "reused_early": 0}
    return changed(
        factories.record(one),
        {"receiver.document.integrity": found, "sender.document.integrity": own, **integrity},
    )


def test_every_byte_was_checked() -> None:
    one = measurement.document(factories.as_scheduled(factories.manifest(), checked()), checked())
    assert (one.integrity, one.phase, one.invalid_reasons) == ("verified", "integrity", [])


ENDS = ("receiver", "sender")
MISMATCH = {"stream": 0, "offset": 4097, "expected": 1, "found": 2, "mapped": True}


@pytest.mark.parametrize(
    "changes",
    [
        {
            "receiver.document.integrity.mismatch": MISMATCH,
            "receiver.document.outcome": "error",
            "receiver.document.error": "byte 4097 of stream 0 is 0x02, not 0x01",
        },
        {"sender.document.integrity.reused_early": 1},
    ],
)
def test_a_damaged_byte_fails_the_run(changes: dict[str, Any]) -> None:
    """The measurement counts: it is the kernel that failed."""
    manifest = factories.manifest(plan=factories.plan(integrity_bytes=3 * factories.WINDOW_BYTES))
    records = [
        (checked(**changes) if one.arm == "b" else factories.record(one))
        for one in schedule.measurements(manifest.plan)
        if one.phase == "integrity"
    ]
    plain = [one for one in factories.records(manifest) if one.planned.phase == "compare"]
    good = changed(
        records[0],
        {f"{end}.document.integrity": checked().model_dump()[end]["document"]["integrity"] for end in ENDS},
    )
    document = run(manifest, [good, records[1], *plain])
    assert [one.integrity for one in document.measurements[:2]] == ["verified", "mismatch"]
    assert document.measurements[1].invalid_reasons == []
    assert (document.verdict, document.exit_code) == ("fail", 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"receiver.document.integrity": None}, "receiver: checked no bytes"),
        ({"sender.document.integrity": None}, "sender: checked no bytes"),
        (
            {"receiver.document": mapped_bytes(0) | {"integrity": {"checked_bytes": SENT}}},
            "receiver: mapped nothing, so that no mapped byte was checked",
        ),
    ],
)
def test_a_check_that_checked_nothing_is_invalid(changes: dict[str, Any], reason: str) -> None:
    assert reasons(checked(**changes)) == [reason]


def test_bytes_that_were_not_all_checked_are_not_verified() -> None:
    record = checked(**{"receiver.document.integrity.checked_bytes": 4096})
    assert measurement.document(factories.manifest(), record).integrity == "not checked"


# ---------------------------------------------------------------------------------------------- differences


def with_equal_arms(spread: float = 0.01, ratio: float = 1.0, pairs: int = 10, **changes: Any) -> RunDocument:
    """Return a run with a stage of equal arms, then a comparison at a ratio; both with the same spread."""
    metrics: dict[str, list[str]] = {"receiver_usec_per_mib": []}
    plan = factories.plan(
        aa_pairs=pairs, repeats=pairs, comparisons=[factories.comparison(metrics=metrics)], **changes
    )
    manifest = factories.manifest(plan=plan)
    return run(manifest, factories.records(manifest, ratio=ratio, spread=spread))


def the_effect(document: RunDocument) -> ComparisonDocument:
    return next(one for one in document.comparisons if one.name != "aa")


@pytest.mark.parametrize(("ratio", "effect"), [(1.2, "higher"), (0.8, "lower"), (1.0, "none")])
def test_a_difference_is_called(ratio: float, effect: str) -> None:
    found = the_effect(with_equal_arms(spread=0.004, ratio=ratio, pairs=20))
    assert found.effect == effect
    assert found.resolution is not None and 0 < found.resolution < 0.02
    assert (found.verdict, found.not_gated_because) == (None, "not declared by the lab")


def test_a_sure_difference_that_does_not_matter_is_not_called() -> None:
    """1.5 % with a spread of 0.1 %: beyond doubt, and below the smallest effect of interest."""
    found = the_effect(with_equal_arms(spread=0.001, ratio=1.015, pairs=12))
    assert found.p_value is not None and found.p_value <= 0.01
    assert found.effect == "none"


def test_equal_arms_that_differ_bound_what_is_called() -> None:
    document = with_equal_arms(spread=0.2, ratio=1.1, pairs=10)
    found = the_effect(document)
    assert found.resolution is not None and found.resolution > 0.1
    assert found.effect == "inconclusive"


def test_without_equal_arms_no_difference_is_called() -> None:
    manifest = factories.manifest(plan=factories.plan(repeats=10))
    for one in run(manifest, factories.records(manifest, ratio=0.5)).comparisons:
        assert (one.effect, one.effect_because) == (None, "equal arms were not compared")


def test_with_too_few_pairs_no_difference_is_called() -> None:
    for one in run(factories.manifest()).comparisons:
        assert (one.effect, one.effect_because) == (None, "fewer than 8 pairs")


def with_shaken_equal_arms(**changes: Any) -> tuple[Manifest, list[Record]]:
    """Return a run whose gate is kept, but whose equal arms differ by 1.4 in receiver CPU."""
    plan = factories.plan(aa_pairs=10, repeats=10)
    manifest = factories.manifest(plan=plan, thresholds=[factories.threshold(at_most=0.5)], **changes)
    quiet = factories.records(manifest, ratio=0.48, spread=0.001)
    assert run(manifest, quiet).verdict == "pass"
    shaken = [
        changed(one, {"receiver.document.cpu.user_s": 0.65 if one.planned.arm == "b" else 0.25})
        if one.planned.phase == "aa"
        else one
        for one in quiet
    ]
    return manifest, shaken


def test_a_gate_is_not_judged_where_equal_arms_differ() -> None:
    manifest, records = with_shaken_equal_arms()
    document = run(manifest, records)
    assert document.verdict == "inconclusive"
    (one,) = (one for one in document.equal_arms if one.differ)
    assert (one.metric, one.n) == ("receiver_usec_per_mib", 10)
    assert one.ratio == pytest.approx(1.4, abs=0.01)
    found = gated(manifest, records)
    assert found.verdict == "inconclusive"
    assert found.inconclusive_because == "equal arms differ: receiver_usec_per_mib"
    assert (the_effect(document).effect, the_effect(document).effect_because) == (
        "inconclusive",
        "equal arms differ",
    )


def test_a_gate_by_another_metric_is_not_judged_either() -> None:
    """What makes equal arms differ in CPU may change throughput, too."""
    manifest, records = with_shaken_equal_arms()
    speed = factories.threshold(metric="gbit_per_s", at_most=None, at_least=0.9, claims=["F1"])
    manifest = changed(manifest, {"expectations.thresholds": [speed]})
    found = gated(manifest, records)
    assert (found.metric, found.verdict) == ("gbit_per_s", "inconclusive")


def test_emulated_cpu_of_equal_arms_is_shown_and_not_judged() -> None:
    plan = factories.plan(aa_pairs=10, repeats=10)
    manifest = factories.manifest(plan=plan, emulated=True)
    _, records = with_shaken_equal_arms()
    document = run(manifest, records)
    (one,) = (one for one in document.equal_arms if one.metric == "receiver_usec_per_mib")
    assert (one.differ, one.because) == (None, "emulated CPU")
    assert document.verdict == "pass"


def test_too_few_pairs_of_equal_arms_say_nothing() -> None:
    plan = factories.plan(aa_pairs=6, repeats=10)
    document = run(factories.manifest(plan=plan))
    assert {(one.differ, one.because) for one in document.equal_arms} == {(None, "fewer than 8 pairs")}


def test_a_gate_nearer_to_its_bound_than_chance_is_inconclusive() -> None:
    """The noise of this comparison counts, not that of equal arms measured elsewhere in the run."""
    plan = factories.plan(aa_pairs=10, repeats=10)
    manifest = factories.manifest(plan=plan, thresholds=[factories.threshold(at_most=0.5)])
    verdicts = []
    for ratio in (0.40, 0.48):
        noisy = factories.records(manifest, ratio=ratio, spread=0.05)
        quiet = factories.records(manifest, ratio=ratio, spread=0.001)
        records = [b if b.planned.phase == "aa" else a for a, b in zip(noisy, quiet, strict=True)]
        found = gated(manifest, records)
        assert found.resolution is not None and found.resolution > 0.03
        verdicts.append(found.verdict)
    assert verdicts == ["pass", "inconclusive"]


# ------------------------------------------------------------------------------------------ why it is invalid


@pytest.mark.parametrize("declared", [True, False])
def test_a_cpu_reading_of_nothing_names_itself(declared: bool) -> None:
    """No ratio can be made of 0.0 s: the comparison is invalid and says which measurement."""
    manifest = gated_manifest() if declared else factories.manifest()
    records = _all(manifest)
    nothing = {"receiver.document.cpu.user_s": 0.0, "receiver.document.cpu.system_s": 0.0}
    at = next(at for at, one in enumerate(records) if one.planned.arm == "a")
    spoilt = changed(records[at], nothing)
    records[at : at + 1] = [spoilt, again(spoilt)]
    (found,) = (one for one in run(manifest, records).comparisons if one.metric == "receiver_usec_per_mib")
    assert found.verdict == "invalid"
    place = again(spoilt).planned.id
    assert found.invalid_reasons == [f"{place}: receiver: its CPU time is 0 s, and it moved bytes"]


def test_a_figure_that_was_not_measured_names_itself() -> None:
    manifest = gated_manifest()
    records = _all(manifest)
    without = changed(records[1], {"receiver.document.cpu.user_s": None})
    records[1:2] = [without, again(without)]
    found = gated(manifest, records)
    place = again(without).planned.id
    assert found.invalid_reasons == [f"{place}: receiver: its user CPU time was not measured"]


def test_measurements_that_are_missing_are_the_reason() -> None:
    manifest = gated_manifest()
    found = gated(manifest, _all(manifest)[:-1])
    assert (found.verdict, found.invalid_reasons) == ("invalid", ["not all of its measurements were made"])


def test_one_reason_of_many_measurements_is_given_once() -> None:
    manifest = gated_manifest()
    records = [changed(one, {f"after.{RECEIVER}.mtu": 1500}) for one in _all(manifest)]
    found = gated(manifest, records)
    first, more = records[0].planned.id, len(records) - 1
    reason = f"{RECEIVER}: MTU is 1500, the lab declares 4168"
    assert found.invalid_reasons == [f"{first} and {more} more: {reason}"]


def test_every_invalid_comparison_names_a_reason() -> None:
    """Whatever is wrong with one measurement of a run."""
    manifest = gated_manifest()
    for path, value, _ in FAULTS.values():
        records = _all(manifest)
        at = next(at for at, one in enumerate(records) if one.planned.arm == "b")
        records[at] = changed(records[at], {path: value})
        for one in run(manifest, records).comparisons:
            assert (one.verdict == "invalid") == bool(one.invalid_reasons), path


# ------------------------------------------------------------------------------------------------ made again


#: Segments sent again, of what factories send: more than their lab allows.
LOST = 2000


def again(record: Record, attempt: int = 1) -> Record:
    """Return the next attempt of a measurement."""
    planned = {"id": f"{record.planned.id}-again{attempt}", "attempt": attempt}
    return record.model_copy(update={"planned": record.planned.model_copy(update=planned)})


def test_a_comparison_uses_what_was_made_again() -> None:
    manifest = gated_manifest()
    records = _all(manifest)
    lost = {"sender.document.tcp.total.retransmits": LOST, "receiver.document.cpu.user_s": 500.0}
    spoilt = [*records[:3], changed(records[3], lost), again(records[3]), *records[4:]]
    document, plain = run(manifest, spoilt), run(manifest, records)
    assert (document.verdict, document.remeasured) == ("pass", 1)
    assert [one.valid for one in document.measurements].count(False) == 1
    assert [one.ratio_median for one in document.comparisons] == [
        one.ratio_median for one in plain.comparisons
    ]


def test_a_damaged_byte_is_not_forgotten_when_it_is_checked_again() -> None:
    manifest = factories.manifest(plan=factories.plan(integrity_bytes=3 * factories.WINDOW_BYTES))
    checks = schedule.checks(manifest.plan)
    assert [one.arm for one in checks] == ["a", "b"]
    good = [factories.record(checks[0]), checked()]
    for record in good:
        integrity = {
            f"{end}.document.integrity": checked().model_dump()[end]["document"]["integrity"] for end in ENDS
        }
        good[good.index(record)] = changed(record, integrity)
    damaged = changed(
        good[1],
        {"receiver.document.integrity.mismatch": MISMATCH, "sender.document.tcp.total.retransmits": LOST},
    )
    plain = [one for one in factories.records(manifest) if one.planned.phase == "compare"]
    assert run(manifest, [*good, *plain]).verdict == "pass"
    document = run(manifest, [good[0], damaged, again(good[1]), *plain])
    assert (document.remeasured, document.verdict) == (1, "fail")


def test_a_measurement_that_stays_invalid_makes_its_comparison_invalid() -> None:
    manifest = gated_manifest()
    records = _all(manifest)
    lost = changed(records[3], {"sender.document.tcp.total.retransmits": LOST})
    document = run(manifest, [*records[:3], lost, again(lost), *records[4:]])
    assert (document.verdict, document.problems) == ("invalid", [])
    without = run(manifest, [*records[:3], lost, *records[4:]])
    assert without.problems == ["1 planned measurements were not made: continue with `zclab run --resume`"]


def test_the_state_of_the_hosts_is_not_tried_again() -> None:
    manifest = gated_manifest()
    records = _all(manifest)
    records[3] = changed(records[3], {f"after.{RECEIVER}.mtu": 1500})
    document = run(manifest, records)
    assert (document.verdict, document.problems) == ("invalid", [])
    assert document.measurements[3].invalid_lasts


# --------------------------------------------------------------------------------------- kernels, as boots


def kernels(
    boots: int = 6, ratio: float = 1.0, between: float = 0.05, changes: dict[str, Any] | None = None
) -> ComparisonDocument:
    """Return a comparison of two kernels, each boot of which has a level of its own."""
    comparison = factories.comparison(metrics={"receiver_usec_per_mib": []})
    comparison["b"]["kernel"] = "mine"
    plan = factories.plan(comparisons=[comparison], boots=boots, boot_measurements=4)
    bound = [factories.threshold(at_most=0.9)]
    manifest = factories.manifest(
        plan=plan, thresholds=bound, other_kernels={"mine": KernelIdentity.of(factories.ARTIFACT)}
    )
    drawn = random.Random(7)
    levels = {number: math.exp(drawn.gauss(0, between)) for number in range(4 * boots)}
    records = []
    for planned in schedule.measurements(plan):
        cost = levels[planned.boot or 0] * (ratio if planned.arm == "b" else 1.0)
        of_boot = {host: f"{host}-{planned.boot}" for host in (SENDER, RECEIVER)}
        record = factories.record(planned, cost * math.exp(drawn.gauss(0, 0.001)))
        state = {f"{when}.{host}.boot_id": of_boot[host] for when in ("before", "after") for host in of_boot}
        record = changed(record, state | {"boots": of_boot} | (changes or {}))
        records.append(record)
    (found,) = run(manifest, records).comparisons
    return found


def test_kernels_are_compared_by_one_figure_of_each_boot() -> None:
    """Boots differ by 5 %, measurements in them by 0.1 %: 48 measurements would seem to say a lot."""
    found = kernels()
    assert (found.n, found.n_boots) == (6, 6)
    assert found.interval == "rank-sum (Hodges-Lehmann shift)"
    low, high = found.ratio_ci95
    assert low is not None and high is not None
    assert low < 1 < high and high - low > 0.04
    assert found.effect == "inconclusive"


def test_kernels_that_surely_differ_are_found() -> None:
    found = kernels(ratio=0.7)
    assert (found.effect, found.verdict) == ("lower", "pass")


@pytest.mark.parametrize("boots", [1, 2, 3])
def test_too_few_boots_are_inconclusive_with_the_reason(boots: int) -> None:
    found = kernels(boots=boots, ratio=0.5)
    assert found.ratio_ci95 == (None, None)
    assert (found.verdict, found.inconclusive_because) == (
        "inconclusive",
        f"{boots} boots of each kernel: 4 are needed",
    )


def test_boots_that_were_none_count_once() -> None:
    """The hosts kept their boot ids: however often the plan asked, they were booted once."""
    same = {SENDER: "one", RECEIVER: "one"}
    state = {f"{when}.{host}.boot_id": "one" for when in ("before", "after") for host in same}
    found = kernels(ratio=0.5, changes=state | {"boots": same})
    assert (found.n_boots, found.verdict) == (1, "inconclusive")


# ------------------------------------------------------------------------- one arm, precision, and both CPUs


def test_a_threshold_on_one_arm_allows_for_drift() -> None:
    """Every figure is above the bound, but the machine moved by 4 % meanwhile, and the bound is as near."""
    bound = {"metric": "gbit_per_s", "arm": "b", "at_most": None, "at_least": 4.12, "unit": "gbit_per_s"}
    manifest = factories.manifest(
        plan=factories.plan(repeats=12), thresholds=[factories.threshold(**bound, claims=["F1"])]
    )
    steady = factories.records(manifest)
    found = gated(manifest, steady)
    assert (found.verdict, found.n, found.interval) == ("pass", 12, "generalized least squares (drift)")
    drifting = [
        changed(
            one, {"receiver.document.window.seconds": factories.WINDOW_SECONDS * (1.04 if at >= 12 else 1)}
        )
        for at, one in enumerate(steady)
    ]
    found = gated(manifest, drifting)
    assert found.ratio_median is not None and found.ratio_median > 4.13
    assert (found.verdict, found.inconclusive_because) == ("inconclusive", "the interval contains the bound")


def test_how_precise_a_comparison_became_is_said() -> None:
    plan = factories.plan(repeats={"at_least": 6, "at_most": 12}, precision=0.0001)
    manifest = factories.manifest(plan=plan)
    one = run(manifest, factories.records(manifest, spread=0.1)).comparisons[0]
    assert (one.stopped, one.precision_wanted) == ("limit", 0.0001)
    low, high = one.ratio_ci95
    assert low is not None and high is not None and one.ratio_median is not None
    assert one.precision == pytest.approx((high - low) / 2 / one.ratio_median)


@pytest.mark.parametrize(("busy", "says"), [(3.0, True), (1.0, False), (1.5, False)])
def test_figures_of_cpu_that_contradict_each_other_say_so(busy: float, says: bool) -> None:
    """The receiving thread takes 0.4 of A's time, its host 2.5 times as much, half as much, or the same."""
    manifest = gated_manifest()
    records = [
        changed(one, {"receiver.document.host_cpu.busy_s": busy * (1 + (at % 3 - 1) / 1000)})
        if one.planned.arm == "b"
        else one
        for at, one in enumerate(_all(manifest))
    ]
    found = gated(manifest, records)
    assert found.host_cpu is not None and found.host_cpu.metric == "receiver_host_usec_per_mib"
    assert found.host_cpu.ratio == pytest.approx((busy - 0.5) / 1.0, rel=0.02)
    assert (found.contradiction is not None) == says
    if says:
        assert "booked time on the wrong thread" in (found.contradiction or "")


def test_cpu_is_that_of_the_threads_clock() -> None:
    """getrusage lags by up to a tick; what an older tool measured has nothing else."""
    usec = []
    for thread_s in (None, 0.5):
        record = changed(healthy(), {"receiver.document.cpu.thread_s": thread_s})
        one = measurement.document(factories.manifest(), record)
        assert one.receiver_cpu is not None and one.receiver_cpu.usec_per_mib is not None
        assert one.receiver_cpu.thread_s == thread_s
        usec.append(one.receiver_cpu.usec_per_mib)
    assert usec == pytest.approx([1e6 / 1024, 0.5e6 / 1024])


def test_cpu_of_a_ping_pong_is_that_of_the_threads_clock() -> None:
    clocks = {f"{end}.document.cpu.thread_s": 0.25 for end in ("sender", "receiver")}
    document = measurement.document(factories.manifest(), ping_pong(**clocks))
    assert document.rpc is not None and document.rpc.rpcs_per_cpu_s == pytest.approx(2000)


def test_hosts_that_share_their_cpus_have_no_figure_of_the_host() -> None:
    manifest = changed(gated_manifest(), {"expectations.shared_cpu": True})
    assert gated(manifest, _all(manifest)).host_cpu is None


# ------------------------------------------------------------------------------------------------- stopping


def test_a_narrow_comparison_ends_before_its_limit() -> None:
    plan = factories.plan(repeats={"at_least": 6, "at_most": 30}, precision=0.02)
    manifest = factories.manifest(plan=plan)
    records = factories.records(manifest, spread=0.001)
    made = records[: 2 * 6]
    document = run(manifest, made)
    assert (document.verdict, document.problems) == ("pass", [])
    assert {one.stopped for one in document.comparisons} == {"narrow"}
    assert run(manifest, made[:-1]).problems  # a pair is not whole
    assert run(manifest, made[:-2]).problems  # fewer than at least


def test_a_wide_comparison_goes_on_to_its_limit() -> None:
    plan = factories.plan(repeats={"at_least": 6, "at_most": 12}, precision=0.0001)
    manifest = factories.manifest(plan=plan)
    records = factories.records(manifest, spread=0.1)
    assert run(manifest, records[: 2 * 6]).verdict == "invalid"
    document = run(manifest, records)
    assert document.verdict == "pass"
    assert {one.stopped for one in document.comparisons} == {"limit"}


def test_a_skipped_mode_is_not_tried_again() -> None:
    manifest = factories.manifest()
    skipped = [
        one.model_copy(update={"skipped": "not in this kernel"}) for one in factories.records(manifest)[:2]
    ]
    document = run(manifest, skipped)
    assert (document.verdict, document.problems) == ("inconclusive", [])


# ------------------------------------------------------------------------------------------------ ping-pong


RPC = {"name": "rpc", "a": "map_recvmsg", "b": "map_copy_buffer", "request_bytes": 100, "reply_bytes": 200}


def ping_pong(**changes: Any) -> Record:
    """Return a measurement of small RPCs: 1000 in the window, three calls each that move data."""
    return changed(factories.ping_pong(RPC), changes)


def test_figures_of_a_ping_pong() -> None:
    document = measurement.document(factories.as_scheduled(factories.manifest(), ping_pong()), ping_pong())
    assert (document.valid, document.invalid_reasons) == (True, [])
    rpc = document.rpc
    assert rpc is not None
    assert rpc.rpcs_per_s == pytest.approx(500)
    assert rpc.rpcs_per_cpu_s == pytest.approx(1000)  # half a second at each end
    assert rpc.system_calls_per_rpc == pytest.approx(3)  # waits apart
    assert rpc.client_calls is not None and rpc.client_calls.poll == pytest.approx(1)
    assert rpc.latency_us is not None and rpc.latency_us.p50 == pytest.approx(100, rel=0.01)
    assert rpc.latency_us.p99_99 is None  # it takes 10 000 to have one beyond it
    assert document.gbit_per_s is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sender.document.mode": "recvmsg"}, "sender: mode was recvmsg, planned was map_recvmsg"),
        (
            {"receiver.document.reply_bytes": 1},
            "receiver: request and reply had 100 and 1 bytes, not as planned",
        ),
        (
            {f"sender.document.{name}": 0 for name in ("rpcs", "copied_bytes")}
            | {"sender.document.latency": None},
            "sender: no RPC in the measured window",
        ),
        ({"sender.document.outcome": "timeout"}, "sender: timeout: no message"),
        ({"receiver": None}, "receiver: left no result: did not start"),
    ],
)
def test_a_ping_pong_that_is_another_than_planned(changes: dict[str, Any], reason: str) -> None:
    assert reasons(ping_pong(**changes)) == [reason]


# ------------------------------------------------------------------------------- counts that are only shown

SWITCHES = "receiver_context_switches_per_mib"


def switching(**plan: Any) -> Manifest:
    metrics = {"gbit_per_s": ["F2"], SWITCHES: ["F2", "F3"]}
    return factories.manifest(
        plan=factories.plan(comparisons=[factories.comparison(metrics=metrics)], **plan)
    )


def test_no_context_switch_at_all_is_a_figure() -> None:
    """Of which there is no ratio; it makes nothing invalid, and counts in the median."""
    manifest = switching()
    none = dict.fromkeys(
        (f"receiver.document.cpu.{name}_context_switches" for name in ("voluntary", "involuntary")), 0
    )
    records = [
        factories.changed(one, none) if one.planned.arm == "b" else one for one in factories.records(manifest)
    ]
    document = run(manifest, records)
    (found,) = (one for one in document.comparisons if one.metric == SWITCHES)
    assert (document.verdict, found.verdict, found.invalid_reasons) == ("pass", None, [])
    assert found.median_a == pytest.approx(1000 / 1024)
    assert (found.median_b, found.ratio_median, found.n) == (0, None, 0)


def test_no_measuring_goes_on_for_a_count() -> None:
    """Context switches that vary keep no comparison from ending; equal arms are not compared by them."""
    manifest = switching(repeats={"at_least": 8, "at_most": 12}, precision=0.05, aa_pairs=8)
    path = "receiver.document.cpu.voluntary_context_switches"
    records = [
        factories.changed(one, {path: 1 + 997 * (number % 5)})
        for number, one in enumerate(factories.records(manifest))
        if one.planned.pair < 8
    ]
    document = run(manifest, records)
    assert document.problems == []
    (found,) = (one for one in document.comparisons if one.metric == SWITCHES)
    assert (found.stopped, found.precision_wanted) == ("narrow", None)
    assert {one.metric for one in document.equal_arms} == {"gbit_per_s"}


def test_a_count_is_not_bounded() -> None:
    with pytest.raises(ValidationError, match=f"{SWITCHES} is shown beside other figures and never judged"):
        Threshold.model_validate(factories.threshold(metric=SWITCHES))


def test_a_gate_without_figures_is_not_kept() -> None:
    """A figure that a lab need not have is null in all: its gate is no pass."""
    metric = "sender_host_usec_per_mib"
    plan = factories.plan(comparisons=[factories.comparison(metrics={metric: []})])
    manifest = factories.manifest(plan=plan, thresholds=[factories.threshold(metric=metric)], shared_cpu=True)
    document = run(manifest)
    (found,) = document.comparisons
    assert (found.gated, found.verdict, document.verdict) == (True, "inconclusive", "inconclusive")
    assert found.inconclusive_because == "its figures were not measured"


def test_a_claim_that_is_not_gated_says_why() -> None:
    document = run(factories.manifest(not_gated={"F4": "no bound holds here"}))
    reasons = {one.metric: one.not_gated_because for one in document.comparisons}
    assert reasons == {
        "receiver_usec_per_mib": "no bound holds here",
        "gbit_per_s": "not declared by the lab",
    }
