# SPDX-License-Identifier: Apache-2.0
"""The list of steps that a guest's init carries out, how it is written for init, and what init prints.

emulator/guest/init.c reads and prints the same formats.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import Field, model_validator

from zclab.base.errors import LabError, UsageError
from zclab.base.model import Model, Role
from zclab.lab.link import ipv4_route_mtu
from zclab.lab.model import Host, Lab

#: What joins the two network namespaces: a veth pair, or two e1000e NICs on one hub.
Link = Literal["veth", "e1000e"]
#: Seconds of the guest's clock that a step may take which says nothing else: a limit, not an expectation.
_STEP_SECONDS = 120.0
_MOST_PROCESSES = 4096  # MOST_PROCESSES of init.c
_NICS = {"sender": "eth0", "receiver": "eth1"}
_SETUP = "setup/"
_TENTATIVE = 0x40  # IFA_F_TENTATIVE of if_addr.h, in the column of flags of if_inet6
#: Seconds of the guest's clock, which is idle then, for what follows an address: reports of multicast groups.
_QUIET_SECONDS = 5


class Step(Model):
    """One step of the list that init carries out, in order.

    do: "start" a process, "await" a line of what it prints, "write" a line to its standard input, or "end":
    wait until it ends by itself, its standard input open. What is left after the last step is killed.
    """

    do: Literal["start", "await", "write", "end"]
    #: The process that the step is about: chosen by the caller, unique within the list.
    name: str = Field(pattern=r"^[A-Za-z0-9_.:/-]{1,80}$")
    #: start: the network namespace to run in; null: neither end's.
    namespace: Role | None = None
    #: start: a shell command line; "{port}" in it is the number that the last awaited line ended with.
    command: str | None = None
    #: await: where the line is printed.
    stream: Literal["stdout", "stderr"] | None = None
    #: await: how the line begins; write: the line to write, without its end.
    prefix: str | None = None
    #: await, end: seconds of the guest's clock that it may take; then the process is killed, its status null.
    seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_what_it_takes(self) -> Step:
        allowed = _FIELDS[self.do]
        given = {name for name in _OPTIONAL if getattr(self, name) is not None}
        if missing := sorted(allowed.needed - given):
            raise ValueError(f"{self.do} needs {missing[0]}")
        if extra := sorted(given - allowed.needed - allowed.possible):
            raise ValueError(f"{self.do} has no {extra[0]}")
        if any("\0" in text for text in (self.command, self.prefix) if text):
            raise ValueError("a command or line cannot hold a NUL byte")
        if self.prefix is not None and "\n" in self.prefix:
            raise ValueError("prefix is one line")
        return self


class _Fields(NamedTuple):
    needed: frozenset[str]
    possible: frozenset[str]


_OPTIONAL = ("namespace", "command", "stream", "prefix", "seconds")
_FIELDS = {
    "start": _Fields(frozenset({"command"}), frozenset({"namespace"})),
    "await": _Fields(frozenset({"stream", "prefix"}), frozenset({"seconds"})),
    "write": _Fields(frozenset({"prefix"}), frozenset()),
    "end": _Fields(frozenset(), frozenset({"seconds"})),
}


class Output(Model):
    """What one process printed, and its exit status: 128 + N if signal N ended it, null if init killed it."""

    status: int | None
    stdout: str
    stderr: str


def encode(steps: Sequence[Step], locked_memory_kib: int | Literal["unlimited"] | None = None) -> bytes:
    """Return the list as init reads it.

    Raises:
        UsageError: the steps do not make a list.
    """
    started: set[str] = set()
    lines = [f"memlock {locked_memory_kib}"] if locked_memory_kib is not None else []
    for step in steps:
        if (step.do == "start") == (step.name in started):
            what = "is started twice" if step.do == "start" else f"was not started: {step.do}"
            raise UsageError(f"list of steps: {step.name} {what}")
        milliseconds = round((step.seconds or _STEP_SECONDS) * 1000)
        if step.do == "start":
            started.add(step.name)
            lines += _with_text(f"start {step.name} {step.namespace or '-'}", step.command)
        elif step.do == "await":
            lines += _with_text(f"await {step.name} {step.stream} {milliseconds}", step.prefix)
        elif step.do == "write":
            lines += _with_text(f"write {step.name}", step.prefix)
        else:
            lines.append(f"end {step.name} {milliseconds}")
    if len(started) > _MOST_PROCESSES:
        raise UsageError(f"list of steps: it starts {len(started)} processes, at most {_MOST_PROCESSES}")
    return "".join(f"{line}\n" for line in lines).encode()


def _with_text(line: str, text: str | None) -> list[str]:
    text = text or ""
    return [f"{line} {len(text.encode())}", text]


def decode(printed: bytes) -> dict[str, Output] | None:
    """Return the outputs in what init printed, by process; null if it did not print all.

    Bytes that are not UTF-8 are replaced.

    Raises:
        LabError: it is not what init prints.
    """
    outputs: dict[str, Output] = {}
    for line in printed.decode(errors="replace").split("\n"):
        try:
            found = json.loads(line)
        except ValueError:
            return None  # cut off
        if "end" in found:
            if found["end"] != len(outputs):
                raise LabError(f"exact guest: {len(outputs)} of {found['end']} outputs arrived")
            return outputs
        name = found.pop("name")
        outputs[name] = Output.model_validate(found)
    return None


# ------------------------------------------------------------------------------------------------- the set-up


def setup_steps(lab: Lab, link: Link) -> list[Step]:
    """Return the steps that bring the ends to what the lab declares: link, limits, addresses, offloads.

    In the order of names, whatever the order in the inventory is. `check_setup` says whether they succeeded.
    """
    sender, receiver = lab.pair()
    machine = {**lab.limits.machine_sysctls, **lab.limits.sysctls}
    scripts: list[tuple[str, Role | None, list[str]]] = [
        # Those that a network namespace has no own of count in the first one.
        ("machine", None, [_write_sysctl(name, value) for name, value in sorted(machine.items())]),
        ("link", None, _link_commands(link, sender, receiver)),
        *((host.role, host.role, _end_commands(lab, host)) for host in (sender, receiver)),
        # A link is up when both ends are.
        *((f"{host.role}/up", host.role, [_until_up(host)]) for host in (sender, receiver)),
        ("quiet", None, [f"sleep {_QUIET_SECONDS}"]),
    ]
    steps = []
    for name, namespace, commands in scripts:
        command = "\n".join(["set -ex", *commands])
        steps.append(Step(do="start", name=f"{_SETUP}{name}", namespace=namespace, command=command))
        steps.append(Step(do="end", name=f"{_SETUP}{name}", seconds=30.0))
    return steps


def check_setup(outputs: dict[str, Output]) -> None:
    """Raise LabError with the command of the set-up that failed, and what it said."""
    for name, output in outputs.items():
        if name.startswith(_SETUP) and output.status != 0:
            lines = output.stderr.strip().splitlines()
            command = next((line for line in reversed(lines) if line.startswith("+ ")), "+ sh")
            said = [line for line in lines if not line.startswith("+ ")]
            raise LabError(
                f"exact guest: {name.removeprefix(_SETUP)} cannot be set up as the inventory declares it: "
                f"{command.removeprefix('+ ')}: {(said or [f'status {output.status}'])[-1]}"
            )


def _write_sysctl(name: str, value: int | str) -> str:
    return f"echo {shlex.quote(str(value))} >{_sysctl_file(name)}"


def _sysctl_file(name: str) -> str:
    return shlex.quote(f"/proc/sys/{name.replace('.', '/')}")


def _link_commands(link: Link, sender: Host, receiver: Host) -> list[str]:
    one, other = (shlex.quote(host.data_interface) for host in (sender, receiver))
    if link == "veth":
        return [f"ip link add {one} netns sender type veth peer name {other} netns receiver"]
    return [
        f"ip link set dev {_NICS[role]} netns {role} name {name}"
        for role, name in (("sender", one), ("receiver", other))
    ]


def _end_commands(lab: Lab, host: Host) -> list[str]:
    """Return the commands that set an end up, within its namespace; its offloads before its MTU."""
    name = shlex.quote(host.data_interface)
    mtu = lab.expectations.link.mtu
    commands = [
        f"if [ -e {_sysctl_file(key)} ]; then {_write_sysctl(key, value)}; fi"
        for key, value in sorted(lab.limits.sysctls.items())
    ]
    commands.append("ip link set dev lo up")
    # No end is a router, and nothing is to be sent that nobody asked for.
    commands.append(f"echo 0 >{_sysctl_file(f'net.ipv6.conf.{host.data_interface}.router_solicitations')}")
    for option, values in (("-K", host.tuning.offloads), ("-C", host.tuning.coalescing)):
        if values:
            commands.append(f"ethtool {option} {name} {_words(values)}")
    if host.tuning.queues:
        commands.append(f"ethtool -L {name} combined {host.tuning.queues}")
    commands.append(f"ip link set dev {name} mtu {mtu} up")
    if host.tuning.receive_cpus:
        mask = f"{sum(1 << cpu for cpu in host.tuning.receive_cpus):x}"
        commands.append(
            f"for file in /sys/class/net/{name}/queues/rx-*/rps_cpus; do echo {mask} >$file; done"
        )
    for address in filter(None, (host.data_address, host.data_address_ipv4)):
        # Without duplicate detection an address can be used at once.
        commands.append(f"ip addr add {address} dev {name}{' nodad' if ':' in address else ''}")
    route_mtu = ipv4_route_mtu(mtu)
    if host.data_address_ipv4 and host.peer_address_ipv4 and route_mtu not in (None, mtu):
        own = host.data_address_ipv4.partition("/")[0]
        commands.append(
            f"ip -4 route prepend {host.peer_address_ipv4}/32 dev {name} src {own} mtu {route_mtu}"
        )
    return commands


def _words(values: dict[str, bool] | dict[str, int | bool]) -> str:
    texts = {
        name: ("on" if value else "off") if isinstance(value, bool) else value
        for name, value in sorted(values.items())
    }
    return " ".join(f"{shlex.quote(name)} {text}" for name, text in texts.items())


def _until_up(host: Host) -> str:
    """Return a command that waits until an end's interface is up, and no address of it is tentative.

    When duplicate address detection of the link-local address ends, IPv6 routes change: sockets then look up
    the route of each packet that they receive, 1.5 % of the whole guest. That moment is a random one.
    """
    file = f"/sys/class/net/{shlex.quote(host.data_interface)}/operstate"
    return (
        f"set +x; until read -r state <{file} && [ $state = up ]; do sleep 0.05; done\n"
        "tentative() {\n"
        f"  while read -r _ _ _ _ flags _; do [ $((0x$flags & {_TENTATIVE})) = 0 ] || return 0; done\n"
        "  return 1\n"
        "}\n"
        "while tentative </proc/net/if_inet6; do sleep 0.05; done"
    )
