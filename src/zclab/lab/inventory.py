# SPDX-License-Identifier: Apache-2.0
"""The inventory model: what a lab is and what it expects, read once and checked before anything is touched.

Ansible reads the files (`ansible-inventory --list`); pydantic checks the values. An error is one line that
names the file, the key and what to do.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zclab import link as link_math
from zclab.errors import UsageError
from zclab.kernel.spec import KernelVariant, Source
from zclab.metrics import METRICS, Metric
from zclab.paths import cache_dir, lab_dir, project_root, state_dir

Role = Literal["sender", "receiver"]
ReceiveMode = Literal["copy", "map_each", "map_once", "map_once_hybrid"]
SendMode = Literal["copy", "zerocopy"]


class Model(BaseModel):
    """A frozen model that knows every key it may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
            f"MTU {self.mtu} carries {payload} bytes a segment over IPv{self.ip_version}, not whole pages of "
            f"{link_math.PAGE_BYTES}: set mtu to {wanted} or leave it out"
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
    """Host limits: sysctls by name, locked memory in KiB (null: as it is), the low-water mark in bytes.

    `machine_sysctls` are numbers that belong to the machine and not to a host, such as those that a
    network namespace can only read: each has to be at least so large, and is never set. One that is under
    `sysctls` too is set where this kernel has one for each namespace.
    """

    receive_low_water_bytes: int = Field(gt=0)
    locked_memory_kib: int | Literal["unlimited"] | None = None
    sysctls: dict[str, int | str]
    machine_sysctls: dict[str, int] = {}

    @model_validator(mode="after")
    def _low_water_fits(self) -> Limits:
        rmem = str(self.sysctls.get("net.ipv4.tcp_rmem", "")).split()
        if rmem and (len(rmem) != 3 or not all(part.isdigit() for part in rmem)):
            raise ValueError("sysctls: net.ipv4.tcp_rmem needs three numbers: smallest, default, largest")
        if rmem and int(rmem[2]) // 2 < self.receive_low_water_bytes:
            raise ValueError(
                f"receive_low_water_bytes {self.receive_low_water_bytes} is more than half of the largest "
                f"tcp_rmem ({rmem[2]}), where the kernel caps it: raise the third value of net.ipv4.tcp_rmem"
            )
        if str(self.sysctls.get("net.ipv4.tcp_timestamps", 1)) != "1":
            raise ValueError(
                "sysctls: net.ipv4.tcp_timestamps has to be 1: the MTU is meant for segments with time stamps"
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
    """The size of each virtual host.

    count_instructions: emulate it so that its clock counts the instructions it executes, one a nanosecond.
    """

    memory_mib: int = Field(ge=192)
    cpus: int = Field(default=1, ge=1)
    disk_mib: int = Field(default=3072, ge=1024)
    count_instructions: bool = False

    @model_validator(mode="after")
    def _one_processor(self) -> Virtual:
        if self.count_instructions and self.cpus != 1:
            raise ValueError("count_instructions: the clock counts those of one processor: set cpus to 1")
        return self


class Bounds(Model):
    """A range for a fraction between 0 and 1; an end that is left out is open."""

    at_least: float | None = Field(default=None, ge=0, le=1)
    at_most: float | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _says_something(self) -> Bounds:
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least or at_most")
        return self


class Validity(Model):
    """What makes a measurement count."""

    retransmitted_share_at_most: float = Field(ge=0, le=1)
    drops_at_most: int = Field(ge=0)
    copied_fraction: Bounds
    mapped_fraction: dict[ReceiveMode, dict[SendMode, Bounds]]


class Threshold(Model):
    """A bound on a comparison: on the ratio of arm B to arm A, or on the median of one arm.

    `paced` and `message_bytes` narrow it to some of the comparison's cells.
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
        wanted = METRICS[self.metric].unit if self.arm else "ratio"
        if self.unit != wanted:
            raise ValueError(f"unit is {self.unit!r}, but this threshold is in {wanted!r}")
        if self.paced and not METRICS[self.metric].paced:
            raise ValueError("throughput is not judged at a fixed pace: set paced to false or leave it out")
        return self


class Crosscheck(Model):
    """What the traffic tool has to reach of what others do on the same link; null: shown, not judged.

    `source` is the kernel tree to take tcp_mmap from, where the lab builds no kernel.
    """

    source: Source | None = None
    throughput_at_least: float | None = Field(default=None, gt=0)
    receiver_usec_per_mib_at_most: float | None = Field(default=None, gt=0)


class Host(Model):
    """One host of a pair, how it is reached, and its end of the link.

    `address`, `user` and `port` are for hardware; `ssh_port` fixes the forwarded port of a virtual host.
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
    nic_model: Literal["e1000e", "virtio-net"] | None = None
    ssh_port: int | None = Field(default=None, ge=1, le=65535)
    tuning: Tuning
    traffic_cpus: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)

    @field_validator("data_address", "peer_address", "data_address_ipv4", "peer_address_ipv4", mode="before")
    @classmethod
    def _as_hosts_print_it(cls, text: Any) -> Any:
        """Spell an address as `ip addr` does, because the two are compared; others are left to be refused."""
        try:
            interface = ipaddress.ip_interface(text) if isinstance(text, str) else None
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


