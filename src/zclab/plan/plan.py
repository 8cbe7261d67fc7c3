# SPDX-License-Identifier: Apache-2.0
"""Plans: which comparisons are measured, how long, how often, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, field_validator, model_validator

from zclab.base import renamed_keys
from zclab.base.errors import UsageError
from zclab.base.metrics import METRICS, Metric
from zclab.base.model import Model, ReceiveMode, Role, SendMode, first_problem
from zclab.base.paths import project_root
from zclab.kernel import config as kernel_config
from zclab.lab.link import PAGE_BYTES
from zclab.lab.model import Lab
from zclab.plan import claims
from zclab.traffic.document import RpcMode

#: Receive modes that only some kernels have, and the option of the kernel series that they need.
MODE_OPTIONS: dict[ReceiveMode, str] = {"map_each": "CONFIG_TCP_MMAP_CONSUME"}
#: The name of the cell that compares an arm with itself.
AA = "aa"


def _whole_pages(sizes: list[int]) -> list[int]:
    for size in sizes:
        if size <= 0 or size % PAGE_BYTES:
            raise ValueError(f"{size} is not a multiple of a page ({PAGE_BYTES} bytes)")
    return sizes


#: Sizes in bytes, each of them whole pages.
Sizes = Annotated[list[int], Field(min_length=1), AfterValidator(_whole_pages)]


class Arm(Model):
    """How one side of a comparison sends and receives.

    `kernel` is a variant of the lab (null: the one it boots). `keep_bytes`: the receiver reads each chunk
    into new memory, freed after that many further bytes (0: all chunks into the same memory).
    `inject_usec_per_mib` burns CPU in the receiver, so that a test can see a slowdown found.
    """

    receive_mode: ReceiveMode
    send_mode: SendMode
    kernel: str | None = None
    keep_bytes: int = Field(default=0, ge=0, le=2**30)
    inject_usec_per_mib: float = Field(default=0, ge=0)


class PlannedComparison(Model):
    """Two arms, the metrics they are compared by, and the claims that each metric serves.

    `message_bytes` and `pace_gbit_per_s` replace those of the plan.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    a: Arm
    b: Arm
    metrics: dict[Metric, list[str]] = Field(min_length=1)
    message_bytes: Sizes | None = None
    pace_gbit_per_s: list[Annotated[float, Field(gt=0)] | None] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _bulk(self) -> PlannedComparison:
        if wrong := [metric for metric in self.metrics if METRICS[metric].rpc]:
            raise ValueError(f"metrics: {wrong[0]} belongs to rpc_comparisons")
        return self


