# SPDX-License-Identifier: Apache-2.0
"""What an inventory declares of its hosts, compared with what they were around a measurement."""

from __future__ import annotations

import re
from collections.abc import Iterator

from zclab.analysis import programs
from zclab.analysis.ends import difference, losses, states
from zclab.host.snapshot import Snapshot
from zclab.kernel.identity import KernelIdentity
from zclab.lab.link import ipv4_route_mtu
from zclab.lab.model import Host
from zclab.runs.records import Manifest, Record

#: Short names that ethtool -K takes, and what ethtool -k shows for them (ethtool(8)).
OFFLOADS = {
    "rx": "rx-checksumming",
    "tx": "tx-checksumming",
    "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload",
    "ufo": "udp-fragmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
    "lro": "large-receive-offload",
    "rxvlan": "rx-vlan-offload",
    "txvlan": "tx-vlan-offload",
    "ntuple": "ntuple-filters",
    "rxhash": "receive-hashing",
}
#: States of a link in which it carries traffic (RFC 2863); unknown: its driver does not say.
_LINK_UP = ("up", "unknown")


def expected_kernel(manifest: Manifest, record: Record) -> KernelIdentity:
    """Return the kernel that a measurement is meant for."""
    return manifest.other_kernels.get(record.planned.kernel_variant or "", manifest)


def deviations(manifest: Manifest, name: str, snapshot: Snapshot, record: Record) -> Iterator[str]:
    """Yield each way in which a host is not as declared. What an older record did not keep is not judged."""
    host = next(one for one in manifest.pair if one.name == name)
    for found in (
        _kernel(manifest, name, snapshot, record),
        _link(manifest, host, snapshot, record),
        _limits(manifest, name, snapshot),
        _tuning(host, snapshot),
    ):
        yield from (f"{name}: {text}" for text in found)
    yield from programs.deviations(manifest, name, snapshot)


def _kernel(manifest: Manifest, name: str, snapshot: Snapshot, record: Record) -> Iterator[str]:
    facts = next(one for one in manifest.hosts if one.name == name)
    # Without an artifact each host has to run what it ran when the run began.
    kernel = expected_kernel(manifest, record)
    artifact = kernel.artifact_key is not None
    release = kernel.kernel_release if artifact else facts.kernel_release
    build_id = kernel.kernel_build_id if artifact else facts.kernel_build_id
    meant = "the artifact" if artifact else "what ran when the run began:"
    if snapshot.kernel_release != release:
        yield f"runs {snapshot.kernel_release}, not {meant} {release}"
    elif snapshot.kernel_build_id != build_id:
        whose = "the artifact's" if artifact else meant
        yield f"build id {snapshot.kernel_build_id} is not {whose} {build_id}"
    if snapshot.boot_id != record.boots.get(name, facts.boot_id):
        yield "rebooted since the run began"


def _link(manifest: Manifest, host: Host, snapshot: Snapshot, record: Record) -> Iterator[str]:
    link, interface = manifest.expectations.link, host.data_interface
    facts = next(one for one in manifest.hosts if one.name == host.name)
    if snapshot.operstate is not None and snapshot.operstate not in _LINK_UP:
        yield f"{interface} is {snapshot.operstate}"
    if snapshot.mtu != link.mtu:
        yield f"MTU is {snapshot.mtu}, the lab declares {link.mtu}"
    if link.speed_mbps is not None and snapshot.link_counters is not None:
        if snapshot.speed_mbps is None:
            yield f"{interface} reports no speed, the lab declares {link.speed_mbps} Mbit/s"
        elif snapshot.speed_mbps != link.speed_mbps:
            yield f"{interface} runs at {snapshot.speed_mbps} Mbit/s, the lab declares {link.speed_mbps}"
    for address in filter(None, (host.data_address, host.data_address_ipv4)):
        if address not in snapshot.addresses:
            yield f"lost its data address {address}"
    yield from _routes(manifest, host, snapshot, record)
    driver = snapshot.driver or facts.nic.driver
    if host.nic_model is not None and driver != host.nic_model.replace("-", "_"):
        yield f"{facts.nic.name} is {driver}, the lab declares {host.nic_model}"


