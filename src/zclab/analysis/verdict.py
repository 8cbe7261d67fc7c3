# SPDX-License-Identifier: Apache-2.0
"""From raw records to a verdict: what was compared, and what that says.

Pure functions of a manifest and its records, so that every run can be judged again from its files.
"""

from __future__ import annotations

import statistics as plain_statistics
from collections.abc import Mapping
from typing import Literal

from zclab.analysis import baseline, disturbance, measurement, preconditions, samples, statistics
from zclab.analysis.document import (
    ComparisonDocument,
    EqualArms,
    MeasurementDocument,
    OtherFigure,
    RunDocument,
)
from zclab.analysis.metric_values import value as metric_value
from zclab.analysis.samples import Samples
from zclab.analysis.statistics import Interval
from zclab.analysis.stopping import counted, next_attempt, next_measurement
from zclab.base.exit_codes import Verdict
from zclab.base.groups import grouped
from zclab.base.metrics import METRICS, Metric
from zclab.lab.model import Threshold
from zclab.plan import claims, schedule
from zclab.plan.schedule import ArmName, Cell
from zclab.runs.folder import Run
from zclab.runs.manifest import BaseManifest, Kind
from zclab.runs.records import Manifest, Record

#: By the metric of the traffic threads, that of the whole host.
_OF_HOST: dict[Metric, Metric] = {
    "receiver_usec_per_mib": "receiver_host_usec_per_mib",
    "sender_usec_per_mib": "sender_host_usec_per_mib",
    "receiver_cycles_per_mib": "receiver_host_cycles_per_mib",
    "sender_cycles_per_mib": "sender_host_cycles_per_mib",
}


def judge(manifest: Manifest, records: list[Record]) -> RunDocument:
    """Judge a run from its files."""
    measurements = [measurement.document(manifest, record) for record in records]
    final = counted(measurements)
    equal = _equal_arms(manifest, final)
    ids = {one.id for one in final}
    disturbed = disturbance.reasons(manifest, [one for one in records if one.planned.id in ids])
    comparisons = _comparisons(manifest, measurements, final, equal, disturbed)
    problems = _problems(manifest, measurements)
    pinned = baseline.judged(manifest, final)
    verdicts: list[Verdict] = [one.verdict for one in comparisons if one.verdict is not None]
    verdicts += [one.verdict for one in pinned]
    if any(one.invalid_reasons for one in final) or problems:
        verdicts.append("invalid")
    if any(one.skipped for one in final) or any(one.differ for one in equal):
        verdicts.append("inconclusive")
    if any(manifest.console_reports.values()) or any(one.integrity == "mismatch" for one in measurements):
        verdicts.append("fail")
    common = {name: getattr(manifest, name) for name in BaseManifest.model_fields}
    found = {"measurements": measurements, "comparisons": comparisons, "problems": problems}
    found |= {"preconditions": preconditions.judged(manifest), "left_out": manifest.plan.left_out}
    found |= {"equal_arms": equal, "remeasured": sum(one.attempt > 0 for one in measurements)}
    found |= {"emulator": manifest.emulator, "repetition": manifest.repetition, "baseline": pinned}
    found |= manifest.judged(*verdicts)
    return RunDocument(**common | found, hosts=manifest.hosts, seed=manifest.plan.seed)


#: The kind of run that measures by a plan.
RUN = Kind("run", Manifest, Record, judge, judged_again=True)
MeasuringRun = Run[Manifest, Record, RunDocument]


def _problems(manifest: Manifest, measurements: list[MeasurementDocument]) -> list[str]:
    """Return what is wrong with the run as a whole."""
    plan = manifest.plan
    made = {one.id: one for one in measurements}
    if manifest.is_older and manifest.finished_at is not None:
        return []  # an older schedule was carried out
    alone = [*schedule.checks(plan), *schedule.profiles(plan)]
    missing = sum(next_attempt(plan, one, made) is not None for one in alone)
    for step in schedule.whole_steps(plan):
        if next_measurement(plan, step, made) is not None:
            names = {cell.name for cell in step.cells}
            there = sum(
                one.comparison in names and one.phase in ("compare", "aa") for one in counted(measurements)
            )
            least = sum(2 * cell.repeats.at_least * (cell.boot_measurements or 1) for cell in step.cells)
            missing += max(1, least - there)
    problems = [f"{missing} planned measurements were not made: continue with `zclab run --resume`"] * (
        missing > 0
    )
    if len(made) < len(measurements):
        problems.append("a measurement is recorded twice")
    if manifest.finished_at is None:
        problems.append("the run did not finish")
    if manifest.repetition is not None and manifest.repetition.difference is not None:
        problems.append(f"executed twice, it was not the same: {manifest.repetition.difference}")
    return problems


