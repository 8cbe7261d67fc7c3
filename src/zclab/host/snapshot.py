# SPDX-License-Identifier: Apache-2.0
"""State of a host: once per run, and around each measurement."""

from __future__ import annotations

from typing import Literal

from zclab.base.model import Model


class Snapshot(Model):
    """State of one host just before or after a measurement.

    `missing_offloads` names what the data interface lacks to send pages from where they are;
    `carrier_changes` counts how often its link came or went; `nic_counters` are all that `ethtool -S` shows;
    `route_mtu_ipv4` is the MTU in bytes of the route to the peer's IPv4 address, null if none is set there.
    `programs` are the sha256 (hex) of the programs that are run there, by path; one that is not there is not
    among them; null: not read. `mapped_bytes` are all that TCP has mapped into programs in this network
    namespace (/proc/net/tcp_zerocopy), null where the kernel does not count them.
    """

    boot_id: str
    kernel_release: str
    kernel_build_id: str | None
    mtu: int
    tcp_timestamps: int
    addresses: list[str]
    drops: int
    header_split: int | None
    missing_offloads: list[str]
    carrier_changes: int
    nic_counters: dict[str, int]
    route_mtu_ipv4: int | None = None
    programs: dict[str, str] | None = None
    mapped_bytes: int | None = None


class Nic(Model):
    """The data interface of a host; `header_split` is null where the NIC does not count it."""

    name: str
    driver: str | None
    mtu: int
    speed_mbps: int | None
    header_split: int | None


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