class Lab(Model):
    """A lab, whole: every value resolved, nothing left to derive."""

    name: str
    kind: Literal["virtual", "namespaces", "hardware"]
    lab_dir: Path
    state_dir: Path
    plan: str
    link: Link
    limits: Limits
    virtual: Virtual | None = None
    kernel_variant: str | None = None
    kernel_variants: dict[str, KernelVariant] = {}
    validity: Validity
    thresholds: list[Threshold]
    smallest_effect: float = Field(gt=0, lt=1)
    crosscheck: Crosscheck | None = None
    hosts: list[Host]

    @property
    def counts_instructions(self) -> bool:
        """Whether the hosts' CPU times count instructions, a billion a second."""
        return self.virtual is not None and self.virtual.count_instructions

    @property
    def shared_cpu(self) -> bool:
        """Whether the hosts share their CPUs, so that no figure of a host's CPUs belongs to one of them."""
        return self.kind == "namespaces"

    def pair(self, number: int = 1) -> tuple[Host, Host]:
        """Return the sender and the receiver of a pair."""
        members = {host.role: host for host in self.hosts if host.pair == number}
        return members["sender"], members["receiver"]

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
        """Return the lab as the `zclab` fact that playbooks pass to roles (plain JSON values).

        variant: the kernel to boot, null for the lab's own.

        Raises:
            UsageError: the lab has no such kernel.
        """
        chosen = variant or self.kernel_variant
        self.check_kernels(chosen)
        document = self.model_dump(mode="json")
        document["link"]["mss"] = self.link.mss
        document["kernels"] = document.pop("kernel_variants")
        document["kernel"] = {"variant": chosen, **document["kernels"][chosen]} if chosen else None
        if document["virtual"] and chosen and (memory := document["kernel"]["memory_mib"]):
            document["virtual"]["memory_mib"] = memory
        for host in document["hosts"]:
            host["data_addresses"] = [
                address for address in (host["data_address"], host["data_address_ipv4"]) if address
            ]
        document["host_by_name"] = {host["name"]: host for host in document["hosts"]}
        document["cache_dir"] = str(cache_dir())
        document["root"] = str(project_root())
        return document