def _equal_arms(manifest: Manifest, final: list[MeasurementDocument]) -> list[EqualArms]:
    """Return how equal arms differed by each metric, all pairs of the run together."""
    plan = manifest.plan
    members = grouped((one for one in final if one.phase == "aa"), lambda one: one.comparison)
    cells = schedule.aa_cells(plan)
    found = []
    for metric in METRICS:
        ratios = [
            ratio
            for cell in cells
            if metric in cell.metrics
            for ratio in samples.of_cell(plan, cell, members.get(cell.name, []), metric).ratios
        ]
        if not ratios:
            continue
        interval = statistics.sample_interval(ratios)
        chance = statistics.p_value(ratios)
        because = None
        if len(ratios) < statistics.FEWEST_PAIRS:
            because = f"fewer than {statistics.FEWEST_PAIRS} pairs"
        elif _is_emulated(manifest, metric):
            because = "emulated CPU"
        distance = abs(interval.estimate - 1)
        found.append(
            EqualArms(
                metric=metric,
                n=len(ratios),
                ratio=interval.estimate,
                ratio_ci95=(interval.low, interval.high),
                p_value=chance,
                differ=None
                if because
                else chance <= statistics.FALSE_ALARM and distance > manifest.expectations.smallest_effect,
                because=because,
            )
        )
    return found


def _comparisons(
    manifest: Manifest,
    measurements: list[MeasurementDocument],
    final: list[MeasurementDocument],
    equal: list[EqualArms],
    disturbed: Mapping[str, list[str]],
) -> list[ComparisonDocument]:
    made = {one.id: one for one in measurements}
    members = grouped((one for one in final if one.phase in ("compare", "aa")), lambda one: one.comparison)
    judged = _Judged(manifest, {one.metric: one for one in equal}, disturbed)
    return [
        judged.comparison(cell, metric, threshold, members.get(cell.name, []), whole=whole)
        for step in schedule.whole_steps(manifest.plan)
        for whole in [manifest.is_older or next_measurement(manifest.plan, step, made) is None]
        for cell in step.cells
        for metric in cell.metrics
        for threshold in _thresholds(manifest, cell, metric)
    ]


def _thresholds(manifest: Manifest, cell: Cell, metric: Metric) -> list[Threshold | None]:
    """Return the thresholds that bound a cell by a metric; of none, one null."""
    found: list[Threshold | None] = [
        one
        for one in manifest.expectations.thresholds
        if one.comparison == cell.comparison
        and one.metric == metric
        and one.paced in (None, cell.paced)
        and one.message_bytes in (None, cell.message_bytes)
    ]
    return found or [None]


