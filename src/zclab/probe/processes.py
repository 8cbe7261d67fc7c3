# SPDX-License-Identifier: Apache-2.0
"""Child processes: they end with their parent, and no wait for one of them is without a limit."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from .libc import libc

#: Seconds that a test case waits for what must come.
SECONDS = 20.0
#: Seconds that a process has to end in after SIGKILL.
KILLED_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05


def end_with(parent: int) -> None:
    """Have this process killed when its parent ends, even if that has ended already."""
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def wait_for(child: int, seconds: float) -> int | None:
    """Return the wait status of a child, or None if it has not ended after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def states(process: int) -> str:
    """Return the state of each thread of a process, and the kernel function that it waits in if it is known.

    As /proc names them, like "D (disk sleep) in __lock_sock"; see proc_pid_status(5) and proc_pid_wchan(5).
    """
    found = []
    for task in sorted(Path(f"/proc/{process}/task").glob("*")):
        with contextlib.suppress(OSError):
            status = (task / "status").read_text(encoding="utf-8", errors="replace")
            place = (task / "wchan").read_text(encoding="ascii").strip("0\n")
            state = status.partition("\nState:")[2].splitlines()[0].strip()
            found.append(f"{state} in {place}" if place else state)
    return ", ".join(found) or "unknown"


def forked(call: Callable[[], str], meanwhile: Callable[[], None] = lambda: None) -> str | None:
    """Return what a call returns in a child process, or None if it does not end within SECONDS.

    `meanwhile` is called in the parent once there is a child. What the call raises is returned as text. The
    child is not waited for when it takes too long: the kernel may hold it for ever.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            result = call()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writer, result.encode())
        os._exit(0)
    os.close(writer)
    try:
        meanwhile()
        ready, _, _ = select.select([reader], [], [], SECONDS)
        if not ready:
            return None
        output = os.read(reader, 65536).decode()
    finally:
        os.close(reader)
    status = wait_for(child, SECONDS)
    return output or f"ended with wait status {status}"
