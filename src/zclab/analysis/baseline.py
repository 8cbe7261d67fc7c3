# SPDX-License-Identifier: Apache-2.0
"""The counts of a run beside the pinned ones of a lab: whether the same work costs more than it did.

A count depends on the emulator and on the compiler of the kernel. So there is an entry for each pair of them,
and a run that has none is inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from zclab.analysis.document import BaselineDocument, MeasurementDocument
from zclab.base.errors import UsageError
from zclab.base.groups import grouped
from zclab.lab.model import BaselineEntry
from zclab.runs.records import Manifest

#: The key in a manifest's versions of the compiler that built the kernel, as it names itself.
COMPILER = "compiler"
#: The same of the kernel's source.
SOURCE = "kernel_source"


class CountedBy(NamedTuple):
    """What counts depend on beside the kernel: upstream's version of the emulator, compiler and CPU."""

    emulator: str
    compiler: str
    cpu: str


def counted_by(manifest: Manifest) -> CountedBy | None:
    """Return what the counts of a run depend on; null where none were made, or it is not known."""
    facts, compiler = manifest.emulator, manifest.versions.get(COMPILER)
    if facts is None or compiler is None:
        return None
    numbers = [re.search(r"version (\d+(?:\.\d+)+)", facts.version), re.search(r"(\d+(?:\.\d+)+)$", compiler)]
    if numbers[0] is None or numbers[1] is None:
        return None
    options = facts.options
    cpu = options[options.index("-cpu") + 1] if "-cpu" in options[:-1] else ""
    return CountedBy(f"QEMU {numbers[0][1]}", f"{compiler.split()[0]} {numbers[1][1]}", cpu)


def cell_of(one: MeasurementDocument) -> str:
    """Return which pinned figure one measurement belongs to."""
    return f"{one.send_mode} to {one.receive_mode}, {one.message_bytes} bytes"


def judged(manifest: Manifest, measurements: Sequence[MeasurementDocument]) -> list[BaselineDocument]:
    """Return each cell of a run beside its pinned counts; empty where the lab pins none of this plan.

    Each count is divided by the pinned one of its place in the boot; the median of these decides.
    """
    pinned = manifest.expectations.baseline
    if pinned is None or pinned.plan != manifest.plan.name:
        return []
    own = counted_by(manifest)
    entry = next((one for one in pinned.entries if _fits(one, own)), None)
    return [
        _beside(manifest, own, entry, cell, _by_place(members), 1 + pinned.margin)
        for cell, members in _cells(measurements).items()
    ]


def _beside(
    manifest: Manifest,
    own: CountedBy | None,
    entry: BaselineEntry | None,
    cell: str,
    counts: dict[int, list[float]],
    at_most: float,
) -> BaselineDocument:
    pinned = entry.cells.get(cell, []) if entry else []
    every = [count for of_place in counts.values() for count in of_place]
    ratios = [
        count / pinned[place]
        for place, of_place in counts.items()
        if place < len(pinned)
        for count in of_place
    ]
    ratio = median(ratios) if ratios else None
    return BaselineDocument(
        cell=cell,
        n=len(ratios),
        instructions_per_mib=median(every) if every else None,
        baseline=median(pinned) if pinned else None,
        ratio=ratio,
        at_most=at_most,
        verdict="inconclusive" if ratio is None else "fail" if ratio > at_most else "pass",
        because=_because(manifest, own, entry, cell) if ratio is None else None,
    )


def entry_of(manifest: Manifest, measurements: Sequence[MeasurementDocument], reason: str) -> BaselineEntry:
    """Return what a run counted, as an entry of the inventory.

    Raises:
        UsageError: it is not known by what its counts were made, or there are none.
    """
    own, cells = counted_by(manifest), _cells(measurements)
    if own is None or manifest.kernel_variant is None or SOURCE not in manifest.versions:
        raise UsageError(f"{manifest.run_id}: does not say which emulator counted which kernel")
    counts = {cell: [*_by_place(members).values()] for cell, members in cells.items()}
    if not counts or not all(counts.values()):
        raise UsageError(f"{manifest.run_id}: has no counts of plan {manifest.plan.name}")
    return BaselineEntry(
        emulator=own.emulator,
        compiler=own.compiler,
        cpu=own.cpu,
        variant=manifest.kernel_variant,
        source=manifest.versions[SOURCE],
        boots=min(len(of_place) for places in counts.values() for of_place in places),
        reason=reason,
        cells={cell: [round(median(of_place)) for of_place in places] for cell, places in counts.items()},
    )


def replaced(entries: Iterable[BaselineEntry], entry: BaselineEntry) -> list[BaselineEntry]:
    """Return the entries with this one in place of that of its emulator, compiler and CPU."""
    own = CountedBy(entry.emulator, entry.compiler, entry.cpu)
    return [*(one for one in entries if not _fits(one, own)), entry]


def _fits(entry: BaselineEntry, own: CountedBy | None) -> bool:
    return CountedBy(entry.emulator, entry.compiler, entry.cpu) == own


def _cells(measurements: Sequence[MeasurementDocument]) -> dict[str, list[MeasurementDocument]]:
    return grouped((one for one in measurements if one.phase == "compare"), cell_of)


def _by_place(members: Iterable[MeasurementDocument]) -> dict[int, list[float]]:
    """Return the counts of valid measurements by their place in the boot, in order."""
    found: dict[int, list[float]] = {}
    for one in members:
        if one.valid and one.guest is not None and one.guest_instructions_per_mib is not None:
            found.setdefault(one.guest.place, []).append(one.guest_instructions_per_mib)
    return dict(sorted(found.items()))


def _because(manifest: Manifest, own: CountedBy | None, entry: BaselineEntry | None, cell: str) -> str:
    """Return why a cell has no ratio."""
    if own is None:
        return "it is not known which emulator counted"
    if entry is None:
        return (
            f"no baseline for this emulator ({own.emulator}, kernel built by {own.compiler}, CPU {own.cpu}): "
            f"`zclab baseline set --lab {manifest.lab} --reason TEXT` sets one"
        )
    if cell not in entry.cells:
        return "the baseline has no such cell"
    return "nothing valid was counted"