class _Judged:
    """Judges the comparisons of one run."""

    def __init__(
        self, manifest: Manifest, equal: Mapping[Metric, EqualArms], disturbed: Mapping[str, list[str]]
    ) -> None:
        self._manifest = manifest
        self._equal = equal
        self._disturbed = disturbed
        self._unmet = preconditions.unmet(preconditions.judged(manifest))
        self._differ = [one for one in equal.values() if one.differ]

    def comparison(
        self,
        cell: Cell,
        metric: Metric,
        threshold: Threshold | None,
        members: list[MeasurementDocument],
        *,
        whole: bool,
    ) -> ComparisonDocument:
        """Return a comparison by one metric, judged by one threshold if there is one."""
        plan = self._manifest.plan
        found = samples.of_cell(plan, cell, members, metric)
        arm = threshold.arm if threshold else None
        interval = found.level_of(arm) if arm else found.interval()
        count = len(found.of(arm)) if arm else found.size
        because = self._unmet or _not_gated(
            self._manifest, cell, metric, threshold, members, bool(found.points)
        )
        resolution = None if arm or found.by_boot else statistics.resolution(found.ratios, found.repeats)
        invalid = _invalid_reasons(metric, members, found, whole=whole)
        invalid += self._disturbed.get(cell.name, [])
        verdict, inconclusive = self._verdict(
            members, found, arm, interval, threshold if because is None else None, resolution, invalid
        )
        effect, effect_because = self._effect(cell, metric, found, arm, resolution)
        host = self._of_host(cell, metric, members) if arm is None else None
        claim_ids = sorted({*cell.metrics[metric], *(threshold.claims if threshold else [])})
        known = claims.load()
        half = statistics.half_width(interval) if interval else None
        return ComparisonDocument(
            name=cell.name,
            metric=metric,
            arm_a=None if arm else _arm_name(cell, "a"),
            arm_b=_arm_name(cell, arm or "b"),
            n=count,
            median_a=median(_figures(found, members, metric, "a")),
            median_b=median(_figures(found, members, metric, "b")),
            ratio_median=interval.estimate if interval else None,
            ratio_ci95=(interval.low, interval.high) if interval else (None, None),
            threshold=_bound(threshold),
            unit=threshold.unit if threshold else "ratio",
            direction=("at_least" if threshold.at_most is None else "at_most") if threshold else None,
            gated=because is None,
            not_gated_because=because,
            verdict=verdict,
            invalid_reasons=invalid,
            inconclusive_because=inconclusive,
            interval=statistics.GLS if arm else found.kind,
            coverage=None if half is None else statistics.CONFIDENCE,
            n_boots=count if found.by_boot else None,
            precision=half,
            precision_wanted=None if METRICS[metric].shown_only else plan.precision,
            host_cpu=host,
            contradiction=_contradiction(metric, interval, host) if arm is None else None,
            p_value=found.p_value if arm is None else None,
            smallest_effect=self._manifest.expectations.smallest_effect,
            resolution=resolution,
            effect=effect,
            effect_because=effect_because,
            stopped=_stopped(cell, members, found) if whole else None,
            claim_ids=claim_ids,
            reference={
                one: known[one].reference for one in claim_ids if one in known and known[one].reference
            },
        )

    def _verdict(
        self,
        members: list[MeasurementDocument],
        found: Samples,
        arm: ArmName | None,
        interval: Interval | None,
        threshold: Threshold | None,
        resolution: float | None,
        invalid: list[str],
    ) -> tuple[Verdict | None, str | None]:
        """Return the verdict, null for a sound comparison that is not gated, and why it is inconclusive.

        A comparison with skipped measurements is inconclusive: never counted as passed. So is a ratio that is
        nearer to its bound than chance takes it, and every gate of a run whose equal arms differ.
        """
        if invalid:
            return "invalid", None
        if skipped := next((one.skipped for one in members if one.skipped), None):
            return "inconclusive", f"skipped: {skipped}"
        bound = _bound(threshold)
        if threshold is None or bound is None:
            return None, None
        if interval is None:
            return "inconclusive", "its figures were not measured"
        if self._differ:
            return "inconclusive", f"equal arms differ: {', '.join(one.metric for one in self._differ)}"
        if interval.low is None:
            return "inconclusive", _too_few(found, arm, found.fewest)
        if resolution is not None and abs(interval.estimate - bound) <= resolution * bound:
            return "inconclusive", f"nearer to the bound than {resolution:.1%}, which chance may explain"
        decided = statistics.decide(interval, threshold.at_least, threshold.at_most)
        return decided, "the interval contains the bound" if decided == "inconclusive" else None

    def _effect(
        self, cell: Cell, metric: Metric, found: Samples, arm: ArmName | None, resolution: float | None
    ) -> tuple[statistics.Effect | None, str | None]:
        """Return what may be called of a comparison, and why nothing may where that is so."""
        if arm is not None:
            return None, "one arm's own figure"
        if found.size < found.fewest_to_call:
            return None, _too_few(found, None, found.fewest_to_call)
        interval, within, chance = found.interval(), found.interval(0.90), found.p_value
        assert interval is not None and within is not None and chance is not None
        is_equal = cell.arms["a"].phase == "aa"
        if not is_equal and not found.by_boot and cell.arms["a"].rpc is None:
            # A ping-pong and kernels have no equal arms, only their own test.
            if metric not in self._equal:
                return None, "equal arms were not compared"
            if self._equal[metric].differ:
                return "inconclusive", "equal arms differ"
        smallest = self._manifest.expectations.smallest_effect
        return statistics.effect(interval, within, chance, smallest, resolution or 0.0), None

    def _of_host(self, cell: Cell, metric: Metric, members: list[MeasurementDocument]) -> OtherFigure | None:
        """Return the comparison by the CPU of the whole host; null where it was not measured."""
        other = _OF_HOST.get(metric)
        found = samples.of_cell(self._manifest.plan, cell, members, other) if other else None
        interval = found.interval() if found else None
        if other is None or interval is None:
            return None
        return OtherFigure(metric=other, ratio=interval.estimate, ratio_ci95=(interval.low, interval.high))


