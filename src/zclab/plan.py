# SPDX-License-Identifier: Apache-2.0
"""Plans: which comparisons are measured, how long, how often, and in which order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from zclab import claims
from zclab.errors import UsageError
from zclab.inventory import METRIC_UNITS, Lab, Metric, Model, ReceiveMode, SendMode
from zclab.link import PAGE_BYTES
from zclab.paths import project_root

#: Seconds that a measurement takes beside its window and warm-up: two snapshots, start and drain of both
#: ends. Only for the announcement of how long a plan takes; nothing is judged by it.
OVERHEAD_SECONDS = 2.0

ArmName = Literal["a", "b"]


class Arm(Model):
    """How one side of a comparison sends and receives."""

    receive_mode: ReceiveMode
    send_mode: SendMode


class PlannedComparison(Model):
    """Two arms, the metrics they are compared by, and the claims that each metric serves."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    a: Arm
    b: Arm
    metrics: dict[Metric, list[str]] = Field(min_length=1)


class Measurement(Model):
    """One sender/receiver execution of a plan.

    Sizes are in bytes, the pace in Gbit/s of payload (null: as fast as it goes), times in seconds.
    """

    id: str
    comparison: str
    arm: ArmName
    pair: int
    order: int
    receive_mode: ReceiveMode
    send_mode: SendMode
    message_bytes: int
    chunk_bytes: int
    pace_gbit_per_s: float | None
    seconds: float
    warmup_seconds: float


class Plan(Model):
    """What `zclab run` carries out: each comparison at each message size and pace."""

    name: str
    seconds: float = Field(gt=0, le=3600)
    warmup_seconds: float = Field(ge=0, le=600)
    repeats: int = Field(ge=1, le=1000)
    message_bytes: list[int] = Field(min_length=1)
    chunk_bytes: int = Field(gt=0)
    pace_gbit_per_s: list[float | None] = Field(min_length=1)
    comparisons: list[PlannedComparison] = Field(min_length=1)

    @field_validator("message_bytes", "pace_gbit_per_s", "comparisons")
    @classmethod
    def _none_twice(cls, values: list[Any]) -> list[Any]:
        names = [getattr(value, "name", value) for value in values]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is there twice")
        return values

    @field_validator("message_bytes")
    @classmethod
    def _whole_pages(cls, sizes: list[int]) -> list[int]:
        for size in sizes:
            if size <= 0 or size % PAGE_BYTES:
                raise ValueError(f"{size} is not a multiple of a page ({PAGE_BYTES} bytes)")
        return sizes

    @field_validator("chunk_bytes")
    @classmethod
    def _whole_page_chunk(cls, size: int) -> int:
        return cls._whole_pages([size])[0]

    @field_validator("pace_gbit_per_s")
    @classmethod
    def _positive(cls, paces: list[float | None]) -> list[float | None]:
        if any(pace is not None and pace <= 0 for pace in paces):
            raise ValueError("a pace is a positive number of Gbit/s, or null")
        return paces

    def cells(self) -> Iterator[tuple[str, PlannedComparison, int, float | None]]:
        """Yield (name, comparison, message size, pace): what is compared on its own."""
        for comparison, size, pace in itertools.product(
            self.comparisons, self.message_bytes, self.pace_gbit_per_s
        ):
            yield cell_name(comparison.name, size, pace), comparison, size, pace

    def measurements(self) -> list[Measurement]:
        """Return all measurements in the order they are made: pairs A B, B A, A B ... a cell."""
        planned: list[Measurement] = []
        for cell, comparison, size, pace in self.cells():
            for pair in range(self.repeats):
                arms: tuple[ArmName, ArmName] = ("a", "b") if pair % 2 == 0 else ("b", "a")
                for arm in arms:
                    modes = comparison.a if arm == "a" else comparison.b
                    planned.append(
                        Measurement(
                            id=f"{cell}-{pair + 1:02d}{arm}",
                            comparison=cell,
                            arm=arm,
                            pair=pair,
                            order=len(planned),
                            receive_mode=modes.receive_mode,
                            send_mode=modes.send_mode,
                            message_bytes=size,
                            chunk_bytes=self.chunk_bytes,
                            pace_gbit_per_s=pace,
                            seconds=self.seconds,
                            warmup_seconds=self.warmup_seconds,
                        )
                    )
        return planned

    def expected_seconds(self) -> float:
        """Return about how long the plan takes."""
        each = self.seconds + self.warmup_seconds + OVERHEAD_SECONDS
        return each * len(self.measurements())

    def select(
        self,
        modes: list[str] | None = None,
        sizes: list[int] | None = None,
        paces: list[float | None] | None = None,
        seconds: float | None = None,
        repeats: int | None = None,
    ) -> Plan:
        """Return the plan narrowed to comparisons that use one of `modes`, with other values replaced.

        Raises:
            UsageError: a mode is not in the plan, or a value does not fit.
        """
        known = sorted(set().union(*(_modes(comparison) for comparison in self.comparisons)))
        for mode in modes or []:
            if mode not in known:
                raise UsageError(f"plan {self.name}: no comparison uses mode {mode!r}: {', '.join(known)}")
        comparisons = [one for one in self.comparisons if not modes or _modes(one) & set(modes)]
        changes = {
            "comparisons": comparisons,
            "message_bytes": sizes,
            "pace_gbit_per_s": paces,
            "seconds": seconds,
            "repeats": repeats,
        }
        data = self.model_dump() | {key: value for key, value in changes.items() if value is not None}
        return _validated(f"plan {self.name}", data)


