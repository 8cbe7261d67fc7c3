# SPDX-License-Identifier: Apache-2.0
"""From the measurements of a cell to the samples that are compared, and the interval that fits them."""

from __future__ import annotations

import statistics as plain_statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from zclab.analysis import statistics
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.metric_values import value as metric_value
from zclab.analysis.statistics import Interval
from zclab.base.groups import grouped
from zclab.base.metrics import Metric
from zclab.plan.plan import Plan
from zclab.plan.schedule import ArmName, Cell


class Point(NamedTuple):
    """One figure of one arm, in the order of time: of a measurement, or of a whole boot."""

    arm: ArmName
    pair: int
    value: float


@dataclass(frozen=True)
class Samples:
    """What a cell's measurements gave by one metric.

    points: in the order of time, without those that have no positive figure. by_boot: each point is a boot's,
    and points of the two arms are not paired. level: the confidence at which intervals are computed. What is
    derived from them is computed once.
    """

    points: list[Point]
    by_boot: bool
    level: float

    def of(self, arm: ArmName) -> list[float]:
        """Return the figures of one arm."""
        return [one.value for one in self.points if one.arm == arm]

    @cached_property
    def ratios(self) -> list[float]:
        """The ratio of B to A of each pair in which both have a figure; empty where arms are not paired."""
        if self.by_boot:
            return []
        by_pair = grouped(self.points, lambda one: one.pair)
        both = [{one.arm: one.value for one in by_pair[pair]} for pair in sorted(by_pair)]
        return [arms["b"] / arms["a"] for arms in both if len(arms) == 2]

    @cached_property
    def repeats(self) -> list[float]:
        """The ratio of each two neighbouring figures of one arm, in blocks A B B A: they differ by noise."""
        if self.by_boot:
            return []
        neighbours = zip(self.points, self.points[1:], strict=False)
        return [
            later.value / one.value
            for one, later in neighbours
            if one.arm == later.arm and later.pair == one.pair + 1 and one.pair % 2 == 0
        ]

    @property
    def size(self) -> int:
        """Number of pairs, or of boots of the kernel that has fewer."""
        return min(len(self.of("a")), len(self.of("b"))) if self.by_boot else len(self.ratios)

    @property
    def spread(self) -> float | None:
        """The standard deviation of the log of one ratio; null of fewer than two."""
        if self.size < 2:
            return None
        if self.by_boot:
            return statistics.spread_of_boots(self.of("a"), self.of("b"))
        return statistics.spread_of_pairs(self.ratios, self.repeats)

    @property
    def kind(self) -> statistics.IntervalKind:
        """The name of the interval."""
        return statistics.RANK_SUM if self.by_boot else statistics.SIGNED_RANK

    @property
    def fewest(self) -> int:
        """Fewest pairs or boots with an interval."""
        return statistics.FEWEST_BOOTS if self.by_boot else statistics.FEWEST_SAMPLES

    @property
    def fewest_to_call(self) -> int:
        """Fewest pairs or boots of which a difference can be called."""
        return statistics.FEWEST_BOOTS_TO_CALL if self.by_boot else statistics.FEWEST_PAIRS

    def interval(self, level: float | None = None) -> Interval | None:
        """Return the ratio of B to A with its interval, at this samples' level or another; null of none."""
        if not self.size:
            return None
        if self.by_boot:
            return statistics.shift_interval(self.of("a"), self.of("b"), level or self.level)
        return statistics.sample_interval(self.ratios, level or self.level)

    @cached_property
    def p_value(self) -> float | None:
        """How likely a difference as sure as this is between equal arms; null of nothing."""
        if not self.size:
            return None
        if self.by_boot:
            return statistics.shift_p_value(self.of("a"), self.of("b"))
        return statistics.p_value(self.ratios)

    def level_of(self, arm: ArmName) -> Interval | None:
        """Return one arm's own figure with its interval, which allows for drift; null of nothing."""
        if not self.of(arm):
            return None
        return statistics.arm_interval(
            [one.value for one in self.points], [one.arm == arm for one in self.points], self.level
        )


def of_cell(plan: Plan, cell: Cell, members: Sequence[MeasurementDocument], metric: Metric) -> Samples:
    """Return what the measurements of a cell gave by one metric, in the order in which they were made."""
    level = (
        statistics.SEQUENTIAL_CONFIDENCE
        if plan.precision is not None and cell.repeats.at_least < cell.repeats.at_most
        else statistics.CONFIDENCE
    )
    known = [
        (one, value) for one in members if (value := metric_value(one, metric)) is not None and value > 0
    ]
    if not cell.boot_measurements:
        return Samples([Point(one.arm, one.pair, value) for one, value in known], False, level)
    # Of each boot, told apart by the boot ids of the hosts. What was read from no boot counts for none.
    of_boot = grouped(
        [found for found in known if found[0].boots],
        lambda found: (found[0].arm, tuple(sorted(found[0].boots.items()))),
    )
    typical = _typical(cell, known)
    middle = plain_statistics.median(typical.values()) if typical else 1.0
    points = [
        Point(
            arm,
            number,
            middle * plain_statistics.median(value / typical[_place(cell, one)] for one, value in found),
        )
        for number, ((arm, _), found) in enumerate(of_boot.items())
    ]
    return Samples(points, True, level)


def _place(cell: Cell, one: MeasurementDocument) -> int:
    """Return which of its cell's measurements in a boot one is, from 0."""
    return one.pair % cell.boot_measurements


def _typical(cell: Cell, known: list[tuple[MeasurementDocument, float]]) -> dict[int, float]:
    """Return the median of the figures of all boots, of both arms, by their place in the boot.

    The first measurement of a boot is not like the second: each is compared with those in its own place.
    """
    of_place = grouped(known, lambda found: _place(cell, found[0]))
    return {place: plain_statistics.median(value for _, value in found) for place, found in of_place.items()}
