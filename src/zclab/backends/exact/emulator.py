# SPDX-License-Identifier: Apache-2.0
"""The emulator of an exact guest: its options, its time limits, and how it ended.

One virtual CPU, whose clock is the number of instructions that it has executed (one nanosecond each). While
it is idle the clock goes on to the next timer at once. Nothing is attached that acts at a moment which this
machine decides: no disk, no network of this machine, no source of random numbers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from pydantic import Field

from zclab.backends.exact.steps import Link
from zclab.backends.virtual.accel import EMULATOR
from zclab.backends.virtual.qemu import EMULATED_CPU
from zclab.base.environment import BUILD
from zclab.base.errors import LabError
from zclab.base.model import Model
from zclab.base.process import run, stream

#: What stands for itself in the options that are recorded: files, and what a series varies.
FILES = ("kernel", "initramfs", "console", "results")
_SEED = "SEED"
_NEEDED = "an exact guest needs QEMU 7.2 or later with TCG"
# Slabs of 256 KiB, which hold all buffers that a transfer has under way: with smaller ones it is chance how
# often the allocator has to change slabs.
_SLABS = "slub_min_order=6 slub_max_order=6"
# The same addresses in each boot: whether munmap() frees a page table depends on where a mapping lies.
_ADDRESSES = "nokaslr norandmaps"
_KERNEL_COMMAND_LINE = f"console=ttyS0 {_ADDRESSES} panic=-1 rdinit=/init {_SLABS}"
# The emulated NICs delay and throttle interrupts by timers of their own: both ends would wait for these.
_NIC_ARGUMENTS = " ".join(
    f"e1000e.{name}=0,0"
    for name in ("RxIntDelay", "RxAbsIntDelay", "TxIntDelay", "TxAbsIntDelay", "InterruptThrottleRate")
)
_DATE = "2026-01-01T00:00:00"
# The shell's own limit and `times`: nobody has to watch the process. $1: seconds of CPU, $2: of real time.
_LIMITED = """
ulimit -c 0; ulimit -S -t "$1"; real=$2; shift 2
timeout --foreground --signal=KILL "$real" "$@"
status=$?; times; exit $status
"""
_SIGXCPU = 128 + 24
_SIGKILL = 128 + 9


class EmulatorFacts(Model):
    """The emulator: its version as it prints it, and all of its options, files and the seed by names.

    Figures of two guests can be compared only where these are equal.
    """

    version: str
    options: list[str]


class Limits(Model):
    """How long a guest may take: seconds of CPU of the emulator's process, and seconds of real time."""

    cpu_seconds: int = Field(gt=0)
    real_seconds: int = Field(gt=0)


class Ended(NamedTuple):
    """How an emulator ended: what it said, its seconds of CPU, and why it was killed ("" if it was not)."""

    status: int
    said: str
    cpu_seconds: float
    killed: str


def facts(link: Link, memory_mib: int) -> EmulatorFacts:
    """Return what is recorded of the emulator of a guest.

    Raises:
        LabError: it is not installed.
    """
    version = run([EMULATOR, "--version"], environment=BUILD).splitlines()[0]
    return EmulatorFacts(
        version=version, options=options(link, memory_mib, {name: name for name in FILES}, _SEED)
    )


def options(link: Link, memory_mib: int, files: Mapping[str, str], seed: str) -> list[str]:
    """Return the emulator's options; files: a path for each of FILES."""
    console, results = (files[name].replace(",", ",,") for name in ("console", "results"))
    return [
        *["-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc", "-cpu", EMULATED_CPU],
        *["-m", str(memory_mib), "-accel", "tcg,thread=single,tb-size=128", "-icount", "shift=0,sleep=off"],
        *["-rtc", f"base={_DATE},clock=vm", "-seed", seed, "-no-reboot"],
        *["-kernel", files["kernel"], "-initrd", files["initramfs"], "-append", _command_line(link)],
        # The serial ports write to files: a pipe's reader would decide when they go on.
        *["-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"],
        *["-chardev", f"file,id=results,path={results}", "-serial", "chardev:results"],
        *(_nic(0) + _nic(1) if link == "e1000e" else []),
    ]


def _command_line(link: Link) -> str:
    return f"{_KERNEL_COMMAND_LINE} {_NIC_ARGUMENTS}" if link == "e1000e" else _KERNEL_COMMAND_LINE


def _nic(number: int) -> list[str]:
    """Return one of two NICs that are joined by a hub: it hands on each frame at once."""
    device = f"e1000e,netdev=end{number},mac=52:54:00:00:00:0{number + 1},addr={number + 4:#x},romfile="
    return ["-netdev", f"hubport,id=end{number},hubid=0", "-device", device]


def execute(arguments: list[str], limits: Limits) -> Ended:
    """Run the emulator until it ends or a limit is exceeded; it ends with this process, too."""
    lines: list[str] = []
    began = time.monotonic()
    shell = ["sh", "-c", _LIMITED, "sh", str(limits.cpu_seconds), str(limits.real_seconds)]
    status = stream([*shell, EMULATOR, *arguments], lines.append, environment=BUILD)
    real_seconds = time.monotonic() - began
    times = [re.findall(r"(\d+)m([\d.]+)s", line) for line in lines[-2:]]
    killed = ""
    if status == _SIGXCPU:
        killed = f"it used more than {limits.cpu_seconds} s of CPU"
    elif status == _SIGKILL:
        by_limit = real_seconds >= limits.real_seconds
        killed = f"it took more than {limits.real_seconds} s" if by_limit else "something killed its emulator"
    cpu_seconds = sum(60 * int(minutes) + float(seconds) for minutes, seconds in (times[-1] if times else []))
    return Ended(status, "\n".join(lines[:-2]), round(cpu_seconds, 2), killed)


def unfit(version: str, ended: Ended) -> LabError:
    """Return the error of an emulator that refused its options."""
    said = (ended.said.strip().splitlines() or [f"exit status {ended.status}"])[-1]
    return LabError(f"{EMULATOR} ({version}): {said}: {_NEEDED}")