class RpcComparison(Model):
    """Two ways to receive the small messages of a ping-pong. Sizes in bytes."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    a: RpcMode
    b: RpcMode
    request_bytes: int = Field(ge=1, le=2**20)
    reply_bytes: int = Field(ge=1, le=2**20)
    metrics: dict[Metric, list[str]] = Field(min_length=1)

    @model_validator(mode="after")
    def _rpc(self) -> RpcComparison:
        if wrong := [metric for metric in self.metrics if not METRICS[metric].rpc]:
            raise ValueError(f"metrics: {wrong[0]} belongs to comparisons")
        return self


class Preconditions(Model):
    """What has to hold on a host for a plan's comparisons to be gated; what is left out (null) is not asked.

    traffic_cpus: the CPUs that the traffic threads may run on. interrupt_cpus: those that take the data
    interface's interrupts. rps, rfs: whether packets are steered to other CPUs (Linux:
    Documentation/networking/scaling.rst). kernel_arguments: words of the kernel's command line.
    """

    traffic_cpus: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    interrupt_cpus: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    rps: bool | None = None
    rfs: bool | None = None
    kernel_arguments: list[str] = []


class Repeats(Model):
    """Number of pairs, or of boots of each kernel: at least, and at most while the interval is too wide."""

    at_least: int = Field(ge=1, le=1000)
    at_most: int = Field(ge=1, le=1000)

    @model_validator(mode="after")
    def _in_order(self) -> Repeats:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} is more than at_most {self.at_most}")
        return self


class RepeatInvalid(Model):
    """How often an invalid measurement is made again, each and in the whole run."""

    per_measurement: int = Field(default=2, ge=0, le=10)
    per_run: int = Field(default=20, ge=0, le=1000)


def _repeats(value: object) -> object:
    return {"at_least": value, "at_most": value} if isinstance(value, int) else value


def _several(value: object) -> object:
    return [value] if isinstance(value, int) else value


class Plan(Model):
    """What `zclab run` carries out: each comparison at each size, pace, number of streams and IP version.

    seconds, bytes: the length of each transfer; a plan has one of them. The window of a transfer of so many
        bytes is around all of them: it has no warm-up and no idle baseline.
    seed: draws which arm begins each block (null: drawn for each run, and kept with it).
    precision: the half-width of the 95 % interval, as a share of the ratio, that ends a comparison before
        `repeats.at_most`.
    aa_pairs: pairs of equal arms, in all: each arm A that differs is compared with itself in a share of them,
        by how many cells have it, in blocks of two pairs throughout the run.
    repeat_invalid: how often an invalid measurement is made again.
    baseline: measure the idle hosts just before each window, for as long as the window.
    integrity_bytes: bytes whose every one is checked, for each combination of modes.
    boots: boots of each kernel, where the arms differ in it. One figure of each boot is compared.
    boot_measurements: measurements of each cell within such a boot.
    boot_each_arm: have boots for each arm also where arms differ in modes only; no other cell shares those.
    ip_versions: null for the lab's own.
    profile_event: the perf event by which each arm is profiled once, such as cycles.
    preconditions: what is read back from the host of a role before and after the measurements; where it does
        not hold, comparisons are shown and not gated.
    lab: the lab that carries it out where none is named (null: the one of two virtual hosts).
    left_out: the comparisons that the lab's own plan has, too, and why they are not made. Not in files.
    """

    name: str
    seconds: float | None = Field(default=None, gt=0, le=3600)
    bytes: int | None = Field(default=None, gt=0)
    warmup_seconds: float = Field(default=0, ge=0, le=600)
    repeats: Annotated[Repeats, BeforeValidator(_repeats)]
    precision: float | None = Field(default=None, gt=0, lt=1)
    aa_pairs: int = Field(default=0, ge=0, le=1000)
    baseline: bool = False
    integrity_bytes: int = Field(default=0, ge=0)
    seed: int | None = Field(default=None, ge=0)
    message_bytes: Sizes
    chunk_bytes: Annotated[Sizes, BeforeValidator(_several)]
    pace_gbit_per_s: list[float | None] = Field(min_length=1)
    streams: list[int] = Field(default=[1], min_length=1)
    header_bytes: int = Field(default=0, ge=0, le=65535)
    ip_versions: list[Literal[4, 6]] | None = Field(default=None, min_length=1)
    boots: Annotated[Repeats, BeforeValidator(_repeats)] = Repeats(at_least=6, at_most=6)
    boot_measurements: int = Field(default=3, ge=1, le=1000)
    boot_each_arm: bool = False
    repeat_invalid: RepeatInvalid = RepeatInvalid()
    comparisons: list[PlannedComparison] = []
    rpc_comparisons: list[RpcComparison] = []
    profile_event: str | None = None
    preconditions: dict[Role, Preconditions] = {}
    lab: str | None = None
    left_out: dict[str, str] = {}

    @field_validator(
        "message_bytes",
        "chunk_bytes",
        "pace_gbit_per_s",
        "streams",
        "ip_versions",
        "comparisons",
        "rpc_comparisons",
    )
    @classmethod
    def _none_twice(cls, values: list[Any] | None) -> list[Any] | None:
        names = [getattr(value, "name", value) for value in values or []]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is listed twice")
        return values

    @field_validator("pace_gbit_per_s")
    @classmethod
    def _positive(cls, paces: list[float | None]) -> list[float | None]:
        if any(pace is not None and pace <= 0 for pace in paces):
            raise ValueError("a pace is a positive number of Gbit/s, or null")
        return paces

    @field_validator("streams")
    @classmethod
    def _some_streams(cls, counts: list[int]) -> list[int]:
        if wrong := [count for count in counts if not 1 <= count <= 64]:
            raise ValueError(f"{wrong[0]} streams: 1 to 64 are possible")
        return counts

    @model_validator(mode="after")
    def _hangs_together(self) -> Plan:
        names = [one.name for one in self.every()]
        if not names:
            raise ValueError("comparisons: there is none, and no rpc_comparisons either")
        if AA in names or len(set(names)) < len(names):
            raise ValueError(f"comparisons: names must differ from each other and from {AA}")
        if (self.seconds is None) == (self.bytes is None):
            raise ValueError("seconds: a plan has either seconds or bytes, the length of each transfer")
        if self.bytes is not None and (self.warmup_seconds or self.baseline or self.rpc_comparisons):
            raise ValueError("bytes: a transfer of so many bytes has no warm-up, no baseline and no RPCs")
        for one in (self.repeats, self.boots):
            if one.at_least < one.at_most and self.precision is None:
                raise ValueError(
                    "precision: missing: declare how narrow an interval must be to stop before at_most"
                )
        return self

    def every(self) -> list[PlannedComparison | RpcComparison]:
        """Return all comparisons, bulk ones first."""
        return [*self.comparisons, *self.rpc_comparisons]

    def settled(self, ip_version: Literal[4, 6], seed: int) -> Plan:
        """Return the plan with the IP version and the seed filled in, where it leaves them open."""
        return self.model_copy(
            update={
                "ip_versions": self.ip_versions or [ip_version],
                "seed": self.seed if self.seed is not None else seed,
            }
        )

    def select(self, modes: list[str] | None = None, **replaced: Any) -> Plan:
        """Return the plan narrowed to comparisons that use one of `modes`, with other fields replaced.

        A field whose new value is None stays as it is.

        Raises:
            UsageError: a mode is not in the plan, or a value does not fit.
        """
        known = sorted(set().union(*map(_modes, self.every())))
        for mode in modes or []:
            if mode not in known:
                raise UsageError(f"plan {self.name}: no comparison uses mode {mode!r}: {', '.join(known)}")
        changes = {field: value for field, value in replaced.items() if value is not None}
        # What replaces a value of the plan replaces that of each comparison, too.
        own = dict.fromkeys({"message_bytes", "pace_gbit_per_s"} & set(changes))
        for field in ("comparisons", "rpc_comparisons"):
            kept = [one for one in getattr(self, field) if not modes or _modes(one) & set(modes)]
            changes[field] = [one.model_dump() | (own if field == "comparisons" else {}) for one in kept]
        return _validated(f"plan {self.name}", self.model_dump() | changes)


def _modes(comparison: PlannedComparison | RpcComparison) -> set[str]:
    if isinstance(comparison, RpcComparison):
        return {comparison.a, comparison.b}
    return {mode for arm in (comparison.a, comparison.b) for mode in (arm.receive_mode, arm.send_mode)}


def load(name_or_path: str) -> Plan:
    """Read a plan: a file in lab_tests/plans by its name, or a path.

    Raises:
        UsageError: the file is missing or has an impossible value.
    """
    directory = project_root() / "lab_tests" / "plans"
    path = directory / f"{renamed_keys.RENAMED_PLANS.get(name_or_path, name_or_path)}.yml"
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
    if renamed := renamed_keys.problem(data):
        raise UsageError(": ".join([str(path), *renamed]))
    if data.get("left_out"):
        raise UsageError(f"{path}: left_out: is found by zclab, not declared: remove it")
    plan = _validated(str(path), {"name": path.stem, **data})
    documented = set(claims.load())
    for field in ("comparisons", "rpc_comparisons"):
        for comparison in getattr(plan, field):
            for metric, ids in comparison.metrics.items():
                if unknown := set(ids) - documented:
                    raise UsageError(
                        f"{path}: {field}: {comparison.name}: {metric}: docs/claims.yml has no claim "
                        f"{', '.join(sorted(unknown))}"
                    )
    return plan


def of_lab(lab: Lab) -> Plan:
    """Return the lab's own plan, after checking that each of its thresholds bounds something in it.

    Comparisons with a mode that the lab's kernel is not built for are left out (`Plan.left_out`).

    Raises:
        UsageError: the plan is missing, a threshold bounds nothing in it, or the kernel can do none of it.
    """
    plan = load(lab.plan)
    compared = {one.name: one.metrics for one in plan.every()}
    sizes = {one.name: one.message_bytes or plan.message_bytes for one in plan.comparisons}
    for number, threshold in enumerate(lab.expectations.thresholds):
        place = f"{lab.name}: zclab_thresholds.{number}"
        if threshold.comparison not in compared:
            known = ", ".join(compared)
            raise UsageError(f"{place}: plan {plan.name} has no comparison {threshold.comparison!r}: {known}")
        if threshold.metric not in compared[threshold.comparison]:
            raise UsageError(
                f"{place}: plan {plan.name} does not compare {threshold.comparison} by {threshold.metric}"
            )
        if threshold.message_bytes not in (None, *sizes.get(threshold.comparison, [])):
            raise UsageError(
                f"{place}: plan {plan.name} measures no {threshold.comparison} of "
                f"{threshold.message_bytes} bytes"
            )
        if unknown := set(threshold.claims) - set(claims.load()):
            raise UsageError(f"{place}: docs/claims.yml has no claim {', '.join(sorted(unknown))}")
    _check_not_gated(lab)
    return _without_missing_modes(plan, lab)


def _check_not_gated(lab: Lab) -> None:
    """Raise UsageError for a claim that is said not to be gated, and is, or that there is none of."""
    gated = {claim for one in lab.expectations.thresholds for claim in one.claims}
    for claim in lab.expectations.not_gated:
        place = f"{lab.name}: zclab_not_gated.{claim}"
        if claim not in claims.load():
            raise UsageError(f"{place}: docs/claims.yml has no claim {claim}")
        if claim in gated:
            raise UsageError(f"{place}: a threshold names the claim: take one of them away")


def _without_missing_modes(plan: Plan, lab: Lab) -> Plan:
    """Return the plan without comparisons that need an mmap() which a kernel of the lab does not have."""
    left_out = {}
    for one in plan.comparisons:
        for arm in (one.a, one.b):
            variant = arm.kernel or lab.kernel_variant
            option = MODE_OPTIONS.get(arm.receive_mode)
            declared = lab.kernel_variants.get(variant or "")
            if declared and option and not kernel_config.asks_for(declared.config, option):
                left_out[one.name] = f"kernel {variant} is built without {arm.receive_mode} ({option})"
    kept = [one for one in plan.comparisons if one.name not in left_out]
    if not kept and not plan.rpc_comparisons:
        raise UsageError(f"{lab.name}: plan {plan.name}: nothing to measure: {next(iter(left_out.values()))}")
    return plan.model_copy(update={"comparisons": kept, "left_out": left_out})


def _validated(place: str, data: object) -> Plan:
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        raise UsageError(": ".join(filter(None, [place, first_problem(error)]))) from None
