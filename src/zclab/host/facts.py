# SPDX-License-Identifier: Apache-2.0
"""What a host says of itself, read with a shell so that it costs an emulated host little."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

from zclab.host import programs
from zclab.host.snapshot import CpuAccounting, HostFacts, Nic, Snapshot
from zclab.host.ssh import Process, Remote, RemoteError
from zclab.kernel.identity import Artifact
from zclab.lab.model import Host, Lab

_FILES = {
    "boot_id": "/proc/sys/kernel/random/boot_id",
    "kernel_release": "/proc/sys/kernel/osrelease",
    "tcp_timestamps": "/proc/sys/net/ipv4/tcp_timestamps",
}
_LINK_FILES = ("mtu", "carrier_changes")
#: Packets that the interface received or was given and lost, whichever layer counted them.
_DROP_COUNTERS = ("rx_dropped", "rx_missed_errors", "rx_errors", "tx_dropped", "tx_errors")
#: What a NIC needs to send pages from where they are. Without either, Linux copies each segment into linear
#: memory below the socket, and its completions admit that only sometimes.
_ZEROCOPY_OFFLOADS = ("scatter-gather", "tx-checksumming")
_GNU_BUILD_ID_TYPE = 3
_CONFIG_COMMAND = (
    "{ zcat /proc/config.gz 2>/dev/null || cat /boot/config-$(uname -r) 2>/dev/null; } | "
    "grep -E '^CONFIG_(HZ|TICK_CPU_ACCOUNTING|VIRT_CPU_ACCOUNTING_(GEN|NATIVE)|IRQ_TIME_ACCOUNTING)=' | "
    "sed 's/^/config:/'"
)


def build_id(notes: bytes) -> str | None:
    """Return the GNU build id in ELF notes such as /sys/kernel/notes, in hex (elf(5), section Notes)."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, data_size, kind = (
            int.from_bytes(notes[offset + at : offset + at + 4], "little") for at in (0, 4, 8)
        )
        name_start = offset + 12
        data_start = name_start + (name_size + 3) // 4 * 4
        if kind == _GNU_BUILD_ID_TYPE and notes[name_start : name_start + name_size] == b"GNU\0":
            return notes[data_start : data_start + data_size].hex()
        offset = data_start + (data_size + 3) // 4 * 4
    return None


def _snapshot_command(host: Host, paths: Iterable[str]) -> str:
    name = shlex.quote(host.data_interface)
    directory = f"/sys/class/net/{name}"
    files = [
        *_FILES.values(),
        *(f"{directory}/{name}" for name in _LINK_FILES),
        *(f"{directory}/statistics/{counter}" for counter in _DROP_COUNTERS),
    ]
    return "; ".join(
        [
            f"grep -H . {' '.join(files)}",
            "od -An -v -tx1 /sys/kernel/notes | tr -d ' \\n' | sed 's/^/notes:/'; echo",
            f"ip -o addr show dev {name} | sed 's/^/address:/'",
            f"ethtool -S {name} 2>/dev/null | sed 's/^/counter:/'",
            f"ethtool -k {name} | sed 's/^/feature:/'",
            *(f"ip -4 -o route get {peer} | sed 's/^/route:/'" for peer in [host.peer_address_ipv4] if peer),
            f"{programs.command(paths)} | sed 's/^/program:/'",
            "sed 's/^/zerocopy:/' /proc/net/tcp_zerocopy 2>/dev/null || true",
        ]
    )


def cpu_accounting(lines: list[str]) -> CpuAccounting | None:
    """Return how a kernel accounts for CPU, from the lines of its configuration; null if they do not say."""
    options = dict(line.split("=", 1) for line in lines if "=" in line)
    exact = {"CONFIG_VIRT_CPU_ACCOUNTING_GEN", "CONFIG_VIRT_CPU_ACCOUNTING_NATIVE"} & set(options)
    if not exact and "CONFIG_TICK_CPU_ACCOUNTING" not in options:
        return None
    hz = options.get("CONFIG_HZ", "")
    return CpuAccounting(
        mode="exact" if exact else "tick",
        irq_time="CONFIG_IRQ_TIME_ACCOUNTING" in options,
        hz=int(hz) if hz.isdigit() else None,
    )


def _parse(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key, []).append(value.strip())
    return found


def mapped_bytes(lines: list[str]) -> int | None:
    """Return the sum of mapped bytes in /proc/net/tcp_zerocopy (lines "way fate bytes"); null of no line."""
    words = [line.split() for line in lines]
    counts = [int(word[2]) for word in words if len(word) == 3 and word[1] == "mapped"]
    return sum(counts) if counts else None


def start_snapshot(remote: Remote, host: Host, paths: Iterable[str] = ()) -> Process:
    """Start reading a host's state; `finish_snapshot` returns it. Two hosts can so be read at once.

    paths: of the programs whose sha256 is read.
    """
    return remote.start(_snapshot_command(host, paths))


