# SPDX-License-Identifier: Apache-2.0
"""Child processes that cannot outlive the program that started them."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from types import FrameType
from typing import IO

from zclab.base.environment import Environment, of_child
from zclab.base.errors import LabError
from zclab.base.progress import Progress

# A shell stays in the background and waits for the end of its standard input, which comes when the parent
# closes it or dies in any way, SIGKILL included. Then the whole group gets SIGKILL; where $1 is not 0, it
# gets SIGTERM first, and as many seconds to clean up.
_LEADER = """grace=$1; shift; exec 3<&0
{ trap '' TERM; read -r _
  if [ "$grace" != 0 ]; then kill -TERM 0; fi
  while [ "$grace" -gt 0 ] && kill -0 $$; do sleep 1; grace=$((grace - 1)); done
  kill -KILL 0; } <&3 3<&- >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"""

# Waits for its standard input to end as the leader does. What was killed at the same moment may still be
# writing: hence the attempts.
_JANITOR = """read -r _; for _ in 1 2 3 4 5; do
    rm -rf --one-file-system "$1" 2>/dev/null; [ -e "$1" ] || exit 0; sleep 1
done"""

# Killed processes are gone in milliseconds; a daemon that has left the group may hold the pipe for ever.
_DYING_SECONDS = 2.0

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

NO_SPACE = "No space left on device"
"""What every tool prints when a disk is full."""


class CommandError(LabError):
    """A command ended with an error; `output` holds what it printed (the end of it, if that was a lot)."""

    def __init__(self, command: Sequence[str], status: int, output: str) -> None:
        """Describe the command that failed by its last printed line."""
        self.command = list(command)
        self.status = status
        self.output = output
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        last = lines[-1][:200] if lines else "no output"
        super().__init__(f"{Path(command[0]).name} failed with status {status}: {last}")


def end_with_parent() -> None:
    """Have this process get SIGTERM when the one that started it ends, even by SIGKILL, or has ended already.

    For a worker of Ansible, which has a session of its own: who kills ansible-playbook does not reach it, and
    what it builds would be built to the end.
    """
    started_by = parent_process()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if started_by is not None and os.getppid() != started_by.pid:
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that clean-up code runs. Only the main thread can.

    A signal that is ignored stays so: nohup ignores SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    taken = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN
    ]
    old = {number: signal.signal(number, leave) for number in taken}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def removed_if_we_die(path: Path) -> Iterator[None]:
    """Have a directory removed by another process if this one is killed before it can do so itself."""
    janitor = subprocess.Popen(
        ["sh", "-c", _JANITOR, "janitor", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=of_child(),
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


@contextmanager
def _group(
    command: Sequence[str], cwd: Path | None, environment: Environment, grace_seconds: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command as the leader of its own process group; whatever happens, kill the group at the end."""
    variables = of_child(environment)
    if shutil.which(command[0], path=variables.get("PATH")) is None and "/" not in command[0]:
        raise LabError(f"{command[0]} is not installed: run playbooks/controller.yml")
    process = subprocess.Popen(
        ["/bin/sh", "-c", _LEADER, "sh", str(grace_seconds), *command],
        cwd=cwd,
        env=variables,
        umask=0o022,  # of a user who hides all files by 077: what is made is for others, too
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        try:
            if grace_seconds and process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(grace_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _wait_for_end(process.stdout)
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
            process.wait()


def _wait_for_end(pipe: IO[bytes] | None) -> None:
    """Wait until no process of a killed group writes any more, or files: its directory is removed next."""
    deadline = time.monotonic() + _DYING_SECONDS
    while pipe and select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if not os.read(pipe.fileno(), 65536):
            return


def stream(
    command: Sequence[str],
    on_line: Progress,
    cwd: Path | None = None,
    environment: Environment | None = None,
    *,
    log: Path | None = None,
    grace_seconds: int = 0,
) -> int:
    """Run a command, hand over each line that it prints (both streams), and return its exit status.

    The command itself and everything that it prints are appended to `log`. The process group is killed when
    on_line raises, when this process is interrupted, and when it is killed; it gets SIGTERM and
    `grace_seconds` to clean up first.

    Raises:
        LabError: the program is not installed.
    """
    with ExitStack() as stack:
        out = stack.enter_context(log.open("ab", buffering=0)) if log else None
        process = stack.enter_context(_group(command, cwd, environment or {}, grace_seconds))
        if out:
            out.write(f"$ {' '.join(command)[:2000]}\n".encode())
        assert process.stdout is not None
        for line in process.stdout:
            if out:
                out.write(line)
            on_line(line.decode(errors="replace").rstrip("\n"))
        return process.wait()


def run(command: Sequence[str], cwd: Path | None = None, environment: Environment | None = None) -> str:
    """Run a command and return what it printed on both streams; raise CommandError when it fails."""
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        if len(lines) > 200_000:
            del lines[:100_000]

    status = stream(command, keep, cwd, environment)
    output = "\n".join(lines)
    if status != 0:
        raise CommandError(command, status, output)
    return output


def require_tools(names: Iterable[str], what_for: str) -> None:
    """Raise LabError that names every program of these that is not installed here."""
    if missing := [name for name in names if shutil.which(name) is None]:
        programs = ", ".join(missing)
        raise LabError(f"{what_for} needs {programs}, not installed here: run playbooks/controller.yml")
