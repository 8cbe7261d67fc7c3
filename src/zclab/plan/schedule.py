# SPDX-License-Identifier: Apache-2.0
"""From a plan to measurements: what is compared, and in which order it is measured."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

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

    Sizes are in bytes, the pace in Gbit/s of payload (null: as fast as it goes). `boot` numbers the boots
    that a plan asks for, from 0 (null: any boot of the kernel). `attempt` counts how often the measurement
    was made before, and was invalid.
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
    boot: int | None = None
    attempt: int = 0


class Measurement(Setting):
    """One execution of the traffic tool at both ends.

    Times are in seconds. `bytes` replaces the window: of integrity, and of plans in bytes, whose `seconds`
    are 0. A ping-pong has `rpc`; its messages are requests.
    """

    seconds: float
    warmup_seconds: float
    baseline_seconds: float
    bytes: int | None
    rpc: Rpc | None


class Cell(NamedTuple):
    """Two arms to be compared, at one message size, chunk size, pace, number of streams and IP version.

    repeats: pairs, or boots of each arm. boot_measurements: of each arm in one boot, 0 where arms share one.
    """

    name: str
    comparison: str
    metrics: dict[Metric, list[str]]
    arms: dict[ArmName, Measurement]
    repeats: Repeats
    boot_measurements: int = 0

    @property
    def paced(self) -> bool:
        """Whether the pace is fixed, so that throughput is not compared."""
        return self.arms["a"].pace_gbit_per_s is not None

    @property
    def judged_metrics(self) -> list[Metric]:
        """The metrics without those that are only shown beside others."""
        return [metric for metric in self.metrics if not METRICS[metric].shown_only]

    @property
    def kernels(self) -> tuple[str | None, str | None]:
        """The kernels of both arms."""
        return self.arms["a"].kernel_variant, self.arms["b"].kernel_variant

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
            if one.a.kernel == one.b.kernel and not plan.boot_each_arm:
                yield Cell(name, one.name, metrics, arms, plan.repeats)
            else:
                yield Cell(name, one.name, metrics, arms, plan.boots, plan.boot_measurements)
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
            if plan.boot_each_arm:
                yield Cell(name, rpc.name, dict(rpc.metrics), arms, plan.boots, plan.boot_measurements)
            else:
                yield Cell(name, rpc.name, dict(rpc.metrics), arms, plan.repeats)


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
        "seconds": plan.seconds or 0,
        "warmup_seconds": plan.warmup_seconds,
        "baseline_seconds": plan.seconds if plan.baseline else 0,
        "bytes": plan.bytes,
        "rpc": None,
    }
    return Measurement.model_validate(data | changes)


def aa_cells(plan: Plan) -> list[Cell]:
    """Return the cells that compare an arm A with itself: one for each arm A that differs from the others.

    Left out are arms whose kernels are compared (boots differ there), ping-pongs, and plans with too few
    pairs to call any difference.
    """
    if not plan.aa_pairs or plan.repeats.at_most < FEWEST_PAIRS:
        return []
    sharing = _sharing_arm_a(plan)
    per_cell = plan.aa_pairs / 2 / max(1, sum(map(len, sharing)))
    return [
        Cell(name, AA, metrics, {"a": same, "b": same.model_copy(update={"arm": "b"})}, repeats)
        for members in sharing
        for name in [AA if len(sharing) == 1 else f"{AA}-{_arm_label(members[0])}"]
        for same in [members[0].arms["a"].model_copy(update={"comparison": name, "phase": AA})]
        for metrics in [_without_claims(members)]
        for pairs in [2 * max(1, round(per_cell * len(members)))]
        for repeats in [Repeats(at_least=pairs, at_most=pairs)]
    ]


def _sharing_arm_a(plan: Plan) -> list[list[Cell]]:
    """Return the cells with equal arms by the arm A that they share."""
    found: dict[str, list[Cell]] = {}
    for cell in cells(plan):
        arm = cell.arms["a"]
        if not cell.boot_measurements and arm.rpc is None:
            found.setdefault(arm.model_copy(update={"comparison": ""}).model_dump_json(), []).append(cell)
    return [*found.values()]


def _without_claims(members: list[Cell]) -> dict[Metric, list[str]]:
    return {metric: [] for cell in members for metric in cell.judged_metrics}


def _arm_label(cell: Cell) -> str:
    """Return what tells the arm A of a cell from others."""
    one = cell.arms["a"]
    kept = f"-keep{one.keep_bytes}" if one.keep_bytes else ""
    kernel = f"-{one.kernel_variant}" if one.kernel_variant else ""
    return f"{one.send_mode}-{one.receive_mode}{kept}{kernel}{cell.name.removeprefix(cell.comparison)}"


class Step(NamedTuple):
    """Cells that are measured together, and up to how many pairs or boots (null: as many as it takes)."""

    cells: tuple[Cell, ...]
    until: int | None = None


def steps(plan: Plan) -> list[Step]:
    """Return what is measured, in order: each comparison, and blocks of equal arms among them.

    Cells that compare the same two kernels share their boots; modes that have boots of their own do not.
    """
    found: list[Step] = []
    equal = {cell.name: cell for cell in aa_cells(plan)}
    of_arm = dict(zip(equal, _sharing_arm_a(plan), strict=True)) if equal else {}
    by_boots: dict[tuple[str | None, ...], list[Cell]] = {}

    def boots_of(cell: Cell) -> tuple[str | None, ...]:
        of_kernel = cell.kernels[0] != cell.kernels[1]
        return cell.kernels if of_kernel else (*cell.kernels, cell.name)

    for cell in cells(plan):
        if cell.boot_measurements:
            by_boots.setdefault(boots_of(cell), []).append(cell)
    for cell in cells(plan):
        for name, users in of_arm.items():
            names = [one.name for one in users]
            if cell.name in names:
                blocks = equal[name].repeats.at_most // 2
                at = names.index(cell.name)
                until = -(-blocks * (at + 1) // len(names))
                if until > -(-blocks * at // len(names)):
                    found.append(Step((equal[name],), 2 * until))
        if not cell.boot_measurements:
            found.append(Step((cell,)))
        elif (together := by_boots.pop(boots_of(cell), None)) is not None:
            found.append(Step(tuple(together)))
    return found


def whole_steps(plan: Plan) -> list[Step]:
    """Return what is compared, equal arms first, each to its end at once: as a run is judged."""
    found: dict[str, Step] = {}
    for step in [*(Step((cell,)) for cell in aa_cells(plan)), *steps(plan)]:
        found.setdefault(step.cells[0].name, step)
    return [*found.values()]


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


def blocks(plan: Plan, step: Step) -> list[list[Measurement]]:
    """Return the measurements of a step in blocks A B B A or B A A B, as the plan's seed draws them.

    A block has two pairs, or two boots of each kernel with the measurements of each cell in each boot.
    """
    first_cell = step.cells[0]
    draw = random.Random(f"{plan.seed}/{first_cell.name}")
    per_arm = first_cell.boot_measurements or 1
    limit = first_cell.repeats.at_most
    found: list[list[Measurement]] = []
    for start in range(0, limit, 2):
        first: ArmName = draw.choice(("a", "b"))
        second: ArmName = "b" if first == "a" else "a"
        order = [(first, start), (second, start), (second, start + 1), (first, start + 1)]
        found.append(
            [
                cell.arms[arm].model_copy(
                    update={"id": f"{cell.name}-{number + 1:02d}{arm}", "pair": number, "boot": boot}
                )
                for place, (arm, turn) in enumerate(order)
                if turn < limit
                for boot in [2 * start + place if first_cell.boot_measurements else None]
                for cell in step.cells
                for number in range(turn * per_arm, (turn + 1) * per_arm)
            ]
        )
    return found if step.until is None else found[: step.until // 2]


def of_boot(plan: Plan, step: Step, boot: int) -> list[Measurement]:
    """Return the measurements of a step that are made in one of its boots, in order."""
    return [one for block in blocks(plan, step) for one in block if one.boot == boot]


def measurements(plan: Plan) -> list[Measurement]:
    """Return all measurements in the order they are made, as if no comparison ended before its limit."""
    of_steps = {one.id: one for step in steps(plan) for block in blocks(plan, step) for one in block}
    every = [*checks(plan), *of_steps.values(), *profiles(plan)]
    return [one.model_copy(update={"order": order}) for order, one in enumerate(every)]


class Attempted(Protocol):
    """A measurement that was made again so often, from 0, under an id of its own."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def attempt(self) -> int:
        """How often it was made before."""


def attempt(planned: Measurement, number: int) -> Measurement:
    """Return a planned measurement as it is made for the first time (0), or again (1, 2 ...)."""
    return planned.model_copy(update={"id": attempt_id(planned.id, number), "attempt": number})


def attempt_id(planned_id: str, number: int) -> str:
    """Return the id of an attempt of a measurement."""
    return f"{planned_id}-again{number}" if number else planned_id


def first_attempt_id(one: Attempted) -> str:
    """Return the id that a measurement has in its plan."""
    return one.id.removesuffix(attempt_id("", one.attempt))


def boots(plan: Plan) -> int:
    """Return how many boots a plan needs at most: those of its comparisons of kernels, and one back."""
    asked = sum(
        len({one.boot for block in blocks(plan, step) for one in block} - {None}) for step in steps(plan)
    )
    return asked + 1 if asked else 0


def expected_seconds(plan: Plan, overhead_seconds: float, boot_seconds: float = 0.0) -> float:
    """Return about how many seconds a plan takes at most, with so many more per measurement and boot."""
    return boots(plan) * boot_seconds + sum(
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
