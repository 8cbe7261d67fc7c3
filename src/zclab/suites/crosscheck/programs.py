# SPDX-License-Identifier: Apache-2.0
"""How each tool of others is run at both ends, and what its output says.

They do not know zclab's rules, so a shell keeps them: when the channel of an end closes, everything that was
started for it is killed, and each ends by itself after its time.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from zclab.base.model import Model, SendMode
from zclab.host.ssh import Completed
from zclab.lab.model import Host

#: Where the role host_programs puts the files.
DIRECTORY = "/var/lib/zclab/crosscheck"
#: Seconds until a sender that does not end by SIGTERM is killed.
_PATIENCE_SECONDS = 5
MIB = 2**20


class Sample(Model):
    """What one tool measured once: payload rate, CPU of the receiving process, share of bytes mapped.

    A figure that the tool does not give is null.
    """

    gbit_per_s: float
    receiver_usec_per_mib: float
    mapped_fraction: float | None


class Task(NamedTuple):
    """What is to be sent, `chunk_bytes` a call at either end. iperf3 knows whole seconds only.

    `directory` is where the tool is on both hosts; `ip_version` null: that of the lab's link.
    """

    maps: bool
    send_mode: SendMode
    chunk_bytes: int
    seconds: int
    sender: Host
    receiver: Host
    directory: str = DIRECTORY
    ip_version: Literal[4, 6] | None = None


class Program(NamedTuple):
    """A tool: the commands of its ends, how its sample is read from what they left.

    `received_bytes` reads the payload that the receiver counted, at least, from what that end left.
    """

    name: str
    receive: Callable[[Task], str]
    send: Callable[[Task], str]
    sample: Callable[[Completed, Completed], Sample]
    received_bytes: Callable[[Completed], int]


class ToolError(Exception):
    """A tool failed, or printed what cannot be understood: the reason."""


# The end of the channel is the end of standard input; then the whole process group is killed.
_GUARD = "exec 3<&0; { read -r _; kill -KILL 0; } <&3 3<&- >/dev/null 2>&1 & guard=$!; "


def guarded_receiver(server: str, port: int) -> str:
    """Return the command of a receiving end: it says on stderr when the server listens, and ends with it."""
    listens = f"grep -sqE ':{port:04X} [0:]+ 0A ' /proc/net/tcp /proc/net/tcp6"
    script = (
        f"{_GUARD}{{ {server}; kill -KILL 0; }} </dev/null 3<&- & "
        f"until {listens}; do sleep 0.02; done; echo 'listening {port}' >&2; wait"
    )
    return shlex.join(["sh", "-c", script])


def guarded_sender(client: str) -> str:
    """Return the command of a sending end: its exit status is the client's."""
    return shlex.join(["sh", "-c", f"{_GUARD}{client} </dev/null 3<&-; status=$?; kill $guard; exit $status"])


def tool_failed(sent: Completed) -> bool:
    """Say whether what a sender left means that nothing more will come; time that was up does not."""
    return sent.status not in (0, TIMED_OUT)


def _placed(host: Host, command: str) -> str:
    """Return a command that runs where zclab's traffic tool would."""
    return f"taskset -c {host.traffic_cpus[0]} {command}" if host.traffic_cpus else command


def _said(*ends: Completed) -> str:
    """Return the last line that an end complained with."""
    lines = [line.strip() for end in ends for line in end.stderr.splitlines()]
    complaints = [line for line in lines if line and not line.startswith("listening ")]
    return complaints[-1] if complaints else "no message"


# ------------------------------------------------------------------------------------------------- tcp_mmap

_TCP_MMAP_PORT = 8787
#: The two lines that its receiver prints when a connection has ended. Its MB is 2^20 bytes, its Gbit 10^9
#: bits per second; the CPU times are those of the thread of the connection.
TCP_MMAP_RESULT = re.compile(
    r"^received (?P<mib>\S+) MB \((?P<mapped>\S+) % mmap'ed\) in (?P<seconds>\S+) s, (?P<gbit>\S+) Gbit\n"
    r"  cpu usage user:(?P<user>\S+) sys:(?P<system>\S+), \S+ usec per MB, \d+ c-switches$",
    re.MULTILINE,
)
#: The exit status of timeout(1) when time was up. So its sender ends, which always means to send 32 GiB.
TIMED_OUT = 124


def _tcp_mmap_options(task: Task) -> str:
    address = task.receiver.endpoints(task.ip_version)[0] if task.ip_version else task.receiver.ip
    family = "-6" if ":" in address else "-4"
    return shlex.join([family, "-H", address, "-p", str(_TCP_MMAP_PORT), "-C", str(task.chunk_bytes)])


def _tcp_mmap(task: Task, host: Host) -> str:
    return _placed(host, f"{task.directory}/tcp_mmap")


