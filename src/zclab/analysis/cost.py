# SPDX-License-Identifier: Apache-2.0
"""Where two kernels or modes spend instructions: by function, per MiB, over the boots of one guest.

Instructions that an emulator executes are a cost beside another's. They are no time, and no share of CPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from zclab.analysis import measurement, one_guest, statistics
from zclab.analysis.stopping import counted
from zclab.backends.exact.instructions import CONTEXTS, Context, InstructionCounts
from zclab.base.errors import UsageError
from zclab.base.groups import grouped
from zclab.base.model import Model
from zclab.plan import claims
from zclab.plan.schedule import ArmName, Measurement
from zclab.runs.manifest import SCHEMA_VERSION
from zclab.runs.records import Manifest, Record

if TYPE_CHECKING:
    from zclab.analysis.statistics import Array

MIB = 2**20
_ALWAYS = object()
#: What has to be equal for the figures of two measurements to be comparable: all but kernel and place. With
#: it the words for its value, and the value that goes without saying.
_SETTING: dict[str, tuple[str, object]] = {
    "send_mode": ("{} sender", _ALWAYS),
    "receive_mode": ("{} receiver", _ALWAYS),
    "message_bytes": ("messages of {} bytes", _ALWAYS),
    "chunk_bytes": ("chunks of {} bytes", _ALWAYS),
    "keep_bytes": ("{} bytes kept", 0),
    "pace_gbit_per_s": ("{} Gbit/s", None),
    "streams": ("{} streams", 1),
    "header_bytes": ("headers of {} bytes", 0),
    "ip_version": ("IPv{}", None),
    "inject_usec_per_mib": ("{} us/MiB injected", 0),
}
#: What a compiler appends to the name of a function that it has cut in pieces or fitted to its callers.
_COMPILERS = re.compile(r"(\.(constprop|isra|part|cold|llvm)(\.\d+)*)+$")
# Claim F7 names copy_user_generic_string and gup_pte_range; kernels since then have them by these names.
_USER_COPY = re.compile(r"copy_user_\w+|rep_movs_alternative|_copy_from_iter\w*|copyin")
_PINNING = re.compile(
    r"gup_\w+|\w*get_user_pages\w*|lockless_pages_from_mm|try_grab_\w+|\w*iov_iter_get_pages\w*"
)
_PROFILED_BYTES = 2**20


class Side(NamedTuple):
    """One run, or one arm of it."""

    manifest: Manifest
    records: Sequence[Record]
    arm: ArmName | None

    @property
    def name(self) -> str:
        """The run's id, and the arm."""
        return self.manifest.run_id + (f":{self.arm}" if self.arm else "")


class Spread(Model):
    """A figure of each boot: the median of the boots, the lowest and the highest."""

    median: float
    low: float
    high: float


class Row(Model):
    """Instructions per MiB of a function, a context, or all.

    difference: how far B lies above A, by the Hodges-Lehmann shift. differs: whether that is more than
    chance, at CONFIDENCE for all functions of the table together; null: too few boots to say. apart: whether
    all boots of A lie on one side of all boots of B; null: there is only one of either.
    """

    name: str
    a: Spread
    b: Spread
    difference: float
    differs: bool | None
    apart: bool | None

    @property
    def stands_out(self) -> bool:
        """Whether it comes first: it differs or, of too few boots to say, all lie apart."""
        return self.differs or (self.differs is None and self.apart is True)


class Share(Model):
    """A share of the instructions of the sender's thread, beside the share of a published profile."""

    side: str
    what: str
    percent: Spread
    claim: str
    published_percent: float


class Table(Model):
    """A and B in one setting. functions: those that stand out first, each part by the size of the difference.

    places: measurements of a boot that both have. contexts: whose instructions (InstructionCounts).
    """

    setting: str
    boots_a: int
    boots_b: int
    places: int
    total: Row
    contexts: list[Row]
    functions: list[Row]
    shares: list[Share]


class CostDocument(Model):
    """What `zclab cost --json` prints."""

    schema_version: int = SCHEMA_VERSION
    a: str
    b: str
    kernel_a: str
    kernel_b: str
    tables: list[Table]
    exit_code: ClassVar[int] = 0