def _routes(manifest: Manifest, host: Host, snapshot: Snapshot, record: Record) -> Iterator[str]:
    link = manifest.expectations.link
    version = record.planned.ip_version or link.ip_version
    own, peer = host.endpoints(version)
    routes = snapshot.routes
    if routes is not None:
        route = routes.get(str(version))
        command = f"ip -o -{version} route get {peer} from {own}"
        if route is None:
            # Without its own address a host has no such route: that is said already.
            if not any(address.startswith(f"{own}/") for address in snapshot.addresses):
                return
            yield f"no route to {peer} is known: `{command}`: {snapshot.unknown.get(command, 'no answer')}"
            return
        if route.device != host.data_interface:
            yield f"the route to {peer} goes over {route.device}, not over {host.data_interface}"
            return
    second = version == 4 and host.data_address_ipv4 is not None
    wanted = ipv4_route_mtu(link.mtu) if second else None
    if wanted is not None and snapshot.route_mtu_ipv4 != wanted:
        found = snapshot.route_mtu_ipv4 or "that of the link"
        yield f"MTU of the route to {host.peer_address_ipv4} is {found}, not {wanted}"
    elif wanted is None and routes is not None and route is not None and route.mtu not in (None, link.mtu):
        yield f"MTU of the route to {peer} is {route.mtu}, not that of the link, {link.mtu}"


def _limits(manifest: Manifest, name: str, snapshot: Snapshot) -> Iterator[str]:
    if snapshot.tcp_timestamps != 1:
        yield f"net.ipv4.tcp_timestamps is {snapshot.tcp_timestamps}, not 1"
    limits = manifest.limits
    if limits is None or snapshot.sysctls is None:
        return
    for key, declared in limits.sysctls.items():
        found = snapshot.sysctls.get(key)
        if key not in limits.machine_sysctls and key != "net.ipv4.tcp_timestamps":
            if found is None:
                yield f"has no sysctl {key}, the lab declares {declared}"
            elif found.split() != str(declared).split():
                yield f"{key} is {found}, the lab declares {declared}"
    for key, least in limits.machine_sysctls.items():
        found = snapshot.sysctls.get(key)
        if found is None or not found.isdigit() or int(found) < least:
            yield f"{key} is {found or 'not known'}, the lab needs {least}"
    declared_lock = limits.locked_memory_kib
    if declared_lock is not None and snapshot.locked_memory_kib != declared_lock:
        shown = "not known" if snapshot.locked_memory_kib is None else snapshot.locked_memory_kib
        yield f"locked memory is {shown} (ulimit -l), the lab declares {declared_lock}"


