# SPDX-License-Identifier: Apache-2.0
"""Whether a record can be true: figures that contradict each other, the plan, or arithmetic.

Each function yields reasons. A figure that was not measured is null; only where a measurement cannot do
without it is that a reason.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator
from datetime import datetime
from math import isclose
from typing import Any

from zclab.analysis.ends import Document, bulk, documents, ping_pong, states
from zclab.lab.link import PAGE_BYTES
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.records import Manifest, Record
from zclab.traffic.document import RpcDocument, TcpChange, TrafficDocument

#: A window ends with the system call that passes its end: how far it may miss its plan, as a share and in
#: seconds. A busy machine may keep a process from its CPU so long.
_WINDOW_SHARE, _WINDOW_SECONDS = 0.1, 0.1
#: Steps of the kernel's clocks, by which CPU time may exceed the time of its window: a share, and seconds.
_CPU_SHARE, _CPU_SECONDS = 0.05, 0.05
#: The token by which both ends know each other, and a last word, are sent beside the payload.
_GREETING_BYTES = 4096
#: Counters of `ethtool -S` that only grow, whoever wrote the driver; others may be states.
_GROWING = re.compile(r"(rx|tx)_(packets|bytes|header_split)")


def contradictions(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield everything for which a whole measurement's record cannot be true, or is not of its plan."""
    yield from _of_plan(manifest, record)
    yield from _times(record)
    yield from _addresses(manifest, record)
    for name, document in documents(record):
        yield from (f"{name}: {text}" for text in _of_end(manifest, record, name, document))
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    if receiver is not None:
        yield from (f"receiver: {text}" for text in _receiver(record.planned, receiver))
    if sender is not None:
        yield from (f"sender: {text}" for text in _sender(record.planned, sender))
    if receiver is not None and sender is not None and receiver.total.bytes != sender.total.bytes:
        yield f"receiver: got {receiver.total.bytes} bytes of the {sender.total.bytes} that were sent"
    yield from _rpc(record)


