# SPDX-License-Identifier: Apache-2.0
"""Statistics of interleaved comparisons: medians, their bootstrap intervals, and what they let us call.

numpy and scipy are imported where they are used: they take two seconds, which most commands do not need.
"""

from __future__ import annotations

import statistics
from typing import Literal, NamedTuple

from zclab.base.exit_codes import Verdict

#: Fewest samples that can be significant at 5 % by sign alone: 2 * 0.5 ** 6 = 0.031.
FEWEST_SAMPLES = 6
CONFIDENCE = 0.95
_RESAMPLES = 9999
#: A fixed seed: the interval of a run is the same each time its files are read again.
_SEED = 20180416

#: How often equal arms may be called different.
FALSE_ALARM = 0.01
#: Fewest pairs that can be significant at FALSE_ALARM by sign alone: 2 * 0.5 ** 8 = 0.0078.
FEWEST_PAIRS = 8

Effect = Literal["higher", "lower", "none", "inconclusive"]


class Interval(NamedTuple):
    """A median, and the interval it lies in (null ends: too few samples to say)."""

    median: float
    low: float | None
    high: float | None


def median_interval(samples: list[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the median of `samples` with its percentile bootstrap interval (scipy.stats.bootstrap).

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("no samples")
    median = float(statistics.median(samples))
    if len(samples) < FEWEST_SAMPLES:
        return Interval(median, None, None)
    if len(set(samples)) == 1:
        return Interval(median, median, median)
    import numpy as np
    from scipy import stats

    result = stats.bootstrap(
        (np.asarray(samples),),
        np.median,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return Interval(median, float(result.confidence_interval.low), float(result.confidence_interval.high))


def decide(
    interval: Interval, at_least: float | None, at_most: float | None, *, passes_by_median: bool = False
) -> Verdict:
    """Judge an interval against a one-sided bound: better never fails.

    It passes when the whole interval keeps the bound, or where the bound means "as good as" when the median
    does (passes_by_median). It fails when none of it keeps the bound, and is inconclusive between, or when
    there were too few samples for an interval.
    """
    if interval.low is None or interval.high is None:
        return "inconclusive"
    if at_most is not None:
        kept = (interval.median if passes_by_median else interval.high) <= at_most
        missed = interval.low > at_most
    elif at_least is not None:
        kept = (interval.median if passes_by_median else interval.low) >= at_least
        missed = interval.high < at_least
    else:
        raise ValueError("a bound needs at_least or at_most")
    return "pass" if kept else "fail" if missed else "inconclusive"


def narrow(interval: Interval, precision: float) -> bool:
    """Say whether half of an interval is at most `precision` of its median."""
    if interval.low is None or interval.high is None:
        return False
    return (interval.high - interval.low) / 2 <= precision * abs(interval.median)


def p_value(ratios: list[float]) -> float:
    """Return how likely ratios as far from 1 are between equal arms (scipy.stats.permutation_test).

    The order in a pair is drawn at random, so between equal arms the log of a ratio is as likely as its
    opposite: its sign is flipped at random. Logs beyond their median size count as much as that and no more,
    so that a pair which something else on the machine disturbed has one vote like the others.
    """
    import numpy as np
    from scipy import stats

    logs = np.log(np.asarray(ratios))
    size = np.median(np.abs(logs))
    if not size or len(ratios) < 2:
        return 1.0
    clipped = np.clip(logs, -size, size)
    found = stats.permutation_test(
        (clipped,),
        lambda flipped, axis: np.sum(flipped, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        rng=np.random.default_rng(_SEED),
    )
    return float(found.pvalue)


def resolution(equal: list[float], pairs: int) -> float | None:
    """Return the smallest difference that `pairs` pairs can show, as equal arms say.

    equal: the ratios of pairs of equal arms. Their spread (1.4826 times the median size of their logs, which
    is the standard deviation of a normal distribution; Rousseeuw and Croux 1993) gives the standard error of
    a median, 1.2533 times that of a mean; it is off by 2.576 of these once in a hundred times. Where equal
    arms even differ surely, by so much more. Null if there are too few pairs to say.
    """
    if len(equal) < FEWEST_PAIRS or pairs < 1:
        return None
    import numpy as np
    from scipy import stats

    spread = 1.4826 * float(np.median(np.abs(np.log(np.asarray(equal)))))
    error = 1.2533 * spread / float(np.sqrt(pairs))
    bias = abs(float(np.median(equal)) - 1) if p_value(equal) <= FALSE_ALARM else 0.0
    return float(stats.norm.ppf(1 - FALSE_ALARM / 2)) * error + bias


def effect(ratios: list[float], smallest: float, resolved: float | None) -> Effect | None:
    """Call the difference between two arms, from the ratios of B to A of each pair.

    "higher" or "lower" needs all of: significance at FALSE_ALARM, and a median ratio farther from 1 than the
    smallest effect of interest and than equal arms were seen to differ (`resolved`). "none" needs the whole
    95 % interval within the smallest effect. Null if there are too few pairs, or no equal arms were measured.
    """
    if len(ratios) < FEWEST_PAIRS or resolved is None:
        return None
    interval = median_interval(ratios)
    distance = abs(interval.median - 1)
    if distance > max(smallest, resolved) and p_value(ratios) <= FALSE_ALARM:
        return "higher" if interval.median > 1 else "lower"
    low, high = interval.low, interval.high
    if low is not None and high is not None and 1 - smallest <= low and high <= 1 + smallest:
        return "none"
    return "inconclusive"
