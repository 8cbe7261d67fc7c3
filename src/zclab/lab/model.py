# SPDX-License-Identifier: Apache-2.0
"""A lab, whole: every value that its inventory declares, checked."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from zclab.base.errors import UsageError
from zclab.base.metrics import METRICS, Metric
from zclab.base.model import Model, ReceiveMode, Role, SendMode
from zclab.debian.archive import SUITE_NAME
from zclab.kernel.spec import KernelVariant, Source
from zclab.lab import link as link_math


class Link(Model):
    """The link between the hosts of a pair.

    `mtu` is derived from the IP version where it is not declared; `speed_mbps` is the declared rate of the
    physical link in Mbit/s, null where there is none (virtual hosts).
    """

    ip_version: Literal[4, 6]
    mtu: int = Field(ge=1280, le=65535)
    speed_mbps: int | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _derive_mtu(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("mtu") is None and data.get("ip_version") in (4, 6):
            return {**data, "mtu": link_math.whole_page_mtu(data["ip_version"])}
        return data

    @model_validator(mode="after")
    def _whole_pages(self) -> Link:
        payload = link_math.mss(self.ip_version, self.mtu)
        if payload % link_math.PAGE_BYTES == 0:
            return self
        other = 10 - self.ip_version
        wanted = link_math.whole_page_mtu(self.ip_version)
        if link_math.mss(other, self.mtu) % link_math.PAGE_BYTES == 0:
            raise ValueError(
                f"MTU {self.mtu} carries whole pages over IPv{other}, but ip_version is {self.ip_version}: "
                f"set mtu to {wanted} or leave it out"
            )
        raise ValueError(
            f"MTU {self.mtu} carries {payload} bytes per segment over IPv{self.ip_version}, not whole pages "
            f"of {link_math.PAGE_BYTES}: set mtu to {wanted} or leave it out"
        )

    @property
    def mss(self) -> int:
        """Payload bytes of a full segment."""
        return link_math.mss(self.ip_version, self.mtu)

    def mss_of(self, ip_version: Literal[4, 6]) -> int:
        """Payload bytes of a full segment: IPv4 routes of a link made for IPv6 carry whole pages, too."""
        if ip_version == self.ip_version:
            return self.mss
        return link_math.mss(ip_version, self.mtu) // link_math.PAGE_BYTES * link_math.PAGE_BYTES


class Limits(Model):
    """Host limits: sysctls by name, locked memory in KiB (null: unchanged), SO_RCVLOWAT in bytes.

    `machine_sysctls` are numbers of the whole machine, such as those that a network namespace can only read:
    each must be at least this large, and is never set. One that is listed under `sysctls`, too, is set where
    this kernel has it per namespace.
    """

    rcvlowat_bytes: int = Field(gt=0)
    locked_memory_kib: int | Literal["unlimited"] | None = None
    sysctls: dict[str, int | str]
    machine_sysctls: dict[str, int] = {}

    @model_validator(mode="after")
    def _rcvlowat_fits(self) -> Limits:
        rmem = str(self.sysctls.get("net.ipv4.tcp_rmem", "")).split()
        if rmem and (len(rmem) != 3 or not all(part.isdigit() for part in rmem)):
            raise ValueError("sysctls: net.ipv4.tcp_rmem needs three numbers: smallest, default, largest")
        if rmem and int(rmem[2]) // 2 < self.rcvlowat_bytes:
            raise ValueError(
                f"rcvlowat_bytes {self.rcvlowat_bytes} is more than half of the largest "
                f"tcp_rmem ({rmem[2]}), where the kernel caps it: raise the third value of net.ipv4.tcp_rmem"
            )
        if str(self.sysctls.get("net.ipv4.tcp_timestamps", 1)) != "1":
            raise ValueError(
                "sysctls: net.ipv4.tcp_timestamps must be 1: the MTU is for segments with timestamps"
            )
        return self


class Tuning(Model):
    """What the data interface is set to: offloads by ethtool's names, queue pairs, coalescing values.

    `receive_cpus` are the CPUs that handle what it receives (receive packet steering); empty leaves them.
    """

    offloads: dict[str, bool] = {}
    queues: int | None = Field(default=None, gt=0)
    receive_cpus: list[Annotated[int, Field(ge=0)]] = []
    coalescing: dict[str, int | bool] = {}


class Virtual(Model):
    """The size of each virtual host, and its Debian release (`suite`), whatever this machine runs."""

    memory_mib: int = Field(ge=192)
    cpus: int = Field(default=1, ge=1)
    disk_mib: int = Field(default=3072, ge=1024)
    suite: str = Field(default="bookworm", pattern=SUITE_NAME)


class ExactGuest(Model):
    """The one guest of an exact lab: the link of its ends, its memory, the Debian release of its programs."""

    link: Literal["veth", "e1000e"]
    memory_mib: int = Field(default=1024, ge=192)
    suite: str = Field(default="bookworm", pattern=SUITE_NAME)


class Bounds(Model):
    """A range for a fraction between 0 and 1; a bound that is left out is open."""

    at_least: float | None = Field(default=None, ge=0, le=1)
    at_most: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _says_something(self) -> Bounds:
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least or at_most")
        return self


class Disturbance(Model):
    """How far the arms of a comparison may differ by what no mode changes; null: not judged.

    Medians of the arms are compared, at each end. Shares of the window: window_share (its length, against the
    plan), stolen_cpu_share,
    receive_window_limited_share (the sender had to wait for room in the receiver's window). Others:
    foreign_cpu_share of what the traffic threads left over of their CPUs (the CPU time of others there),
    retransmitted_share of segments, softnet_share of packets, foreign_packets_per_s, pause_s (the longest
    time in which an end did nothing, such as a process that was stopped). A factor bounds how many times the
    larger may be the smaller: rtt_factor, segment_bytes_factor. within_arm_factor: how far one measurement
    may be from its own arm's median in system calls and acknowledgements per MiB.
    """

    window_share: float | None = Field(default=None, gt=0)
    foreign_cpu_share: float | None = Field(default=None, gt=0)
    stolen_cpu_share: float | None = Field(default=None, gt=0)
    receive_window_limited_share: float | None = Field(default=None, gt=0)
    rtt_factor: float | None = Field(default=None, gt=1)
    retransmitted_share: float | None = Field(default=None, gt=0)
    segment_bytes_factor: float | None = Field(default=None, gt=1)
    softnet_share: float | None = Field(default=None, gt=0)
    foreign_packets_per_s: float | None = Field(default=None, gt=0)
    pause_s: float | None = Field(default=None, gt=0)
    within_arm_factor: float | None = Field(default=None, gt=1)


class Validity(Model):
    """What makes a measurement valid.

    foreign_bytes_at_most: bytes that a data interface may carry in a direction beside the connection's own.
    guest_idle_share_at_most: the share of an unpaced window for which one guest with both ends may be idle.
    disturbance: how far the arms of a comparison may differ by what no mode changes.
    """

    retransmitted_share_at_most: float = Field(ge=0, le=1)
    drops_at_most: int = Field(ge=0)
    foreign_bytes_at_most: int = Field(default=2**20, ge=0)
    guest_idle_share_at_most: float = Field(default=0, ge=0, lt=1)
    disturbance: Disturbance = Disturbance()
    copied_fraction: Bounds
    mapped_fraction: dict[ReceiveMode, dict[SendMode, Bounds]]


class Threshold(Model):
    """A bound on a comparison: on the ratio of arm B to arm A, or on the median of one arm.

    `paced` and `message_bytes` restrict it to some of the comparison's cells.
    """

    comparison: str
    metric: Metric
    arm: Literal["a", "b"] | None = None
    at_least: float | None = None
    at_most: float | None = None
    unit: str
    paced: bool | None = None
    message_bytes: int | None = Field(default=None, gt=0)
    claims: list[str] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_bound_in_its_unit(self) -> Threshold:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("needs exactly one of at_least and at_most")
        if METRICS[self.metric].shown_only:
            raise ValueError(f"{self.metric} is shown beside other figures and never judged: bound another")
        wanted = METRICS[self.metric].unit if self.arm else "ratio"
        if self.unit != wanted:
            raise ValueError(f"unit is {self.unit!r}, but this threshold is in {wanted!r}")
        if self.paced and not METRICS[self.metric].paced:
            raise ValueError("throughput is not compared at a fixed pace: set paced to false or leave it out")
        return self


class BaselineEntry(Model):
    """What one emulator counts of the pinned kernel, built by one compiler.

    emulator: such as "QEMU 7.2.22", without a distribution's revision; compiler: such as "gcc 12.2.0". cpu:
    the emulated CPU and its flags. variant, source: of the kernel. boots: of each cell. cells: by sender,
    receiver and message size the median count of the whole guest in each place of a boot, in instructions
    per MiB. reason: why it was set.
    """

    emulator: str
    compiler: str
    cpu: str
    variant: str
    source: str
    boots: int = Field(ge=1)
    reason: str = Field(min_length=1)
    cells: dict[str, Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]]


class Baseline(Model):
    """The pinned figures that a plan's are compared with, where a clock counts instructions.

    plan: of which they are. margin: by what share of its baseline's a count may lie above it.
    """

    plan: str
    margin: float = Field(gt=0, lt=1)
    entries: list[BaselineEntry] = []


class Expectations(Model):
    """What a lab declares of its measurements: what makes one count, and what it has to show.

    shared_cpu: the hosts share their CPUs, so that no figure of a host's CPUs belongs to one of them.
    not_gated: the claims that no threshold gates here, and why.
    counts_instructions: the clock of the one guest counts instructions, and so do CPU times: 10^9 a second.
    baseline: the pinned counts of a plan, null: there are none.
    """

    link: Link
    validity: Validity
    thresholds: list[Threshold]
    not_gated: dict[str, Annotated[str, Field(min_length=1)]] = {}
    smallest_effect: float = Field(gt=0, lt=1)
    rcvlowat_bytes: int = Field(gt=0)
    shared_cpu: bool = False
    counts_instructions: bool = False
    baseline: Baseline | None = None


class Crosscheck(Model):
    """Bounds for the traffic tool relative to other tools on the same link; null: shown, not judged.

    `source` is the kernel tree to take tcp_mmap from, where the lab builds no kernel.
    """

    source: Source | None = None
    throughput_at_least: float | None = Field(default=None, gt=0)
    receiver_usec_per_mib_at_most: float | None = Field(default=None, gt=0)


class Host(Model):
    """One host of a pair, how it is reached, and its end of the link.

    `address`, `user` and `port` are for hardware; `ssh_port` fixes the forwarded port of a virtual host.
    `nic_model` is declared of virtual hosts; in an exact lab it is the link of its guest.
    `traffic_cpus` are the CPUs that the threads of the traffic tool run on, one after the other (null: any).
    """

    name: str
    role: Role
    pair: int = Field(ge=1)
    data_interface: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,15}$")
    data_address: str
    peer: str
    peer_address: str
    data_address_ipv4: str | None = None
    peer_address_ipv4: str | None = None
    address: str
    user: str = "root"
    port: int = Field(default=22, ge=1, le=65535)
    nic_model: Literal["e1000e", "virtio-net", "veth"] | None = None
    ssh_port: int | None = Field(default=None, ge=1, le=65535)
    tuning: Tuning
    traffic_cpus: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)

    @field_validator("data_address", "peer_address", "data_address_ipv4", "peer_address_ipv4", mode="before")
    @classmethod
    def _as_hosts_print_it(cls, text: Any) -> Any:
        """Write an address as `ip addr` does, because the two are compared; others are left to be refused."""
        try:
            # A zone would be lost: it is refused.
            interface = ipaddress.ip_interface(text) if isinstance(text, str) and "%" not in text else None
        except ValueError:
            interface = None
        if interface is None:
            return text
        return str(interface) if "/" in str(text) else str(interface.ip)

    @property
    def ip(self) -> str:
        """The data address without its prefix length."""
        return self.data_address.partition("/")[0]

    def endpoints(self, ip_version: Literal[4, 6]) -> tuple[str, str]:
        """Return the own data address and the peer's, without prefix lengths.

        Raises:
            UsageError: the lab declares none of this IP version.
        """
        if (":" in self.data_address) == (ip_version == 6):
            return self.ip, self.peer_address
        if ip_version == 6 or self.data_address_ipv4 is None or self.peer_address_ipv4 is None:
            key = "zclab_data_address_ipv4" if ip_version == 4 else "zclab_data_address"
            raise UsageError(
                f"{self.name}: has no IPv{ip_version} data address: declare {key} for both hosts"
            )
        return self.data_address_ipv4.partition("/")[0], self.peer_address_ipv4


class Pair(NamedTuple):
    """The two hosts of a pair, at the ends of one link."""

    sender: Host
    receiver: Host

    @property
    def names(self) -> list[str]:
        """The names of both hosts, the sender's first."""
        return [self.sender.name, self.receiver.name]


class Kind(NamedTuple):
    """What the hosts of a kind of lab are, and so what its inventory has to declare, and may.

    boots_kernels: they boot a kernel of the lab, otherwise they run this machine's.
    one_machine: they share the CPUs, the memory and some sysctls of one machine: this one, or the one guest.
    emulators: the lab chooses their size and the model of their NIC, and logs their consoles.
    made: the lab makes them, and they are not there without it.
    one_guest: they are namespaces of one emulated guest, which is booted anew for each boot of a plan. Its
    clock counts instructions. Nothing stands between boots, and SSH reaches none of it.
    """

    boots_kernels: bool
    one_machine: bool
    emulators: bool
    made: bool
    one_guest: bool = False


KINDS = {
    "virtual": Kind(boots_kernels=True, one_machine=False, emulators=True, made=True),
    "namespaces": Kind(boots_kernels=False, one_machine=True, emulators=False, made=True),
    "hardware": Kind(boots_kernels=True, one_machine=False, emulators=False, made=False),
    "exact": Kind(boots_kernels=True, one_machine=True, emulators=False, made=True, one_guest=True),
}


class Lab(Model):
    """A lab, whole: every value resolved, nothing left to derive."""

    name: str
    kind: Literal["virtual", "namespaces", "hardware", "exact"]
    lab_dir: Path
    state_dir: Path
    plan: str
    limits: Limits
    virtual: Virtual | None = None
    exact: ExactGuest | None = None
    kernel_variant: str | None = None
    kernel_variants: dict[str, KernelVariant] = {}
    expectations: Expectations
    crosscheck: Crosscheck | None = None
    hosts: list[Host]

    @property
    def traits(self) -> Kind:
        """What its hosts are."""
        return KINDS[self.kind]

    def pair(self, number: int = 1) -> Pair:
        """Return a pair by its number."""
        return Pair(**{host.role: host for host in self.hosts if host.pair == number})

    def with_kernel(self, variant: str | None) -> Lab:
        """Return the lab as it would be if it booted another of its kernels; null: the lab itself.

        Raises:
            UsageError: the lab has no such kernel.
        """
        self.check_kernels(variant)
        return self.model_copy(update={"kernel_variant": variant}) if variant else self

    def check_kernels(self, *variants: str | None) -> None:
        """Raise UsageError for the first that is not one of the lab's kernels; null asks for none."""
        for variant in variants:
            if variant is not None and variant not in self.kernel_variants:
                known = ", ".join(self.kernel_variants) or "none"
                raise UsageError(f"{self.name}: no kernel variant is called {variant!r}: {known}")

    def facts(self, variant: str | None = None) -> dict[str, Any]:
        """Return the lab's part of the `zclab` fact that playbooks pass to roles (plain JSON values).

        variant: the kernel to boot, null for the lab's own.

        Raises:
            UsageError: the lab has no such kernel.
        """
        chosen = variant or self.kernel_variant
        self.check_kernels(chosen)
        document = self.model_dump(mode="json")
        document["kernel"] = {"variant": chosen, **document["kernel_variants"][chosen]} if chosen else None
        if document["virtual"] and chosen and (memory := document["kernel"]["memory_mib"]):
            document["virtual"]["memory_mib"] = memory
        document["host_by_name"] = {host["name"]: host for host in document["hosts"]}
        return document
