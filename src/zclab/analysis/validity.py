# SPDX-License-Identifier: Apache-2.0
"""Whether a measurement counts: every way in which what ran is not what was to be measured."""

from __future__ import annotations

from math import isclose

from zclab.analysis import mapped_witness, programs
from zclab.host.snapshot import Snapshot
from zclab.kernel.identity import KernelIdentity
from zclab.lab.link import ipv4_route_mtu
from zclab.lab.model import Bounds
from zclab.runs.records import End, Manifest, Record
from zclab.traffic.document import RpcDocument, TrafficDocument


def bulk(end: End | None) -> TrafficDocument | None:
    """Return what an end of a bulk transfer printed, if it did."""
    return end.document if end and isinstance(end.document, TrafficDocument) else None


def ping_pong(end: End | None) -> RpcDocument | None:
    """Return what an end of a ping-pong printed, if it did."""
    return end.document if end and isinstance(end.document, RpcDocument) else None


def difference(record: Record, host: str, field: str) -> int | None:
    """Return how much a number of a host's snapshot grew over a measurement."""
    before, after = record.before.get(host), record.after.get(host)
    if before is None or after is None:
        return None
    start, end = getattr(before, field), getattr(after, field)
    return end - start if start is not None and end is not None else None


def invalid_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return every reason for which a measurement does not count, in the order to look at them."""
    reasons = [record.problem] if record.problem else []
    for host in manifest.pair:
        for when, state in (("before", record.before), ("after", record.after)):
            if host.name in state:
                reasons += _host_reasons(manifest, host.name, state[host.name], record)
            elif not record.problem:
                reasons.append(f"{host.name}: its state {when} the measurement is not known")
    # Skipped, nothing was transferred; but on the wrong kernel that says nothing.
    if not record.problem and not record.skipped:
        reasons += _link_reasons(manifest, record)
        if damaged(record):
            return list(dict.fromkeys(reasons))  # it counts, against the kernel: the rest follows from it
        reasons += _end_reasons(record)
        if record.planned.rpc is None:
            reasons += _transfer_reasons(manifest, record)
            reasons += _transport_reasons(manifest, record)
            reasons += _zero_copy_reasons(manifest, record)
        else:
            reasons += _rpc_reasons(manifest, record)
        reasons += mapped_witness.doubts(manifest, record)
    return list(dict.fromkeys(reasons))


def damaged(record: Record) -> bool:
    """Say whether a byte arrived that was not sent, or a buffer was written before it was free."""
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    found = receiver.integrity if receiver else None
    own = sender.integrity if sender else None
    return bool((found and found.mismatch) or (own and own.reused_early))


def host_reasons(manifest: Manifest, record: Record, state: dict[str, Snapshot]) -> list[str]:
    """Return why a measurement on hosts in this state would be invalid from the start."""
    return [
        reason for host, found in state.items() for reason in _host_reasons(manifest, host, found, record)
    ]


def expected_kernel(manifest: Manifest, record: Record) -> KernelIdentity:
    """Return the kernel that a measurement is meant for."""
    return manifest.other_kernels.get(record.planned.kernel_variant or "", manifest)


def _host_reasons(manifest: Manifest, name: str, snapshot: Snapshot, record: Record) -> list[str]:
    facts = next(one for one in manifest.hosts if one.name == name)
    host = next(one for one in manifest.pair if one.name == name)
    # Without an artifact each host has to run what it ran when the run began.
    kernel = expected_kernel(manifest, record)
    artifact = kernel.artifact_key is not None
    release = kernel.kernel_release if artifact else facts.kernel_release
    build_id = kernel.kernel_build_id if artifact else facts.kernel_build_id
    meant = "the artifact" if artifact else "what ran when the run began:"
    reasons = []
    if snapshot.kernel_release != release:
        reasons.append(f"{name}: runs {snapshot.kernel_release}, not {meant} {release}")
    elif snapshot.kernel_build_id != build_id:
        whose = "the artifact's" if artifact else meant
        reasons.append(f"{name}: build id {snapshot.kernel_build_id} is not {whose} {build_id}")
    if snapshot.boot_id != record.boots.get(name, facts.boot_id):
        reasons.append(f"{name}: rebooted since the run began")
    if snapshot.mtu != manifest.expectations.link.mtu:
        reasons.append(f"{name}: MTU is {snapshot.mtu}, the lab declares {manifest.expectations.link.mtu}")
    if snapshot.tcp_timestamps != 1:
        reasons.append(f"{name}: net.ipv4.tcp_timestamps is {snapshot.tcp_timestamps}, not 1")
    for address in filter(None, (host.data_address, host.data_address_ipv4)):
        if address not in snapshot.addresses:
            reasons.append(f"{name}: lost its data address {address}")
    over_ipv4 = record.planned.ip_version == 4 and host.data_address_ipv4 is not None
    route_mtu = ipv4_route_mtu(manifest.expectations.link.mtu) if over_ipv4 else None
    if route_mtu != snapshot.route_mtu_ipv4 and route_mtu is not None:
        found = snapshot.route_mtu_ipv4 or "that of the link"
        reasons.append(f"{name}: MTU of the route to {host.peer_address_ipv4} is {found}, not {route_mtu}")
    reasons += programs.deviations(manifest, name, snapshot)
    if host.nic_model is not None and facts.nic.driver != host.nic_model.replace("-", "_"):
        reasons.append(f"{name}: {facts.nic.name} is {facts.nic.driver}, the lab declares {host.nic_model}")
    return reasons


def _link_reasons(manifest: Manifest, record: Record) -> list[str]:
    reasons = []
    for host in manifest.pair:
        changes = difference(record, host.name, "carrier_changes")
        if changes:
            reasons.append(f"{host.name}: the link of {host.data_interface} went down during the measurement")
        drops = difference(record, host.name, "drops")
        if drops is not None and drops > manifest.expectations.validity.drops_at_most:
            reasons.append(f"{host.name}: {host.data_interface} dropped {drops} packets")
    return reasons


def _end_reasons(record: Record) -> list[str]:
    """Return how an end fell short by itself."""
    reasons = []
    planned = record.planned
    for name, end in (("receiver", record.receiver), ("sender", record.sender)):
        document = end.document if end else None
        if document is None:
            said = (end.stderr.strip().splitlines() or ["no message"])[-1] if end else "did not start"
            reasons.append(f"{name}: left no result: {said}")
            continue
        if document.outcome != "complete":
            reasons.append(f"{name}: {document.outcome}: {document.error or 'no message'}")
        elif not document.window.complete:
            reasons.append(f"{name}: the measured window was cut short")
        if document.addresses.ip_version != planned.ip_version:
            reasons.append(f"{name}: used IPv{document.addresses.ip_version}")
    return reasons


def _transfer_reasons(manifest: Manifest, record: Record) -> list[str]:
    """Return how a bulk transfer fell short, or was another than planned."""
    reasons = []
    planned = record.planned
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    for name, document in (("receiver", receiver), ("sender", sender)):
        if document and document.outcome == "complete" and not document.window.bytes:
            reasons.append(f"{name}: no bytes in the measured window")
        if document and len(document.streams) != planned.streams:
            reasons.append(f"{name}: used {len(document.streams)} streams, planned were {planned.streams}")
        if document and document.integrity is None and planned.phase == "integrity":
            reasons.append(f"{name}: checked no bytes")
    if receiver and not receiver.total.bytes:
        reasons.append("receiver: zero bytes received")
    if receiver and receiver.mode != planned.receive_mode:
        reasons.append(f"receiver: mode was {receiver.mode}, planned was {planned.receive_mode}")
    if receiver and receiver.inject_usec_per_mib and not planned.inject_usec_per_mib:
        reasons.append(f"receiver: {receiver.inject_usec_per_mib} µs/MiB of CPU were injected")
    if sender and sender.mode != planned.send_mode:
        reasons.append(f"sender: mode was {sender.mode}, planned was {planned.send_mode}")
    if sender and sender.message_bytes != planned.message_bytes:
        reasons.append(f"sender: sent {sender.message_bytes} bytes per call, not {planned.message_bytes}")
    if sender and sender.header_bytes != planned.header_bytes:
        reasons.append(f"sender: sent headers of {sender.header_bytes} bytes, not {planned.header_bytes}")
    if sender and not isclose(sender.pace_gbit or 0, planned.pace_gbit_per_s or 0, rel_tol=1e-4):
        reasons.append(f"sender: pace was {sender.pace_gbit}, planned was {planned.pace_gbit_per_s}")
    if receiver and sender and receiver.total.bytes != sender.total.bytes:
        reasons.append(
            f"receiver: got {receiver.total.bytes} bytes of the {sender.total.bytes} that were sent"
        )
    return reasons


def _transport_reasons(manifest: Manifest, record: Record) -> list[str]:
    reasons = []
    receiver, sender = bulk(record.receiver), bulk(record.sender)
    expected = manifest.expectations
    if sender:
        mss = expected.link.mss_of(record.planned.ip_version or expected.link.ip_version)
        if sender.tcp.snd_mss != mss:
            reasons.append(f"sender: MSS was {sender.tcp.snd_mss}, the lab's link carries {mss}")
        limit = expected.validity.retransmitted_share_at_most
        segments, again = sender.tcp.total.data_segs_out, sender.tcp.total.retransmits
        if segments is None or again is None:
            reasons.append("sender: this kernel does not count retransmitted segments")
        elif segments and again / segments > limit:
            text = f"{again} of {segments} segments were retransmitted"
            reasons.append(f"sender: {text}, more than {limit:.2%}")
    got = receiver.rcvlowat.got if receiver and receiver.rcvlowat else None
    wanted = expected.rcvlowat_bytes
    if receiver and (got is not None or receiver.outcome == "complete") and got != wanted:
        reasons.append(
            f"receiver: SO_RCVLOWAT {wanted} was set and {got} was read back: "
            "raise the third value of net.ipv4.tcp_rmem"
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
        host = manifest.pair[0]
        before = record.before.get(host.name)
        reasons += [
            f"{host.name}: {host.data_interface} has {feature} off: sent pages are copied on the way"
            for feature in (before.missing_offloads if before else [])
        ]
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


def _rpc_reasons(manifest: Manifest, record: Record) -> list[str]:
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
