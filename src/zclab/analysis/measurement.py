# SPDX-License-Identifier: Apache-2.0
"""From one raw record to its document: rates, costs and counts, with nothing judged but whether it counts."""

from __future__ import annotations

from typing import Literal, TypeVar

from zclab.analysis.document import (
    Completions,
    Cpu,
    Latency,
    MeasurementDocument,
    RpcFigures,
    StreamCpu,
    SystemCalls,
    Transport,
)
from zclab.analysis.ends import bulk, difference, losses, ping_pong
from zclab.analysis.mapped_witness import witness
from zclab.analysis.one_guest import INSTRUCTIONS_PER_SECOND, executed
from zclab.analysis.validity import host_reasons, invalid_reasons
from zclab.plan.schedule import Setting
from zclab.runs.records import Manifest, Record
from zclab.traffic import histogram as latency
from zclab.traffic.document import ProcessCpu, RpcDocument, TrafficDocument

MIB = 2**20
_PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "p99_99": 99.99}
_N = TypeVar("_N", int, float)


def document(manifest: Manifest, record: Record) -> MeasurementDocument:
    """Turn one record into its document, with every reason that makes it invalid."""
    planned = record.planned
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    received = receiver.window.bytes if receiver else None
    seconds = receiver.window.seconds if receiver else None
    mapped = receiver.window.mapped_bytes if receiver else None
    tcp = sender.tcp if sender else None
    retransmitted = tcp.total.retransmits if tcp else None
    segments = tcp.total.data_segs_out if tcp else None
    completions = sender.completions if sender else None
    reasons = invalid_reasons(manifest, record)
    ip_version = planned.ip_version or manifest.expectations.link.ip_version
    server, client = ping_pong(record.receiver), ping_pong(record.sender)
    count = _executed(manifest, record)
    beside = _beside_threads(count, receiver, sender)
    return MeasurementDocument(
        **dict(planned.model_dump(include=set(Setting.model_fields)), ip_version=ip_version),
        seconds=server.window.seconds if server else seconds,
        bytes_received=received,
        gbit_per_s=received * 8 / seconds / 1e9 if received and seconds else None,
        mapped_bytes=mapped,
        copied_bytes=receiver.window.copied_bytes if receiver else None,
        mapped_fraction=mapped / received if received and mapped is not None else None,
        mapped_witness=witness(manifest, record),
        unmapped=receiver.unmapped if receiver else None,
        zerocopy_stat=receiver.zerocopy_stat if receiver else None,
        rcvlowat_bytes=receiver.rcvlowat if receiver else None,
        receiver_cpu=_cpu(manifest, receiver or server),
        sender_cpu=_cpu(manifest, sender or client),
        receiver_context_switches=_context_switches(receiver or server),
        retransmitted_segments=retransmitted,
        retransmitted_share=retransmitted / segments if segments and retransmitted is not None else None,
        mss=tcp.snd_mss if tcp else None,
        receiver_transport=_transport(receiver or server),
        sender_transport=_transport(sender or client),
        completions=Completions(**completions.model_dump(exclude={"no_buffers"})) if completions else None,
        integrity=_integrity(receiver, sender),
        system_calls=receiver.system_calls if receiver else server.system_calls if server else None,
        header_split=difference(record, manifest.pair[1].name, "header_split"),
        drops=_sum(*(losses(record, host.name) for host in manifest.pair)),
        nic_counters={host.name: _counters(record, host.name) for host in manifest.pair},
        controller_cpu_share=record.controller_cpu_share,
        rpc=_rpc(record, server, client, count),
        profiles=record.profiles,
        skipped=record.skipped,
        valid=not reasons and record.skipped is None,
        invalid_reasons=reasons,
        invalid_lasts=any(host_reasons(manifest, record, state) for state in (record.before, record.after)),
        boots=record.boots,
        guest_instructions_per_mib=_per_mib(count, received),
        guest_other_instructions_per_mib=_per_mib(beside, received),
        guest=record.guest,
    )


def _executed(manifest: Manifest, record: Record) -> int | None:
    """Return the instructions of the whole guest in the receiver's window; null where no clock counts them.

    At a fixed pace its clock also counts the time in between.
    """
    unpaced = record.planned.pace_gbit_per_s is None
    return executed(record) if manifest.expectations.counts_instructions and unpaced else None


def _beside_threads(
    count: int | None, receiver: TrafficDocument | None, sender: TrafficDocument | None
) -> int | None:
    """Return the instructions of a guest that the clocks of the threads at both ends did not count."""
    spent = [thread_seconds(end.cpu) for end in (receiver, sender) if end]
    known = [seconds for seconds in spent if seconds is not None]
    if count is None or len(known) < 2:
        return None
    return count - round(sum(known) * INSTRUCTIONS_PER_SECOND)


def _sum(*values: _N | None) -> _N | int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _context_switches(end: TrafficDocument | RpcDocument | None) -> int | None:
    return _sum(end.cpu.voluntary_context_switches, end.cpu.involuntary_context_switches) if end else None


def _counters(record: Record, host: str) -> dict[str, int]:
    before, after = record.before.get(host), record.after.get(host)
    if before is None or after is None:
        return {}
    changes = {
        name: value - before.nic_counters[name]
        for name, value in after.nic_counters.items()
        if name in before.nic_counters
    }
    return {name: change for name, change in changes.items() if change}


