# SPDX-License-Identifier: Apache-2.0
"""What a host is: read once a run, for the manifest."""

from __future__ import annotations

import re
import shlex

from zclab.host.snapshot import CpuAccounting, HostFacts, Nic, Snapshot
from zclab.host.ssh import Remote
from zclab.host.state import PREAMBLE, declared_sysctls, parse_coalescing
from zclab.kernel.identity import Artifact
from zclab.lab.model import Host, Lab

_CONFIG_COMMAND = (
    "{ zcat /proc/config.gz 2>/dev/null || cat /boot/config-$(uname -r) 2>/dev/null; } | "
    "grep -E '^CONFIG_(HZ|TICK_CPU_ACCOUNTING|VIRT_CPU_ACCOUNTING_(GEN|NATIVE)|IRQ_TIME_ACCOUNTING)=' | "
    "sed 's/^/config:/'"
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


def _rings(lines: list[str]) -> dict[str, int]:
    """Return the current sizes in descriptors that `ethtool -g` shows, by its names."""
    current = "\n".join(lines).partition("Current hardware settings:")[2]
    return {name.strip(): int(size) for name, size in re.findall(r"^(.+?):\s*(\d+)$", current, re.MULTILINE)}


def command(host: Host) -> str:
    """Return the command whose output `parse` takes."""
    name = shlex.quote(host.data_interface)
    return (
        f"{PREAMBLE}; exec 2>/dev/null; echo driver:$(ethtool -i {name} | sed -n 's/^driver: //p'); "
        f"ethtool -g {name} | sed 's/^/rings:/'; ethtool -c {name} | sed 's/^/coalescing:/'; "
        f"{_CONFIG_COMMAND} || true"
    )


def facts(remote: Remote, host: Host, lab: Lab, artifact: Artifact | None, state: Snapshot) -> HostFacts:
    """Return a host's facts for the manifest: the NIC, the kernel, the sysctls that the lab declares.

    Raises:
        RemoteError: the host is gone.
    """
    return parse(remote.output(command(host)), host, lab, artifact, state)


def parse(text: str, host: Host, lab: Lab, artifact: Artifact | None, state: Snapshot) -> HostFacts:
    """Return a host's facts in what `command` printed there, and in its state."""
    found = _parse(text)
    sysctls: dict[str, int | str | None] = {}
    for key in declared_sysctls(lab):
        value = (state.sysctls or {}).get(key, "")
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
            speed_mbps=state.speed_mbps,
            header_split=state.header_split,
            rings=_rings(found.get("rings", [])) or None,
            queues=state.queues,
            coalescing=parse_coalescing(found.get("coalescing", [])) or None,
            offloads=state.offloads,
            queueing=state.queueing,
        ),
        cpu_accounting=cpu_accounting(found.get("config", [])),
        sysctls=sysctls,
        emulated=state.emulated,
    )
