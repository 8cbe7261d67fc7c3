# SPDX-License-Identifier: Apache-2.0
"""The steps that take too long for every day, on virtual hosts: `python -m zclab.jobs.nightly`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from zclab.base import program
from zclab.base.environment import of_child
from zclab.base.exit_codes import INTERNAL, INTERRUPTED, worst
from zclab.base.paths import project_root
from zclab.base.progress import Progress


class Step(NamedTuple):
    """One command line, and why it is run. A clean-up step is run even after an interruption."""

    command: str
    reason: str
    cleanup: bool = False


_DESIGNS_REASON = "map_each, map_once and map_once_hybrid compared for two kinds of readers (claim M14)"
STEPS = (
    Step("zclab run --up", "the lab's own plan"),
    Step("zclab lockdep --kernel mmap-debug", "the series' first patch takes the locks in the wrong order"),
    Step("zclab lockdep --kernel mmap_hook-debug", "its second patch takes them in the right order"),
    Step("zclab lockdep --kernel full-debug", "and so does the whole series"),
    Step("zclab conformance --kernel stock", "the rules of each interface on the distribution's source"),
    Step("zclab conformance --kernel full", "the rules of each interface on the series"),
    Step("zclab conformance --kernel full-6.12", "the rules of each interface on the series for 6.12"),
    Step("zclab conformance --diff stock full", "what the series changes"),
    Step("zclab selftests --diff stock full", "what the series changes in the kernel's own tests"),
    Step("zclab stress --kernel full-debug --seconds 600", "locks and memory checked under stress"),
    Step("zclab stress --kernel full-leaks --seconds 600", "memory that is lost under stress"),
    Step("zclab run receive_designs --up --kernel full", _DESIGNS_REASON),
    Step("zclab up", "back to the kernel that the lab declares"),
    Step("zclab run --lab exact", "what the series and each receive mode cost in instructions of one guest"),
    Step("zclab run --lab exact-e1000e", "the same with a driver's receive path"),
    Step("zclab down", "its hosts are not needed any more", cleanup=True),
    Step("python -m zclab.jobs.other_release", "`make lab` as the first command on the other Debian release"),
    Step("pytest -m nightly tests", "the project's own tests that take too long for CI"),
)

Runner = Callable[[Sequence[str]], int]


def run_command(command: Sequence[str]) -> int:
    """Run a program of this virtual environment to its end and return its exit status (130: interrupted).

    Ctrl-C reaches the program as well, being in the same process group: it is given the time to clean up.
    """
    path = Path(sys.executable).with_name(command[0])
    interrupted = False
    child = subprocess.Popen(
        [path, *command[1:]], cwd=project_root(), env=of_child(), stdin=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                status = child.wait()
                return INTERRUPTED if interrupted else status
            except KeyboardInterrupt:
                interrupted = True
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


def _exit_code(command: Sequence[str], status: int) -> int:
    """Return a status as an exit code of zclab. pytest's own codes, but for 0 and 1, say that it failed."""
    if command[0] != "pytest" or status in (0, 1, INTERRUPTED):
        return status
    return INTERRUPTED if status == 2 else INTERNAL


def carry_out(steps: Sequence[Step], run: Runner, on_progress: Progress) -> int:
    """Run each step, also after a failed one, and return the exit code that counts.

    After an interruption only clean-up steps are run, and the exit code is 130.
    """
    codes: dict[str, int] = {}
    interrupted = False
    for step in steps:
        if interrupted and not step.cleanup:
            continue
        on_progress(f"nightly: {step.command}: {step.reason}")
        command = step.command.split()
        codes[step.command] = _exit_code(command, run(command))
        interrupted = interrupted or codes[step.command] == INTERRUPTED
        on_progress(f"nightly: {step.command}: exit code {codes[step.command]}")
    code = INTERRUPTED if interrupted else worst(codes.values())
    not_passed = "; ".join(f"{command}: {one}" for command, one in codes.items() if one)
    on_progress(f"nightly: exit code {code}" + (f" ({not_passed})" if not_passed else ""))
    return code


def main() -> int:
    """Carry out the night."""
    return program.run("nightly", lambda: carry_out(STEPS, run_command, print))


if __name__ == "__main__":
    sys.exit(main())
