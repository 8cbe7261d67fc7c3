# SPDX-License-Identifier: Apache-2.0
"""Whether a measurement counts: every way in which what ran is not what was to be measured."""

from __future__ import annotations

from zclab.analysis import declared_state, mapped_witness, one_guest, path, plausibility
from zclab.analysis.ends import bulk, documents, ping_pong
from zclab.host.snapshot import Snapshot
from zclab.lab.model import Bounds
from zclab.runs.records import End, Manifest, Record

#: Fewer retransmissions are no rate: of a thousand segments one is 0.1 %.
FEWEST_RETRANSMITS = 3
#: Outcomes of an end, those first from which the others follow at the other end.
_CAUSES = ("error", "unsupported", "timeout", "cut_short", "stopped")


def invalid_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return every reason for which a measurement does not count, in the order to look at them."""
    reasons = surrounding_reasons(manifest, record)
    # Skipped, nothing was transferred; but on the wrong kernel that says nothing. A damaged byte counts,
    # against the kernel: the rest follows from it.
    if not record.problem and not record.skipped and not damaged(record):
        reasons += _measured_reasons(manifest, record)
    return _once(reasons)


def surrounding_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return every reason that the hosts and their link give, whatever tool was measured."""
    reasons = [record.problem] if record.problem else []
    for host in manifest.pair:
        for when, state in (("before", record.before), ("after", record.after)):
            if host.name in state:
                reasons += declared_state.deviations(manifest, host.name, state[host.name], record)
            elif not record.problem:
                reasons.append(f"{host.name}: its state {when} the measurement is not known")
    reasons += one_guest.doubts(manifest, record)
    if not record.problem and not record.skipped:
        reasons += declared_state.changes(manifest, record)
        reasons += plausibility.backwards(manifest, record)
    return _once(reasons)


def _measured_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return how what the ends left is not what was to be measured. Of several layers the first speaks."""
    if unfinished := _end_reasons(record):
        return unfinished
    doubts = [*path.doubts(manifest, record), *plausibility.contradictions(manifest, record)]
    doubts += mapped_witness.doubts(manifest, record)
    if doubts:
        return doubts
    reasons = _transport_reasons(manifest, record)
    if record.planned.rpc is None:
        reasons += _transfer_reasons(record)
        reasons += _low_water_reasons(manifest, record)
        reasons += _placement_reasons(manifest, record)
        reasons += _zero_copy_reasons(manifest, record)
    else:
        reasons += _rpc_reasons(record)
    return reasons


def _once(reasons: list[str]) -> list[str]:
    """Return reasons without those that are said already, alone or as part of another."""
    found: list[str] = []
    for reason in reasons:
        if not any(reason in earlier for earlier in found):
            found.append(reason)
    return found


def damaged(record: Record) -> bool:
    """Say whether a byte arrived that was not sent, or a buffer was written before it was free."""
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    found = receiver.integrity if receiver else None
    own = sender.integrity if sender else None
    return bool((found and found.mismatch) or (own and own.reused_early))


def host_reasons(manifest: Manifest, record: Record, state: dict[str, Snapshot]) -> list[str]:
    """Return why a measurement on hosts in this state would be invalid from the start."""
    return [
        reason
        for host, found in state.items()
        for reason in declared_state.deviations(manifest, host, found, record)
    ]


def _end_reasons(record: Record) -> list[str]:
    """Return how an end fell short by itself. Of two, only the one that the other's failure follows from."""
    found = [
        _unfinished(name, end) for name, end in (("receiver", record.receiver), ("sender", record.sender))
    ]
    short = [one for one in found if one is not None]
    first = min((rank for rank, _ in short), default=0)
    return [reason for rank, reason in short if rank == first]


def _unfinished(name: str, end: End | None) -> tuple[int, str] | None:
    """Return how an end fell short, after how much that explains; null if it did not."""
    document = end.document if end else None
    if end is None:
        return len(_CAUSES), f"{name}: left no result: did not start"
    if document is None:
        return 0, f"{name}: left no result: {(end.stderr.strip().splitlines() or ['no message'])[-1]}"
    if document.outcome != "complete":
        return _CAUSES.index(
            document.outcome
        ), f"{name}: {document.outcome}: {document.error or 'no message'}"
    if not document.window.complete:
        return len(_CAUSES), f"{name}: the measured window was cut short"
    return None


def _transfer_reasons(record: Record) -> list[str]:
    """Return how a bulk transfer was another than planned."""
    reasons = []
    planned = record.planned
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    for name, document in (("receiver", receiver), ("sender", sender)):
        if document and not document.window.bytes:
            reasons.append(f"{name}: no bytes in the measured window")
        if document and len(document.streams) != planned.streams:
            reasons.append(f"{name}: used {len(document.streams)} streams, planned were {planned.streams}")
        if document and document.integrity is None and planned.phase == "integrity":
            reasons.append(f"{name}: checked no bytes")
    if receiver and receiver.mode != planned.receive_mode:
        reasons.append(f"receiver: mode was {receiver.mode}, planned was {planned.receive_mode}")
    if sender and sender.mode != planned.send_mode:
        reasons.append(f"sender: mode was {sender.mode}, planned was {planned.send_mode}")
    return reasons


