# SPDX-License-Identifier: Apache-2.0
"""Child processes that can not outlive the program that started them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from zclab.base.errors import LabError

# A shell stays in the background and waits for the end of its standard input. That end comes when the parent
# closes it or dies in any way at all, SIGKILL included; then the whole group is killed.
_LEADER = 'exec 3<&0; { read -r _; kill -KILL 0; } <&3 3<&- >/dev/null 2>&1 & exec "$@" 3<&- </dev/null'

# Variables for a command, over this process's own; None takes one away.
Environment = Mapping[str, str | None]

# Tools that speak another language, or read a user's settings, would not be understood.
_ENVIRONMENT = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
}


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


def _merged(environment: Environment) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **_ENVIRONMENT, **environment}
    return {name: value for name, value in merged.items() if value is not None}


@contextmanager
def _group(
    command: Sequence[str], cwd: Path | None, environment: Environment | None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command as the leader of its own process group; whatever happens, kill the group at the end."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", _LEADER, "sh", *command],
        cwd=cwd,
        env=_merged(environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        process.wait()


def stream(
    command: Sequence[str],
    on_line: Callable[[str], None],
    cwd: Path | None = None,
    environment: Environment | None = None,
) -> int:
    """Run a command, hand over each line that it prints (both streams), and return its exit status.

    The process group is killed when on_line raises, when this process is interrupted, and when it is killed.
    """
    with _group(command, cwd, environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
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
