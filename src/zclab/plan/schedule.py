# SPDX-License-Identifier: Apache-2.0
"""From a plan to measurements: what is compared, and in which order it is measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from zclab.analysis.statistics import FEWEST_PAIRS
from zclab.base.metrics import METRICS, Metric
from zclab.base.model import Model, ReceiveMode, SendMode
from zclab.plan.plan import AA, Arm, Plan, Repeats
from zclab.traffic.document import RpcMode

ArmName = Literal["a", "b"]
#: The purpose of a measurement: a comparison, how far two equal arms differ, checking every byte, or a
#: profile. Only the first two enter statistics.
Phase = Literal["compare", "aa", "integrity", "profile"]


class Rpc(Model):
    """Sizes of a request and its reply, in bytes."""

    request_bytes: int
    reply_bytes: int


class Setting(Model):
    """What one execution of the traffic tool was asked to do, as its result repeats it.

    Sizes are in bytes, the pace in Gbit/s of payload (null: as fast as it goes).
    """

    id: str
    phase: Phase
    comparison: str
    arm: ArmName
    pair: int
    order: int
    receive_mode: ReceiveMode | RpcMode
    send_mode: SendMode
    message_bytes: int
    chunk_bytes: int
    keep_bytes: int
    pace_gbit_per_s: float | None
    streams: int
    header_bytes: int
    ip_version: Literal[4, 6] | None
    kernel_variant: str | None
    inject_usec_per_mib: float


class Measurement(Setting):
    """One execution of the traffic tool at both ends.

    Times are in seconds. `bytes` (integrity only) replaces the window. A ping-pong has `rpc`; its messages
    are requests.
    """

    seconds: float
    warmup_seconds: float
    baseline_seconds: float
    bytes: int | None
    rpc: Rpc | None


class Cell(NamedTuple):
    """Two arms to be compared, at one message size, chunk size, pace, number of streams and IP version."""

    name: str
    comparison: str
    metrics: dict[Metric, list[str]]
    arms: dict[ArmName, Measurement]
    repeats: Repeats
    block_pairs: int

    @property
    def paced(self) -> bool:
        """Whether the pace is fixed, so that throughput is not compared."""
        return self.arms["a"].pace_gbit_per_s is not None

    @property
    def message_bytes(self) -> int:
        """Bytes of a message."""
        return self.arms["a"].message_bytes


def cells(plan: Plan) -> Iterator[Cell]:
    """Yield what a plan compares, each with both its arms."""
    versions: Sequence[Literal[4, 6] | None] = plan.ip_versions or [None]
    for one in plan.comparisons:
        sizes = one.message_bytes or plan.message_bytes
        paces = one.pace_gbit_per_s or plan.pace_gbit_per_s
        for size, chunk, pace, streams, version in itertools.product(
            sizes, plan.chunk_bytes, paces, plan.streams, versions
        ):
            name = cell_name(
                one.name, size, pace, streams, version, chunk if len(plan.chunk_bytes) > 1 else None
            )
            common = {
                "comparison": name,
                "message_bytes": size,
                "chunk_bytes": chunk,
                "pace_gbit_per_s": pace,
                "streams": streams,
                "ip_version": version,
                "header_bytes": plan.header_bytes,
            }
            arms: dict[ArmName, Measurement] = {
                "a": _template(plan, {**_planned(one.a), **common, "arm": "a"}),
                "b": _template(plan, {**_planned(one.b), **common, "arm": "b"}),
            }
            metrics = {
                metric: ids for metric, ids in one.metrics.items() if pace is None or METRICS[metric].paced
            }
            block = 1 if one.a.kernel == one.b.kernel else plan.block_pairs
            yield Cell(name, one.name, metrics, arms, plan.repeats, block)
    for rpc in plan.rpc_comparisons:
        for version in versions:
            name = f"{rpc.name}-{rpc.request_bytes}-{rpc.reply_bytes}{_version_suffix(version)}"
            common = {
                "comparison": name,
                "send_mode": "copy",
                "message_bytes": rpc.request_bytes,
                "ip_version": version,
                "rpc": {"request_bytes": rpc.request_bytes, "reply_bytes": rpc.reply_bytes},
            }
            arms = {
                "a": _template(plan, {**common, "receive_mode": rpc.a, "arm": "a"}),
                "b": _template(plan, {**common, "receive_mode": rpc.b, "arm": "b"}),
            }
            yield Cell(name, rpc.name, dict(rpc.metrics), arms, plan.repeats, 1)


def _planned(arm: Arm) -> dict[str, Any]:
    return {**arm.model_dump(exclude={"kernel"}), "kernel_variant": arm.kernel}


def _template(plan: Plan, changes: dict[str, Any]) -> Measurement:
    """Return a measurement of a plan before it has its place in the order."""
    data: dict[str, Any] = {
        "id": "",
        "phase": "compare",
        "pair": 0,
        "order": 0,
        "chunk_bytes": plan.chunk_bytes[0],
        "keep_bytes": 0,
        "pace_gbit_per_s": None,
        "streams": 1,
        "header_bytes": 0,
        "kernel_variant": None,
        "inject_usec_per_mib": 0,
        "seconds": plan.seconds,
        "warmup_seconds": plan.warmup_seconds,
        "baseline_seconds": plan.seconds if plan.baseline else 0,
        "bytes": None,
        "rpc": None,
    }
    return Measurement.model_validate(data | changes)


def aa_cell(plan: Plan) -> Cell | None:
    """Return the cell that compares the first comparison's arm A with itself, if the plan has one.

    It bounds which differences are reported; with too few pairs for any it would be measured in vain.
    """
    first = next(cells(plan))
    if not plan.aa_pairs or plan.repeats.at_most < FEWEST_PAIRS or first.arms["a"].rpc is not None:
        return None
    same = first.arms["a"].model_copy(update={"comparison": AA, "phase": AA})
    metrics: dict[Metric, list[str]] = {
        metric: []
        for cell in cells(plan)
        for metric in cell.metrics
        if not METRICS[metric].rpc and (METRICS[metric].paced or not first.paced)
    }
    repeats = Repeats(at_least=plan.aa_pairs, at_most=plan.aa_pairs)
    return Cell(AA, AA, metrics, {"a": same, "b": same.model_copy(update={"arm": "b"})}, repeats, 1)


def compared(plan: Plan) -> list[Cell]:
    """Return all cells in the order in which they are measured: equal arms first."""
    first = aa_cell(plan)
    return [*([first] if first else []), *cells(plan)]


def checks(plan: Plan) -> list[Measurement]:
    """Return the measurements that check every byte: one per combination of modes, at its first size."""
    found: dict[tuple[Any, ...], Measurement] = {}
    for cell in cells(plan) if plan.integrity_bytes else ():
        for one in cell.arms.values():
            kept = one.keep_bytes > 0
            key = (one.receive_mode, one.send_mode, one.streams, one.ip_version, one.kernel_variant, kept)
            if one.rpc is None and key not in found:
                changes = {
                    "id": f"integrity-{cell.name}-{one.arm}",
                    "phase": "integrity",
                    "pace_gbit_per_s": None,
                    "inject_usec_per_mib": 0,
                    "warmup_seconds": 0,
                    "baseline_seconds": 0,
                    "bytes": plan.integrity_bytes,
                }
                found[key] = one.model_copy(update=changes)
    return list(found.values())


def profiles(plan: Plan) -> list[Measurement]:
    """Return the measurements that are only profiled: one for each arm of each bulk cell, if asked for."""
    if plan.profile_event is None:
        return []
    return [
        one.model_copy(
            update={"id": f"profile-{cell.name}-{one.arm}", "phase": "profile", "baseline_seconds": 0}
        )
        for cell in cells(plan)
        for one in cell.arms.values()
        if one.rpc is None
    ]


def pairs(plan: Plan, cell: Cell) -> list[Measurement]:
    """Return a cell's measurements in blocks A B B A or B A A B, as the plan's seed draws them."""
    draw = random.Random(f"{plan.seed}/{cell.name}")
    planned: list[Measurement] = []
    size = cell.block_pairs
    for start in range(0, cell.repeats.at_most, 2 * size):
        first: ArmName = draw.choice(("a", "b"))
        second: ArmName = "b" if first == "a" else "a"
        for half, arms in ((start, (first, second)), (start + size, (second, first))):
            numbers = range(half, min(half + size, cell.repeats.at_most))
            planned += [
                cell.arms[arm].model_copy(update={"id": f"{cell.name}-{number + 1:02d}{arm}", "pair": number})
                for arm in arms
                for number in numbers
            ]
    return planned


def measurements(plan: Plan) -> list[Measurement]:
    """Return all measurements in the order they are made, as if no comparison ended before its limit."""
    every = [*checks(plan), *(one for cell in compared(plan) for one in pairs(plan, cell)), *profiles(plan)]
    return [one.model_copy(update={"order": order}) for order, one in enumerate(every)]


def expected_seconds(plan: Plan, overhead_seconds: float) -> float:
    """Return about how many seconds a plan takes at most, with this overhead per measurement."""
    return sum(
        (0 if one.bytes else one.seconds) + one.warmup_seconds + one.baseline_seconds + overhead_seconds
        for one in measurements(plan)
    )


def _version_suffix(version: int | None) -> str:
    return "-ipv4" if version == 4 else ""


def cell_name(
    comparison: str,
    size: int,
    pace: float | None,
    streams: int = 1,
    version: int | None = None,
    chunk: int | None = None,
) -> str:
    """Return the name of a cell, as in results; `chunk` only where a plan has several."""
    name = f"{comparison}-{size}-{'unpaced' if pace is None else f'{pace:g}gbit'}"
    name += f"-chunk{chunk}" if chunk else ""
    return name + (f"-{streams}streams" if streams > 1 else "") + _version_suffix(version)
