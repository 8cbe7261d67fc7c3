# SPDX-License-Identifier: Apache-2.0
"""The designs of zero-copy receiving against each other (claim M14): a table, and what it says.

In review of the mmap() that takes what it maps, one held that an area which is mapped once is cheaper,
because it need not be set up and torn down each time; the author, that consumers keep the pages they are
given, so that no area can be used again.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import NamedTuple

from rich.table import Table

from zclab.analysis.document import MeasurementDocument, RunDocument

DESIGNS = ("copy", "map_each", "map_once", "map_once_hybrid")
_METRIC = "receiver_usec_per_mib"


class Held(NamedTuple):
    """map_once against map_each for one reader: ratios by bytes a call, and where a change is called."""

    keeps: bool
    ratios: dict[int, float]
    lower: set[int]
    higher: set[int]


def table(document: RunDocument) -> Table | None:
    """Return the receiver's CPU by reader, bytes a call and design; None for a run without designs."""
    cells: dict[tuple[bool, int], dict[str, list[float]]] = {}
    for one in _measured(document):
        if one.receiver_cpu is not None and one.receiver_cpu.usec_per_mib is not None:
            row = cells.setdefault((one.keep_bytes > 0, one.chunk_bytes), {})
            row.setdefault(one.receive_mode, []).append(one.receiver_cpu.usec_per_mib)
    if not any("map_each" in row and "map_once" in row for row in cells.values()):
        return None
    label = "emulated µs/MiB" if document.emulated else "µs/MiB"
    made = Table(title=f"Receiver CPU by design ({label}, medians)", title_justify="left")
    for heading in ("reader", "bytes a call", *DESIGNS):
        made.add_column(heading, justify="right")
    for (keeps, size), row in sorted(cells.items()):
        figures = [f"{statistics.median(row[name]):.0f}" if name in row else "-" for name in DESIGNS]
        made.add_row("keeps" if keeps else "reuses", str(size), *figures)
    return made


def sentences(document: RunDocument) -> list[str]:
    """Return who was right, for which reader and by how much."""
    return [_sentence(held, document.emulated) for held in held_against(document)]


def held_against(document: RunDocument) -> Iterator[Held]:
    """Yield what map_once costs against map_each, for each kind of reader that was measured."""
    arms: dict[str, dict[str, MeasurementDocument]] = {}
    for one in _measured(document):
        arms.setdefault(one.comparison, {})[one.arm] = one
    found: dict[bool, Held] = {}
    for comparison in document.comparisons:
        both = arms.get(comparison.name, {})
        if comparison.metric != _METRIC or comparison.ratio_median is None or set(both) != {"a", "b"}:
            continue
        if (both["a"].receive_mode, both["b"].receive_mode) != ("map_each", "map_once"):
            continue
        held = found.setdefault(both["a"].keep_bytes > 0, Held(both["a"].keep_bytes > 0, {}, set(), set()))
        held.ratios[both["a"].chunk_bytes] = comparison.ratio_median
        if comparison.effect == "lower":
            held.lower.add(both["a"].chunk_bytes)
        if comparison.effect == "higher":
            held.higher.add(both["a"].chunk_bytes)
    yield from (found[keeps] for keeps in sorted(found))


def _measured(document: RunDocument) -> Iterator[MeasurementDocument]:
    return (one for one in document.measurements if one.phase == "compare" and one.rpc is None and one.valid)


def _sentence(held: Held, emulated: bool) -> str:
    sizes = len(held.ratios)
    reader = "keeps what it is given" if held.keeps else "uses one area again"
    low, high = min(held.ratios.values()), max(held.ratios.values())
    if len(held.lower) == sizes:
        said = "the reviewer was right: mapping once is cheaper"
    elif held.lower:
        said = f"the reviewer was right at {', '.join(map(str, sorted(held.lower)))} bytes a call"
    elif len(held.higher) == sizes:
        said = "the author was right, and more: mapping once costs more"
    elif held.higher:
        said = f"the author was right, and at {', '.join(map(str, sorted(held.higher)))} bytes a call more so"
    else:
        said = "nothing speaks against the author: no saving could be called"
    where = " (an emulated CPU)" if emulated else ""
    return (
        f"For a reader that {reader}, map_once costs {low:.2f} to {high:.2f} of map_each{where}, "
        f"called lower at {len(held.lower)} and higher at {len(held.higher)} of {sizes} sizes: {said}."
    )