def _modes(comparison: PlannedComparison) -> set[str]:
    return {mode for arm in (comparison.a, comparison.b) for mode in (arm.receive_mode, arm.send_mode)}


def cell_name(comparison: str, size: int, pace: float | None) -> str:
    """Return the name of a comparison at one message size and pace, as it appears in results."""
    return f"{comparison}-{size}-{'unpaced' if pace is None else f'{pace:g}gbit'}"


def metrics_of(comparison: PlannedComparison, pace: float | None) -> list[Metric]:
    """Return the metrics of a cell: at a fixed pace throughput is set, not measured."""
    return [metric for metric in comparison.metrics if pace is None or METRIC_UNITS[metric] != "gbit_per_s"]


def load(name_or_path: str) -> Plan:
    """Read a plan: a file in lab_tests/plans by its name, or a path.

    Raises:
        UsageError: the file is missing or says something impossible.
    """
    directory = project_root() / "lab_tests" / "plans"
    path = directory / f"{name_or_path}.yml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(known.stem for known in directory.glob("*.yml")))
        raise UsageError(f"{name_or_path}: no such plan: name one of {known}, or a file")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a plan is a mapping of keys, such as the ones in {directory}")
    plan = _validated(str(path), {"name": path.stem, **data})
    documented = set(claims.load())
    for comparison in plan.comparisons:
        for metric, ids in comparison.metrics.items():
            if unknown := set(ids) - documented:
                raise UsageError(
                    f"{path}: comparisons: {comparison.name}: {metric}: docs/claims.yml has no claim "
                    f"{', '.join(sorted(unknown))}"
                )
    return plan


def of_lab(lab: Lab) -> Plan:
    """Return the lab's own plan, once each of its thresholds is seen to bound something in it.

    Raises:
        UsageError: the plan is missing, or a threshold would be passed over in silence.
    """
    plan = load(lab.plan)
    compared = {one.name: one.metrics for one in plan.comparisons}
    for number, threshold in enumerate(lab.thresholds):
        place = f"{lab.name}: zclab_thresholds.{number}"
        if threshold.comparison not in compared:
            known = ", ".join(compared)
            raise UsageError(f"{place}: plan {plan.name} has no comparison {threshold.comparison!r}: {known}")
        if threshold.metric not in compared[threshold.comparison]:
            raise UsageError(
                f"{place}: plan {plan.name} does not compare {threshold.comparison} by {threshold.metric}"
            )
        if unknown := set(threshold.claims) - set(claims.load()):
            raise UsageError(f"{place}: docs/claims.yml has no claim {', '.join(sorted(unknown))}")
    return plan


def _validated(place: str, data: object) -> Plan:
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"{place}: {key}: {problem['msg'].removeprefix('Value error, ')}") from None