def _cpu(manifest: Manifest, end: TrafficDocument | RpcDocument | None) -> Cpu | None:
    """Return the CPU of one end; what belongs to the host is null where the hosts share theirs."""
    if end is None:
        return None
    spent = thread_seconds(end.cpu)
    moved = end.window.bytes if isinstance(end, TrafficDocument) else None
    host = None if manifest.expectations.shared_cpu else end.host_cpu
    baseline = host.baseline if host else None
    busy = host.busy_s if host else None
    own = busy - baseline.busy_s if busy is not None and baseline and baseline.busy_s is not None else None
    softirq = host.softirq_s if host else None
    process = end.perf.process if end.perf else None
    cpus = end.perf.cpus if end.perf and not manifest.expectations.shared_cpu else None
    own_count = process.instructions if process else None
    if manifest.expectations.counts_instructions and spent is not None:
        own_count = round(spent * INSTRUCTIONS_PER_SECOND)
    return Cpu(
        user_s=end.cpu.user_s,
        system_s=end.cpu.system_s,
        thread_s=end.cpu.thread_s,
        usec_per_mib=_per_mib(spent, moved, 1e6),
        softirq_s=softirq,
        softirq_usec_per_mib=_per_mib(softirq, moved, 1e6),
        host_busy_s=own,
        host_usec_per_mib=_per_mib(own, moved, 1e6),
        cycles_per_mib=_per_mib(process.cycles if process else None, moved),
        instructions_per_mib=_per_mib(own_count, moved),
        host_cycles_per_mib=_per_mib(cpus.cycles if cpus else None, moved),
        host_instructions_per_mib=_per_mib(cpus.instructions if cpus else None, moved),
        context_switches_per_mib=_per_mib(_context_switches(end), moved),
        system_calls_per_mib=_per_mib(end.system_calls, moved),
        perf_unavailable=end.perf.unavailable if end.perf else None,
        per_cpu=host.per_cpu if host else None,
        softirqs=host.softirqs if host else None,
        softnet=host.softnet if host else None,
        streams=[
            StreamCpu(
                stream=one.stream,
                cpu=one.cpu,
                user_s=one.cpu_time.user_s,
                system_s=one.cpu_time.system_s,
                thread_s=one.cpu_time.thread_s,
            )
            for one in (end.streams if isinstance(end, TrafficDocument) else [])
        ],
    )


def thread_seconds(cpu: ProcessCpu) -> float | None:
    """Return the CPU time of the traffic threads: by their own clock, else what getrusage gave."""
    if cpu.thread_s is not None:
        return cpu.thread_s
    return cpu.user_s + cpu.system_s if cpu.user_s is not None and cpu.system_s is not None else None


def _per_mib(amount: float | None, moved: int | None, scale: float = 1.0) -> float | None:
    return amount * scale / (moved / MIB) if amount is not None and moved else None


def _transport(end: TrafficDocument | RpcDocument | None) -> Transport | None:
    if end is None:
        return None
    tcp = end.tcp
    mss = tcp.rcv_mss if end.end == "receive" else tcp.snd_mss
    return Transport(
        mss=mss, rtt_us=tcp.rtt_us, cwnd=tcp.snd_cwnd, retransmitted_segments=tcp.total.retransmits
    )


def _integrity(
    receiver: TrafficDocument | None, sender: TrafficDocument | None
) -> Literal["verified", "mismatch", "not checked"]:
    """Return what checking every byte gave, if it was done to the end."""
    found = receiver.integrity if receiver else None
    if found is None:
        return "not checked"
    reused = sender.integrity.reused_early if sender and sender.integrity else None
    if found.mismatch or reused:
        return "mismatch"
    whole = (
        receiver is not None
        and receiver.outcome == "complete"
        and found.checked_bytes == receiver.total.bytes
    )
    return "verified" if whole and found.checked_bytes and reused == 0 else "not checked"


def _calls(end: RpcDocument | None) -> SystemCalls | None:
    if end is None or not end.rpcs or end.calls is None:
        return None
    return SystemCalls(**{name: count / end.rpcs for name, count in end.calls.model_dump().items()})


def _rpc(
    record: Record, server: RpcDocument | None, client: RpcDocument | None, count: int | None
) -> RpcFigures | None:
    """Return what a ping-pong gave; count: instructions of the whole guest in the server's window."""
    planned = record.planned.rpc
    if planned is None:
        return None
    rpcs = client.rpcs if client else None
    seconds = client.window.seconds if client else None
    cpu = _sum(thread_seconds(server.cpu), thread_seconds(client.cpu)) if server and client else None
    calls = _calls(client)
    served = server.rpcs if server else None
    return RpcFigures(
        **planned.model_dump(),
        rpcs=rpcs,
        rpcs_per_s=rpcs / seconds if rpcs and seconds else None,
        rpcs_per_cpu_s=rpcs / cpu if rpcs and cpu else None,
        system_calls_per_rpc=calls.getsockopt + calls.recvmsg + calls.sendmsg if calls else None,
        guest_instructions_per_rpc=count / served if count is not None and served else None,
        client_calls=calls,
        server_calls=_calls(server),
        latency_us=_latency(client),
    )


def _latency(client: RpcDocument | None) -> Latency | None:
    if client is None or client.latency is None or not client.rpcs:
        return None
    found = client.latency
    return Latency(
        mean=latency.mean_us(found),
        **{name: latency.percentile_us(found, percent) for name, percent in _PERCENTILES.items()},
        max=latency.maximum_us(found),
        histogram=latency.encoded(found),
    )
