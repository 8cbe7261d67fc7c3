# SPDX-License-Identifier: Apache-2.0
"""Comparison of the receive designs (claim M14): a table, and a sentence for each kind of reader.

In review of the consuming mmap() of 2018 a reviewer expected an area that is mapped once to be cheaper,
because it is not set up and torn down for each call. The author answered that consumers keep the pages that
they are given, so that an area cannot be used again. Hence two kinds of readers.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table

from zclab.analysis.document import MeasurementDocument, RunDocument
from zclab.analysis.metric_values import value as metric_value
from zclab.base.groups import grouped
from zclab.base.metrics import Metric
from zclab.report.terminal import new_table

DESIGNS = ("copy", "map_each", "map_once", "map_once_hybrid")
_INSTRUCTIONS: Metric = "guest_instructions_per_mib"


def _metric(document: RunDocument) -> Metric:
    """Return what designs are compared by: where all that a guest executes is counted, that."""
    counted = any(one.guest_instructions_per_mib is not None for one in _valid_transfers(document))
    return _INSTRUCTIONS if counted else "receiver_usec_per_mib"


class ReaderComparison(NamedTuple):
    """map_once compared with map_each for one kind of reader.

    ratios: median ratio of the cost per MiB, by bytes per call. lower, higher: the sizes at which the
    difference is significant.
    """

    keeps: bool
    ratios: dict[int, float]
    lower: set[int]
    higher: set[int]


def table(document: RunDocument) -> Table | None:
    """Return the cost per MiB by reader, bytes per call and design; None if not compared."""
    metric = _metric(document)
    cells: dict[tuple[bool, int], dict[str, list[float]]] = {}
    designs = {"map_each", "map_once"}
    by_comparison = grouped(_valid_transfers(document), lambda one: one.comparison)
    compared = {
        _setting(members[0])
        for members in by_comparison.values()
        if designs <= {one.receive_mode for one in members}
    }
    for one in _valid_transfers(document):
        cost = metric_value(one, metric)
        if cost is not None and _setting(one) in compared:
            row = cells.setdefault((one.keep_bytes > 0, one.chunk_bytes), {})
            row.setdefault(one.receive_mode, []).append(cost)
    if not cells:
        return None
    title = f"Receiver CPU by receive design ({'emulated ' * document.emulated}µs/MiB, medians)"
    if metric == _INSTRUCTIONS:
        title = "Cost by receive design (instructions of the whole guest per MiB, medians)"
    made = new_table(title, (), ("reader", "bytes per call", *DESIGNS))
    for (keeps, size), row in sorted(cells.items()):
        figures = [f"{statistics.median(row[name]):.0f}" if name in row else "-" for name in DESIGNS]
        made.add_row("keeps" if keeps else "reuses", str(size), *figures)
    return made


def _setting(one: MeasurementDocument) -> tuple[str, float | None, int]:
    """Return what else has to be equal for designs to be compared."""
    return one.send_mode, one.pace_gbit_per_s, one.message_bytes


def sentences(document: RunDocument) -> list[str]:
    """Return what the comparison found, one sentence for each kind of reader."""
    return [_sentence(one, _label(document)) for one in by_reader(document)]


def _label(document: RunDocument) -> str:
    if _metric(document) == _INSTRUCTIONS:
        return " (instructions of the whole guest)"
    return " (an emulated CPU)" if document.emulated else ""


def by_reader(document: RunDocument) -> Iterator[ReaderComparison]:
    """Yield map_once compared with map_each for each kind of reader that was measured."""
    arms: dict[str, dict[str, MeasurementDocument]] = {}
    for one in _valid_transfers(document):
        arms.setdefault(one.comparison, {})[one.arm] = one
    found: dict[bool, ReaderComparison] = {}
    metric = _metric(document)
    for comparison in document.comparisons:
        both = arms.get(comparison.name, {})
        if comparison.metric != metric or comparison.ratio_median is None or set(both) != {"a", "b"}:
            continue
        if (both["a"].receive_mode, both["b"].receive_mode) != ("map_each", "map_once"):
            continue
        keeps, size = both["a"].keep_bytes > 0, both["a"].chunk_bytes
        reader = found.setdefault(keeps, ReaderComparison(keeps, {}, set(), set()))
        reader.ratios[size] = comparison.ratio_median
        if comparison.effect == "lower":
            reader.lower.add(size)
        if comparison.effect == "higher":
            reader.higher.add(size)
    yield from (found[keeps] for keeps in sorted(found))


def _valid_transfers(document: RunDocument) -> Iterator[MeasurementDocument]:
    return (one for one in document.measurements if one.phase == "compare" and one.rpc is None and one.valid)


def _sentence(found: ReaderComparison, label: str) -> str:
    sizes = len(found.ratios)
    reader = "keeps the pages it is given" if found.keeps else "reuses one area"
    low, high = min(found.ratios.values()), max(found.ratios.values())
    if found.lower:
        result = "map_once is cheaper" + _at(found.lower, sizes)
    elif found.higher:
        result = "map_once costs more" + _at(found.higher, sizes)
    else:
        result = "no difference was found"
    return (
        f"For a reader that {reader}, map_once costs {low:.2f} to {high:.2f} of map_each{label}, "
        f"significantly less at {len(found.lower)} and more at {len(found.higher)} of {sizes} sizes: "
        f"{result}."
    )


def _at(significant: set[int], sizes: int) -> str:
    listed = ", ".join(map(str, sorted(significant)))
    return "" if len(significant) == sizes else f" at {listed} bytes per call"
