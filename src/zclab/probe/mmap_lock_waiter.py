# SPDX-License-Identifier: Apache-2.0
"""A program that is killed while one of its threads waits, in mmap() of a socket, for mmap_lock."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import select
import signal
import threading
import time
from pathlib import Path

from .libc import MAP_POPULATE, READ_WRITE, libc
from .sockets import PAGE

_SECONDS = 5.0
# On one processor the other thread has to get at the lock first.
_HEAD_START = 0.02
_MOST_BYTES = 64 << 20


def kill_while_it_waits(fd: int) -> bool:
    """Fork a program that maps a page of a socket; kill it while that waits; return whether it was seen to.

    Another of its threads holds mmap_lock, and fills much memory at a time.
    """
    begin, begun = os.pipe()
    end, ended = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        threading.Thread(target=_hold_the_lock, args=(ended,), daemon=True).start()
        os.read(begin, 1)
        time.sleep(_HEAD_START)
        libc.mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        os._exit(0)  # its end of the pipe goes with it
    os.close(ended)
    try:
        os.read(end, 1)  # the other thread is about to take the lock
        os.write(begun, b"1")
        return _seen_waiting(child, fd, end)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for one in (begin, begun, end):
            os.close(one)


def _hold_the_lock(ready: int) -> None:
    """Hold this program's mapping lock again and again, each time for as long as it takes to fill memory."""
    length = min(_MOST_BYTES, _available() // 4)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_POPULATE
    os.write(ready, b"1")
    while True:
        at = libc.mmap(None, length, READ_WRITE, flags, -1, 0)
        libc.munmap(at, length)


def _available() -> int:
    """Return how many bytes of memory can be had."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _MOST_BYTES


def _seen_waiting(process: int, fd: int, end: int) -> bool:
    """Wait until a process's first thread waits within mmap() of a descriptor; false if it ends first."""
    deadline = time.monotonic() + _SECONDS
    task = Path(f"/proc/{process}/task/{process}")
    with contextlib.ExitStack() as files:
        # Opened once: the wait is short, and reading has to be quick.
        stat, syscall, wchan = (
            files.enter_context((task / name).open("rb", buffering=0))
            for name in ("stat", "syscall", "wchan")
        )
        while time.monotonic() < deadline and not select.select([end], [], [], 0)[0]:
            if not _sleeps(_now(stat)):
                continue
            call, place = _now(syscall).split(), _now(wchan)
            # The call's number, then its arguments: address, length, protection, flags, descriptor, offset.
            # With nobody else at the socket, that is the wait for the mapping lock; where the kernel names
            # what a thread waits in, it must not be the lock of a socket.
            if call[2:3] == [b"%#x" % PAGE] and call[5:6] == [b"%#x" % fd] and b"lock_sock" not in place:
                return _sleeps(_now(stat))
    return False


def _now(file: io.RawIOBase) -> bytes:
    return os.pread(file.fileno(), 4096, 0)


def _sleeps(stat: bytes) -> bool:
    """Return whether a thread is in uninterruptible sleep."""
    return stat.rpartition(b")")[2].split()[0] == b"D"
