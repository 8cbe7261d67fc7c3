# SPDX-License-Identifier: Apache-2.0
"""Statistics of interleaved comparisons: medians and their bootstrap confidence intervals."""

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

Outcome = Literal["pass", "fail", "inconclusive"]


class Interval(NamedTuple):
    """A median, and the 95 % interval it lies in (null ends: too few samples to say)."""

    median: float
    low: float | None
    high: float | None


def median_interval(samples: list[float]) -> Interval:
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
        confidence_level=CONFIDENCE,
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
