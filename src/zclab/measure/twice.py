# SPDX-License-Identifier: Apache-2.0
"""A second execution of a run's plan: python -m zclab.measure.twice LAB KERNEL RUN CPUS.

It shares nothing with the first but kernel, plan, seed and emulator: another process, with another directory,
TMPDIR and CPU affinity.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zclab.analysis import repetition
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.base.errors import LabError, UsageError, ZclabError
from zclab.base.process import stream
from zclab.base.progress import Progress
from zclab.lab import inventory
from zclab.lab.model import Lab
from zclab.measure import engine, exact, guests
from zclab.runs.folder import Run, directory_of

#: Executes the plan of a run again, and returns the second run.
Again = Callable[[Lab, MeasuringRun, Progress], MeasuringRun]
_MARK = "second run: "


def check_fits(lab: Lab) -> None:
    """Raise UsageError if two executions on a lab cannot be the same."""
    if not lab.traits.one_guest:
        raise UsageError(
            f"{lab.name}: --twice compares two executions byte by byte, which only an exact lab makes alike"
        )


def compare(lab: Lab, run: MeasuringRun, on_progress: Progress, again: Again | None = None) -> None:
    """Execute the plan of a whole run again, and note in its manifest whether that is the same.

    Raises:
        LabError: the second execution was not made to its end.
    """
    second = (again or in_another_process)(lab, run, on_progress)
    found = repetition.compared(
        second.id, (run.manifest(), run.records()), (second.manifest(), second.records())
    )
    run.update(repetition=found)


def in_another_process(lab: Lab, run: MeasuringRun, on_progress: Progress) -> MeasuringRun:
    """Execute the plan of a run in a process of its own, elsewhere, on another CPU."""
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        if not line.startswith(_MARK):
            on_progress(f"    {line}")

    with tempfile.TemporaryDirectory(prefix="zclab-twice-") as directory:
        temporary = Path(directory, "tmp")
        temporary.mkdir()
        cpu = max(os.sched_getaffinity(0))
        what = [str(lab.lab_dir), lab.kernel_variant or "", str(run.directory), str(cpu)]
        command = [sys.executable, "-m", "zclab.measure.twice", *what]
        status = stream(command, hear, Path(directory), {"TMPDIR": str(temporary)})
    if status != 0 or not lines or not lines[-1].startswith(_MARK):
        said = lines[-1] if lines else "no message"
        raise LabError(f"{run.id}: its second execution ended with status {status}: {said}")
    return Run(directory_of(lines[-1].removeprefix(_MARK)), RUN)


class _Reporter:
    """Prints a line when the run begins, and for what is invalid."""

    def started(self, run: MeasuringRun, *_: Any) -> None:
        print(f"run {run.id}: the second execution", flush=True)

    def measured(self, run: MeasuringRun, document: MeasurementDocument) -> None:
        if document.invalid_reasons:
            print(f"{document.id}: {document.invalid_reasons[0]}", flush=True)

    def finished(self, run: MeasuringRun) -> None:
        pass


def main(arguments: list[str]) -> None:
    """Carry out the plan of a run again, in the current directory."""
    lab_dir, kernel, directory, cpu = arguments
    os.sched_setaffinity(0, {int(cpu)})
    lab = inventory.load(lab_dir).with_kernel(kernel or None)
    plan = Run(Path(directory), RUN).manifest().plan
    opened = exact.opener(
        guests.opener(Path.cwd() / "guest", on_progress=lambda line: print(line, flush=True))
    )
    second = engine.execute(lab, plan, _Reporter(), open_driver=opened)
    print(f"{_MARK}{second.directory}", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ZclabError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
