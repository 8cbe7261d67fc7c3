# SPDX-License-Identifier: Apache-2.0
"""Intervals and what is decided by them, on synthetic samples of known medians."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from zclab.analysis import statistics
from zclab.analysis.statistics import (
    FEWEST_BOOTS,
    FEWEST_SAMPLES,
    Interval,
    decide,
    sample_interval,
    shift_interval,
)

LOW, HIGH = 0.4, 0.6


@pytest.mark.parametrize(("samples", "lowest"), [(FEWEST_SAMPLES, 0.9), (10, 0.9)])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_interval_covers_the_true_median(samples: int, lowest: float, shape: str) -> None:
    """Of many synthetic runs, about 95 % of the intervals hold the median that they were drawn around."""
    random_numbers = np.random.default_rng(20260101)
    true_median, runs, held = 0.37, 300, 0
    for _ in range(runs):
        if shape == "normal":
            drawn = random_numbers.normal(true_median, 0.02, samples)
        else:
            drawn = true_median * np.exp(random_numbers.normal(0, 0.3, samples))
        interval = sample_interval([float(one) for one in drawn])
        assert interval.low is not None and interval.high is not None
        assert interval.low <= interval.estimate <= interval.high
        held += interval.low <= true_median <= interval.high
    assert lowest <= held / runs <= 1.0


def test_more_samples_give_a_narrower_interval() -> None:
    random_numbers = np.random.default_rng(1)
    few, many = (
        sample_interval([float(one) for one in random_numbers.normal(1, 0.1, count)]) for count in (8, 80)
    )
    assert few.low is not None and few.high is not None and many.low is not None and many.high is not None
    assert many.high - many.low < few.high - few.low


def test_the_same_samples_give_the_same_interval() -> None:
    samples = [0.31, 0.35, 0.36, 0.37, 0.4, 0.44, 0.38]
    assert sample_interval(samples) == sample_interval(samples)


@pytest.mark.parametrize("count", range(1, FEWEST_SAMPLES))
def test_too_few_samples_have_a_median_and_no_interval(count: int) -> None:
    assert sample_interval([0.5] * count) == Interval(0.5, None, None)


def test_fewest_samples_is_what_a_sign_test_needs() -> None:
    assert 2 * 0.5**FEWEST_SAMPLES < 0.05 < 2 * 0.5 ** (FEWEST_SAMPLES - 1)


def test_equal_samples_have_an_interval_of_no_width() -> None:
    assert sample_interval([0.5] * 6) == pytest.approx(Interval(0.5, 0.5, 0.5))


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="no samples"):
        sample_interval([])
    with pytest.raises(ValueError, match="no samples"):
        statistics.arm_interval([1.0], [False])


@pytest.mark.parametrize("figure", [0.0, -1.0])
def test_a_figure_that_has_no_ratio_is_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="not a positive figure"):
        sample_interval([1.0] * 9 + [figure])


#: How many Walsh averages are cut off at each end at 95 %: Hollander, Wolfe and Chicken 2014, table A.4.
SIGNED_RANK_DEPTHS = {5: 0, 6: 1, 7: 3, 8: 4, 9: 6, 10: 9, 12: 14, 15: 26, 20: 53, 30: 138, 50: 435}


@pytest.mark.parametrize("count", SIGNED_RANK_DEPTHS)
def test_signed_rank_intervals_have_the_critical_values_of_the_tables(count: int) -> None:
    assert statistics.signed_rank_depth(count, 0.95) == SIGNED_RANK_DEPTHS[count]


#: The same for two samples: critical values of the Mann-Whitney statistic at 5 %, two-sided, plus one.
RANK_SUM_DEPTHS = {
    (3, 3): 0,
    (4, 4): 1,
    (3, 5): 1,
    (5, 5): 3,
    (6, 6): 6,
    (5, 8): 7,
    (10, 10): 24,
    (20, 20): 128,
}


@pytest.mark.parametrize(("counts"), RANK_SUM_DEPTHS)
def test_rank_sum_intervals_have_the_critical_values_of_the_tables(counts: tuple[int, int]) -> None:
    assert statistics.rank_sum_depth(*counts, 0.95) == RANK_SUM_DEPTHS[counts]
    assert statistics.rank_sum_depth(*counts[::-1], 0.95) == RANK_SUM_DEPTHS[counts]


@pytest.mark.parametrize(
    "depth",
    [lambda n: statistics.signed_rank_depth(n, 0.95), lambda n: statistics.rank_sum_depth(n, n, 0.95)],
)
def test_critical_values_go_on_smoothly_where_they_are_approximated(depth: Callable[[int], int]) -> None:
    steps = [depth(count + 1) - depth(count) for count in range(46, 56)]
    assert max(steps) - min(steps) <= 8


def test_an_interval_is_what_the_test_does_not_reject() -> None:
    """The end of the interval is where scipy's own signed-rank test begins to reject."""
    samples = [1.11, 0.97, 1.06, 1.23, 1.02, 1.17, 0.93, 1.3, 1.08]
    interval = sample_interval(samples)
    assert interval.low is not None and interval.high is not None
    for end, inside in ((interval.low, 1.001), (interval.high, 1 / 1.001)):
        assert statistics.p_value([one / (end * inside) for one in samples]) > 0.05
        assert statistics.p_value([one / (end / inside) for one in samples]) <= 0.05


