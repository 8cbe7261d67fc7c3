# SPDX-License-Identifier: Apache-2.0
"""From raw records to a verdict: what was compared, and what that says.

Pure functions of a manifest and its records, so that every run can be judged again from its files.
"""

from __future__ import annotations

import statistics as plain_statistics
from collections.abc import Mapping
from typing import Literal

from zclab.analysis import disturbance, measurement, statistics
from zclab.analysis.document import ComparisonDocument, MeasurementDocument, RunDocument
from zclab.analysis.metric_values import value as metric_value
from zclab.analysis.statistics import Interval, median_interval
from zclab.analysis.stopping import next_measurement, ratios
from zclab.base.exit_codes import Verdict
from zclab.base.groups import grouped
from zclab.base.metrics import METRICS, Metric
from zclab.lab.model import Threshold
from zclab.plan import claims, schedule
from zclab.plan.plan import AA
from zclab.plan.schedule import ArmName, Cell
from zclab.runs.folder import Run
from zclab.runs.manifest import BaseManifest, Kind
from zclab.runs.records import Manifest, Record


def judge(manifest: Manifest, records: list[Record]) -> RunDocument:
    """Judge a run from its files."""
    measurements = [measurement.document(manifest, record) for record in records]
    disturbed = disturbance.reasons(manifest, records)
    comparisons = [
        one.model_copy(update={"verdict": "invalid"}) if one.name in disturbed else one
        for one in _comparisons(manifest, measurements)
    ]
    problems = _problems(manifest, measurements)
    problems += [f"{name}: {reason}" for name, reasons in disturbed.items() for reason in reasons]
    verdicts: list[Verdict] = [one.verdict for one in comparisons if one.verdict is not None]
    if any(one.invalid_reasons for one in measurements) or problems:
        verdicts.append("invalid")
    if any(one.skipped for one in measurements):
        verdicts.append("inconclusive")
    if any(manifest.console_reports.values()) or any(one.integrity == "mismatch" for one in measurements):
        verdicts.append("fail")
    common = {name: getattr(manifest, name) for name in BaseManifest.model_fields}
    found = {"measurements": measurements, "comparisons": comparisons, "problems": problems}
    found |= manifest.judged(*verdicts)
    return RunDocument(**common | found, hosts=manifest.hosts, seed=manifest.plan.seed)


#: The kind of run that measures by a plan.
RUN = Kind("run", Manifest, Record, judge, judged_again=True)
MeasuringRun = Run[Manifest, Record, RunDocument]


def _problems(manifest: Manifest, measurements: list[MeasurementDocument]) -> list[str]:
    """Return what is wrong with the run as a whole."""
    plan = manifest.plan
    made = {one.id: one for one in measurements}
    missing = sum(one.id not in made for one in (*schedule.checks(plan), *schedule.profiles(plan)))
    for cell in schedule.compared(plan):
        if next_measurement(plan, cell, made) is not None:
            there = sum(
                one.comparison == cell.name and one.phase in ("compare", "aa") for one in measurements
            )
            missing += max(1, 2 * cell.repeats.at_least - there)
    problems = [f"{missing} planned measurements were not made: continue with `zclab run --resume`"] * (
        missing > 0
    )
    if len(made) < len(measurements):
        problems.append("a measurement is recorded twice")
    if manifest.finished_at is None:
        problems.append("the run did not finish")
    return problems


