# SPDX-License-Identifier: Apache-2.0
"""Statistics of comparisons: estimates, their rank intervals, and what they let us call.

All figures are positive, and everything is computed on their logs: a ratio and its inverse are equally far
from 1. The functions on logs take numpy arrays whose last axis is the sample, so that a simulation can try
thousands of runs at once with the code that judges one. Nothing is drawn at random.

numpy and scipy are imported where they are used: they take two seconds, which most commands do not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from zclab.base.exit_codes import Verdict

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    Array = NDArray[float64]

CONFIDENCE = 0.95
#: The level that is computed where a comparison may end early, as soon as its interval is narrow: an interval
#: that happens to be too narrow then ends the measuring, which costs what this adds (docs/measuring.md).
SEQUENTIAL_CONFIDENCE = 0.9625
#: Fewest samples with a signed-rank interval at CONFIDENCE: 2 * 0.5 ** 6 = 0.031.
FEWEST_SAMPLES = 6
#: Fewest boots of each kernel with a rank-sum interval at CONFIDENCE: 2 / C(8, 4) = 0.029.
FEWEST_BOOTS = 4

#: How often equal arms may be called different.
FALSE_ALARM = 0.01
#: Fewest pairs that can be significant at FALSE_ALARM: 2 * 0.5 ** 8 = 0.0078.
FEWEST_PAIRS = 8
#: Fewest boots of each kernel that can be: 2 / C(10, 5) = 0.0079.
FEWEST_BOOTS_TO_CALL = 5

#: Up to so many samples the distribution under equal arms is counted out; above, it is as good as normal.
_COUNTED = 50
#: The Hodges-Lehmann estimate has pi / 3 times the variance of the mean where noise is normal.
ESTIMATE_ERROR = (3.141592653589793 / 3) ** 0.5
#: The Hodges-Lehmann estimate of the size of a standard normal variable: the median of (|x| + |y|) / 2.
_NORMAL_SIZE = 0.7436

Effect = Literal["higher", "lower", "none", "inconclusive"]
IntervalKind = Literal[
    "signed-rank (Hodges-Lehmann)", "rank-sum (Hodges-Lehmann shift)", "generalized least squares (drift)"
]
SIGNED_RANK: IntervalKind = "signed-rank (Hodges-Lehmann)"
RANK_SUM: IntervalKind = "rank-sum (Hodges-Lehmann shift)"
GLS: IntervalKind = "generalized least squares (drift)"
#: What drift one arm's own interval allows for: each variance, in that of the noise of one measurement, with
#: each time in measurements after which its correlation has fallen to 1/e.
_DRIFTS = tuple((variance, time) for variance in (0.5, 2.0, 8.0) for time in (10, 50))
_BISECTIONS = 45


class Interval(NamedTuple):
    """An estimate, and the interval around it (null ends: too few samples for one)."""

    estimate: float
    low: float | None
    high: float | None


# ------------------------------------------------------------------------------------- intervals on logs


def walsh_averages(logs: Array) -> Array:
    """Return the sorted averages of every two samples, also of each with itself: shape (..., n(n+1)/2)."""
    import numpy as np

    first, second = np.triu_indices(logs.shape[-1])
    return np.sort((logs[..., first] + logs[..., second]) / 2, axis=-1)


def signed_rank(logs: Array, confidence: float) -> tuple[Array, Array | None, Array | None]:
    """Return the Hodges-Lehmann estimate of one sample, and both ends of its signed-rank interval, if any.

    The interval holds what the signed-rank test does not reject (Hollander, Wolfe and Chicken 2014, 3.3). It
    asks of the samples that they are independent and spread symmetrically.
    """
    return _ordered(walsh_averages(logs), signed_rank_depth(logs.shape[-1], confidence))


def rank_sum(logs_a: Array, logs_b: Array, confidence: float) -> tuple[Array, Array | None, Array | None]:
    """Return how far B lies above A: the Hodges-Lehmann shift, and both ends of Moses' interval, if any.

    The samples are not paired (Hollander, Wolfe and Chicken 2014, 4.3).
    """
    import numpy as np

    differences = logs_b[..., :, None] - logs_a[..., None, :]
    flat = np.sort(differences.reshape(*differences.shape[:-2], -1), axis=-1)
    return _ordered(flat, rank_sum_depth(logs_a.shape[-1], logs_b.shape[-1], confidence))


def _ordered(values: Array, depth: int) -> tuple[Array, Array | None, Array | None]:
    import numpy as np

    middle = np.median(values, axis=-1)
    return (middle, values[..., depth - 1], values[..., -depth]) if depth else (middle, None, None)


@lru_cache(maxsize=1024)
def signed_rank_depth(count: int, confidence: float) -> int:
    """Return which Walsh average from either end an interval begins with; 0: there is none so wide."""
    import numpy as np
    from scipy import stats

    outside = (1 - confidence) / 2
    if count > _COUNTED:
        deviation = (count * (count + 1) * (2 * count + 1) / 24) ** 0.5
        return int(count * (count + 1) / 4 + stats.norm.ppf(outside) * deviation)
    chances = np.ones(1)  # of each sum of the ranks that are positive
    for rank in range(1, count + 1):
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return int(np.searchsorted(np.cumsum(chances), outside, side="right"))


@lru_cache(maxsize=1024)
def rank_sum_depth(count_a: int, count_b: int, confidence: float) -> int:
    """Return which difference from either end an interval begins with; 0: there is none so wide."""
    import numpy as np
    from scipy import stats

    outside, product = (1 - confidence) / 2, count_a * count_b
    if max(count_a, count_b) > _COUNTED:
        deviation = (product * (count_a + count_b + 1) / 12) ** 0.5
        return int(product / 2 + stats.norm.ppf(outside) * deviation)
    ways = [1] + [0] * product  # of each Mann-Whitney statistic: the Gaussian binomial coefficients
    for term in range(1, count_a + 1):
        for value in range(product, count_b + term - 1, -1):
            ways[value] -= ways[value - count_b - term]
        for value in range(term, product + 1):
            ways[value] += ways[value - term]
    chances = np.cumsum(np.array([float(one) for one in ways])) / float(sum(ways))
    return int(np.searchsorted(chances, outside, side="right"))


def level_with_drift(logs: Array, own: Array, confidence: float) -> tuple[Array, Array, Array]:
    """Return one arm's level, and both ends of its interval, where the host drifts.

    logs: of both arms in the order of time, of shape (..., N); own: 1 for those of the N that are the arm's,
    else 0. A figure is a level for each arm, noise, and a drift that both share, an autoregressive process.
    Generalized least squares give the level and a Student's t for each drift of _DRIFTS; the posterior
    probability of each, from equal priors, weights them (a Bayesian model average; Hoeting et al. 1999).
    Drift is never left out, because so few measurements cannot exclude it.
    """
    import numpy as np
    from scipy import stats

    count = logs.shape[-1]
    design = np.stack([own, 1 - own] if not own.all() else [own], axis=1)
    freedom = count - design.shape[1]
    apart = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    levels, errors, weights = [], [], []
    for variance, time in _DRIFTS:
        covariance = np.eye(count) + variance * np.exp(-apart / time)
        precision = np.linalg.inv(covariance)
        information = design.T @ precision @ design
        inverse = np.linalg.inv(information)
        fitted = logs @ precision @ design @ inverse
        left = logs - fitted @ design.T
        squares = np.maximum(((left @ precision) * left).sum(axis=-1), 1e-300)
        levels.append(fitted[..., 0])
        errors.append(np.sqrt(squares / freedom * inverse[0, 0]))
        determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
        weights.append(-(determinants + freedom * np.log(squares)) / 2)
    level, error, weight = np.array(levels), np.array(errors), np.array(weights)
    weight = np.exp(weight - weight.max(axis=0))
    weight /= weight.sum(axis=0)

    def quantile(below: float) -> Array:
        far = stats.t.ppf(1 - (1 - confidence) / 200, freedom) * error
        low, high = (level - far).min(axis=0), (level + far).max(axis=0)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            reached = (weight * stats.t.cdf((middle - level) / error, freedom)).sum(axis=0) < below
            low, high = np.where(reached, middle, low), np.where(reached, high, middle)
        return np.asarray((low + high) / 2)

    outside = (1 - confidence) / 2
    return (weight * level).sum(axis=0), quantile(outside), quantile(1 - outside)


# ------------------------------------------------------------------------------------- of one comparison


def sample_interval(samples: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the Hodges-Lehmann estimate of positive samples with its signed-rank interval.

    Raises:
        ValueError: there are no samples, or one is not positive.
    """
    return _exponential(signed_rank(_logs(samples), confidence))


