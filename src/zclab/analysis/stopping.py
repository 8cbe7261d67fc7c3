# SPDX-License-Identifier: Apache-2.0
"""When a comparison has been measured often enough."""

from __future__ import annotations

from collections.abc import Mapping

from zclab.analysis.document import MeasurementDocument
from zclab.analysis.metric_values import value as metric_value
from zclab.analysis.statistics import median_interval, narrow
from zclab.base.metrics import Metric
from zclab.plan.plan import Plan
from zclab.plan.schedule import Cell, Measurement, pairs


def ratios(cell_members: list[MeasurementDocument], metric: Metric) -> list[float]:
    """Return the ratio of B to A of each pair in which both arms have the figure, in the order of pairs."""
    values: dict[int, dict[str, float]] = {}
    for one in cell_members:
        value = metric_value(one, metric)
        if value is not None:
            values.setdefault(one.pair, {})[one.arm] = value
    return [arms["b"] / arms["a"] for _, arms in sorted(values.items()) if len(arms) == 2 and arms["a"]]


def next_measurement(plan: Plan, cell: Cell, made: Mapping[str, MeasurementDocument]) -> Measurement | None:
    """Return the next measurement of a cell; None once it has been measured often enough.

    It depends on the measurements alone, so a run can be resumed and judged from its files.
    """
    members: list[MeasurementDocument] = []
    waiting: set[int] = set()
    for planned in pairs(plan, cell):
        one = made.get(planned.id)
        if one is None:
            return None if not waiting and is_sufficient(plan, cell, members) else planned
        members.append(one)
        waiting ^= {planned.pair}
    return None


def is_sufficient(plan: Plan, cell: Cell, members: list[MeasurementDocument]) -> bool:
    """Return whether these whole pairs are sufficient, so that more would not change the result.

    That is so when each metric's interval is narrow; and when something was skipped or is invalid, which no
    repetition corrects.
    """
    count = len(members) // 2
    if not count:
        return False
    if any(one.skipped for one in members):
        return True
    if count < cell.repeats.at_least:
        return False
    if count >= cell.repeats.at_most or any(one.invalid_reasons for one in members):
        return True
    if plan.precision is None:
        return False
    found = [values for metric in cell.metrics if (values := ratios(members, metric))]
    return all(narrow(median_interval(values), plan.precision) for values in found)
