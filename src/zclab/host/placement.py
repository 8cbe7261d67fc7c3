# SPDX-License-Identifier: Apache-2.0
"""Which CPUs of a host do what: its traffic threads, its interrupts, steering, and how idle ones wait."""

from __future__ import annotations

import shlex

from zclab.base.model import Model
from zclab.host.ssh import Remote
from zclab.host.state import PREAMBLE, cpu_list, cpu_mask
from zclab.lab.model import Host

_SOCK_FLOW_ENTRIES = "/proc/sys/net/core/rps_sock_flow_entries"
# An interrupt that nobody handles has no directory of its handler, and never comes.
_COMMAND = """
{preamble}
directory=/sys/class/net/{name}
echo "allowed:$({pinned}sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status 2>/dev/null)"
for irqs in $directory/device/msi_irqs $directory/device/../msi_irqs; do
  [ -d $irqs ] && break
done
for irq in $(ls $irqs 2>/dev/null || cat $directory/device/irq 2>/dev/null); do
  for handler in /proc/irq/$irq/*/; do
    [ -d "$handler" ] && echo "irq:$irq $(cat /proc/irq/$irq/smp_affinity_list)" && break
  done
done
grep -Hs . $directory/queues/rx-*/rps_cpus $directory/queues/rx-*/rps_flow_cnt {entries}
echo "cmdline:$(cat /proc/cmdline)"
"""


class Placement(Model):
    """Which CPUs of a host do what; null is what could not be read.

    traffic_cpus: those that the traffic threads may run on, as the inventory places them. interrupts: those
    that each interrupt of the data interface may go to, by its number (/proc/irq/N/smp_affinity_list).
    rps_cpus, rps_flow_cnt: those that each receive queue steers packets to, and the size of its table of
    flows; rps_sock_flow_entries: that of the table of sockets. kernel_arguments: words of /proc/cmdline.
    """

    traffic_cpus: list[int] | None = None
    interrupts: dict[int, list[int]] | None = None
    rps_cpus: dict[str, list[int]] | None = None
    rps_flow_cnt: dict[str, int] | None = None
    rps_sock_flow_entries: int | None = None
    kernel_arguments: list[str] | None = None


def command(host: Host) -> str:
    """Return the shell command that reads the placement of a host."""
    cpus = ",".join(map(str, host.traffic_cpus or []))
    pinned = f"taskset -c {cpus} " if cpus else ""
    return _COMMAND.format(
        preamble=PREAMBLE, name=shlex.quote(host.data_interface), pinned=pinned, entries=_SOCK_FLOW_ENTRIES
    )


def parse(text: str) -> Placement:
    """Return what the command printed."""
    allowed: list[int] | None = None
    arguments: list[str] | None = None
    entries: int | None = None
    interrupts: dict[int, list[int]] = {}
    queues: dict[str, dict[str, str]] = {"rps_cpus": {}, "rps_flow_cnt": {}}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        value = value.strip()
        if key == "allowed" and value:
            allowed = cpu_list(value)
        elif key == "irq":
            number, _, cpus = value.partition(" ")
            interrupts[int(number)] = cpu_list(cpus)
        elif key == "cmdline" and value:
            arguments = value.split()
        elif key == _SOCK_FLOW_ENTRIES:
            entries = int(value)
        elif (file := key.rpartition("/")[2]) in queues:
            queues[file][key.split("/")[-2]] = value
    return Placement(
        traffic_cpus=allowed,
        interrupts=interrupts or None,
        rps_cpus={queue: cpu_mask(mask) for queue, mask in queues["rps_cpus"].items()} or None,
        rps_flow_cnt={queue: int(count) for queue, count in queues["rps_flow_cnt"].items()} or None,
        rps_sock_flow_entries=entries,
        kernel_arguments=arguments,
    )


def read(remote: Remote, host: Host) -> Placement:
    """Return the placement of a host.

    Raises:
        RemoteError: the host is gone.
    """
    return parse(remote.run(command(host)).stdout)