def shift_interval(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the ratio of unpaired positive samples, B to A, with its rank-sum interval.

    Raises:
        ValueError: there are no samples, or one is not positive.
    """
    return _exponential(rank_sum(_logs(a), _logs(b), confidence))


def arm_interval(figures: Sequence[float], own: Sequence[bool], confidence: float = CONFIDENCE) -> Interval:
    """Return one arm's own figure with an interval that allows for drift.

    figures: of both arms, in the order of time; own: which of them are the arm's.

    Raises:
        ValueError: the arm has no figure, or one is not positive.
    """
    import numpy as np

    is_own, logs = np.asarray(own, dtype=float), _logs(figures)
    if not any(own):
        raise ValueError("no samples")
    if sum(own) < FEWEST_SAMPLES:
        return Interval(float(np.exp(np.median(logs[is_own > 0]))), None, None)
    return _exponential(level_with_drift(logs, is_own, confidence))


def _logs(samples: Sequence[float]) -> Array:
    import numpy as np

    if not samples:
        raise ValueError("no samples")
    if min(samples) <= 0:
        raise ValueError(f"{min(samples)} is not a positive figure")
    return np.asarray(np.log(samples), dtype=float)


def _exponential(found: tuple[Array, Array | None, Array | None]) -> Interval:
    import numpy as np

    middle, low, high = (None if one is None else float(np.exp(one)) for one in found)
    assert middle is not None
    return Interval(middle, low, high)


def decide(
    interval: Interval, at_least: float | None, at_most: float | None, *, passes_by_estimate: bool = False
) -> Verdict:
    """Judge an interval against a one-sided bound: better never fails.

    It passes when the whole interval keeps the bound, or where the bound means "as good as" when the estimate
    does (passes_by_estimate). It fails when none of it keeps the bound, and is inconclusive between, or when
    there were too few samples for an interval.
    """
    if interval.low is None or interval.high is None:
        return "inconclusive"
    if at_most is not None:
        kept = (interval.estimate if passes_by_estimate else interval.high) <= at_most
        missed = interval.low > at_most
    elif at_least is not None:
        kept = (interval.estimate if passes_by_estimate else interval.low) >= at_least
        missed = interval.high < at_least
    else:
        raise ValueError("a bound needs at_least or at_most")
    return "pass" if kept else "fail" if missed else "inconclusive"


def half_width(interval: Interval) -> float | None:
    """Return half of an interval as a share of its estimate; null if there is none."""
    if interval.low is None or interval.high is None:
        return None
    return (interval.high - interval.low) / 2 / interval.estimate


def narrow(interval: Interval, precision: float) -> bool:
    """Say whether half of an interval is at most `precision` of its estimate."""
    half = half_width(interval)
    return half is not None and half <= precision


def p_value(ratios: Sequence[float]) -> float:
    """Return how likely ratios as one-sided as these are between equal arms (scipy.stats.wilcoxon).

    The order in a pair is drawn at random, so between equal arms the log of a ratio is as likely as its
    opposite. Ranks, not sizes, are added, so that a pair which something else on the machine disturbed has
    no more weight than the widest of the others.

    Raises:
        ValueError: there are no ratios, or one is not positive.
    """
    import numpy as np
    from scipy import stats

    logs = _logs(ratios)
    if not np.any(logs) or len(ratios) < 2:
        return 1.0
    # By itself it would draw permutations where two ratios are equal; the table errs to the safe side there.
    method: Literal["exact", "approx"] = "exact" if len(ratios) <= _COUNTED else "approx"
    return float(stats.wilcoxon(logs, method=method).pvalue)


def shift_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how likely unpaired samples as far apart as these are alike (scipy.stats.mannwhitneyu)."""
    return rank_p_value(list(_logs(a)), list(_logs(b)))


def rank_p_value(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how likely samples of two populations that are alike have ranks so unlike."""
    from scipy import stats

    return float(stats.mannwhitneyu(a, b).pvalue)


def spread(centred: Array) -> float:
    """Return the standard deviation of centred logs: their Hodges-Lehmann size, as normal ones have it."""
    import numpy as np

    return float(np.median(walsh_averages(np.abs(centred)))) / _NORMAL_SIZE


def spread_of_pairs(ratios: Sequence[float], repeats: Sequence[float] = ()) -> float:
    """Return the standard deviation of the log of one pair's ratio.

    ratios: of the pairs. repeats: the ratio of two neighbouring measurements of one arm, which differ by
    noise alone and as much as a pair does.

    Raises:
        ValueError: there are no ratios, or one is not positive.
    """
    import numpy as np

    logs = _logs(ratios)
    centred = logs - np.median(walsh_averages(logs))
    return spread(np.concatenate([centred, _logs(repeats)]) if repeats else centred)


def spread_of_boots(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the standard deviation of the log of the ratio of one boot of B to one of A."""
    import numpy as np

    arms = [_logs(a), _logs(b)]
    return 2**0.5 * spread(np.concatenate([logs - np.median(walsh_averages(logs)) for logs in arms]))


def resolution(ratios: Sequence[float], repeats: Sequence[float] = ()) -> float | None:
    """Return the smallest difference that these pairs can show: once in a hundred times chance shows more.

    An estimate of n pairs is off by 2.576 * sqrt(pi / 3 / n) times the spread of one once in a hundred times.
    Null with fewer than FEWEST_PAIRS pairs.
    """
    if len(ratios) < FEWEST_PAIRS:
        return None
    import numpy as np
    from scipy import stats

    error = spread_of_pairs(ratios, repeats) * ESTIMATE_ERROR / len(ratios) ** 0.5
    return float(np.expm1(stats.norm.ppf(1 - FALSE_ALARM / 2) * error))


def effect(
    interval: Interval, within: Interval, p_value: float, smallest: float, resolved: float = 0.0
) -> Effect:
    """Call the difference between two arms.

    "higher" or "lower" needs all of: significance at FALSE_ALARM, and an estimate farther from 1 than the
    smallest effect of interest and than chance (`resolved`). "none" needs that two one-sided tests at 5 %
    find the ratio nearer to 1 than the smallest effect: the 90 % interval (`within`) is (Schuirmann 1987).
    """
    distance = abs(interval.estimate - 1)
    if distance > max(smallest, resolved) and p_value <= FALSE_ALARM:
        return "higher" if interval.estimate > 1 else "lower"
    low, high = within.low, within.high
    if low is not None and high is not None and 1 - smallest <= low and high <= 1 + smallest:
        return "none"
    return "inconclusive"