def compare(a: Side, b: Side) -> CostDocument:
    """Compare two runs, or arms of runs, in each setting that both have.

    Two arms that differ in their setting are compared in each comparison that has both.

    Raises:
        UsageError: nothing can be compared: no counts by function, no common setting, two emulators.
    """
    if why := one_guest.difference(a.manifest.emulator, b.manifest.emulator):
        raise UsageError(f"{a.name} and {b.name}: {why}")
    of_a, of_b = _samples(a), _samples(b)
    pairs = _pairs(of_a, of_b, _setting) or _pairs(of_a, of_b, lambda one: (one.planned.comparison,))
    if not pairs:
        raise UsageError(
            f"{a.name} and {b.name} have no setting in common: name an arm of each, RUN:a and RUN:b"
        )
    return CostDocument(
        a=a.name,
        b=b.name,
        kernel_a=_kernel(a, of_a),
        kernel_b=_kernel(b, of_b),
        tables=[_table(one, other) for one, other in pairs],
    )


class _Sample(NamedTuple):
    planned: Measurement
    boot: int
    place: int
    instructions: InstructionCounts
    mib: float

    def per_mib(self, names: Sequence[str]) -> list[float]:
        """Return the figures of functions by their names without what the compiler appended."""
        found = dict.fromkeys(names, 0)
        for name, counts in self.instructions.functions.items():
            found[plain(name)] += sum(counts.values())
        return [value / self.mib for value in found.values()]

    def of_context(self, context: Context, names: re.Pattern[str] | None = None) -> float:
        """Return the instructions per MiB of a context, of the functions with some names (null: of all)."""
        found = self.instructions.functions.items()
        return (
            sum(
                counts.get(context, 0)
                for name, counts in found
                if names is None or names.fullmatch(plain(name))
            )
            / self.mib
        )


def plain(function: str) -> str:
    """Return the name of a function as its source has it."""
    return _COMPILERS.sub("", function)


def _samples(side: Side) -> list[_Sample]:
    """Return what a side has counted, of measurements that are valid.

    Raises:
        UsageError: nothing.
    """
    documents = counted(measurement.document(side.manifest, record) for record in side.records)
    final = {one.id: one for one in documents}
    found, seen = [], 0
    for record in side.records:
        planned, guest = record.planned, record.guest
        one = final.get(planned.id)
        if planned.phase != "compare" or side.arm not in (None, planned.arm) or one is None:
            continue
        seen += 1
        if guest is None or guest.instructions is None or not one.valid or not one.bytes_received:
            continue
        boot = guest.seed if planned.boot is None else planned.boot
        found.append(_Sample(planned, boot, guest.place, guest.instructions, one.bytes_received / MIB))
    if not found:
        none = "no valid measurement with" if seen else "no measurement of such an arm, and none with"
        raise UsageError(
            f"{side.name}: has {none} instructions by function: `zclab run --lab exact` makes them"
        )
    return found


def _kernel(side: Side, samples: Iterable[_Sample]) -> str:
    variants = {one.planned.kernel_variant for one in samples}
    if len(variants) > 1:
        raise UsageError(f"{side.name}: measures several kernels: name one of its arms, {side.name}:a or :b")
    (variant,) = variants
    if variant is None or variant == side.manifest.kernel_variant:
        return side.manifest.kernel
    other = side.manifest.other_kernels.get(variant)
    return other.kernel if other else variant


def _setting(one: _Sample) -> tuple[object, ...]:
    return tuple(getattr(one.planned, name) for name in _SETTING)


def _pairs(
    of_a: list[_Sample], of_b: list[_Sample], key: Callable[[_Sample], tuple[object, ...]]
) -> list[tuple[list[_Sample], list[_Sample]]]:
    """Return the samples of A and B by a key that both have, without the places that only one has."""
    a, b = grouped(of_a, key), grouped(of_b, key)
    pairs = []
    for common in (found for found in a if found in b):
        places = {one.place for one in a[common]} & {one.place for one in b[common]}
        kept = [[one for one in side[common] if one.place in places] for side in (a, b)]
        if places:
            pairs.append((kept[0], kept[1]))
    return pairs


