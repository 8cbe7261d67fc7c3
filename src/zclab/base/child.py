# SPDX-License-Identifier: Apache-2.0
"""Run a long command so that it can not outlive the one who asked for it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1
_TERM_SECONDS = 20.0

Progress = Callable[[str], None]


def quiet(_line: str) -> None:
    """Take a progress line and drop it."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that clean-up code runs. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    old = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


# Waits for its standard input to end, which it does when the other end's last holder dies. What was killed at
# the same moment may still be writing: hence the attempts.
_JANITOR = """read -r _; for _ in 1 2 3 4 5; do
    rm -rf --one-file-system "$1" 2>/dev/null; [ -e "$1" ] || exit 0; sleep 1
done"""


@contextlib.contextmanager
def removed_if_we_die(path: Path) -> Iterator[None]:
    """Have a directory removed by another process if this one is killed before it can do so itself."""
    janitor = subprocess.Popen(
        ["sh", "-c", _JANITOR, "janitor", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield
    finally:
        janitor.kill()
        janitor.communicate()


def privately(command: Sequence[str]) -> list[str]:
    """Return the command run in process and mount namespaces of its own (needs root).

    Whatever it leaves running or mounted is gone with it, even when it is killed.
    """
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--", *command]


def _dying_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return what asks the kernel, in the child and before exec, for a signal when the parent dies."""
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)

    return ask


def run_logged(
    command: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Progress = quiet,
) -> int:
    """Run a command in its own process group and return its exit status.

    Everything that it prints is appended to `log`, and each line is given to `on_line`. When this call is
    left by an exception the whole group is ended first: SIGTERM, then SIGKILL.
    """
    with log.open("ab") as out:
        out.write(f"$ {' '.join(command)[:2000]}\n".encode())
        out.flush()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if env is None else {**os.environ, **env},
            cwd=cwd,
            start_new_session=True,
            # The leader of private namespaces takes everything in them along when it is killed; others get
            # the chance to clean up.
            preexec_fn=_dying_with_parent(signal.SIGKILL if command[0] == "unshare" else signal.SIGTERM),
        )
        try:
            assert child.stdout is not None
            for raw in child.stdout:
                out.write(raw)
                out.flush()
                on_line(raw.decode(errors="replace").rstrip())
            return child.wait()
        finally:
            end_group(child)
            if child.stdout is not None:
                child.stdout.close()


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the process group that `child` leads."""
    if child.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_TERM_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
