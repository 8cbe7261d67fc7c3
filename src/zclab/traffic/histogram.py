# SPDX-License-Identifier: Apache-2.0
"""Latencies of RPCs: the histogram of a measurement, and figures of it.

The traffic tool counts in the buckets that HdrHistogram has for 1 ns to 60 s and 2 significant digits, so a
histogram passes from the tool to HdrHistogram without loss, and merging is addition.
"""

from __future__ import annotations

from typing import Literal

from hdrh.histogram import HdrHistogram
from pydantic import Field, field_validator, model_validator

from zclab.base.model import Model

LOWEST_NS, HIGHEST_NS = 1, 60_000_000_000
_BITS = 7  # after the leading one
_DIGITS = 2  # HdrHistogram's word for the same


class Histogram(Model):
    """Latencies as the traffic tool prints them.

    `counts` holds the buckets in use, ascending: the lowest value of each in nanoseconds, and its count.
    `min` and `max` are exact, and null where nothing was recorded; `total` is the number of RPCs.
    """

    unit: Literal["ns"]
    significant_bits: Literal[7]
    counts: tuple[tuple[int, int], ...]
    min: int | None = Field(ge=0)
    max: int | None = Field(ge=0)
    total: int = Field(ge=0)

    @field_validator("counts")
    @classmethod
    def _are_buckets(cls, counts: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        previous = -1
        for lowest, count in counts:
            if count < 1 or lowest <= previous or lowest > HIGHEST_NS or lowest != bucket(lowest):
                raise ValueError(f"[{lowest}, {count}] is not a bucket, or out of order")
            previous = lowest
        return counts

    @model_validator(mode="after")
    def _adds_up(self) -> Histogram:
        if sum(count for _, count in self.counts) != self.total:
            raise ValueError("the counts do not add up to total")
        if (self.min is None or self.max is None) != (not self.total):
            raise ValueError("min and max go with recorded values")
        return self


def bucket(ns: int) -> int:
    """Return the lowest value of the bucket that a latency of `ns` nanoseconds falls into."""
    shift = max(0, ns.bit_length() - _BITS - 1)
    return ns >> shift << shift


def percentile_us(histogram: Histogram, percent: float) -> float | None:
    """Return the latency in microseconds that `percent` (0 to 100) of the RPCs did not exceed.

    It is the highest value of its bucket: at most 1/128 too high, and never above the maximum. None where
    fewer RPCs were recorded than it takes for one to lie beyond it: 10 000 for 99.99.
    """
    if histogram.max is None or histogram.total * (100 - percent) < 100 - 1e-6:
        return None
    return min(int(_hdr(histogram).get_value_at_percentile(percent)), histogram.max) / 1000


def mean_us(histogram: Histogram) -> float | None:
    """Return the mean in microseconds, off by at most 1/128; None where nothing was recorded."""
    return float(_hdr(histogram).get_mean_value()) / 1000 if histogram.total else None


def maximum_us(histogram: Histogram) -> float | None:
    """Return the longest latency in microseconds; None where nothing was recorded."""
    return histogram.max / 1000 if histogram.max is not None else None


def encoded(histogram: Histogram) -> str:
    """Return the histogram in HdrHistogram's text form (V2, compressed, base64), which other tools read."""
    return str(_hdr(histogram).encode().decode("ascii"))


def _hdr(histogram: Histogram) -> HdrHistogram:
    hdr = HdrHistogram(LOWEST_NS, HIGHEST_NS, _DIGITS)
    for lowest, count in histogram.counts:
        hdr.record_value(lowest, count)
    return hdr