def _comparisons(manifest: Manifest, measurements: list[MeasurementDocument]) -> list[ComparisonDocument]:
    compared = [one for one in measurements if one.phase in ("compare", "aa")]
    members = grouped(compared, lambda one: one.comparison)
    equal = {metric: ratios(members.get(AA, []), metric) for metric in METRICS}
    return [
        _compare(manifest, cell, metric, threshold, members.get(cell.name, []), equal)
        for cell in schedule.compared(manifest.plan)
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


def _compare(
    manifest: Manifest,
    cell: Cell,
    metric: Metric,
    threshold: Threshold | None,
    members: list[MeasurementDocument],
    equal: Mapping[Metric, list[float]],
) -> ComparisonDocument:
    values = {
        arm: [value for one in members if one.arm == arm and (value := metric_value(one, metric)) is not None]
        for arm in ("a", "b")
    }
    arm = threshold.arm if threshold else None
    of_pairs = ratios(members, metric)
    samples = values[arm] if arm else of_pairs
    # A figure that was not measured leaves a gap that the others do not speak for.
    made = {one.id: one for one in members}
    whole = next_measurement(manifest.plan, cell, made) is None and len(samples) == len(members) // 2
    interval = median_interval(samples) if samples else None
    because = _not_gated(manifest, metric, threshold, members, samples)
    resolution = statistics.resolution(equal[metric], len(of_pairs)) if arm is None else None
    effect, effect_because = _effect(manifest, cell, of_pairs, resolution, arm)
    claim_ids = sorted({*cell.metrics[metric], *(threshold.claims if threshold else [])})
    known = claims.load()
    return ComparisonDocument(
        name=cell.name,
        metric=metric,
        arm_a=None if arm else _arm_name(cell, "a"),
        arm_b=_arm_name(cell, arm or "b"),
        n=len(samples),
        median_a=median(values["a"]),
        median_b=median(values["b"]),
        ratio_median=interval.median if interval else None,
        ratio_ci95=(interval.low, interval.high) if interval else (None, None),
        threshold=(threshold.at_least if threshold.at_most is None else threshold.at_most)
        if threshold
        else None,
        unit=threshold.unit if threshold else "ratio",
        direction=("at_least" if threshold.at_most is None else "at_most") if threshold else None,
        gated=because is None,
        not_gated_because=because,
        verdict=_verdict(
            members,
            interval,
            threshold if because is None else None,
            whole,
            resolution,
            METRICS[metric].everywhere,
        ),
        p_value=statistics.p_value(of_pairs) if of_pairs and arm is None else None,
        smallest_effect=manifest.expectations.smallest_effect,
        resolution=resolution,
        effect=effect,
        effect_because=effect_because,
        stopped=_stopped(manifest, cell, members) if whole else None,
        claim_ids=claim_ids,
        reference={one: known[one].reference for one in claim_ids if one in known and known[one].reference},
    )


def median(values: list[float]) -> float | None:
    """Return the median, null of nothing."""
    return plain_statistics.median(values) if values else None


def _arm_name(cell: Cell, arm: ArmName) -> str:
    one = cell.arms[arm]
    name = one.receive_mode if one.rpc else f"{one.send_mode} to {one.receive_mode}"
    return (
        name
        + (f" on {one.kernel_variant}" if one.kernel_variant else "")
        + (f" with {one.inject_usec_per_mib:g} µs/MiB injected" if one.inject_usec_per_mib else "")
    )


def _effect(
    manifest: Manifest, cell: Cell, of_pairs: list[float], resolution: float | None, arm: ArmName | None
) -> tuple[statistics.Effect | None, str | None]:
    """Return what may be called of a comparison, and why nothing may where that is so."""
    if arm is not None:
        return None, "one arm's own figure"
    if len(of_pairs) < statistics.FEWEST_PAIRS:
        return None, f"fewer than {statistics.FEWEST_PAIRS} pairs"
    if cell.name == AA or cell.arms["a"].rpc is not None:
        # Others are compared with equal arms; a ping-pong has no such stage, only its own test.
        return statistics.effect(of_pairs, manifest.expectations.smallest_effect, 0.0), None
    if resolution is None:
        return None, "equal arms were not compared"
    return statistics.effect(of_pairs, manifest.expectations.smallest_effect, resolution), None


def _stopped(
    manifest: Manifest, cell: Cell, members: list[MeasurementDocument]
) -> Literal["narrow", "limit"] | None:
    if any(not one.valid for one in members):
        return None
    return "limit" if len(members) // 2 >= cell.repeats.at_most else "narrow"


def _not_gated(
    manifest: Manifest,
    metric: Metric,
    threshold: Threshold | None,
    members: list[MeasurementDocument],
    samples: list[float],
) -> str | None:
    if skipped := next((one.skipped for one in members if one.skipped), None):
        return f"skipped: {skipped}"
    counted = METRICS[metric].unit == "instructions_per_mib" and manifest.expectations.counts_instructions
    if METRICS[metric].cpu and manifest.emulated and not counted:
        return "emulated CPU"
    without = {cpu.perf_unavailable for one in members for cpu in (one.receiver_cpu, one.sender_cpu) if cpu}
    if METRICS[metric].unit == "cycles_per_mib" and not samples and without - {None}:
        return f"not counted: {'; '.join(sorted(filter(None, without)))}"
    return None if threshold else "not declared by the lab"


def _verdict(
    members: list[MeasurementDocument],
    interval: Interval | None,
    threshold: Threshold | None,
    whole: bool,
    resolution: float | None,
    everywhere: bool,
) -> Verdict | None:
    """Return null for a comparison that is sound and not gated: nothing was asked of it.

    A comparison with skipped measurements is inconclusive: never counted as passed. So is a ratio that is
    nearer to its bound than equal arms were to each other.
    """
    if any(one.invalid_reasons for one in members):
        return "invalid"
    if any(one.skipped for one in members):
        return "inconclusive"
    if threshold is None:
        # A figure that a lab need not have (no cycles, say) is null in all; in some, something went wrong.
        return None if members and (whole or (interval is None and not everywhere)) else "invalid"
    if interval is None or not whole:
        return "invalid"
    decided = statistics.decide(interval, threshold.at_least, threshold.at_most)
    bound = threshold.at_least if threshold.at_most is None else threshold.at_most
    if resolution is not None and bound is not None and abs(interval.median - bound) <= resolution * bound:
        return "inconclusive"
    return decided
