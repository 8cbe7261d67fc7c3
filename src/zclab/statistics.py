# SPDX-License-Identifier: Apache-2.0
"""Statistics of interleaved comparisons: medians, their bootstrap intervals, and what they let us call."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

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

Outcome = Literal["pass", "fail", "inconclusive"]
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
    median = float(np.median(samples))
    if len(samples) < FEWEST_SAMPLES:
        return Interval(median, None, None)
    if len(set(samples)) == 1:
        return Interval(median, median, median)
    result = stats.bootstrap(
        (np.asarray(samples),),
        np.median,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return Interval(median, float(result.confidence_interval.low), float(result.confidence_interval.high))


def decide(interval: Interval, at_least: float | None, at_most: float | None) -> Outcome:
    """Judge an interval against a one-sided bound: better never fails.

    It passes when the whole interval keeps the bound, fails when none of it does, and is inconclusive
    between, or when there were too few samples for an interval.
    """
    if interval.low is None or interval.high is None:
        return "inconclusive"
    if at_most is not None:
        return "pass" if interval.high <= at_most else "fail" if interval.low > at_most else "inconclusive"
    if at_least is not None:
        return "pass" if interval.low >= at_least else "fail" if interval.high < at_least else "inconclusive"
    raise ValueError("a bound needs at_least or at_most")


def narrow(interval: Interval, precision: float) -> bool:
    """Say whether half of an interval is at most `precision` of its median."""
    if interval.low is None or interval.high is None:
        return False
    return (interval.high - interval.low) / 2 <= precision * abs(interval.median)


def p_value(ratios: list[float]) -> float:
    """Return how likely ratios as far from 1 are between equal arms (scipy.stats.wilcoxon of their logs).

    The order in a pair is drawn at random, so between equal arms the log of a ratio is as likely as its
    opposite, which is all that the test asks for.
    """
    logs = np.log(np.asarray(ratios))
    return float(stats.wilcoxon(logs).pvalue) if np.any(logs) else 1.0


def resolution(ratios: list[float]) -> float | None:
    """Return how far equal arms seemed to differ: the farther end of their 99 % interval, less 1.

    Null if there are too few pairs to say.
    """
    if len(ratios) < FEWEST_PAIRS:
        return None
    interval = median_interval(ratios, 1 - FALSE_ALARM)
    if interval.low is None or interval.high is None:
        return None
    return max(interval.high - 1, 1 - interval.low, 0.0)


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
