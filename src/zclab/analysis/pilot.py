# SPDX-License-Identifier: Apache-2.0
"""From a few pairs of each cell to how many the plan needs for the precision that it asks for."""

from __future__ import annotations

import math
from typing import NamedTuple

from zclab.analysis import samples, statistics
from zclab.analysis.document import RunDocument
from zclab.analysis.stopping import counted
from zclab.base.exit_codes import EXIT_CODES
from zclab.base.metrics import Metric
from zclab.plan import schedule
from zclab.plan.plan import Plan, Repeats

#: Pairs of each cell that a pilot measures. The spread that they give is right within a factor of 0.6 to 1.6,
#: 95 of 100 times, and the number of pairs within the square of that.
PAIRS = 8


class Need(NamedTuple):
    """What one comparison needs.

    spread: the standard deviation of the log of one pair's ratio, or of that of two boots. needed: pairs or
    boots for the plan's precision, null if it asks for none. at_most: of the plan. reached: the precision
    that these give. for_none: pairs or boots that find "none" of equal arms four times in five.
    """

    name: str
    metric: Metric
    by_boot: bool
    spread: float
    needed: int | None
    at_most: int
    reached: float
    for_none: int

    @property
    def suffices(self) -> bool:
        """Whether the plan's limit is enough for its precision."""
        return self.needed is None or self.needed <= self.at_most


def pilot_of(plan: Plan) -> Plan:
    """Return the plan of a pilot: a few pairs of each cell, and nothing else."""
    few = Repeats(at_least=PAIRS, at_most=PAIRS)
    changes = {"name": f"{plan.name}-pilot", "repeats": few, "boots": few, "precision": None}
    return plan.model_copy(update=changes | {"aa_pairs": 0, "integrity_bytes": 0, "profile_event": None})


def needs(document: RunDocument, plan: Plan, smallest_effect: float) -> list[Need]:
    """Return what each comparison of a plan needs, from a pilot of it; those without figures are left out."""
    final = counted(document.measurements)
    found = []
    for cell in schedule.cells(plan):
        members = [one for one in final if one.comparison == cell.name and one.phase == "compare"]
        for metric in cell.judged_metrics:
            drawn = samples.of_cell(plan, cell, members, metric)
            spread = drawn.spread
            if spread is None:
                continue
            needed = None
            if plan.precision is not None:
                needed = _even(_count(spread, _quantile(drawn.level), plan.precision), drawn.fewest)
            # Two one-sided tests at 5 %, and a power of 80 %: both quantiles of the normal distribution.
            for_none = _count(spread, _quantile(0.90) + _quantile(0.60), math.log1p(smallest_effect))
            found.append(
                Need(
                    name=cell.name,
                    metric=metric,
                    by_boot=drawn.by_boot,
                    spread=spread,
                    needed=needed,
                    at_most=cell.repeats.at_most,
                    reached=_quantile(drawn.level) * spread / math.sqrt(cell.repeats.at_most),
                    for_none=_even(for_none, drawn.fewest_to_call),
                )
            )
    return found


def exit_code(document: RunDocument, found: list[Need]) -> int:
    """Return 0 if the plan's limits suffice, 3 if one does not or says nothing, else that of the pilot."""
    if document.verdict in ("invalid", "fail"):
        return document.exit_code
    enough = bool(found) and all(one.suffices for one in found)
    return EXIT_CODES["pass" if enough else "inconclusive"]


def _count(spread: float, quantile: float, half_width: float) -> float:
    return (quantile * spread / half_width) ** 2


def _quantile(confidence: float) -> float:
    """Return half of the interval in standard errors of the Hodges-Lehmann estimate of one sample."""
    from scipy import stats

    return float(stats.norm.ppf((1 + confidence) / 2)) * statistics.ESTIMATE_ERROR


def _even(count: float, fewest: int) -> int:
    """Return a number of pairs as blocks of two have it, and no fewer than an interval needs."""
    return 2 * math.ceil(max(count, fewest) / 2)