def _figures(found: Samples, members: list[MeasurementDocument], metric: Metric, arm: ArmName) -> list[float]:
    """Return the figures of an arm: of a count also those that are 0, of which there is no ratio."""
    if not METRICS[metric].shown_only:
        return found.of(arm)
    values = [metric_value(one, metric) for one in members if one.arm == arm]
    return [value for value in values if value is not None]


def median(values: list[float]) -> float | None:
    """Return the median, null of nothing."""
    return plain_statistics.median(values) if values else None


def _bound(threshold: Threshold | None) -> float | None:
    if threshold is None:
        return None
    return threshold.at_least if threshold.at_most is None else threshold.at_most


def _too_few(found: Samples, arm: ArmName | None, needed: int) -> str:
    if arm is not None:
        return f"{len(found.of(arm))} measurements: {statistics.FEWEST_SAMPLES} are needed"
    if found.by_boot:
        return f"{found.size} boots of each kernel: {needed} are needed"
    return f"fewer than {needed} pairs"


def _arm_name(cell: Cell, arm: ArmName) -> str:
    one = cell.arms[arm]
    name = one.receive_mode if one.rpc else f"{one.send_mode} to {one.receive_mode}"
    return (
        name
        + (f" on {one.kernel_variant}" if one.kernel_variant else "")
        + (f" with {one.inject_usec_per_mib:g} µs/MiB injected" if one.inject_usec_per_mib else "")
    )


def _invalid_reasons(
    metric: Metric, members: list[MeasurementDocument], found: Samples, *, whole: bool
) -> list[str]:
    """Return why a comparison does not count, each reason once, with the measurement that had it first."""
    first: dict[str, list[str]] = {}
    for one in members:
        for reason in one.invalid_reasons:
            first.setdefault(reason, []).append(one.id)
    reasons = [
        f"{ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}: {reason}"
        for reason, ids in first.items()
    ]
    made = [one for one in members if not one.invalid_reasons and not one.skipped]
    if not whole:
        reasons.append("not all of its measurements were made")
    elif not members:
        reasons.append("nothing was measured")
    # A figure that was not measured leaves a gap that the others do not speak for. Only a figure that a lab
    # need not have (no cycles, say) may be null in all.
    if found.points or METRICS[metric].everywhere:
        for one in made:
            value = metric_value(one, metric)
            if value is None:
                reasons.append(f"{one.id}: {metric} was not measured")
            elif value <= 0 and not METRICS[metric].shown_only:
                reasons.append(f"{one.id}: {metric} is {value:g}: a ratio needs a figure above 0")
    return reasons


def _contradiction(metric: Metric, own: Interval | None, host: OtherFigure | None) -> str | None:
    """Say that the CPU of the threads and that of the host differ in opposite directions, both surely."""
    if own is None or host is None or own.low is None or own.high is None:
        return None
    low, high = host.ratio_ci95
    if low is None or high is None:
        return None
    if (own.high < 1 and low > 1) or (own.low > 1 and high < 1):
        return (
            f"{metric} is {own.estimate:.3f} of A's, {host.metric} {host.ratio:.3f}: "
            "the kernel may have booked time on the wrong thread"
        )
    return None


def _stopped(
    cell: Cell, members: list[MeasurementDocument], found: Samples
) -> Literal["narrow", "limit"] | None:
    if any(not one.valid for one in members):
        return None
    made = found.size if found.by_boot else len(members) // 2
    return "limit" if made >= cell.repeats.at_most else "narrow"


def _is_emulated(manifest: Manifest, metric: Metric) -> bool:
    """Say whether a metric is a cost of an emulated CPU, which says nothing of a real one."""
    counts = METRICS[metric].unit == "instructions_per_mib" and manifest.expectations.counts_instructions
    return METRICS[metric].cpu and manifest.emulated and not counts


def _not_gated(
    manifest: Manifest,
    cell: Cell,
    metric: Metric,
    threshold: Threshold | None,
    members: list[MeasurementDocument],
    measured: bool,
) -> str | None:
    if skipped := next((one.skipped for one in members if one.skipped), None):
        return f"skipped: {skipped}"
    if _is_emulated(manifest, metric):
        return "emulated CPU"
    without = {cpu.perf_unavailable for one in members for cpu in (one.receiver_cpu, one.sender_cpu) if cpu}
    if METRICS[metric].unit == "cycles_per_mib" and not measured and without - {None}:
        return f"not counted: {'; '.join(sorted(filter(None, without)))}"
    if threshold:
        return None
    said = manifest.expectations.not_gated
    reasons = dict.fromkeys(said[claim] for claim in cell.metrics[metric] if claim in said)
    return "; ".join(reasons) or "not declared by the lab"
