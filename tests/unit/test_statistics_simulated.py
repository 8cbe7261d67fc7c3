# SPDX-License-Identifier: Apache-2.0
"""How often the method is right: thousands of simulated runs, judged by the project's own functions.

The nightly test makes the tables of docs/measuring.md and compares them; a few of their cells are tried in
every run. Everything is drawn from a fixed seed. Figures are logs: noise of 0.05 is 5 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from zclab.analysis import statistics
from zclab.analysis.statistics import CONFIDENCE, FALSE_ALARM, SEQUENTIAL_CONFIDENCE, Interval
from zclab.base.paths import project_root

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]
DRAWS = 40_000
FEW_DRAWS = 2_000
SEED = 20180416
#: What arm B really costs, in logs of A's.
TRUE = math.log(0.8)
COUNTS = (6, 8, 12, 20, 30)


def normal(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    return numbers.normal(size=shape)


def heavy(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Student's t with three degrees of freedom: one figure in seventeen is beyond three deviations."""
    return numbers.standard_t(3, size=shape)


def autoregressive(time: float) -> Draw:
    """Return a stationary drift whose correlation falls to 1/e after so many measurements."""

    def draw(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
        kept = math.exp(-1 / time)
        steps = numbers.normal(size=shape) * math.sqrt(1 - kept**2)
        steps[:, 0] = numbers.normal(size=shape[0])
        for at in range(1, shape[1]):
            steps[:, at] += kept * steps[:, at - 1]
        return steps

    return draw


def random_walk(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    """From the true value, as far in the whole run as one deviation."""
    return np.cumsum(numbers.normal(size=shape), axis=1) / math.sqrt(shape[1])


def linear(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Up or down, through the true value in the middle of the run."""
    return numbers.choice([-2.0, 2.0], size=(shape[0], 1)) * (np.arange(shape[1]) / (shape[1] - 1) - 0.5)


def step(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    """From one deviation on one side to one on the other, at any time."""
    after = np.arange(shape[1]) >= numbers.integers(0, shape[1], size=(shape[0], 1))
    sides: Array = np.where(after, 1.0, -1.0) * numbers.choice([-1.0, 1.0], size=(shape[0], 1))
    return sides


def nothing(numbers: np.random.Generator, shape: tuple[int, int]) -> Array:
    return np.zeros(shape)


class Arms(NamedTuple):
    """The logs of both arms in the order of time, and which of them are arm B's, each (runs, 2 n)."""

    logs: Array
    is_b: NDArray[np.bool_]

    def ratios(self) -> Array:
        """Return log of B to A of each pair, (runs, n)."""
        runs, total = self.logs.shape
        paired = self.logs.reshape(runs, total // 2, 2)
        b_second = self.is_b.reshape(runs, total // 2, 2)[:, :, 1]
        return np.where(b_second, paired[:, :, 1] - paired[:, :, 0], paired[:, :, 0] - paired[:, :, 1])


def measured(
    numbers: np.random.Generator,
    runs: int,
    pairs: int,
    noise: float,
    draw: Draw = normal,
    drift: Draw = nothing,
    drifts: float = 0.0,
    true: float = TRUE,
) -> Arms:
    """Return runs in blocks A B B A or B A A B, drawn for each block."""
    total = 2 * pairs
    begins = numbers.integers(0, 2, size=(runs, -(-pairs // 2))).astype(bool)
    is_b = np.repeat(begins, 4, axis=1)[:, :total] ^ np.tile([False, True, True, False], pairs)[:total]
    figures = noise * draw(numbers, (runs, total)) + drifts * drift(numbers, (runs, total))
    return Arms(figures + np.where(is_b, true, 0.0), is_b)


def share(which: Any) -> float:
    return float(np.mean(which))


def covered(found: tuple[Array, Array | None, Array | None], true: float = TRUE) -> float:
    """Return the share of intervals that hold the true value."""
    _, low, high = found
    assert low is not None and high is not None
    return share((low <= true) & (true <= high))


# -------------------------------------------------------------------------------------------- the experiments

#: name: (noise, its distribution, drift, how much of it)
NOISES: dict[str, tuple[float, Draw, Draw, float]] = {
    "lognormal, 2 %": (0.02, normal, nothing, 0.0),
    "lognormal, 5 %": (0.05, normal, nothing, 0.0),
    "lognormal, 10 %": (0.10, normal, nothing, 0.0),
    "heavy tails, 5 %": (0.05, heavy, nothing, 0.0),
    "5 %, slow drift of 5 %": (0.05, normal, autoregressive(20), 0.05),
    "5 %, linear drift of 10 %": (0.05, normal, linear, 0.05),
    "5 %, a step of 10 %": (0.05, normal, step, 0.05),
}


def coverage_of_pairs(name: str, pairs: int, runs: int) -> float:
    noise, draw, drift, drifts = NOISES[name]
    arms = measured(_numbers("pairs", name, pairs), runs, pairs, noise, draw, drift, drifts)
    return covered(statistics.signed_rank(arms.ratios(), CONFIDENCE))


#: What `repeats` and precision of a plan may be, precision in units of what 12 pairs would give on average.
SEQUENTIAL = {"6 to 30": (6, 30), "8 to 20": (8, 20), "10 to 20": (10, 20), "24 to 30": (24, 30)}
PRECISIONS = (0.7, 1.0, 1.4)


def coverage_of_sequential(name: str, precision: float, runs: int, noise: float = 0.03) -> float:
    """Stop at the first block at which the interval is narrow, as the engine does."""
    least, most = SEQUENTIAL[name]
    ratios = measured(_numbers("sequential", name, precision), runs, most, noise).ratios()
    typical = 1.96 * noise * math.sqrt(2 / math.sqrt(least * most))
    held = np.zeros(runs, dtype=bool)
    waiting = np.arange(runs)
    for pairs in range(least + least % 2, most + 1, 2):
        middle, low, high = statistics.signed_rank(ratios[waiting, :pairs], SEQUENTIAL_CONFIDENCE)
        assert low is not None and high is not None
        narrow = (np.exp(high) - np.exp(low)) / 2 / np.exp(middle) <= precision * typical
        ends = narrow | (pairs >= most)
        held[waiting[ends]] = ((low <= TRUE) & (high >= TRUE))[ends]
        waiting = waiting[~ends]
    return share(held)


BOOT_SPREADS = (0.005, 0.01, 0.02, 0.05)
BOOTS = (4, 6, 8, 12)


def boots(spread: float, count: int, runs: int, true: float) -> tuple[Array, Array]:
    """Return one figure of each boot of A and B: the median of three measurements with noise of 2 %."""
    numbers = _numbers("boots", spread, count)
    arms = measured(numbers, runs, count, spread, true=true)
    figures = np.median(arms.logs[..., None] + 0.02 * numbers.normal(size=(*arms.logs.shape, 3)), axis=-1)
    order = np.argsort(arms.is_b, axis=1, kind="stable")
    sorted_by_arm = np.take_along_axis(figures, order, axis=1)
    return sorted_by_arm[:, :count], sorted_by_arm[:, count:]


def coverage_of_boots(spread: float, count: int, runs: int) -> float:
    return covered(statistics.rank_sum(*boots(spread, count, runs, TRUE), CONFIDENCE))


def false_calls_of_boots(spread: float, count: int, runs: int) -> float:
    """A difference is called at FALSE_ALARM where the interval of that level leaves out "none"."""
    return 1 - covered(statistics.rank_sum(*boots(spread, count, runs, 0.0), 1 - FALSE_ALARM), 0.0)


def false_calls_of_pairs(name: str, pairs: int, runs: int) -> float:
    noise, draw, drift, drifts = NOISES[name]
    arms = measured(_numbers("false", name, pairs), runs, pairs, noise, draw, drift, drifts, true=0.0)
    return 1 - covered(statistics.signed_rank(arms.ratios(), 1 - FALSE_ALARM), 0.0)


DRIFTS: dict[str, tuple[Draw, float]] = {
    "none": (nothing, 0.0),
    "correlated over 5": (autoregressive(5), 1.0),
    "correlated over 10": (autoregressive(10), 1.0),
    "correlated over 20": (autoregressive(20), 1.0),
    "correlated over 20, twice the noise": (autoregressive(20), 2.0),
    "random walk": (random_walk, 1.0),
    "random walk, twice the noise": (random_walk, 2.0),
    "linear, twice the noise": (linear, 2.0),
    "a step, twice the noise": (step, 2.0),
}


def passes_at_the_bound(name: str, count: int, runs: int) -> tuple[float, float]:
    """Return how often arm A passes a bound that is its true value: by this interval, and by a plain one."""
    drift, size = DRIFTS[name]
    noise = 0.03
    numbers = _numbers("one arm", name, count)
    figures = noise * (numbers.normal(size=(runs, 2 * count)) + size * drift(numbers, (runs, 2 * count)))
    own = np.tile([1.0, 0.0, 0.0, 1.0], count)[: 2 * count]
    _, low, _ = statistics.level_with_drift(figures, own, CONFIDENCE)
    _, plain, _ = statistics.signed_rank(figures[:, own > 0], CONFIDENCE)
    assert plain is not None
    return share(low > 0), share(plain > 0)


def finds_none(noise: float, pairs: int, runs: int, smallest: float = 0.02) -> float:
    """Return how often "none" is said of equal arms."""
    arms = measured(_numbers("none", noise, pairs), runs, pairs, noise, true=0.0)
    _, low, high = statistics.signed_rank(arms.ratios(), 0.90)
    assert low is not None and high is not None
    return share((math.log(1 - smallest) <= low) & (high <= math.log(1 + smallest)))


def finds_slowdown(noise: float, pairs: int, runs: int, slowdown: float = 0.05) -> float:
    """Return how often a slowdown is called: significant, and beyond the smallest effect of 2 %."""
    arms = measured(_numbers("slow", noise, pairs), runs, pairs, noise, true=math.log1p(slowdown))
    middle, low, _ = statistics.signed_rank(arms.ratios(), 1 - FALSE_ALARM)
    assert low is not None
    return share((low > 0) & (middle > math.log1p(0.02)))


def _numbers(*names: object) -> np.random.Generator:
    return np.random.default_rng([SEED, *"/".join(map(str, names)).encode()])


# ------------------------------------------------------------------------------------------------- the tables


def table(corner: str, columns: Sequence[object], rows: dict[str, list[float]]) -> str:
    """Return a table of percentages in Markdown."""
    lines = [
        "| " + " | ".join([corner, *map(str, columns)]) + " |",
        "| " + " | ".join(["---"] * (len(columns) + 1)) + " |",
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{100 * one:.1f}" for one in row) + " |" for name, row in rows.items()
    ]
    return "\n".join(lines)


def documented(text: str) -> None:
    """Require that a table is in the documentation as it is now."""
    page = (project_root() / "docs" / "measuring.md").read_text(encoding="utf-8")
    assert text in page, f"docs/measuring.md has another table than this one:\n\n{text}"


def within(rows: dict[str, list[float]], low: float, high: float) -> None:
    wrong = {name: row for name, row in rows.items() if not all(low <= one <= high for one in row)}
    assert not wrong


@pytest.mark.nightly
def test_pairs() -> None:
    rows = {name: [coverage_of_pairs(name, n, DRAWS) for n in COUNTS] for name in NOISES}
    within(rows, 0.94, 0.972)  # 97 %, and 2.5 deviations of 40,000 draws
    documented(table("noise of one measurement", [f"n = {n}" for n in COUNTS], rows))


@pytest.mark.nightly
def test_pairs_until_the_interval_is_narrow() -> None:
    rows = {name: [coverage_of_sequential(name, one, DRAWS) for one in PRECISIONS] for name in SEQUENTIAL}
    within(rows, 0.94, 0.97)
    documented(table("pairs", ["seldom reached", "often reached", "nearly always reached"], rows))


@pytest.mark.nightly
def test_boots() -> None:
    spreads = {f"{100 * one:g} % between boots": one for one in BOOT_SPREADS}
    rows = {name: [coverage_of_boots(one, n, DRAWS) for n in BOOTS] for name, one in spreads.items()}
    # Four boots of each kernel have 70 orders, of which two lie outside: the level is 97.1 %.
    within({name: row[:1] for name, row in rows.items()}, 0.94, 0.975)
    within({name: row[1:] for name, row in rows.items()}, 0.94, 0.97)
    documented(table("boots of each kernel", [f"n = {n}" for n in BOOTS], rows))
    calls = {name: [false_calls_of_boots(one, n, DRAWS) for n in BOOTS[1:]] for name, one in spreads.items()}
    within(calls, 0.0, 0.0113)  # 1 %, and 2.5 deviations of 40,000 draws


@pytest.mark.nightly
def test_false_calls() -> None:
    rows = {name: [false_calls_of_pairs(name, n, DRAWS) for n in COUNTS[1:]] for name in NOISES}
    within(rows, 0.0, 0.0113)
    documented(table("noise of one measurement", [f"n = {n}" for n in COUNTS[1:]], rows))


@pytest.mark.nightly
def test_one_arm() -> None:
    rows = {
        name: list(itertools.chain(*(passes_at_the_bound(name, n, DRAWS) for n in (8, 12, 20, 30))))
        for name in DRIFTS
    }
    within({name: row[::2] for name, row in rows.items()}, 0.0, 0.03)
    heads = [head for n in (8, 12, 20, 30) for head in (f"n = {n}", "without")]
    documented(table("drift of the host", heads, rows))


@pytest.mark.nightly
def test_how_many_pairs_are_needed() -> None:
    counts = (8, 12, 20, 30, 50)
    rows = {
        f"{what}, noise of {100 * noise:g} %": [find(noise, n, DRAWS) for n in counts]
        for what, find in (('"none" of equal arms', finds_none), ("5 % more", finds_slowdown))
        for noise in (0.01, 0.02, 0.03, 0.05)
    }
    documented(table("what is found", [f"n = {n}" for n in counts], rows))


# -------------------------------------------------------------------------------- a few of them, in every run


@pytest.mark.parametrize("name", ["lognormal, 10 %", "heavy tails, 5 %", "5 %, slow drift of 5 %"])
def test_an_interval_holds_the_true_ratio(name: str) -> None:
    assert 0.935 <= coverage_of_pairs(name, 10, FEW_DRAWS) <= 0.975


def test_an_interval_that_ends_the_measuring_holds_the_true_ratio() -> None:
    assert 0.935 <= coverage_of_sequential("6 to 30", 1.0, FEW_DRAWS) <= 0.975


def test_an_interval_of_boots_holds_the_true_ratio_however_they_differ() -> None:
    assert 0.935 <= coverage_of_boots(0.05, 6, FEW_DRAWS) <= 0.975
    assert false_calls_of_boots(0.05, 6, FEW_DRAWS) <= 0.016


def test_a_host_that_drifts_seldom_passes_at_its_bound() -> None:
    ours, without = passes_at_the_bound("correlated over 20", 12, FEW_DRAWS)
    assert ours <= 0.03
    assert without > 0.12  # so much it would be with the interval of independent measurements


def test_the_rule_of_the_simulation_is_that_of_the_engine() -> None:
    numbers = np.random.default_rng(SEED)
    for _ in range(100):
        ratios = numbers.normal(0, 0.05, 8)
        middle, low, high = statistics.signed_rank(ratios[None, :], SEQUENTIAL_CONFIDENCE)
        assert low is not None and high is not None
        simulated = (math.exp(high[0]) - math.exp(low[0])) / 2 / math.exp(middle[0]) <= 0.04
        found: Interval = statistics.sample_interval(
            [float(one) for one in np.exp(ratios)], SEQUENTIAL_CONFIDENCE
        )
        assert statistics.narrow(found, 0.04) == simulated