def backwards(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield each counter of a host that is smaller after a measurement than before: reset, or not true."""
    for host in manifest.pair:
        found = states(record, host.name)
        if found is None or found[0].boot_id != found[1].boot_id:
            continue
        before, after = (_counters_of(state) for state in found)
        less = [name for name, value in before.items() if after.get(name, value) < value]
        if less:
            yield (
                f"{host.name}: counter {less[0]} of {host.data_interface} ran backwards, "
                f"from {before[less[0]]} to {after[less[0]]}"
            )


def _counters_of(state: Any) -> dict[str, int]:
    found = {name: value for name, value in state.nic_counters.items() if _GROWING.fullmatch(name)}
    found |= state.link_counters or {}
    found |= {f"TCP {name}": value for name, value in (state.tcp_drops or {}).items()}
    found |= {
        f"softnet {name}": value
        for name, value in (state.softnet.model_dump() if state.softnet else {}).items()
    }
    for cpu, ticks in (state.cpus or {}).items():
        found |= {f"CPU {cpu} {name}": value for name, value in ticks.model_dump(exclude={"idle"}).items()}
    single = {
        "drops": state.drops,
        "carrier_changes": state.carrier_changes,
        "header_split": state.header_split,
    }
    return found | {name: value for name, value in single.items() if value is not None}


# ------------------------------------------------------------------------------------------------- the plan


@functools.lru_cache(maxsize=4)
def _scheduled(plan: str) -> dict[str, Measurement]:
    """Return what a plan (as JSON) lists, by id."""
    return {one.id: one for one in schedule.measurements(Plan.model_validate_json(plan))}


def _of_plan(manifest: Manifest, record: Record) -> Iterator[str]:
    planned = record.planned
    scheduled = _scheduled(manifest.plan.model_dump_json()).get(schedule.first_attempt_id(planned))
    if scheduled is None or planned.attempt > manifest.plan.repeat_invalid.per_measurement:
        yield f"the plan has no measurement {planned.id}"
        return
    scheduled = schedule.attempt(scheduled, planned.attempt)
    # The order is that in which they were made, which a stopping rule decides.
    for field in Measurement.model_fields:
        value, wanted = getattr(planned, field), getattr(scheduled, field)
        if field != "order" and value != wanted:
            yield f"the record says that {field} {value} was planned, the plan of the run says {wanted}"


def _times(record: Record) -> Iterator[str]:
    try:
        began, ended = (datetime.fromisoformat(text) for text in (record.started_at, record.ended_at))
    except ValueError:
        yield f"its times are not ISO 8601: {record.started_at}, {record.ended_at}"
        return
    if ended < began:
        yield f"it ended at {record.ended_at}, before it began at {record.started_at}"


def _addresses(manifest: Manifest, record: Record) -> Iterator[str]:
    version = record.planned.ip_version or manifest.expectations.link.ip_version
    found = dict(documents(record))
    for name, host in (("sender", manifest.pair[0]), ("receiver", manifest.pair[1])):
        document = found.get(name)
        if document is None:
            continue
        if document.addresses.ip_version != version:
            yield f"{name}: used IPv{document.addresses.ip_version}"
            continue
        own, peer = host.endpoints(version)
        for word, used, wanted in (
            ("its address", document.addresses.local, own),
            ("the peer's address", document.addresses.peer, peer),
        ):
            if used is None or ipaddress.ip_address(used) != ipaddress.ip_address(wanted):
                yield f"{name}: {word} was {used}, planned was {wanted}"
    if len(found) == 2:
        one, other = found["sender"].addresses, found["receiver"].addresses
        if (one.local_port, one.peer_port) != (other.peer_port, other.local_port):
            yield (
                f"sender: its ports {one.local_port} to {one.peer_port} are not the receiver's "
                f"{other.peer_port} to {other.local_port}"
            )


# ------------------------------------------------------------------------------------------------ either end


def _of_end(manifest: Manifest, record: Record, name: str, document: Document) -> Iterator[str]:
    planned = record.planned
    end = record.receiver if name == "receiver" else record.sender
    if end is not None and end.status != 0:
        yield f"said that all is done, and ended with status {end.status}"
    tool = manifest.versions.get("traffic", "").split()
    if tool and document.version != tool[-1]:
        yield f"is version {document.version} of the traffic tool, the run began with {tool[-1]}"
    seconds = document.window.seconds
    if seconds is None or seconds <= 0:
        yield f"its window lasted {seconds} s"
        return
    room = planned.seconds * _WINDOW_SHARE + _WINDOW_SECONDS
    if planned.bytes is None and abs(seconds - planned.seconds) > room:
        yield f"its window lasted {seconds:.3f} s, planned were {planned.seconds:g} s"
    pause = document.window.longest_pause_s if isinstance(document, TrafficDocument) else None
    if pause is not None and not 0 <= pause <= seconds:
        yield f"its longest pause was {pause:.3f} s, in a window of {seconds:.3f} s"
    yield from _cpu(document, seconds, planned.streams)
    yield from _host_cpu(document, seconds)
    yield from _tcp(document)
    if document.system_calls is not None and document.system_calls <= 0:
        yield f"counted {document.system_calls} system calls"


def _cpu(document: Document, seconds: float, threads: int) -> Iterator[str]:
    times = {"user": document.cpu.user_s, "system": document.cpu.system_s}
    for word, time in times.items():
        if time is None:
            yield f"its {word} CPU time was not measured"
        elif time < 0:
            yield f"its {word} CPU time is {time} s"
    known = [time for time in times.values() if time is not None]
    if len(known) < 2 or min(known) < 0:
        return
    if sum(known) == 0:
        yield "its CPU time is 0 s, and it moved bytes"
    cpus = document.host_cpu.cpus
    most = min(threads, cpus) if cpus else threads
    if sum(known) > most * (seconds * (1 + _CPU_SHARE) + _CPU_SECONDS):
        yield f"its CPU time is {sum(known):.3f} s, {most} CPUs have {most * seconds:.3f} s in its window"
    # Both clocks are of the same threads; getrusage lags by up to a tick of each.
    exact, room = document.cpu.thread_s, sum(known) * _CPU_SHARE + threads * _CPU_SECONDS
    if exact is not None and (exact <= 0 or abs(exact - sum(known)) > room):
        yield f"its CPU time is {exact:.3f} s by the clock of its threads, {sum(known):.3f} s by getrusage"
    for switches in (document.cpu.voluntary_context_switches, document.cpu.involuntary_context_switches):
        if switches is not None and switches < 0:
            yield f"counted {switches} context switches"


def _host_cpu(document: Document, seconds: float) -> Iterator[str]:
    host = document.host_cpu
    for word, time in (("busy", host.busy_s), ("softirq", host.softirq_s)):
        if time is not None and time < 0:
            yield f"its host's {word} CPU time is {time} s"
        elif (
            time is not None and host.cpus and time > host.cpus * (seconds * (1 + _CPU_SHARE) + _CPU_SECONDS)
        ):
            yield f"its host's {word} CPU time is {time:.3f} s, more than {host.cpus} CPUs have in its window"
    for cpu in host.per_cpu or []:
        if min(cpu.busy_s, cpu.softirq_s, cpu.idle_s) < 0:
            yield f"a time of CPU {cpu.cpu} of its host is negative"
    soft = host.softnet
    if soft is not None and min(soft.processed, soft.dropped, soft.squeezed) < 0:
        yield "a count of softnet_stat of its host ran backwards"
    for counts in (document.perf.process, document.perf.cpus):
        if counts is not None and any(
            count is not None and count < 0 for count in (counts.cycles, counts.instructions)
        ):
            yield "counted a negative number of cycles or instructions"


def _tcp(document: Document) -> Iterator[str]:
    window, total = document.tcp.window, document.tcp.total
    for field in TcpChange.model_fields:
        part, all_of_it = getattr(window, field), getattr(total, field)
        if any(value is not None and value < 0 for value in (part, all_of_it)):
            yield f"tcp_info's {field} ran backwards"
        elif part is not None and all_of_it is not None and part > all_of_it:
            yield f"tcp_info's {field} is {part} in the window, and {all_of_it} in the whole connection"
    for part, whole in (
        ("data_segs_out", "segs_out"),
        ("data_segs_in", "segs_in"),
        ("bytes_retransmitted", "bytes_sent"),
    ):
        less, more = getattr(total, part), getattr(total, whole)
        if less is not None and more is not None and less > more:
            yield f"tcp_info's {part} is {less}, more than its {whole}, {more}"
    if document.tcp.timestamps is False:
        yield "its connection has no TCP timestamps"


# ----------------------------------------------------------------------------------------------- a transfer


def _bytes(document: TrafficDocument) -> Iterator[str]:
    window, total = document.window, document.total
    for word, part in (("window", window), ("whole", total)):
        for kind, value in part.model_dump(include={"bytes", "mapped_bytes", "copied_bytes"}).items():
            if value is not None and value < 0:
                yield f"{kind} of the {word} is {value}"
    if window.bytes is None:
        yield "bytes of the window were not counted"
        return
    if total.bytes is not None and window.bytes > total.bytes:
        yield f"moved {window.bytes} bytes in the window, and {total.bytes} in all"
    by_stream = [stream.window.bytes or 0 for stream in document.streams]
    if sum(by_stream) != window.bytes:
        yield f"its streams moved {sum(by_stream)} bytes in the window, together {window.bytes}"
    if [stream.stream for stream in document.streams] != list(range(len(by_stream))):
        yield "its streams are not numbered from 0"


def _receiver(planned: Measurement, document: TrafficDocument) -> Iterator[str]:
    yield from _bytes(document)
    for word, part in (("in the window", document.window), ("in all", document.total)):
        mapped, copied, received = part.mapped_bytes, part.copied_bytes, part.bytes
        if mapped is None or copied is None:
            if word == "in the window":
                yield "mapped and copied bytes were not counted"
        elif planned.receive_mode == "copy" and mapped:
            yield f"mapped {mapped} bytes {word}, and was to copy all"
        elif received is not None and mapped + copied != received:
            yield f"mapped {mapped} and copied {copied} bytes {word}, received were {received}"
    copied = document.window.copied_bytes
    by_cause = document.unmapped.model_dump().values() if document.unmapped else (copied or 0,)
    if copied is not None and (sum(by_cause) != copied or min(by_cause) < 0):
        yield f"copied {copied} bytes in the window, {sum(by_cause)} by cause"
    if document.chunk_bytes != planned.chunk_bytes:
        yield f"received {document.chunk_bytes} bytes a call, planned were {planned.chunk_bytes}"
    if (document.keep_bytes or 0) != planned.keep_bytes:
        yield f"kept {document.keep_bytes} bytes, planned were {planned.keep_bytes}"
    hybrid = planned.receive_mode == "map_once_hybrid"
    buffer = document.copy_buffer_bytes or 0
    if not (0 < buffer < PAGE_BYTES if hybrid else buffer == 0):
        wanted = "less than a page" if hybrid else "none"
        yield f"had a copy buffer of {buffer} bytes, mode {planned.receive_mode} has {wanted}"
    injected, wanted_injected = document.inject_usec_per_mib or 0, planned.inject_usec_per_mib
    if not isclose(injected, wanted_injected, rel_tol=1e-4):
        yield f"{injected:g} µs/MiB of CPU were injected, planned were {wanted_injected:g}"
    framed = planned.header_bytes if planned.receive_mode == "map_each" else 0
    if document.header_bytes != framed:
        yield f"expected headers of {document.header_bytes} bytes, not {framed}"
    if document.completions is not None:
        yield "has completions of sends, and sends nothing"


def _sender(planned: Measurement, document: TrafficDocument) -> Iterator[str]:
    yield from _bytes(document)
    total, sent = document.total.bytes, document.tcp.total
    if planned.bytes is not None and total != planned.bytes:
        yield f"sent {total} bytes, planned were {planned.bytes}"
    if document.message_bytes != planned.message_bytes:
        yield f"sent {document.message_bytes} bytes per call, not {planned.message_bytes}"
    if document.header_bytes != planned.header_bytes:
        yield f"sent headers of {document.header_bytes} bytes, not {planned.header_bytes}"
    if not isclose(document.pace_gbit or 0, planned.pace_gbit_per_s or 0, rel_tol=1e-4):
        yield f"pace was {document.pace_gbit}, planned was {planned.pace_gbit_per_s}"
    if sent.bytes_sent is not None and total is not None:
        once = sent.bytes_sent - (sent.bytes_retransmitted or 0)
        if not total <= once <= total + _greeting(document):
            yield f"sent {total} bytes, TCP sent {once} (without what it sent again)"
    done = document.completions
    if done is not None:
        if planned.send_mode == "copy":
            yield "has completions of zerocopy sends, and was to copy"
        if min(done.sends, done.completed, done.copied) < 0 or done.copied > done.completed:
            yield f"{done.copied} of {done.completed} completions said that the kernel copied"
        elif total is not None and 0 < done.sends * planned.message_bytes < total:
            yield f"sent {total} bytes by {done.sends} calls of {planned.message_bytes} bytes"


def _greeting(document: TrafficDocument) -> int:
    """Return how many bytes a sender may send beside its payload."""
    return _GREETING_BYTES * max(1, len(document.streams))


# -------------------------------------------------------------------------------------------------- ping-pong


def _rpc(record: Record) -> Iterator[str]:
    planned = record.planned.rpc
    server, client = ping_pong(record.receiver), ping_pong(record.sender)
    if planned is None or server is None or client is None:
        return
    if server.total.rpcs != client.total.rpcs:
        yield f"receiver: served {server.total.rpcs} RPCs in all, the sender made {client.total.rpcs}"
    for name, document, size in (
        ("receiver", server, planned.request_bytes),
        ("sender", client, planned.reply_bytes),
    ):
        yield from (f"{name}: {text}" for text in _rpc_end(document, size))
    latency = client.latency
    if latency is not None and client.rpcs is not None and latency.total != client.rpcs:
        yield f"sender: has {latency.total} latencies of {client.rpcs} RPCs"


def _rpc_end(document: RpcDocument, size: int) -> Iterator[str]:
    rpcs, total = document.rpcs, document.total
    if rpcs is None or rpcs < 0 or rpcs > total.rpcs:
        yield f"counted {rpcs} RPCs in the window, and {total.rpcs} in all"
        return
    for word, count, mapped, copied in (
        ("in the window", rpcs, document.mapped_bytes, document.copied_bytes),
        ("in all", total.rpcs, total.mapped_bytes, total.copied_bytes),
    ):
        if (
            mapped is not None
            and copied is not None
            and (mapped + copied != count * size or min(mapped, copied) < 0)
        ):
            yield f"mapped {mapped} and copied {copied} bytes {word}, {count} RPCs have {count * size}"
    if document.mode == "recvmsg" and (document.mapped_bytes or total.mapped_bytes):
        yield f"mapped {document.mapped_bytes} bytes, and was to copy all"
    calls = document.calls
    if calls is not None and document.system_calls is not None:
        named = sum(calls.model_dump().values())
        if named > document.system_calls or min(calls.model_dump().values()) < 0:
            yield f"made {named} system calls by name, {document.system_calls} in all"
