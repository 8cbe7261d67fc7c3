# SPDX-License-Identifier: Apache-2.0
"""Runs of an exact lab compared by function: found by name, and read."""

from __future__ import annotations

from typing import get_args

from zclab.analysis import cost
from zclab.analysis.cost import CostDocument, Side
from zclab.analysis.verdict import RUN
from zclab.base.progress import Progress
from zclab.plan.schedule import ArmName
from zclab.runs import query
from zclab.runs.folder import Run


def compared(a: str, b: str, on_unreadable: Progress) -> CostDocument:
    """Compare two runs, or arms of runs, each named RUN, RUN:a or RUN:b.

    Raises:
        UsageError: there is no such run, it cannot be read, or the two cannot be compared.
    """
    return cost.compare(_side(a, on_unreadable), _side(b, on_unreadable))


def _side(text: str, on_unreadable: Progress) -> Side:
    name, colon, last = text.rpartition(":")
    arm = next((one for one in get_args(ArmName) if colon and one == last), None)
    found = query.find(name if arm else text, on_unreadable, kind="run")
    run = Run(found.directory, RUN)
    return Side(run.manifest(), run.records(), arm)