def _table(a: list[_Sample], b: list[_Sample]) -> Table:
    names = sorted({plain(name) for one in [*a, *b] for name in one.instructions.functions})
    functions = _rows(names, a, b, [[one.per_mib(names) for one in side] for side in (a, b)])
    figures = [[[one.of_context(context) for context in CONTEXTS] for one in side] for side in (a, b)]
    contexts = _rows(CONTEXTS, a, b, figures)
    (total,) = _rows(["all"], a, b, [[[sum(one)] for one in side] for side in figures])
    functions.sort(key=lambda row: (not row.stands_out, -abs(row.difference), row.name))
    return Table(
        setting=_in_words(a[0].planned, b[0].planned),
        boots_a=len({one.boot for one in a}),
        boots_b=len({one.boot for one in b}),
        places=len({one.place for one in a}),
        total=total,
        contexts=contexts,
        functions=functions,
        shares=[*_shares("A", a), *_shares("B", b)],
    )


def _rows(
    names: Sequence[str], a: list[_Sample], b: list[_Sample], figures: Sequence[Sequence[Sequence[float]]]
) -> list[Row]:
    """Return a row for each name; figures: of A and of B, of each sample, by name."""
    import numpy as np

    of_a, of_b = _of_boots(a, b, [np.asarray(side, dtype=float) for side in figures])
    shift, low, high = statistics.rank_sum(of_a, of_b, 1 - (1 - statistics.CONFIDENCE) / len(names))
    several = min(of_a.shape[1], of_b.shape[1]) > 1
    apart = (of_a.max(axis=1) < of_b.min(axis=1)) | (of_b.max(axis=1) < of_a.min(axis=1))
    return [
        Row(
            name=name,
            a=_spread(of_a[at]),
            b=_spread(of_b[at]),
            difference=float(shift[at]),
            differs=None if low is None or high is None else bool(low[at] > 0 or high[at] < 0),
            apart=bool(apart[at]) if several else None,
        )
        for at, name in enumerate(names)
    ]


def _of_boots(a: list[_Sample], b: list[_Sample], figures: Sequence[Array]) -> tuple[Array, Array]:
    """Return one figure of each boot, of shape (names, boots): the mean of its places, so that they add up.

    A place that a boot lacks has the difference from other boots that its other places have: the first
    transfer of a boot costs another number of instructions than the second.
    """
    import numpy as np

    places = sorted({one.place for one in a})
    together, both = np.concatenate(figures), [*a, *b]
    typical = np.array(
        [np.median(together[[one.place == place for one in both]], axis=0) for place in places]
    )
    found = []
    for side, values in zip((a, b), figures, strict=True):
        centred = values - typical[[places.index(one.place) for one in side]]
        boots = dict.fromkeys(one.boot for one in side)
        means = [centred[[one.boot == boot for one in side]].mean(axis=0) for boot in boots]
        found.append((np.array(means) + typical.mean(axis=0)).T)
    return found[0], found[1]


def _spread(figures: Array) -> Spread:
    import numpy as np

    return Spread(median=float(np.median(figures)), low=float(figures.min()), high=float(figures.max()))


def _shares(side: str, samples: list[_Sample]) -> list[Share]:
    """Return the shares of the sender's thread that claim F7 publishes, if this is its message size."""
    import numpy as np

    planned = samples[0].planned
    if planned.message_bytes != _PROFILED_BYTES:
        return []
    published = claims.load()["F7"].reference
    what, names, key = (
        ("user copy of the plain sender", _USER_COPY, "plain_user_copy_percent")
        if planned.send_mode == "copy"
        else ("page pinning of the zerocopy sender", _PINNING, "zerocopy_pinning_percent")
    )
    boots = [
        np.mean([100 * one.of_context("sender", names) / one.of_context("sender") for one in found])
        for found in grouped(samples, lambda one: one.boot).values()
        if all(one.of_context("sender") for one in found)
    ]
    if not boots:
        return []
    percent = _spread(np.array(boots))
    return [Share(side=side, what=what, percent=percent, claim="F7", published_percent=published[key])]


def _in_words(a: Measurement, b: Measurement) -> str:
    """Return what a table compares; where A and B differ, as A / B."""
    found = []
    for name, (words, usual) in _SETTING.items():
        values = list(dict.fromkeys(getattr(one, name) for one in (a, b)))
        if values != [usual]:
            found.append(words.format(" / ".join(map(str, values))))
    return ", ".join(found)
