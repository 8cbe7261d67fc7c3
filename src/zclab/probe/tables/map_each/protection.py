# SPDX-License-Identifier: Apache-2.0
"""A mapping is for reading only, for ever."""

from __future__ import annotations

import mmap
from pathlib import Path

from ...libc import PROT_NONE, READ_WRITE
from ...sockets import PAGE, outcome
from ...stream import Stream
from ...table import Bench, Cases

CASES = Cases()


@CASES.add("a page queued, PROT_READ | PROT_WRITE", "EPERM, 4096 queued", "M2")
def asking_to_write(bench: Bench) -> str:
    """Pages that others may share cannot be written."""
    return Stream(bench).queue(PAGE).map(PAGE, READ_WRITE)


@CASES.add("a page queued, PROT_WRITE", "EPERM, 4096 queued", "M2")
def asking_to_write_only(bench: Bench) -> str:
    """Nor with write access alone."""
    return Stream(bench).queue(PAGE).map(PAGE, mmap.PROT_WRITE)


@CASES.add("a page queued, PROT_READ | PROT_WRITE, MAP_PRIVATE", "EPERM, 4096 queued", "M2")
def asking_to_write_privately(bench: Bench) -> str:
    """Not even for writes that would make a copy."""
    return Stream(bench).queue(PAGE).map(PAGE, READ_WRITE, mmap.MAP_PRIVATE)


@CASES.add("a page queued, PROT_READ | PROT_EXEC", "EPERM, 4096 queued", "M2")
def asking_to_execute(bench: Bench) -> str:
    """Received bytes cannot be executed."""
    return Stream(bench).queue(PAGE).map(PAGE, mmap.PROT_READ | mmap.PROT_EXEC)


@CASES.add("a page queued, PROT_NONE", "EPERM, 4096 queued", "M2")
def asking_for_nothing(bench: Bench) -> str:
    """A mapping that cannot be read would only lose the bytes."""
    return Stream(bench).queue(PAGE).map(PAGE, PROT_NONE)


@CASES.add("a mapped page, mprotect() to write", "EACCES, the page is as sent", "M2")
def made_writable(bench: Bench) -> str:
    """Nor can it be made writable afterwards."""
    return _protected(bench, READ_WRITE, mmap.MAP_SHARED)


@CASES.add("a page mapped with MAP_PRIVATE, mprotect() to write", "EACCES, the page is as sent", "M2")
def made_writable_privately(bench: Bench) -> str:
    """Nor where writes would make a copy."""
    return _protected(bench, READ_WRITE, mmap.MAP_PRIVATE)


@CASES.add("a mapped page, mprotect() to execute", "EACCES, the page is as sent", "M2")
def made_executable(bench: Bench) -> str:
    """Nor executable."""
    return _protected(bench, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED)


def _protected(bench: Bench, protection: int, flags: int) -> str:
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE, flags=flags)
    result = outcome(lambda: area.protect(protection))
    return f"{result}, the page is {stream.as_sent(area.read(), 0)}"


@CASES.add("a mapped page, written through /proc/self/mem", "EIO, the page is as sent", "M2")
def written_as_a_debugger_does(bench: Bench) -> str:
    """Writing as a debugger does, which may write to read-only memory, fails, too."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(area.address)
        result = outcome(lambda: memory.write(b"changed"))
    return f"{result}, the page is {stream.as_sent(area.read(), 0)}"


@CASES.add(
    "a mapped page, mprotect() to PROT_NONE and back to PROT_READ", "ok, gone, ok, the page is as sent"
)
def hidden_and_shown(bench: Bench) -> str:
    """Read permission may be dropped and restored."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    hidden = outcome(lambda: area.protect(PROT_NONE))
    gone = "there" if area.there() else "gone"
    shown = outcome(lambda: area.protect(mmap.PROT_READ))
    return f"{hidden}, {gone}, {shown}, the page is {stream.as_sent(area.read(), 0)}"
