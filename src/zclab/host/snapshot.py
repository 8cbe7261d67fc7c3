# SPDX-License-Identifier: Apache-2.0
"""State of a host: once per run, and around each measurement."""

from __future__ import annotations

from typing import Literal

from zclab.base.model import Model


class Route(Model):
    """How a host reaches the peer's data address: interface, own address, and MTU in bytes if one is set."""

    device: str | None
    source: str | None
    mtu: int | None


class SoftNetTotals(Model):
    """/proc/net/softnet_stat since boot, all CPUs together.

    Packets processed and dropped (backlog full), polls squeezed (budget used up), interrupts received_rps
    (a packet was steered here by another CPU).
    """

    processed: int
    dropped: int
    squeezed: int
    received_rps: int


class CpuTicks(Model):
    """/proc/stat of one CPU since boot, in clock ticks (USER_HZ)."""

    busy: int
    softirq: int
    steal: int
    idle: int


class Snapshot(Model):
    """State of one host just before or after a measurement. What the host did not say is null.

    addresses: of the data interface. drops: packets that it lost by the counters that mean loss, since boot
    (up to schema version 4 rx_dropped was among them, which also counts frames that no protocol wants).
    header_split: pages of payload that it split.
    missing_offloads: what it lacks to send pages from where they are. carrier_changes: how often its link
    came or went. nic_counters: what `ethtool -S` shows. route_mtu_ipv4: MTU in bytes that the route to the
    peer's IPv4 address sets. routes: to the peer's data addresses, by IP version. link_counters:
    /sys/class/net/NAME/statistics. operstate, speed_mbps, driver, ifindex: of the data interface. queueing:
    its qdiscs. offloads: all that `ethtool -k` shows. queues: combined or receive queues. coalescing: what
    `ethtool -c` shows. receive_cpus: CPUs that process received packets, by receive queue. sysctls: those
    that the lab declares, and the congestion control. locked_memory_kib: ulimit -l of a session.
    online_cpus: their numbers. cpus: by number. tcp_drops: segments that TCP of this network namespace
    dropped, by the kernel's name of the cause. emulated: whether an emulator executes the host (QEMU's TCG).
    unknown: what a command said that gave no answer, by command. changes: what `ip monitor` saw of links,
    addresses and routes since the snapshot before, one line per event, null where nobody watched; in it,
    changes_lost events are missing.
    programs: sha256 (hex) of the programs that are run there, by path; one that is not there is not among
    them. mapped_bytes: all that TCP has mapped into programs in this network namespace
    (/proc/net/tcp_zerocopy), null where the kernel does not count them.
    """

    boot_id: str
    kernel_release: str
    kernel_build_id: str | None
    mtu: int
    tcp_timestamps: int
    addresses: list[str]
    drops: int
    header_split: int | None
    missing_offloads: list[str] | None
    carrier_changes: int
    nic_counters: dict[str, int]
    route_mtu_ipv4: int | None = None
    programs: dict[str, str] | None = None
    mapped_bytes: int | None = None
    routes: dict[str, Route] | None = None
    link_counters: dict[str, int] | None = None
    operstate: str | None = None
    speed_mbps: int | None = None
    driver: str | None = None
    ifindex: int | None = None
    queueing: list[str] | None = None
    offloads: dict[str, bool] | None = None
    queues: int | None = None
    coalescing: dict[str, int | bool] | None = None
    receive_cpus: dict[str, list[int]] | None = None
    sysctls: dict[str, str] | None = None
    locked_memory_kib: int | Literal["unlimited"] | None = None
    online_cpus: list[int] | None = None
    cpus: dict[int, CpuTicks] | None = None
    softnet: SoftNetTotals | None = None
    tcp_drops: dict[str, int] | None = None
    emulated: bool | None = None
    unknown: dict[str, str] = {}
    changes: list[str] | None = None
    changes_lost: int | None = None


class Nic(Model):
    """The data interface of a host; `header_split` is null where the NIC does not count it.

    rings: sizes of its rings in descriptors, as `ethtool -g` shows them. queueing: its qdiscs.
    """

    name: str
    driver: str | None
    mtu: int
    speed_mbps: int | None
    header_split: int | None
    rings: dict[str, int] | None = None
    queues: int | None = None
    coalescing: dict[str, int | bool] | None = None
    offloads: dict[str, bool] | None = None
    queueing: list[str] | None = None


class CpuAccounting(Model):
    """How the kernel accounts for CPU (its configuration): by tick or exactly, interrupts apart or not."""

    mode: Literal["tick", "exact"]
    irq_time: bool
    hz: int | None


class HostFacts(Model):
    """A host as it was when the run began; `cpu_accounting` null where its configuration cannot be read."""

    name: str
    role: Literal["sender", "receiver"]
    kernel_release: str
    kernel_build_id: str | None
    artifact_key: str | None
    boot_id: str
    nic: Nic
    cpu_accounting: CpuAccounting | None = None
    sysctls: dict[str, int | str | None]
    emulated: bool | None = None