def _transport_reasons(manifest: Manifest, record: Record) -> list[str]:
    reasons = []
    expected = manifest.expectations
    limit = expected.validity.retransmitted_share_at_most
    mss = expected.link.mss_of(record.planned.ip_version or expected.link.ip_version)
    for name, document in documents(record):
        if document.end == "receive":
            # What it received, not what it could send: it sends nothing.
            if document.tcp.rcv_mss is not None and document.tcp.rcv_mss != mss:
                reasons.append(
                    f"{name}: got segments of {document.tcp.rcv_mss} bytes, the link carries {mss}"
                )
            continue
        if document.tcp.snd_mss is None:
            reasons.append(f"{name}: this kernel does not say the MSS of its connection")
        elif document.tcp.snd_mss != mss:
            reasons.append(f"{name}: MSS was {document.tcp.snd_mss}, the lab's link carries {mss}")
        segments, again = document.tcp.total.data_segs_out, document.tcp.total.retransmits
        if segments is None or again is None:
            reasons.append(f"{name}: this kernel does not count retransmitted segments")
        elif again >= FEWEST_RETRANSMITS and again > limit * segments:
            reasons.append(
                f"{name}: {again} of {segments} segments were retransmitted, more than {limit:.2%}"
            )
    return reasons


def _low_water_reasons(manifest: Manifest, record: Record) -> list[str]:
    receiver, wanted = bulk(record.receiver), manifest.expectations.rcvlowat_bytes
    mark = receiver.rcvlowat if receiver else None
    if receiver is None or (mark is not None and (mark.asked, mark.got) == (wanted, wanted)):
        return []
    asked, got = (mark.asked, mark.got) if mark else (None, None)
    if asked not in (None, wanted):
        return [f"receiver: SO_RCVLOWAT {asked} was set, the lab declares {wanted}"]
    return [
        f"receiver: SO_RCVLOWAT {wanted} was set and {got} was read back: "
        "raise the third value of net.ipv4.tcp_rmem"
    ]


def _placement_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return which threads did not run where the lab declares."""
    reasons = []
    for name, host, end in (
        ("receiver", manifest.pair[1], record.receiver),
        ("sender", manifest.pair[0], record.sender),
    ):
        document, cpus = bulk(end), host.traffic_cpus
        for stream in document.streams if document and cpus else ():
            wanted = (cpus or [])[stream.stream % len(cpus or [])]
            if stream.cpu != wanted:
                reasons.append(
                    f"{name}: stream {stream.stream} ran on CPU {stream.cpu}, declared is {wanted}"
                )
    return reasons


def _zero_copy_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return where bytes were not mapped or pinned as the lab expects."""
    reasons = []
    planned = record.planned
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    validity = manifest.expectations.validity
    by_mode = {str(mode): bounds for mode, bounds in validity.mapped_fraction.items()}
    expected = by_mode.get(planned.receive_mode, {}).get(planned.send_mode)
    if planned.receive_mode != "copy" and expected is None:
        reasons.append(
            f"zclab_validity.mapped_fraction has no bounds for {planned.receive_mode}, {planned.send_mode}"
        )
    elif expected is not None and receiver and receiver.window.bytes:
        mapped = (receiver.window.mapped_bytes or 0) / receiver.window.bytes
        if planned.phase != "integrity":
            reasons += _outside("receiver: mapped fraction", mapped, expected)
        elif expected.at_least and not mapped:
            reasons.append("receiver: mapped nothing, so that no mapped byte was checked")
    if planned.send_mode == "zerocopy":
        reasons += declared_state.offloads_for_zerocopy(manifest, record)
    if planned.send_mode == "zerocopy" and sender:
        if sender.completions is None or not sender.completions.completed:
            reasons.append("sender: a zerocopy sender without completions")
        else:
            sends, completed = sender.completions.sends, sender.completions.completed
            if completed != sends:
                reasons.append(f"sender: {completed} of {sends} zerocopy sends were completed")
            copied = sender.completions.copied / completed
            reasons += _outside("sender: copied fraction", copied, validity.copied_fraction)
    return reasons


def _rpc_reasons(record: Record) -> list[str]:
    """Return how a ping-pong was another than planned. The receiver serves, the sender calls."""
    reasons = []
    planned = record.planned
    for name, end in (("receiver", record.receiver), ("sender", record.sender)):
        document = ping_pong(end)
        if document is None:
            continue
        if document.mode != planned.receive_mode:
            reasons.append(f"{name}: mode was {document.mode}, planned was {planned.receive_mode}")
        sizes = (document.request_bytes, document.reply_bytes)
        if planned.rpc and sizes != (planned.rpc.request_bytes, planned.rpc.reply_bytes):
            reasons.append(f"{name}: request and reply had {sizes[0]} and {sizes[1]} bytes, not as planned")
        if document.outcome == "complete" and not document.rpcs:
            reasons.append(f"{name}: no RPC in the measured window")
    return reasons


def _outside(what: str, value: float, bounds: Bounds) -> list[str]:
    if bounds.at_least is not None and value < bounds.at_least:
        return [f"{what} {value:.4f} is below {bounds.at_least}"]
    if bounds.at_most is not None and value > bounds.at_most:
        return [f"{what} {value:.4f} is above {bounds.at_most}"]
    return []
