# SPDX-License-Identifier: Apache-2.0
"""Builders of what the modules pass to each other: a lab, a manifest, traffic documents, records, whole runs.

Everything built here is healthy: judged, it is valid and passes. A test plants one fault with `changed`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from zclab.analysis.declared_state import OFFLOADS
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.base.paths import project_root
from zclab.kernel.identity import Artifact, KernelIdentity
from zclab.lab import inventory
from zclab.lab.model import Expectations, Host, Lab
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.folder import Run
from zclab.runs.records import Manifest, Record

ModelT = TypeVar("ModelT", bound=BaseModel)

SENDER, RECEIVER = "sender1", "receiver1"
RELEASE = "6.1.192-zclab-0a1b2c3d4e"
BUILD_ID = "5f2a" * 10
LOW_WATER = 524288
MIB = 2**20
#: What a measured window holds, in bytes and seconds.
WINDOW_BYTES = 1024 * MIB
WINDOW_SECONDS = 2.0
#: What the whole connection moved, in bytes of payload, full segments, and acknowledgements.
TOTAL_BYTES = 3 * WINDOW_BYTES
SEGMENTS = TOTAL_BYTES // 4096
ACKNOWLEDGEMENTS = 1000
#: What a NIC counts of each: over IPv6 with timestamps and an Ethernet header.
HEADER_BYTES = 14 + 40 + 32


def changed(model: ModelT, changes: dict[str, Any]) -> ModelT:
    """Return a model with the values at some dotted paths replaced, checked again."""
    data = model.model_dump(mode="json")
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = data
        for key in parents:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[last] = value
    return type(model).model_validate(data)


# -------------------------------------------------------------------------------------------- the inventory


def listing(directory: Path) -> dict[str, Any]:
    """Return what `ansible-inventory --list` prints of an inventory as simple as ours, without its cost.

    A test compares the two for every lab in the project.
    """
    variables = directory / "group_vars"
    common: dict[str, Any] = {}
    for path in sorted((variables / "all").glob("*.yml")):
        common |= read_yaml(path)
    document: dict[str, Any] = {"_meta": {"hostvars": {}}}
    for group, content in read_yaml(directory / "hosts.yml").items():
        path = variables / f"{group}.yml"
        members = read_yaml(path) if path.is_file() else {}
        document[group] = {"hosts": list(content.get("hosts") or {})}
        for name, own in (content.get("hosts") or {}).items():
            document["_meta"]["hostvars"][name] = common | members | (own or {})
    return document


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a YAML file that holds a mapping."""
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return data


def lab(name: str = "virtual") -> Lab:
    """Return one of the project's labs."""
    directory = project_root() / "inventory" / name
    return inventory.parse(directory, listing(directory))


# ----------------------------------------------------------------------------------- the plan, the manifest


#: The programs that the hosts have to have, and have.
PROGRAMS = {"/usr/local/bin/zclab-traffic": "ab" * 32}


def common(kind: str, **changes: Any) -> dict[str, Any]:
    """Return what the manifest of any kind has in common: finished on the lab's artifact."""
    data = {
        "kind": kind,
        "run_id": f"20260101T000000.000Z-virtual-{kind}-abcd",
        "lab": "virtual",
        "lab_dir": "inventory/virtual",
        "emulated": False,
        "accelerator": "kvm",
        "started_at": "2026-01-01T00:00:00.000+00:00",
        "finished_at": "2026-01-01T00:10:00.000+00:00",
        "versions": {"zclab": "0.1.0", "traffic": "zclab-traffic 0.1.0"},
        "programs": PROGRAMS,
        **KernelIdentity.of(ARTIFACT).model_dump(),
    }
    return data | changes


def plan(**changes: Any) -> Plan:
    """Return a plan: copy against map_once, six pairs, unpaced; `changes` replace whole fields."""
    data = {
        "name": "small",
        "seconds": WINDOW_SECONDS,
        "warmup_seconds": 1,
        "repeats": 6,
        "message_bytes": [262144],
        "chunk_bytes": 524288,
        "pace_gbit_per_s": [None],
        "ip_versions": [6],
        "seed": 1,
        "comparisons": [comparison()],
    }
    return Plan.model_validate(data | changes)