def tcp_mmap_receive(task: Task) -> str:
    """Return the command of tcp_mmap's receiving end, which ends after one connection."""
    zerocopy = " -z" if task.maps else ""
    # Its server never ends: it has done its work when the two lines are there.
    server = f"{_tcp_mmap(task, task.receiver)} -s {_tcp_mmap_options(task)}{zerocopy}"
    return guarded_receiver(f"{server} | {{ head -n 2; kill -KILL 0; }}", _TCP_MMAP_PORT)


def tcp_mmap_send(task: Task) -> str:
    """Return the command of tcp_mmap's sending end, which ends after the task's seconds at the latest."""
    zerocopy = " -z" if task.send_mode == "zerocopy" else ""
    limit = f"timeout --foreground -k {_PATIENCE_SECONDS} {task.seconds}"
    return guarded_sender(f"{limit} {_tcp_mmap(task, task.sender)} {_tcp_mmap_options(task)}{zerocopy}")


def tcp_mmap_sample(received: Completed, sent: Completed) -> Sample:
    """Read what both ends of tcp_mmap left.

    Raises:
        ToolError: an end failed, or the result is not whole.
    """
    if tool_failed(sent):
        raise ToolError(f"tcp_mmap: the sender ended with status {sent.status}: {_said(sent, received)}")
    found = TCP_MMAP_RESULT.search(received.stdout)
    if found is None:
        raise ToolError(f"tcp_mmap: the receiver left no result: {_said(received)}")
    try:
        value = {name: float(text) for name, text in found.groupdict().items()}
        return Sample(
            gbit_per_s=value["gbit"],
            receiver_usec_per_mib=(value["user"] + value["system"]) * 1e6 / value["mib"],
            mapped_fraction=value["mapped"] / 100,
        )
    except (ValueError, ZeroDivisionError):
        raise ToolError(f"tcp_mmap: the receiver's result makes no sense: {found[0]!r}") from None


def tcp_mmap_received_bytes(received: Completed) -> int:
    """Return what the receiver says of the bytes that it got; it prints six digits.

    Raises:
        ToolError: the result is not whole.
    """
    found = TCP_MMAP_RESULT.search(received.stdout)
    try:
        return int(float(found["mib"]) * MIB * 0.999) if found else 0
    except ValueError:
        raise ToolError(f"tcp_mmap: the receiver's result makes no sense: {found!r}") from None


# --------------------------------------------------------------------------------------------------- iperf3

_IPERF3 = f"env LD_LIBRARY_PATH={DIRECTORY} {DIRECTORY}/iperf3"
_IPERF3_PORT = 5201


def _iperf3_receive(task: Task) -> str:
    options = shlex.join(["-s", "-1", "-J", "-B", task.receiver.ip, "-p", str(_IPERF3_PORT)])
    return guarded_receiver(f"{_placed(task.receiver, _IPERF3)} {options}", _IPERF3_PORT)


def _iperf3_send(task: Task) -> str:
    options = ["-c", task.receiver.ip, "-B", task.sender.ip, "-p", str(_IPERF3_PORT)]
    options += ["-J", "-t", f"{task.seconds}", "-l", str(task.chunk_bytes)]
    limit = f"timeout --foreground -k {_PATIENCE_SECONDS} {task.seconds + 20}"
    return guarded_sender(f"{limit} {_placed(task.sender, _IPERF3)} {shlex.join(options)}")


def iperf3_sample(received: Completed, sent: Completed) -> Sample:
    """Read what both ends of iperf3 left: all figures are the receiver's own.

    Raises:
        ToolError: an end failed, or the result is not whole.
    """
    for name, end in (("receiver", received), ("sender", sent)):
        document = _json(end.stdout)
        if error := document.get("error"):
            raise ToolError(f"iperf3: {name}: {error}")
    if sent.status != 0:
        raise ToolError(f"iperf3: the sender ended with status {sent.status}: {_said(sent, received)}")
    end_document = _json(received.stdout).get("end") or {}
    try:
        total = end_document["sum_received"]
        # Its CPU is a percentage of one CPU over the time of the test.
        busy_s = end_document["cpu_utilization_percent"]["host_total"] / 100 * total["seconds"]
        return Sample(
            gbit_per_s=total["bits_per_second"] / 1e9,
            receiver_usec_per_mib=busy_s * 1e6 / (total["bytes"] / MIB),
            mapped_fraction=None,
        )
    except (KeyError, TypeError, ZeroDivisionError):
        raise ToolError(f"iperf3: the receiver left no result: {_said(received)}") from None


def iperf3_received_bytes(received: Completed) -> int:
    """Return the bytes that the receiver got; 0 if it does not say."""
    total = (_json(received.stdout).get("end") or {}).get("sum_received") or {}
    return int(total.get("bytes") or 0)


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


OTHERS = (
    Program("tcp_mmap", tcp_mmap_receive, tcp_mmap_send, tcp_mmap_sample, tcp_mmap_received_bytes),
    Program("iperf3", _iperf3_receive, _iperf3_send, iperf3_sample, iperf3_received_bytes),
)
