# SPDX-License-Identifier: Apache-2.0
"""Pin what a lab counts now: the baseline of its inventory is measured again and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from zclab.analysis import baseline
from zclab.analysis.verdict import MeasuringRun
from zclab.base.errors import InvalidError, UsageError
from zclab.base.files import write_whole
from zclab.base.progress import Progress
from zclab.lab import inventory
from zclab.lab.model import Baseline, BaselineEntry, Lab
from zclab.measure import engine
from zclab.measure.choice import opener_of
from zclab.plan import plan as plans
from zclab.plan.plan import Repeats

KEY = "zclab_baseline"
_WIDTH = 110


def renew(
    lab: Lab,
    reason: str,
    boots: int,
    reporter: engine.Reporter,
    on_progress: Progress,
    execute: Callable[..., MeasuringRun] = engine.execute,
) -> tuple[MeasuringRun, Path]:
    """Measure the plan of a lab's baseline in so many boots, write what was counted, and return both.

    The entry of this emulator, compiler and CPU is replaced; the others stay.

    Raises:
        UsageError: the lab pins no plan, or its file says more than the baseline.
        InvalidError: a measurement is not valid: nothing is written.
    """
    pinned = lab.expectations.baseline
    if pinned is None:
        raise UsageError(f"{lab.name}: declares no {KEY}: name its plan and margin there")
    path = _file(lab)
    repeats = Repeats(at_least=boots, at_most=boots)
    plan = plans.load(pinned.plan).model_copy(update={"boots": repeats, "precision": None})
    run = execute(lab, plan, reporter, open_driver=opener_of(lab, on_progress=on_progress))
    document = run.document()
    invalid = [
        *document.problems,
        *(f"{one.id}: {why}" for one in document.measurements for why in one.invalid_reasons),
    ]
    if invalid:
        raise InvalidError(f"{run.id}: the baseline stays as it was: {invalid[0]}")
    entry = baseline.entry_of(run.manifest(), document.measurements, reason)
    write_whole(
        path, text(path.read_text(encoding="utf-8"), pinned, baseline.replaced(pinned.entries, entry))
    )
    return run, path


def _file(lab: Lab) -> Path:
    """Return the file that declares a lab's baseline, and nothing else."""
    path = lab.lab_dir.parent / inventory.file_of(lab.lab_dir, KEY)
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(declared, dict) or [*declared] != [KEY]:
        raise UsageError(f"{path}: says more than {KEY}: put that into a file of its own, which zclab writes")
    return path


def text(before: str, pinned: Baseline, entries: Sequence[BaselineEntry]) -> str:
    """Return the file of a baseline with these entries; the comment above it stays as it was before."""
    head = before[: before.index(f"{KEY}:")]
    data = pinned.model_copy(update={"entries": [*entries]}).model_dump(mode="json")
    return head + yaml.dump(
        {KEY: data}, Dumper=_Indented, sort_keys=False, width=_WIDTH, default_flow_style=None
    )


class _Indented(yaml.SafeDumper):
    """Writes lists one level in, as the other files of an inventory have them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)
