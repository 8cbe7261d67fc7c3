# SPDX-License-Identifier: Apache-2.0
"""A mapping is for reading only, for ever."""

from __future__ import annotations

import mmap
from pathlib import Path

from ...libc import PROT_NONE, READ_WRITE
from ...sockets import PAGE, outcome
from ...stream import Stream, maps, queue, with_area
from ...table import Bench, Cases

CASES = Cases(Stream.does)


CASES.why("Pages that others may share cannot be written.")
CASES.steps("asking-to-write", queue(PAGE), maps(PAGE, READ_WRITE))(
    "a page queued, PROT_READ | PROT_WRITE", "EPERM, 4096 queued", "M2"
)
CASES.why("Nor with write access alone.")
CASES.steps("asking-to-write-only", queue(PAGE), maps(PAGE, mmap.PROT_WRITE))(
    "a page queued, PROT_WRITE", "EPERM, 4096 queued", "M2"
)
CASES.why("Not even for writes that would make a copy.")
CASES.steps("asking-to-write-privately", queue(PAGE), maps(PAGE, READ_WRITE, mmap.MAP_PRIVATE))(
    "a page queued, PROT_READ | PROT_WRITE, MAP_PRIVATE", "EPERM, 4096 queued", "M2"
)
CASES.why("Received bytes cannot be executed.")
CASES.steps("asking-to-execute", queue(PAGE), maps(PAGE, mmap.PROT_READ | mmap.PROT_EXEC))(
    "a page queued, PROT_READ | PROT_EXEC", "EPERM, 4096 queued", "M2"
)
CASES.why("A mapping that cannot be read would only lose the bytes.")
CASES.steps("asking-for-nothing", queue(PAGE), maps(PAGE, PROT_NONE))(
    "a page queued, PROT_NONE", "EPERM, 4096 queued", "M2"
)


def _protected(bench: Bench, protection: int, flags: int) -> str:
    stream, area = with_area(bench, PAGE, flags=flags)
    result = outcome(lambda: area.protect(protection))
    return f"{result}, the page is {stream.as_sent(area.read(), 0)}"


CASES.why("Nor can it be made writable afterwards.")
CASES.call(_protected, "made-writable", READ_WRITE, mmap.MAP_SHARED)(
    "a mapped page, mprotect() to write", "EACCES, the page is as sent", "M2"
)
CASES.why("Nor where writes would make a copy.")
CASES.call(_protected, "made-writable-privately", READ_WRITE, mmap.MAP_PRIVATE)(
    "a page mapped with MAP_PRIVATE, mprotect() to write", "EACCES, the page is as sent", "M2"
)
CASES.why("Nor executable.")
CASES.call(_protected, "made-executable", mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED)(
    "a mapped page, mprotect() to execute", "EACCES, the page is as sent", "M2"
)


@CASES.add("a mapped page, written through /proc/self/mem", "EIO, the page is as sent", "M2")
def written_as_a_debugger_does(bench: Bench) -> str:
    """Writing as a debugger does, which may write to read-only memory, fails, too."""
    stream, area = with_area(bench, PAGE)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(area.address)
        result = outcome(lambda: memory.write(b"changed"))
    return f"{result}, the page is {stream.as_sent(area.read(), 0)}"


@CASES.add(
    "a mapped page, mprotect() to PROT_NONE and back to PROT_READ", "ok, gone, ok, the page is as sent"
)
def hidden_and_shown(bench: Bench) -> str:
    """Read permission may be dropped and restored."""
    stream, area = with_area(bench, PAGE)
    hidden = outcome(lambda: area.protect(PROT_NONE))
    gone = "there" if area.there() else "gone"
    shown = outcome(lambda: area.protect(mmap.PROT_READ))
    return f"{hidden}, {gone}, {shown}, the page is {stream.as_sent(area.read(), 0)}"