def comparison(
    name: str = "receive",
    a: tuple[str, str] = ("copy", "copy"),
    b: tuple[str, str] = ("copy", "map_once"),
    metrics: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    """Return a comparison of two arms, each (send mode, receive mode)."""
    return {
        "name": name,
        "a": {"send_mode": a[0], "receive_mode": a[1]},
        "b": {"send_mode": b[0], "receive_mode": b[1]},
        "metrics": metrics or {"receiver_usec_per_mib": ["F4"], "gbit_per_s": []},
    }


def threshold(**changes: Any) -> dict[str, Any]:
    """Return a threshold that the healthy run keeps: B takes at most half of A's CPU per MiB."""
    data = {
        "comparison": "receive",
        "metric": "receiver_usec_per_mib",
        "at_most": 0.5,
        "unit": "ratio",
        "claims": ["F4"],
    }
    return {key: value for key, value in (data | changes).items() if value is not None}


def _host(name: str, role: str, address: str, peer: str, peer_address: str, nic: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "pair": 1,
        "data_interface": "data0",
        "data_address": f"{address}/64",
        "peer": peer,
        "peer_address": peer_address,
        "address": name,
        "nic_model": nic,
        "tuning": {},
    }


def _facts(name: str, role: str, driver: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "kernel_release": RELEASE,
        "kernel_build_id": BUILD_ID,
        "artifact_key": "0a1b2c3d4e",
        "boot_id": f"boot-of-{name}",
        "nic": {"name": "data0", "driver": driver, "mtu": 4168, "speed_mbps": None, "header_split": None},
        "sysctls": {"net.core.optmem_max": 1048576},
    }


#: The kernel that every host of a healthy run has.
ARTIFACT = Artifact(variant="stock", key="0a1b2c3d4e", release=RELEASE, build_id=BUILD_ID)


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of a finished run on hardware-like hosts.

    `changes` replace whole fields, also of its expectations; `artifact` null: this machine's own kernel.
    """
    artifact = changes.pop("artifact", ARTIFACT)
    bounds = {"copy": {"at_least": 0.99}, "zerocopy": {"at_least": 0.97}}
    data = {
        **common("run"),
        "plan": plan(),
        "pair": [
            _host(SENDER, "sender", "fd5a::1", RECEIVER, "fd5a::2", "virtio-net"),
            _host(RECEIVER, "receiver", "fd5a::2", SENDER, "fd5a::1", "e1000e"),
        ],
        "hosts": [_facts(SENDER, "sender", "virtio_net"), _facts(RECEIVER, "receiver", "e1000e")],
    }
    if artifact is None:
        data |= {"kernel_variant": None, "artifact_key": None}
    expected = {
        "smallest_effect": 0.02,
        "link": {"ip_version": 6, "mtu": 4168},
        "validity": {
            "retransmitted_share_at_most": 0.001,
            "drops_at_most": 0,
            "copied_fraction": {"at_most": 0},
            "mapped_fraction": {"map_once": bounds, "map_once_hybrid": bounds},
        },
        "thresholds": [],
        "rcvlowat_bytes": LOW_WATER,
    }
    own = {key: value for key, value in changes.items() if key not in Expectations.model_fields}
    expected |= {key: value for key, value in changes.items() if key not in own}
    return Manifest.model_validate({**data, "expectations": expected, **own})


# ------------------------------------------------------------------------------------ documents and records


def traffic_document(
    end: str, mode: str, cpu_seconds: float = 1.0, window_bytes: int = WINDOW_BYTES
) -> dict[str, Any]:
    """Return what one end of the traffic tool prints: end is receive or send, CPU is user and system."""
    receiver = end == "receive"
    mapped = int(window_bytes * 0.998) if mode.startswith("map") else 0
    counted = {
        "longest_pause_s": 0.001,
        "bytes": window_bytes,
        "mapped_bytes": mapped if receiver else None,
        "copied_bytes": window_bytes - mapped if receiver else None,
    }
    total = {
        "bytes": TOTAL_BYTES,
        "mapped_bytes": 3 * mapped if receiver else None,
        "copied_bytes": TOTAL_BYTES - 3 * mapped if receiver else None,
    }
    sends = TOTAL_BYTES // 262144
    completions = {"sends": sends, "completed": sends, "copied": 0, "no_buffers": 0}
    forth, back = ("in", "out") if receiver else ("out", "in")
    counts = {
        "retransmits": 0,
        f"segs_{back}": ACKNOWLEDGEMENTS,
        f"segs_{forth}": SEGMENTS,
        f"data_segs_{back}": 0,
        f"data_segs_{forth}": SEGMENTS,
        "bytes_sent": 0 if receiver else TOTAL_BYTES,
        "bytes_retransmitted": 0,
        "busy_us": 1900000,
        "receive_window_limited_us": 0,
        "send_buffer_limited_us": 0,
    }
    tcp = {
        "snd_mss": 4096,
        "rcv_mss": 4096,
        "advmss": 4096,
        "path_mtu": 4168,
        "timestamps": True,
        "sack": True,
        "rtt_us": 100,
        "min_rtt_us": 50,
        "snd_cwnd": 10,
        "window": counts,
        "total": counts,
    }
    window = {"complete": True, "seconds": WINDOW_SECONDS, **counted}
    low_water = {"asked": LOW_WATER, "got": LOW_WATER} if receiver else None
    cpu = {
        "user_s": cpu_seconds / 4,
        "system_s": cpu_seconds * 3 / 4,
        "voluntary_context_switches": 900,
        "involuntary_context_switches": 100,
    }
    causes = ("short_segment", "unaligned", "compound_page", "less_than_page", "urgent", "refused", "unknown")
    unmapped = dict.fromkeys(causes, 0) | {"short_segment": window_bytes - mapped}
    return {
        "schema_version": 4,
        "end": end,
        "version": "0.1.0",
        "outcome": "complete",
        "error": None,
        "mode": mode,
        "addresses": _addresses(receiver),
        "message_bytes": None if receiver else 262144,
        "header_bytes": 0,
        "chunk_bytes": 524288 if receiver else None,
        "keep_bytes": 0 if receiver else None,
        "copy_buffer_bytes": 4095 if mode == "map_once_hybrid" else None,
        "pace_gbit": None,
        "inject_usec_per_mib": None,
        "window": window,
        "total": total,
        "cpu": cpu,
        "host_cpu": host_cpu(),
        "perf": {"process": None, "cpus": None, "unavailable": "no cycles here"},
        "system_calls": 2048,
        "completions": completions if mode == "zerocopy" else None,
        "rcvlowat": low_water,
        "refused_connections": 0 if receiver else None,
        "buffers": {
            "rcvbuf": 131072,
            "sndbuf": 131072,
            "aligned_bytes": 2097152 if receiver else None,
            "huge_page_bytes": 0 if receiver else None,
        },
        "unmapped": unmapped if mapped and receiver else None,
        "zerocopy_stat": None,
        "integrity": None,
        "tcp": tcp,
        "streams": [
            {"stream": 0, "cpu": None, "window": window, "cpu_time": cpu, "tcp": tcp, "rcvlowat": low_water}
        ],
    }


def _addresses(receiver: bool) -> dict[str, Any]:
    ends = ("fd5a::2", 5000), ("fd5a::1", 40000)
    (local, local_port), (peer, peer_port) = ends if receiver else ends[::-1]
    ports = {"local_port": local_port, "peer_port": peer_port}
    return {"local": local, "peer": peer, **ports, "ip_version": 6}


def rpc_document(end: str) -> dict[str, Any]:
    """Return what one end of a ping-pong prints: 1000 RPCs of 100 µs in two seconds, half a second of CPU."""
    bulk = traffic_document("send", "copy", cpu_seconds=0.5)
    client = end == "rpc_client"
    size = 200 if client else 100
    bulk["addresses"] = _addresses(not client)
    counts = {**bulk["tcp"]["total"], "segs_in": 1505, "segs_out": 1505}
    counts |= {"data_segs_in": 1500, "data_segs_out": 1500, "bytes_sent": 1500 * (100 if client else 200)}
    bulk["tcp"] = {**bulk["tcp"], "window": counts, "total": counts}
    latency = {"unit": "ns", "significant_bits": 7, "counts": [[99840, 1000]], "min": 99900, "max": 100100}
    kept = ("version", "outcome", "error", "addresses", "cpu", "host_cpu", "perf", "tcp")
    return {
        **{key: bulk[key] for key in kept},
        "schema_version": 4,
        "end": end,
        "mode": "map_recvmsg",
        "request_bytes": 100,
        "reply_bytes": 200,
        "window": {"complete": True, "seconds": WINDOW_SECONDS},
        "rpcs": 1000,
        "mapped_bytes": 0,
        "copied_bytes": size * 1000,
        "total": {"rpcs": 1500, "mapped_bytes": 0, "copied_bytes": size * 1500},
        "system_calls": 4000,
        "calls": {"poll": 1000, "getsockopt": 1000, "recvmsg": 1000, "sendmsg": 1000},
        "refused_connections": None if client else 0,
        "latency": {**latency, "total": 1000} if client else None,
    }


def host_cpu() -> dict[str, Any]:
    """Return what an end says of its host: 1.5 s busy, 0.5 s of it without any payload."""
    return {
        "busy_s": 1.5,
        "softirq_s": 0.5,
        "cpus": 2,
        "per_cpu": [{"cpu": cpu, "busy_s": 0.75, "softirq_s": 0.25, "idle_s": 1.25} for cpu in (0, 1)],
        "baseline": {"seconds": WINDOW_SECONDS, "busy_s": 0.5, "softirq_s": 0.1},
        "softirqs": {"NET_RX": 1000, "NET_TX": 10},
        "softnet": {"processed": 262144, "dropped": 0, "squeezed": 3},
    }


def snapshot(host: str, **changes: Any) -> dict[str, Any]:
    """Return what a healthy host says of itself."""
    data = {
        "boot_id": f"boot-of-{host}",
        "kernel_release": RELEASE,
        "kernel_build_id": BUILD_ID,
        "mtu": 4168,
        "tcp_timestamps": 1,
        "addresses": ["fd5a::1/64" if host == SENDER else "fd5a::2/64", "fe80::1/64"],
        "drops": 0,
        "header_split": 1000 if host == RECEIVER else None,
        "missing_offloads": [],
        "carrier_changes": 2,
        "nic_counters": {"rx_header_split": 1000} if host == RECEIVER else {},
        "programs": PROGRAMS,
        "routes": {"6": {"device": "data0", "source": "fd5a::1", "mtu": None}},
        "link_counters": {"rx_bytes": 1000, "tx_bytes": 1000, "rx_dropped": 5},
        "operstate": "up",
        "ifindex": 2,
        "sysctls": {},
        "softnet": {"processed": 1000, "dropped": 7, "squeezed": 0, "received_rps": 0},
        "tcp_drops": {"TCPBacklogDrop": 3},
        "online_cpus": [0, 1],
        "emulated": False,
    }
    return data | changes


def as_declared(host: Host, of: Lab) -> dict[str, Any]:
    """Return what a host says, as fields of a snapshot, that is just as the lab declares it."""
    ends = {"6": host.endpoints(6), "4": host.endpoints(4)}
    return {
        "addresses": [address for address in (host.data_address, host.data_address_ipv4) if address],
        "route_mtu_ipv4": 4148,
        "routes": {
            version: {"device": host.data_interface, "source": own, "mtu": 4148 if version == "4" else None}
            for version, (own, _) in ends.items()
        },
        "sysctls": {key: str(value) for key, value in of.limits.sysctls.items()},
        "locked_memory_kib": of.limits.locked_memory_kib,
        "offloads": {OFFLOADS.get(name, name): on for name, on in host.tuning.offloads.items()},
    }


def snapshot_after(host: str, **changes: Any) -> dict[str, Any]:
    """Return what a healthy host says after its interface carried one measurement and nothing else."""
    forth, back = ("tx_bytes", "rx_bytes") if host == SENDER else ("rx_bytes", "tx_bytes")
    counters = {
        forth: 1000 + TOTAL_BYTES + SEGMENTS * HEADER_BYTES,
        back: 1000 + ACKNOWLEDGEMENTS * HEADER_BYTES,
        "rx_dropped": 5,
    }
    data = {"link_counters": counters, "changes": [], "changes_lost": 0}
    data |= {"header_split": 250000} if host == RECEIVER else {}
    return snapshot(host, **data | changes)


def _as_planned(document: dict[str, Any], planned: Measurement, receiver: bool) -> dict[str, Any]:
    """Return what of an end's document repeats what it was asked to do."""
    own: dict[str, Any] = {"pace_gbit": planned.pace_gbit_per_s, "message_bytes": planned.message_bytes}
    if receiver:
        injected = planned.inject_usec_per_mib or None
        own = {"chunk_bytes": planned.chunk_bytes, "keep_bytes": planned.keep_bytes}
        own |= {"inject_usec_per_mib": injected}
    elif document["completions"]:
        sends = TOTAL_BYTES // planned.message_bytes
        own["completions"] = {"sends": sends, "completed": sends, "copied": 0, "no_buffers": 0}
    first = document["streams"][0]
    each = {
        key: value and value // planned.streams
        for key, value in document["window"].items()
        if key.endswith("bytes")
    }
    windows = {**first["window"], **each}
    own["streams"] = [first | {"stream": number, "window": windows} for number in range(planned.streams)]
    framed = not receiver or planned.receive_mode == "map_each"
    return own | {"header_bytes": planned.header_bytes if framed else 0}


def as_scheduled(of: Manifest, made: Record) -> Manifest:
    """Return a manifest with a plan that lists what a record has."""
    planned = made.planned
    changes: dict[str, Any] = {"ip_versions": [planned.ip_version or 6]}
    if planned.bytes is not None:
        changes["integrity_bytes"] = planned.bytes
    if planned.rpc is None:
        modes = (planned.send_mode, str(planned.receive_mode))
        changes["comparisons"] = [comparison(b=modes)]
    else:
        rpc: dict[str, Any] = {"name": "rpc", "a": planned.receive_mode, "b": "map_copy_buffer"}
        changes["rpc_comparisons"] = [rpc | planned.rpc.model_dump() | {"metrics": {"rpcs_per_s": []}}]
    return of.model_copy(update={"plan": plan(**changes)})


def record(planned: Measurement, receiver_cpu_s: float = 1.0, sender_cpu_s: float = 1.0) -> Record:
    """Return the record of a healthy measurement as it was planned."""
    ends = {
        "receiver": traffic_document("receive", planned.receive_mode, receiver_cpu_s),
        "sender": traffic_document("send", planned.send_mode, sender_cpu_s),
    }
    for name, document in ends.items():
        document |= _as_planned(document, planned, receiver=name == "receiver")
    before = {host: snapshot(host) for host in (SENDER, RECEIVER)}
    after = {host: snapshot_after(host) for host in (SENDER, RECEIVER)}
    return Record.model_validate(
        {
            "planned": planned.model_dump(),
            "started_at": "2026-01-01T00:00:01.000+00:00",
            "ended_at": "2026-01-01T00:00:09.000+00:00",
            **{name: {"document": document, "status": 0, "stderr": ""} for name, document in ends.items()},
            "before": before,
            "after": after,
            "copies": {"counts": {4096: 1}} if planned.receive_mode != "copy" else None,
        }
    )


def ping_pong(rpc: dict[str, Any]) -> Record:
    """Return a healthy measurement of small RPCs: arm A of a comparison, whose metrics are left out."""
    made = plan(rpc_comparisons=[{**rpc, "metrics": {"rpcs_per_s": []}}])
    one = next(one for one in schedule.measurements(made) if one.rpc is not None and one.arm == "a")
    bulk = record(one.model_copy(update={"receive_mode": "copy", "rpc": None}))
    ends = {"sender": "rpc_client", "receiver": "rpc_server"}
    documents = {f"{end}.document": rpc_document(kind) for end, kind in ends.items()}
    moved = {SENDER: ("tx_bytes", "rx_bytes"), RECEIVER: ("rx_bytes", "tx_bytes")}
    counters = {
        f"after.{host}.link_counters.{name}": 1000 + 1500 * (size + HEADER_BYTES)
        for host, names in moved.items()
        for name, size in zip(names, (100, 200), strict=True)
    }
    return changed(bulk, {"planned": one.model_dump(mode="json"), **documents, **counters})


def records(of: Manifest, ratio: float = 0.4, spread: float = 0.02) -> list[Record]:
    """Return all records of a run in which arm B's CPU cost is about `ratio` of arm A's.

    spread: the relative standard deviation of each cost. The same every time.
    """
    random_numbers = random.Random(4168)
    made = []
    for planned in schedule.measurements(of.plan):
        cost = ratio if (planned.phase, planned.arm) == ("compare", "b") else 1.0
        cost *= max(0.05, random_numbers.gauss(1.0, spread))
        made.append(record(planned, receiver_cpu_s=cost, sender_cpu_s=cost))
    return made


def stored_run(directory: Path, of: Manifest, made: list[Record]) -> MeasuringRun:
    """Write a run's folder, as the engine leaves it, and return the run."""
    directory.mkdir(parents=True)
    run = Run(directory, RUN)
    run.write_manifest(of.model_copy(update={"run_id": run.id, "finished_at": None}))
    for one in made:
        run.append(one)
    if of.finished_at is not None:
        run.update(finished_at=of.finished_at)
    return run
