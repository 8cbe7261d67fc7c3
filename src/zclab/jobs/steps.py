# SPDX-License-Identifier: Apache-2.0
"""Jobs of several commands: each is run, whatever became of the one before; the worst exit code counts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from zclab.base.environment import of_child
from zclab.base.exit_codes import INTERNAL, INTERRUPTED, worst
from zclab.base.paths import project_root
from zclab.base.progress import Progress


class Step(NamedTuple):
    """One command line, and why it is run. A clean-up step is run even after an interruption."""

    command: str
    reason: str
    cleanup: bool = False


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


def carry_out(job: str, steps: Sequence[Step], run: Runner, on_progress: Progress) -> int:
    """Run each step, also after a failed one, and return the exit code that counts.

    After an interruption only clean-up steps are run, and the exit code is 130.
    """
    codes: dict[str, int] = {}
    interrupted = False
    for step in steps:
        if interrupted and not step.cleanup:
            continue
        on_progress(f"{job}: {step.command}: {step.reason}")
        command = step.command.split()
        codes[step.command] = _exit_code(command, run(command))
        interrupted = interrupted or codes[step.command] == INTERRUPTED
        on_progress(f"{job}: {step.command}: exit code {codes[step.command]}")
    code = INTERRUPTED if interrupted else worst(codes.values())
    not_passed = "; ".join(f"{command}: {one}" for command, one in codes.items() if one)
    on_progress(f"{job}: exit code {code}" + (f" ({not_passed})" if not_passed else ""))
    return code