def _tuning(host: Host, snapshot: Snapshot) -> Iterator[str]:
    if snapshot.link_counters is None:
        return
    interface, tuning = host.data_interface, host.tuning
    if tuning.offloads and snapshot.offloads is None:
        yield f"offloads of {interface} are not known: {_said(snapshot, f'ethtool -k {interface}')}"
    offloads = snapshot.offloads or {}
    for name, wanted in tuning.offloads.items() if snapshot.offloads is not None else ():
        shown = OFFLOADS.get(name, name)
        is_on = offloads.get(shown)
        if is_on is None:
            yield f"{interface} has no offload {shown}, the lab declares it"
        elif is_on != wanted:
            yield f"{interface} has {shown} {_word(is_on)}, the lab declares {_word(wanted)}"
    if tuning.queues is not None and snapshot.queues != tuning.queues:
        yield f"{interface} has {snapshot.queues} receive queues, the lab declares {tuning.queues}"
    if tuning.receive_cpus:
        wanted_cpus = sorted(set(tuning.receive_cpus))
        if snapshot.receive_cpus is None:
            yield f"the CPUs that process packets of {interface} are not known (queues/rx-*/rps_cpus)"
        for queue, cpus in (snapshot.receive_cpus or {}).items():
            if cpus != wanted_cpus:
                yield f"packets of {interface} {queue} go to CPUs {cpus}, the lab declares {wanted_cpus}"
    if tuning.coalescing and snapshot.coalescing is None:
        yield f"coalescing of {interface} is not known: {_said(snapshot, f'ethtool -c {interface}')}"
    coalescing = snapshot.coalescing or {}
    for name, value in tuning.coalescing.items() if snapshot.coalescing is not None else ():
        found = coalescing.get(name)
        if found != value:
            is_now = "unknown" if found is None else found
            yield f"{interface} has {name} {is_now}, the lab declares {value}"
    if snapshot.online_cpus is not None:
        for cpu in host.traffic_cpus or []:
            if cpu not in snapshot.online_cpus:
                yield f"CPU {cpu} is not online, zclab_traffic_cpus declares it"


def _word(on: bool) -> str:
    return "on" if on else "off"


def _said(snapshot: Snapshot, command: str) -> str:
    return f"`{command}`: {snapshot.unknown.get(command, 'no answer')}"


def offloads_for_zerocopy(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield what the sender's NIC lacks to send pages from where they are, or why that is not known."""
    host = manifest.pair[0]
    before = record.before.get(host.name)
    if before is None:
        return
    if before.missing_offloads is None:
        command = f"ethtool -k {host.data_interface}"
        yield f"{host.name}: offloads of {host.data_interface} are not known: {_said(before, command)}"
    for feature in before.missing_offloads or []:
        yield f"{host.name}: {host.data_interface} has {feature} off: sent pages are copied on the way"


def changes(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield what changed or was lost at the hosts between the two looks."""
    for host in manifest.pair:
        found = states(record, host.name)
        if found is not None:
            yield from (f"{host.name}: {text}" for text in _changes_of(manifest, host, record, *found))


def _changes_of(
    manifest: Manifest, host: Host, record: Record, before: Snapshot, after: Snapshot
) -> Iterator[str]:
    interface, name = host.data_interface, host.name
    if before.ifindex != after.ifindex:
        yield f"{interface} was removed and made anew during the measurement"
    elif (difference(record, name, "carrier_changes") or 0) > 0:
        yield f"the link of {interface} went down during the measurement"
    elif after.changes:
        times = f"{len(after.changes)} changes" if len(after.changes) > 1 else "a change"
        first = _event(after.changes[0])
        yield f"{times} of {interface}, its addresses or routes during the measurement, first: {first}"
    if after.changes_lost:
        yield f"`ip monitor` lost {after.changes_lost} events during the measurement"
    if after.link_counters is not None and after.changes is None:
        said = after.unknown.get("ip monitor", "nobody watched")
        yield f"changes during the measurement are not known: `ip monitor`: {said}"
    lost = losses(record, name)
    if lost is not None and lost > manifest.expectations.validity.drops_at_most:
        yield f"{interface} dropped {lost} packets"
    for cause, total in (after.tcp_drops or {}).items():
        dropped = total - (before.tcp_drops or {}).get(cause, total)
        if dropped > manifest.expectations.validity.drops_at_most:
            yield f"TCP dropped {dropped} segments ({cause})"


def _event(line: str) -> str:
    """Return an event as one short phrase: of a link its MTU and state."""
    link = re.match(r"(Deleted )?\d+: (\S+?)(?:@\S+)?: <\S*> (mtu \d+)", line)
    if link is None:
        return line[:120]
    state = re.search(r"\bstate \S+", line)
    promiscuous = ", promiscuous" if "PROMISC" in line else ""
    return f"{link[1] or ''}{link[2]} {link[3]}{f' {state[0]}' if state else ''}{promiscuous}"