def finish_snapshot(process: Process, host: Host, seconds: float = 20) -> Snapshot:
    """Return the state that `start_snapshot` began to read.

    Raises:
        RemoteError: the host is gone, or its answer lacks a value.
    """
    found = _parse(process.wait(seconds).stdout)
    directory = f"/sys/class/net/{host.data_interface}"
    try:
        mtu = re.search(r"\bmtu (\d+)", " ".join(found.get("route", [])))
        counters = dict(re.findall(r"^(\S+?): (\d+)$", "\n".join(found.get("counter", [])), re.MULTILINE))
        return Snapshot(
            boot_id=found[_FILES["boot_id"]][0],
            kernel_release=found[_FILES["kernel_release"]][0],
            kernel_build_id=build_id(bytes.fromhex(found["notes"][0])),
            mtu=int(found[f"{directory}/mtu"][0]),
            tcp_timestamps=int(found[_FILES["tcp_timestamps"]][0]),
            addresses=[
                match[1]
                for line in found.get("address", [])
                if (match := re.search(r"\binet6?\s+(\S+/\d+)", line)) is not None
            ],
            drops=sum(int(found[f"{directory}/statistics/{name}"][0]) for name in _DROP_COUNTERS),
            header_split=int(counters["rx_header_split"]) if "rx_header_split" in counters else None,
            missing_offloads=[
                feature
                for feature in _ZEROCOPY_OFFLOADS
                if not any(line.split()[:2] == [f"{feature}:", "on"] for line in found.get("feature", []))
            ],
            route_mtu_ipv4=int(mtu[1]) if mtu else None,
            carrier_changes=int(found[f"{directory}/carrier_changes"][0]),
            nic_counters={name: int(value) for name, value in counters.items()},
            programs=programs.parse(found.get("program", [])),
            mapped_bytes=mapped_bytes(found.get("zerocopy", [])),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise RemoteError(
            f"{host.name}: cannot read the state of {host.data_interface} ({error}): is the interface there?"
        ) from None


def snapshot(
    remotes: dict[str, Remote], hosts: Iterable[Host], paths: Iterable[str] = ()
) -> dict[str, Snapshot]:
    """Return the state of several hosts, read at the same time; of the programs at `paths` the sha256.

    Raises:
        RemoteError: a host is gone.
    """
    started = [(host, start_snapshot(remotes[host.name], host, paths)) for host in hosts]
    return {host.name: finish_snapshot(process, host) for host, process in started}


def facts(remote: Remote, host: Host, lab: Lab, artifact: Artifact | None, state: Snapshot) -> HostFacts:
    """Return a host's facts for the manifest: the NIC, the kernel, the sysctls that the lab declares.

    Raises:
        RemoteError: the host is gone.
    """
    name = shlex.quote(host.data_interface)
    names = sorted({*lab.limits.sysctls, *lab.limits.machine_sysctls})
    keys = " ".join(_sysctl_file(key) for key in names)
    text = remote.output(
        f"echo driver:$(ethtool -i {name} 2>/dev/null | sed -n 's/^driver: //p'); "
        f"echo speed:$(cat /sys/class/net/{name}/speed 2>/dev/null); {_CONFIG_COMMAND}; "
        f"grep -H . {keys} || true"
    )
    found = _parse(text)
    speed = found["speed"][0]
    sysctls: dict[str, int | str | None] = {}
    for key in names:
        shown = found.get(_sysctl_file(key)) or [_of_machine(lab, key)]
        value = " ".join(shown[0].split())
        sysctls[key] = int(value) if value.lstrip("-").isdigit() else value or None
    return HostFacts(
        name=host.name,
        role=host.role,
        kernel_release=state.kernel_release,
        kernel_build_id=state.kernel_build_id,
        artifact_key=artifact.key if artifact and state.kernel_build_id == artifact.build_id else None,
        boot_id=state.boot_id,
        nic=Nic(
            name=host.data_interface,
            driver=found["driver"][0] or None,
            mtu=state.mtu,
            speed_mbps=int(speed) if speed.isdigit() else None,
            header_split=state.header_split,
        ),
        cpu_accounting=cpu_accounting(found.get("config", [])),
        sysctls=sysctls,
    )


def _sysctl_file(key: str) -> str:
    return f"/proc/sys/{key.replace('.', '/')}"


def _of_machine(lab: Lab, key: str) -> str:
    """Return a sysctl that the lab's namespaces do not show: this machine's own holds for them."""
    path = Path(_sysctl_file(key))
    here = lab.traits.one_machine and key in lab.limits.machine_sysctls and path.is_file()
    return path.read_text(encoding="ascii") if here else ""