# Inventory keys that every host must agree on, and the model field each one fills.
_LAB_KEYS = {
    "zclab_kind": "kind",
    "zclab_plan": "plan",
    "zclab_link": "link",
    "zclab_limits": "limits",
    "zclab_virtual": "virtual",
    "zclab_kernel_variant": "kernel_variant",
    "zclab_kernel_variants": "kernel_variants",
    "zclab_validity": "validity",
    "zclab_thresholds": "thresholds",
    "zclab_smallest_effect": "smallest_effect",
    "zclab_crosscheck": "crosscheck",
}
_HOST_KEYS = {
    "zclab_pair": "pair",
    "zclab_data_interface": "data_interface",
    "zclab_data_address": "data_address",
    "zclab_data_address_ipv4": "data_address_ipv4",
    "zclab_nic_model": "nic_model",
    "zclab_ssh_port": "ssh_port",
    "zclab_tuning": "tuning",
    "zclab_traffic_cpus": "traffic_cpus",
}
_OPTIONAL = {
    "zclab_virtual",
    "zclab_nic_model",
    "zclab_ssh_port",
    "zclab_thresholds",
    "zclab_traffic_cpus",
    "zclab_data_address_ipv4",
    "zclab_kernel_variant",
    "zclab_kernel_variants",
    "zclab_crosscheck",
}


class _Source:
    """Finds the file of an inventory that gives a key, for error messages."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def file_of(self, key: str, host: str = "", role: str = "") -> str:
        """Return the file that defines `key` (for a host of a role), relative to the inventory's parent."""

        def of_others(path: Path) -> bool:
            kind, *names = path.relative_to(self.directory).with_suffix("").parts
            return kind in ("group_vars", "host_vars") and not {"all", host, f"{role}s"} & set(names)

        paths = sorted(self.directory.rglob("*.y*ml"))
        for path in sorted(paths, key=of_others) if host else paths:
            if re.search(rf"^\s*{re.escape(key)}\s*:", path.read_text(encoding="utf-8"), re.MULTILINE):
                return str(path.relative_to(self.directory.parent))
        return str(self.directory.relative_to(self.directory.parent))

    def error(self, key: str, problem: str, host: str = "", role: str = "") -> UsageError:
        return UsageError(f"{self.file_of(key.partition('.')[0], host, role)}: {key}: {problem}")

    def not_yaml(self) -> UsageError | None:
        """Return what is wrong with the first file that is no YAML, where Ansible names none."""
        for path in sorted(self.directory.rglob("*.y*ml")):
            try:
                for _ in yaml.parse(path.read_text(encoding="utf-8")):
                    pass
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                place = path.relative_to(self.directory.parent)
                return UsageError(f"{place}: not YAML: {' '.join(str(error).split())}")
        return None


def load(name_or_path: str | Path) -> Lab:
    """Read and check a lab given as a name under inventory/ or as a directory.

    Raises:
        UsageError: the inventory is missing, cannot be parsed, or says something impossible.
    """
    directory = lab_dir(name_or_path)
    if not directory.is_dir():
        known = sorted(path.parent.name for path in (project_root() / "inventory").glob("*/hosts.yml"))
        raise UsageError(f"{name_or_path}: no such lab: name one of {', '.join(known)}, or a directory")
    return parse(directory, _ansible_inventory(directory))


def _ansible_inventory(directory: Path) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(directory), "--list"]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(project_root() / "ansible.cfg"),
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        if problem := _Source(directory).not_yaml():
            raise problem
        reason = " ".join(line.strip() for line in done.stderr.splitlines() if line.strip())
        raise UsageError(f"{directory}: ansible-inventory cannot read this inventory: {reason}")
    listing: dict[str, Any] = json.loads(done.stdout)
    return listing


