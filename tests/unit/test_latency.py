# SPDX-License-Identifier: Apache-2.0
"""Histograms of latencies: merging, percentiles, and the text form that HdrHistogram's own tools read."""

from __future__ import annotations

import random

import pytest
from hdrh.histogram import HdrHistogram
from pydantic import ValidationError

from zclab.traffic.histogram import Histogram, bucket, encoded, maximum_us, mean_us, percentile_us


def histogram(values: list[int]) -> Histogram:
    counts: dict[int, int] = {}
    for value in values:
        counts[bucket(value)] = counts.get(bucket(value), 0) + 1
    return Histogram(
        unit="ns",
        significant_bits=7,
        counts=tuple(sorted(counts.items())),
        min=min(values, default=None),
        max=max(values, default=None),
        total=len(values),
    )


def counts_of(hdr: HdrHistogram) -> tuple[tuple[int, int], ...]:
    """Return the buckets in use of what HdrHistogram read, as the traffic tool prints them."""
    every = ((hdr.get_value_from_index(at), hdr.get_count_at_index(at)) for at in range(hdr.counts_len))
    return tuple((lowest, count) for lowest, count in every if count)


def drawn(seed: int, count: int) -> list[int]:
    draw = random.Random(seed)
    return [int(10 ** draw.uniform(2, 10.7)) for _ in range(count)]


def test_buckets_are_those_of_hdrhistogram() -> None:
    reference = HdrHistogram(1, 60_000_000_000, 2)
    for value in [*range(1, 2000), *drawn(1, 5000)]:
        assert bucket(value) == reference.get_lowest_equivalent_value(value)
        assert value - bucket(value) <= value / 128


def test_merging_is_as_if_recorded_together() -> None:
    first, second = drawn(1, 1000), drawn(2, 10)
    together = HdrHistogram.decode(encoded(histogram(first)))
    for others in (second, []):
        together.add(HdrHistogram.decode(encoded(histogram(others))))
    assert counts_of(together) == histogram(first + second).counts


def test_nothing_recorded() -> None:
    nothing = histogram([])
    assert nothing.total == 0
    assert nothing.min is maximum_us(nothing) is mean_us(nothing) is percentile_us(nothing, 50) is None
    assert counts_of(HdrHistogram.decode(encoded(nothing))) == nothing.counts


def test_text_form_keeps_every_count() -> None:
    original = histogram([0, 1, 255, 256, 60_000_000_000, *drawn(3, 5000)])
    back = HdrHistogram.decode(encoded(original))
    assert (counts_of(back), back.get_total_count()) == (original.counts, original.total)
    assert original.max is not None
    assert back.get_min_value() == 0 and original.max <= back.get_max_value() <= original.max * (1 + 1 / 128)


def test_text_form_is_read_by_hdrhistogram() -> None:
    assert HdrHistogram.decode(encoded(histogram(drawn(4, 2000)))).get_total_count() == 2000


def test_a_percentile_is_never_above_the_maximum() -> None:
    same = histogram([1_000_001] * 20_000)
    assert percentile_us(same, 50) == percentile_us(same, 99.99) == maximum_us(same) == 1000.001


@pytest.mark.parametrize(("percent", "needed"), [(50, 2), (90, 10), (99, 100), (99.9, 1000), (99.99, 10_000)])
def test_a_percentile_that_so_few_can_not_show_is_none(percent: float, needed: int) -> None:
    assert percentile_us(histogram([5] * (needed - 1)), percent) is None
    assert percentile_us(histogram([5] * needed), percent) == 0.005


@pytest.mark.parametrize(
    "counts",
    [((257, 1),), ((5, 0),), ((5, -1),), ((5, 1), (5, 1)), ((6, 1), (5, 1)), ((-1, 1),), ((1 << 36, 1),)],
    ids=["not a bucket", "empty", "negative", "twice", "descending", "below zero", "too high"],
)
def test_impossible_counts_are_refused(counts: tuple[tuple[int, int], ...]) -> None:
    total = sum(count for _, count in counts)
    with pytest.raises(ValidationError, match="bucket"):
        Histogram(unit="ns", significant_bits=7, counts=counts, min=5, max=5, total=max(total, 0))


def test_a_wrong_total_is_refused() -> None:
    with pytest.raises(ValidationError, match="add up"):
        Histogram(unit="ns", significant_bits=7, counts=((5, 2),), min=5, max=5, total=3)


def test_a_missing_minimum_is_refused() -> None:
    with pytest.raises(ValidationError, match="min and max"):
        Histogram(unit="ns", significant_bits=7, counts=((5, 2),), min=None, max=5, total=2)
