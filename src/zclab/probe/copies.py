# SPDX-License-Identifier: Apache-2.0
"""Runs a command and counts how often the kernel copied packets to it: a witness beside what it says itself.

The kernel's tracepoint skb_copy_datagram_iovec fires for each packet that is copied to a program, with the
number of bytes. Counters of the command and of all that it starts are read when it has ended; nothing is
recorded or read while it runs. The last line on stderr is "copies:" and a JSON object: {"counts": copies by
their least size in bytes} or {"unavailable": why there are none}.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import struct
import sys
from pathlib import Path

SIZES = (512, 4096, 16384, 65536)
_EVENT = "events/skb/skb_copy_datagram_iovec/id"
_TRACEFS = Path("/sys/kernel/tracing")
# perf_event_open(2), linux/perf_event.h
_SYSTEM_CALLS = {"x86_64": 298, "aarch64": 241}
_TYPE_TRACEPOINT = 2
_INHERIT = 1 << 1
_ATTRIBUTE_BYTES = 128
_CLOSE_ON_EXEC = 8
_SET_FILTER = 0x40082406  # PERF_EVENT_IOC_SET_FILTER with a pointer of 8 bytes
_NEW_MOUNTS, _PRIVATE = 0x20000, 0x4000 | 0x40000  # unshare(2): CLONE_NEWNS; mount(2): MS_REC | MS_PRIVATE


class UnavailableError(Exception):
    """The kernel does not let copies be counted: the reason."""


def _called(result: int, what: str) -> int:
    if result < 0:
        raise UnavailableError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def event_number(libc: ctypes.CDLL) -> int:
    """Return the number of the tracepoint; tracefs is mounted for this process alone if it is not there."""
    for root in (_TRACEFS, Path("/sys/kernel/debug/tracing")):
        if (root / _EVENT).exists():
            return int((root / _EVENT).read_text(encoding="ascii"))
    _called(libc.unshare(_NEW_MOUNTS), "unshare")
    _called(libc.mount(b"none", b"/", None, _PRIVATE, None), "mount")
    _called(libc.mount(b"tracefs", bytes(_TRACEFS), b"tracefs", 0, None), "mount tracefs")
    if not (_TRACEFS / _EVENT).exists():
        raise UnavailableError("this kernel has no tracepoint skb_copy_datagram_iovec")
    return int((_TRACEFS / _EVENT).read_text(encoding="ascii"))


def counters(libc: ctypes.CDLL, number: int, pid: int) -> list[int]:
    """Return a descriptor for each of SIZES, which counts the copies of at least that size to a process."""
    if (call := _SYSTEM_CALLS.get(platform.machine())) is None:
        raise UnavailableError(f"not known for {platform.machine()}")
    found = []
    for size in SIZES:
        attributes = struct.pack("=IIQQQQQ", _TYPE_TRACEPOINT, _ATTRIBUTE_BYTES, number, 0, 0, 0, _INHERIT)
        held = ctypes.create_string_buffer(attributes.ljust(_ATTRIBUTE_BYTES, b"\0"), _ATTRIBUTE_BYTES)
        file = _called(libc.syscall(call, held, pid, -1, -1, _CLOSE_ON_EXEC), "perf_event_open")
        condition = ctypes.create_string_buffer(f"len >= {size}".encode())
        _called(libc.ioctl(file, _SET_FILTER, condition), "perf_event_open: a filter")
        found.append(file)
    return found


def read(files: list[int]) -> list[int]:
    """Return what each counter has counted."""
    return [struct.unpack("Q", os.read(file, 8))[0] for file in files]


def copy_one() -> None:
    """Have the kernel copy one packet of SIZES[0] bytes to this process: what counts copies must see it."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.send(bytes(SIZES[0]))
        other.recv(SIZES[0])


def main(command: list[str]) -> None:
    """Run the command, print the counts, and end as it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    ready, go = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ready.close()
        go.recv(1)  # the counters count
        copy_one()
        go.send(b".")
        if not go.recv(1):  # the parent is gone
            os._exit(1)
        go.close()
        os.execvp(command[0], command)
    go.close()
    files: list[int] = []
    result: dict[str, object]
    try:
        files = counters(libc, event_number(libc), pid)
    except (UnavailableError, OSError, ValueError) as error:
        result = {"unavailable": str(error)}
    ready.send(b".")
    ready.recv(1)
    before = read(files)
    ready.send(b".")
    ready.close()
    _, status = os.waitpid(pid, 0)
    if files and not before[0]:
        result = {"unavailable": "the tracepoint skb_copy_datagram_iovec did not count a copy that was made"}
    elif files:
        counts = [after - start for after, start in zip(read(files), before, strict=True)]
        result = {"counts": dict(zip(SIZES, counts, strict=True))}
    print(f"copies:{json.dumps(result)}", file=sys.stderr, flush=True)
    if os.WIFSIGNALED(status):
        os.kill(os.getpid(), os.WTERMSIG(status))  # none is caught here
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1:])