def parse(directory: Path, listing: dict[str, Any]) -> Lab:
    """Make the model from what `ansible-inventory --list` printed.

    Raises:
        UsageError: one line naming the file and the key.
    """
    source = _Source(directory)
    listed: dict[str, dict[str, Any]] = listing.get("_meta", {}).get("hostvars", {})
    roles: dict[str, Role] = {
        **dict.fromkeys(listing.get("senders", {}).get("hosts", []), "sender"),
        **dict.fromkeys(listing.get("receivers", {}).get("hosts", []), "receiver"),
    }
    # A host that declares nothing is in its group only.
    hostvars = {**{name: {} for name in roles}, **listed}
    for name, variables in hostvars.items():
        _check_keys(source, name, variables, roles)
    for role in ("sender", "receiver"):
        if role not in roles.values():
            raise source.error(f"{role}s", f"this lab has no {role}: add a host to the group {role}s")

    common = {field: _agreed(source, key, hostvars) for key, field in _LAB_KEYS.items()}
    hosts = _hosts(source, {name: hostvars[name] for name in roles}, roles)
    fields = {field: value for field, value in common.items() if value is not None}
    try:
        lab = Lab(
            name=directory.name,
            lab_dir=directory,
            state_dir=state_dir(directory),
            hosts=hosts,
            **fields,
        )
    except ValidationError as error:
        keys = {field: key for key, field in _LAB_KEYS.items()}
        raise _first_problem(source, error, keys, fields) from None
    _check_whole(source, lab)
    return lab


def _check_keys(source: _Source, host: str, variables: dict[str, Any], roles: dict[str, Role]) -> None:
    if host not in roles:
        raise source.error(host, f"{host} is neither in group senders nor in group receivers")
    for key in variables:
        if key.startswith("ansible_") or key in _LAB_KEYS or key in _HOST_KEYS:
            continue
        raise source.error(key, "unknown key: remove it or correct its name (docs/inventory.md lists them)")


def _agreed(source: _Source, key: str, hostvars: dict[str, dict[str, Any]]) -> Any:
    """Return the one value that all hosts have for a key of the lab."""
    values = [variables.get(key) for variables in hostvars.values()]
    if any(value != values[0] for value in values):
        raise source.error(key, "differs between hosts: declare it once, in group_vars/all")
    if values[0] is None and key not in _OPTIONAL:
        raise source.error(key, "missing: declare it in group_vars/all")
    return [] if values[0] is None and key == "zclab_thresholds" else values[0]


def _hosts(source: _Source, hostvars: dict[str, dict[str, Any]], roles: dict[str, Role]) -> list[Host]:
    pairs = [(variables.get("zclab_pair"), roles[name]) for name, variables in hostvars.items()]
    hosts = []
    for name, variables in hostvars.items():
        for key in _HOST_KEYS:
            if key not in variables and key not in _OPTIONAL:
                raise source.error(key, f"missing for host {name}", name, roles[name])
        number = variables["zclab_pair"]
        if any(pairs.count((number, role)) != 1 for role in ("sender", "receiver")):
            raise source.error("zclab_pair", f"pair {number} needs exactly one sender and one receiver")
        peer = next(
            other
            for other, its in hostvars.items()
            if its.get("zclab_pair") == number and roles[other] != roles[name]
        )
        fields = {field: variables[key] for key, field in _HOST_KEYS.items() if key in variables}
        try:
            hosts.append(
                Host(
                    name=name,
                    role=roles[name],
                    peer=peer,
                    peer_address=str(hostvars[peer].get("zclab_data_address", "")).partition("/")[0],
                    peer_address_ipv4=_bare(hostvars[peer].get("zclab_data_address_ipv4")),
                    address=str(variables.get("ansible_host", name)),
                    user=str(variables.get("ansible_user", "root")),
                    port=variables.get("ansible_port", 22),
                    **fields,
                )
            )
        except ValidationError as error:
            keys = {field: key for key, field in _HOST_KEYS.items()}
            raise _first_problem(source, error, keys, fields, name, roles[name]) from None
    if not any(host.pair == 1 for host in hosts):
        raise source.error("zclab_pair", "no pair is number 1, which runs measure: number the pairs from 1")
    return hosts


def _bare(address: Any) -> str | None:
    return str(address).partition("/")[0] if address is not None else None


def _path(loc: tuple[int | str, ...], given: Any) -> list[str]:
    """Return the keys of a place in what was given, without the names of types that pydantic puts between."""
    found = []
    for part in loc:
        if isinstance(part, int):
            given = given[part] if isinstance(given, list | tuple) else None
        elif isinstance(given, dict) and part in given:
            given = given[part]
        elif not (isinstance(given, dict) and part == loc[-1] and part.isidentifier()):
            continue
        found.append(str(part))
    return found


