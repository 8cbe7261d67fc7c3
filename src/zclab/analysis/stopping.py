# SPDX-License-Identifier: Apache-2.0
"""What is measured next: when a measurement is made again, and when a comparison has enough of them.

All of it depends on the plan and on the measurements alone, so that a run can be resumed, and judged from its
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from zclab.analysis import samples
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.statistics import narrow
from zclab.plan.plan import Plan
from zclab.plan.schedule import Cell, Measurement, Step, attempt, attempt_id, blocks, first_attempt_id


def next_measurement(plan: Plan, step: Step, made: Mapping[str, MeasurementDocument]) -> Measurement | None:
    """Return the next measurement of a step; None once it has been measured often enough."""
    members: list[MeasurementDocument] = []
    limit = step.cells[0].repeats.at_most if step.until is None else step.until
    for number, block in enumerate(blocks(plan, step), start=1):
        for planned in block:
            if (due := next_attempt(plan, planned, made)) is not None:
                return due
            members.append(last_attempt(planned.id, made))
            if all(_is_skipped(cell, members) for cell in step.cells):
                return None
        done = min(2 * number, limit)
        if all(is_sufficient(plan, cell, members, done) for cell in step.cells):
            return None
    return None


def _is_skipped(cell: Cell, members: Sequence[MeasurementDocument]) -> bool:
    """Say whether both arms of a cell were tried, and one cannot be measured on this kernel."""
    own = [one for one in members if one.comparison == cell.name]
    return any(one.skipped for one in own) and {one.arm for one in own} == {"a", "b"}


def is_sufficient(plan: Plan, cell: Cell, members: Iterable[MeasurementDocument], done: int) -> bool:
    """Return whether so many pairs or boots of a cell suffice, so that more would not change the result.

    That is so when each metric's interval is narrow, and when something is still invalid.
    """
    if done < cell.repeats.at_least:
        return False
    if done >= cell.repeats.at_most:
        return True
    own = [one for one in members if one.comparison == cell.name]
    if any(one.invalid_reasons for one in own):
        return True
    if plan.precision is None:
        return False
    found = [samples.of_cell(plan, cell, own, metric).interval() for metric in cell.judged_metrics]
    return all(narrow(interval, plan.precision) for interval in found if interval is not None)


# ------------------------------------------------------------------------------------------------ made again


def next_attempt(
    plan: Plan, planned: Measurement, made: Mapping[str, MeasurementDocument]
) -> Measurement | None:
    """Return a measurement if it was not made yet, or its next attempt if the last was invalid.

    Null if it needs none: it is valid or skipped, its reason lasts, or it was tried as often as the plan
    allows. A reason lasts that is the hosts' state, or that came twice.
    """
    tried = _attempts(planned.id, made)
    if not tried:
        return planned
    last, again = tried[-1], len(tried)
    if not last.invalid_reasons or last.invalid_lasts or again > plan.repeat_invalid.per_measurement:
        return None
    earlier = {_kind(reason) for one in tried[:-1] for reason in one.invalid_reasons}
    if earlier & {_kind(reason) for reason in last.invalid_reasons}:
        return None
    if sum(one.attempt > 0 for one in made.values()) >= plan.repeat_invalid.per_run:
        return None
    return attempt(planned, again)


def last_attempt(planned_id: str, made: Mapping[str, MeasurementDocument]) -> MeasurementDocument:
    """Return the attempt of a measurement that counts."""
    return _attempts(planned_id, made)[-1]


def counted(measurements: Iterable[MeasurementDocument]) -> list[MeasurementDocument]:
    """Return the measurements that count: of each, its last attempt."""
    last: dict[str, MeasurementDocument] = {}
    for one in measurements:
        last[first_attempt_id(one)] = one
    return [*last.values()]


def _attempts(planned_id: str, made: Mapping[str, MeasurementDocument]) -> list[MeasurementDocument]:
    found: list[MeasurementDocument] = []
    while (one := made.get(attempt_id(planned_id, len(found)))) is not None:
        found.append(one)
    return found


def _kind(reason: str) -> str:
    """Return a reason without its figures, which differ each time."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)
