# SPDX-License-Identifier: Apache-2.0
"""A real exact guest that another process executes: from elsewhere, and to be disturbed by a test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zclab.backends.exact import guest as exact_guest
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import CONSOLE, Guest
from zclab.backends.exact.steps import Step
from zclab.base.errors import LabError

LIMITS = Limits(cpu_seconds=120, real_seconds=900)
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.05
_STARTED = re.compile(r"^init: [\d.]+ start (\S+)$", re.MULTILINE)


def start(
    guest: Guest,
    listed: Sequence[Step],
    directory: Path,
    *,
    cwd: Path | None = None,
    variables: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    real_seconds: int = LIMITS.real_seconds,
) -> subprocess.Popen[str]:
    """Start a process that executes a guest, and prints its digest or the error.

    cwd, variables: its directory and further variables; prefix: words before its command line. real_seconds:
    how long the guest may take.
    """
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", __name__, str(directory), str(real_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **(variables or {})},
    )
    assert process.stdin is not None
    json.dump([guest.model_dump(mode="json"), [step.model_dump() for step in listed]], process.stdin)
    process.stdin.close()
    return process


def printed(process: subprocess.Popen[str]) -> str:
    """Return what such a process printed: the digest, or its error."""
    assert process.stdout is not None
    text = process.stdout.read().strip()
    process.wait()
    return text


def pids(directory: Path) -> list[int]:
    """Return the processes with this directory in their command line, other than this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            named = str(directory).encode() in (process / "cmdline").read_bytes()
            if named and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def until_gone(directory: Path, seconds: float = 10) -> None:
    """Wait until no process has this directory in its command line."""
    waited_for(lambda: None if pids(directory) else 0, seconds)


def emulator_of(directory: Path, until: str = "", seconds: float = 300) -> int:
    """Return the emulator that executes a guest in a directory, once its console has a text."""
    return waited_for(lambda: _emulator(directory, until), seconds)


def _emulator(directory: Path, until: str) -> int | None:
    console = directory / CONSOLE
    if not console.exists() or until not in console.read_text(errors="replace"):
        return None
    emulators = [pid for pid in pids(directory) if _name(pid).startswith("qemu-system")]
    return emulators[0] if emulators else None


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def waited_for(what: Callable[[], int | None], seconds: float) -> int:
    """Return what is there within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if (found := what()) is not None:
                return found
        assert time.monotonic() < deadline
        time.sleep(_POLL_SECONDS)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


@contextlib.contextmanager
def costs(directory: Path) -> Iterator[dict[str, float]]:
    """Give the CPU seconds of an emulator that is started within, by what its guest was about.

    "boot" is all before init starts the first process, by whose name the next ones are. Looked at 20 times a
    second of real time.
    """
    found: dict[str, float] = {}
    over = threading.Event()

    def watch() -> None:
        pid, spent = None, 0.0
        while not over.wait(_POLL_SECONDS):
            with contextlib.suppress(OSError):
                pid = pid or _emulator(directory, "")
                if pid is not None:
                    now = cpu_seconds(pid)
                    started = _STARTED.findall((directory / CONSOLE).read_text(errors="replace"))
                    step = started[-1] if started else "boot"
                    found[step] = found.get(step, 0.0) + now - spent
                    spent = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def hog(prefix: Sequence[str] = ()) -> Iterator[None]:
    """Have another process use a CPU."""
    process = subprocess.Popen([*prefix, sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Execute the guest on standard input in the directory that is named, and print its digest."""
    guest, listed = json.load(sys.stdin)
    directory, real_seconds = Path(sys.argv[1]), int(sys.argv[2])
    limits = LIMITS.model_copy(update={"real_seconds": real_seconds})
    try:
        steps = [Step(**step) for step in listed]
        print(exact_guest.execute(Guest(**guest), steps, directory, limits).digest)
    except LabError as error:
        print(error)


if __name__ == "__main__":
    main()