def _first_problem(
    source: _Source,
    error: ValidationError,
    keys: dict[str, str],
    given: dict[str, Any],
    host: str = "",
    role: str = "",
) -> UsageError:
    problem = error.errors()[0]
    field, *inner = _path(problem["loc"], given)
    key = ".".join([keys.get(field, field), *inner])
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        text = "unknown key: remove it or correct its name (docs/inventory.md lists them)"
    elif problem["type"] == "missing":
        text = "missing: declare it" + (
            " (ratio, gbit_per_s or usec_per_mib)" if inner[-1:] == ["unit"] else ""
        )
    elif problem["type"] != "value_error":
        text = f"{text[0].lower()}{text[1:]}, not {problem['input']!r}"
    return source.error(key, text, host, role)


def _check_whole(source: _Source, lab: Lab) -> None:
    """Check what no single value can tell."""
    if lab.kind == "namespaces" and lab.kernel_variant is not None:
        raise source.error(
            "zclab_kernel_variant", "network namespaces run this machine's own kernel: leave it out"
        )
    if lab.kind != "namespaces" and lab.kernel_variant is None:
        raise source.error("zclab_kernel_variant", "missing: declare it in group_vars/all")
    if lab.kernel_variant is not None and lab.kernel_variant not in lab.kernel_variants:
        known = ", ".join(lab.kernel_variants)
        raise source.error("zclab_kernel_variant", f"no variant is called {lab.kernel_variant!r}: {known}")
    if lab.kind != "namespaces" and lab.limits.machine_sysctls:
        raise source.error(
            "zclab_limits.machine_sysctls",
            "only network namespaces share sysctls with their machine: declare them under sysctls",
        )
    if lab.kind == "virtual" and lab.virtual is None:
        raise source.error("zclab_virtual", "missing: a virtual lab declares the size of its hosts")
    interfaces: dict[str, ipaddress.IPv4Interface | ipaddress.IPv6Interface] = {}
    for host in lab.hosts:
        try:
            interface = ipaddress.ip_interface(host.data_address)
        except ValueError:
            raise source.error("zclab_data_address", f"{host.data_address!r} is no address/prefix") from None
        interfaces[host.name] = interface
        if interface.version != lab.link.ip_version:
            raise source.error(
                "zclab_data_address",
                f"{host.data_address} of {host.name} is IPv{interface.version}, "
                f"but zclab_link.ip_version is {lab.link.ip_version}",
            )
        if host.data_address_ipv4 is not None:
            _check_ipv4(source, lab, host, host.data_address_ipv4)
        if lab.kind == "virtual" and host.nic_model is None:
            raise source.error(
                "zclab_nic_model",
                f"missing for {host.name}: a virtual host declares its NIC",
                host.name,
                host.role,
            )
    for host in lab.hosts:
        if interfaces[host.name].ip == interfaces[host.peer].ip:
            raise source.error("zclab_data_address", f"{host.name} and {host.peer} have the same address")
        if interfaces[host.peer].ip not in interfaces[host.name].network:
            raise source.error("zclab_data_address", f"{host.peer} is not in the network of {host.name}")


def _check_ipv4(source: _Source, lab: Lab, host: Host, text: str) -> None:
    """Check the second data address of a host."""
    key = "zclab_data_address_ipv4"
    if lab.link.ip_version == 4:
        raise source.error(key, "the link is IPv4 already: leave it out", host.name, host.role)
    try:
        own = ipaddress.IPv4Interface(text)
        peer = ipaddress.IPv4Address(host.peer_address_ipv4 or "")
    except ValueError:
        problem = f"{text!r} is no IPv4 address/prefix, or {host.peer} has none"
        raise source.error(key, problem, host.name, host.role) from None
    if own.ip == peer or peer not in own.network:
        raise source.error(
            key, f"{host.peer} has the same address or is in another network", host.name, host.role
        )
