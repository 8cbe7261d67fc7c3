# SPDX-License-Identifier: Apache-2.0
"""Intervals and what is decided by them, on synthetic samples of known medians."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zclab.analysis import statistics
from zclab.analysis.statistics import FEWEST_SAMPLES, Interval, decide, median_interval

LOW, HIGH = 0.4, 0.6


@pytest.mark.parametrize(("samples", "lowest"), [(FEWEST_SAMPLES, 0.85), (10, 0.85)])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_interval_covers_the_true_median(samples: int, lowest: float, shape: str) -> None:
    """Of many synthetic runs, about 95 % of the intervals hold the median that they were drawn around."""
    random_numbers = np.random.default_rng(20260101)
    true_median, runs, held = 0.37, 80, 0
    for _ in range(runs):
        if shape == "normal":
            drawn = random_numbers.normal(true_median, 0.02, samples)
        else:
            drawn = true_median * np.exp(random_numbers.normal(0, 0.3, samples))
        interval = median_interval([float(one) for one in drawn])
        assert interval.low is not None and interval.high is not None
        assert interval.low <= interval.median <= interval.high
        held += interval.low <= true_median <= interval.high
    assert lowest <= held / runs <= 1.0


def test_more_samples_give_a_narrower_interval() -> None:
    random_numbers = np.random.default_rng(1)
    few, many = (
        median_interval([float(one) for one in random_numbers.normal(1, 0.1, count)]) for count in (8, 80)
    )
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert many.high - many.low < few.high - few.low


def test_the_same_samples_give_the_same_interval() -> None:
    samples = [0.31, 0.35, 0.36, 0.37, 0.4, 0.44, 0.38]
    assert median_interval(samples) == median_interval(samples)


@pytest.mark.parametrize("count", range(1, FEWEST_SAMPLES))
def test_too_few_samples_have_a_median_and_no_interval(count: int) -> None:
    assert median_interval([0.5] * count) == Interval(0.5, None, None)


def test_fewest_samples_is_what_a_sign_test_needs() -> None:
    assert 2 * 0.5**FEWEST_SAMPLES < 0.05 < 2 * 0.5 ** (FEWEST_SAMPLES - 1)


def test_equal_samples_have_an_interval_of_no_width() -> None:
    assert median_interval([0.5] * 6) == Interval(0.5, 0.5, 0.5)


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        median_interval([])


@pytest.mark.parametrize(
    ("at_least", "at_most", "outcome"),
    [
        (None, 0.7, "pass"),
        (None, HIGH, "pass"),
        (None, 0.5, "inconclusive"),
        (None, LOW, "inconclusive"),
        (None, 0.3, "fail"),
        (0.3, None, "pass"),
        (LOW, None, "pass"),
        (0.5, None, "inconclusive"),
        (HIGH, None, "inconclusive"),
        (0.7, None, "fail"),
    ],
)
def test_decide(at_least: float | None, at_most: float | None, outcome: str) -> None:
    assert decide(Interval(0.5, LOW, HIGH), at_least, at_most) == outcome


@pytest.mark.parametrize("bound", [0.0, 0.5, 1e9])
def test_without_an_interval_nothing_is_decided(bound: float) -> None:
    assert decide(Interval(0.5, None, None), None, bound) == "inconclusive"
    assert decide(Interval(0.5, None, None), bound, None) == "inconclusive"


def test_better_never_fails() -> None:
    assert decide(Interval(1e-9, 0.0, 1e-6), None, 0.5) == "pass"
    assert decide(Interval(1e9, 1e6, 1e12), 0.5, None) == "pass"


def test_no_bound() -> None:
    with pytest.raises(ValueError, match="at_least or at_most"):
        decide(Interval(0.5, LOW, HIGH), None, None)


def test_a_bound_that_is_no_number_never_passes() -> None:
    assert decide(Interval(0.5, LOW, HIGH), math.nan, None) != "pass"


# ------------------------------------------------------------------------------------------------- effects


def paired(ratio: float, spread: float, pairs: int, seed: int) -> list[float]:
    """Return ratios of pairs whose arms both vary by `spread`."""
    numbers = np.random.default_rng(seed)
    return [float(ratio * np.exp(one)) for one in numbers.normal(0, spread * 2**0.5, pairs)]


def test_equal_arms_are_rarely_called_different() -> None:
    """At a false-alarm rate of at most 0.01, with no help from the smallest effect or from equal arms."""
    calls = [statistics.effect(paired(1.0, 0.05, 10, seed), 1e-9, 0.0) for seed in range(1000)]
    alarms = sum(call in ("higher", "lower") for call in calls)
    # Binomial with p = 0.01: 22 or more of 1000 happen once in 2000 times.
    assert alarms <= 21
    assert alarms >= 1  # and the check can alarm at all


def test_a_difference_of_five_percent_is_called() -> None:
    calls = [statistics.effect(paired(1.05, 0.015, 14, seed), 0.02, 0.015) for seed in range(200)]
    assert sum(call == "higher" for call in calls) >= 190
    assert "lower" not in calls


@pytest.mark.parametrize("resolved", [0.0, 0.03, 0.2])
def test_what_equal_arms_show_is_not_called(resolved: float) -> None:
    found = statistics.effect(paired(1.05, 0.001, 12, 1), 0.02, resolved)
    assert found == ("higher" if resolved < 0.05 else "inconclusive")


def test_too_few_pairs_call_nothing() -> None:
    assert statistics.effect([2.0] * 7, 0.02, 0.0) is None
    assert statistics.resolution([1.1] * 7, 10) is None


def test_resolution_is_the_spread_of_equal_arms() -> None:
    """1 % an arm is 1.41 % a pair; the median of 16 pairs is then off by 1.14 % once in a hundred times."""
    found = [statistics.resolution(paired(1.0, 0.01, 40, seed), 16) for seed in range(50)]
    assert float(np.median([one for one in found if one is not None])) == pytest.approx(0.0114, rel=0.1)
    more = statistics.resolution(paired(1.0, 0.01, 40, 1), 64)
    less = statistics.resolution(paired(1.0, 0.01, 40, 1), 16)
    assert more is not None and less is not None
    assert more == pytest.approx(less / 2)


def test_equal_arms_that_surely_differ_bound_by_as_much_more() -> None:
    biased = statistics.resolution([1.2] * 10, 10)
    assert biased is not None and biased > 0.2


def test_a_disturbed_pair_has_one_vote() -> None:
    ratios = [1.05, 1.04, 1.06, 1.05, 1.03, 1.05, 1.06, 1.04, 1.05, 1.05, 1.06, 1.05, 0.5]
    assert statistics.p_value(ratios) <= 0.01
    assert statistics.effect(ratios, 0.02, 0.02) == "higher"


def test_p_value_of_equal_figures_is_one() -> None:
    assert statistics.p_value([1.0] * 10) == 1.0


@pytest.mark.parametrize(
    ("interval", "precision", "narrow"),
    [((1.0, 0.995, 1.005), 0.01, True), ((1.0, 0.98, 1.02), 0.01, False), ((1.0, None, None), 0.5, False)],
)
def test_narrow(interval: tuple[float, float | None, float | None], precision: float, narrow: bool) -> None:
    assert statistics.narrow(statistics.Interval(*interval), precision) is narrow