def test_a_ratio_and_its_inverse_have_inverse_intervals() -> None:
    samples = [1.11, 0.97, 1.06, 1.23, 1.02, 1.17, 0.93]
    interval, inverse = sample_interval(samples), sample_interval([1 / one for one in samples])
    assert interval.low is not None and interval.high is not None
    assert inverse == pytest.approx(Interval(1 / interval.estimate, 1 / interval.high, 1 / interval.low))


def test_unpaired_samples_are_compared_by_their_shift() -> None:
    a = [10.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    assert shift_interval(a, [2 * one for one in a]).estimate == pytest.approx(2, rel=0.02)
    found = shift_interval(a, [3 * one for one in a])
    assert found.low is not None and found.low > 2
    assert statistics.shift_p_value(a, [3 * one for one in a]) < 0.01


@pytest.mark.parametrize("count", range(1, FEWEST_BOOTS))
def test_too_few_boots_have_no_interval(count: int) -> None:
    assert shift_interval([1.0] * count, [2.0] * count) == pytest.approx(Interval(2.0, None, None))


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


def called(ratios: list[float], smallest: float, resolved: float) -> str:
    """Return what is called of the ratios of pairs."""
    return statistics.effect(
        sample_interval(ratios), sample_interval(ratios, 0.9), statistics.p_value(ratios), smallest, resolved
    )


def test_equal_arms_are_rarely_called_different() -> None:
    """At a false-alarm rate of at most 0.01, with no help from the smallest effect or from the resolution."""
    calls = [called(paired(1.0, 0.05, 10, seed), 1e-9, 0.0) for seed in range(1000)]
    alarms = sum(call in ("higher", "lower") for call in calls)
    # Binomial with p = 0.01: 22 or more of 1000 happen once in 2000 times.
    assert alarms <= 21
    assert alarms >= 1  # and the check can alarm at all


def test_a_difference_of_five_percent_is_called() -> None:
    calls = [called(paired(1.05, 0.015, 14, seed), 0.02, 0.015) for seed in range(200)]
    assert sum(call == "higher" for call in calls) >= 190
    assert "lower" not in calls


@pytest.mark.parametrize("resolved", [0.0, 0.03, 0.2])
def test_what_chance_explains_is_not_called(resolved: float) -> None:
    found = called(paired(1.05, 0.001, 12, 1), 0.02, resolved)
    assert found == ("higher" if resolved < 0.05 else "inconclusive")


def test_no_effect_needs_the_narrower_interval_of_two_one_sided_tests() -> None:
    """95 % reach beyond the smallest effect, 90 % do not."""
    wide, narrower = Interval(1.0, 0.975, 1.021), Interval(1.0, 0.981, 1.019)
    assert statistics.effect(wide, narrower, 0.5, 0.02) == "none"
    assert statistics.effect(wide, wide, 0.5, 0.02) == "inconclusive"


def test_too_few_pairs_call_nothing() -> None:
    assert statistics.p_value([2.0] * 7) > statistics.FALSE_ALARM
    assert statistics.resolution([1.1] * 7) is None


def test_resolution_is_the_spread_of_the_pairs() -> None:
    """1 % an arm is 1.41 % a pair; the estimate of 16 pairs is off by 0.93 % once in a hundred times."""
    expected = 2.576 * 0.01 * 2**0.5 * (math.pi / 3) ** 0.5 / 4
    found = [statistics.resolution(paired(1.3, 0.01, 16, seed)) for seed in range(200)]
    assert float(np.median([one for one in found if one is not None])) == pytest.approx(expected, rel=0.1)


def test_the_spread_of_boots_is_that_of_both_kernels() -> None:
    """2 % between boots is 2.8 % between a boot of B and one of A, however far their kernels are apart."""
    numbers = np.random.default_rng(1)
    found = [
        statistics.spread_of_boots(
            [float(one) for one in np.exp(numbers.normal(0, 0.02, 8))],
            [float(one) for one in np.exp(numbers.normal(-1, 0.02, 8))],
        )
        for _ in range(200)
    ]
    assert float(np.mean(found)) == pytest.approx(0.02 * 2**0.5, rel=0.1)


def test_neighbours_of_one_arm_sharpen_the_resolution() -> None:
    """Eight pairs alone estimate a spread poorly; with half as many neighbours, better."""
    alone = [statistics.resolution(paired(1.0, 0.01, 8, seed)) for seed in range(400)]
    both = [
        statistics.resolution(paired(1.0, 0.01, 8, seed), paired(1.0, 0.01, 4, 1000 + seed))
        for seed in range(400)
    ]
    spreads = [float(np.std(np.log([one for one in found if one is not None]))) for found in (alone, both)]
    assert spreads[1] < 0.9 * spreads[0]
    assert spreads[1] < 0.3  # within a factor of 0.55 to 1.8, 95 of 100 times


def test_one_disturbed_pair_hardly_changes_the_resolution() -> None:
    quiet = paired(1.0, 0.01, 16, 1)
    before, after = statistics.resolution(quiet), statistics.resolution([*quiet[:-1], 0.5])
    assert before is not None and after is not None
    assert after == pytest.approx(before, rel=0.5)


def test_a_disturbed_pair_has_one_vote() -> None:
    ratios = [1.05, 1.04, 1.06, 1.05, 1.03, 1.05, 1.06, 1.04, 1.05, 1.05, 1.06, 1.05, 1.04, 1.05, 1.03, 0.5]
    assert statistics.p_value(ratios) <= 0.01
    assert called(ratios, 0.02, 0.02) == "higher"


def test_p_value_of_equal_figures_is_one() -> None:
    assert statistics.p_value([1.0] * 10) == 1.0


@pytest.mark.parametrize(
    ("interval", "precision", "narrow"),
    [
        ((1.0, 0.995, 1.005), 0.01, True),
        ((1.0, 0.98, 1.02), 0.01, False),
        ((1.0, None, None), 0.5, False),
        ((0.1, 0.09, 0.11), 0.05, False),  # a share of the estimate
    ],
)
def test_narrow(interval: tuple[float, float | None, float | None], precision: float, narrow: bool) -> None:
    assert statistics.narrow(statistics.Interval(*interval), precision) is narrow


# ------------------------------------------------------------------------------------------ one arm's figure


def test_one_arms_interval_is_wider_than_without_drift() -> None:
    """Half as wide would be right if the machine surely did not drift; nothing in 20 figures says so."""
    numbers = np.random.default_rng(1)
    own = [True, False, False, True] * 5
    figures = [float(one) for one in np.exp(numbers.normal(0, 0.02, len(own)))]
    found = statistics.arm_interval(figures, own)
    plain = sample_interval([one for one, mine in zip(figures, own, strict=True) if mine])
    assert (
        found.low is not None and found.high is not None and plain.low is not None and plain.high is not None
    )
    assert found.low < plain.low and found.high > plain.high


def test_one_arms_interval_grows_with_the_drift_that_both_arms_show() -> None:
    numbers = np.random.default_rng(1)
    own = [True, False, False, True] * 5
    noise = numbers.normal(0, 0.01, len(own))
    drift = np.where(np.array(own), 0, 0.04) * np.linspace(-1, 1, len(own))  # in the other arm alone
    widths = []
    for logs in (noise, noise + drift):
        found = statistics.arm_interval([float(np.exp(one)) for one in logs], own)
        assert found.low is not None and found.high is not None
        widths.append(math.log(found.high / found.low))
    assert widths[1] > 1.5 * widths[0]


def test_a_figure_of_too_few_measurements_has_no_interval() -> None:
    found = statistics.arm_interval([2.0, 1.0] * 5, [True, False] * 5)
    assert found == pytest.approx(Interval(2.0, None, None))


def test_one_arm_alone_has_an_interval_too() -> None:
    found = statistics.arm_interval([2.0, 2.1, 1.9, 2.05, 1.95, 2.0], [True] * 6)
    assert found.low is not None and found.high is not None
    assert found.low < 2.0 < found.high
