# SPDX-License-Identifier: Apache-2.0
"""From what each tool measured to ratios and a verdict: pure functions, so that a run can be judged again."""

from __future__ import annotations

from typing import Literal

from zclab.analysis.statistics import SIGNED_RANK, IntervalKind, decide, sample_interval
from zclab.analysis.verdict import median
from zclab.base.exit_codes import Verdict
from zclab.base.model import Model, ReceiveMode, SendMode
from zclab.lab.model import Crosscheck
from zclab.runs.manifest import BaseManifest, Kind
from zclab.suites.crosscheck.programs import Sample

ToolName = Literal["zclab", "tcp_mmap", "iperf3"]
CrossMetric = Literal["gbit_per_s", "receiver_usec_per_mib"]
OWN: ToolName = "zclab"
_OTHERS: tuple[ToolName, ...] = ("tcp_mmap", "iperf3")
TOOLS = (OWN, *_OTHERS)
_METRICS: tuple[CrossMetric, ...] = ("gbit_per_s", "receiver_usec_per_mib")


class Mode(Model):
    """How the payload is received, and sent so that the receiver can."""

    receive_mode: ReceiveMode
    send_mode: SendMode


class Left(Model):
    """What one end of a tool left: its exit status (null if a signal ended it), stdout and stderr."""

    status: int | None
    stdout: str
    stderr: str


class Observation(Model):
    """One execution of one tool, as it came. `block` and `position` say when, from 0."""

    tool: ToolName
    mode: Mode
    block: int
    position: int
    started_at: str
    sample: Sample | None
    problems: list[str]
    receiver: Left | None
    sender: Left | None


class CrosscheckManifest(BaseManifest):
    """What a cross-check was: everything that judging its observations again needs.

    `host_problems` is why the hosts were not fit to measure at all.
    """

    kind: Literal["crosscheck"] = "crosscheck"
    seed: int
    repeats: int
    seconds: int
    chunk_bytes: int
    modes: list[Mode]
    bounds: Crosscheck
    host_problems: list[str]


class ToolFigures(Model):
    """All figures of one tool in one mode, by block; null where it failed."""

    tool: ToolName
    gbit_per_s: list[float | None]
    receiver_usec_per_mib: list[float | None]
    mapped_fraction: list[float | None]
    median_gbit_per_s: float | None
    median_receiver_usec_per_mib: float | None
    median_mapped_fraction: float | None


class Ratio(Model):
    """zclab's tool to another, from the ratios of each block. Exactly the gated ones have a verdict.

    `ratio_median` is the Hodges-Lehmann estimate.
    """

    against: ToolName
    metric: CrossMetric
    n: int
    ratio_median: float | None
    ratio_ci95: tuple[float | None, float | None]
    interval: IntervalKind = SIGNED_RANK
    at_least: float | None
    at_most: float | None
    gated: bool
    not_gated_because: str | None
    verdict: Verdict | None


class ModeDocument(Mode):
    """One mode: what each tool measured, and how zclab's compares."""

    tools: list[ToolFigures]
    ratios: list[Ratio]


class CrosscheckDocument(BaseManifest):
    """What `zclab crosscheck --json` prints."""

    kind: Literal["crosscheck"] = "crosscheck"
    exit_code: int
    verdict: Verdict
    seed: int
    repeats: int
    seconds: int
    chunk_bytes: int
    modes: list[ModeDocument]
    problems: list[str]


def judge(manifest: CrosscheckManifest, observations: list[Observation]) -> CrosscheckDocument:
    """Judge a cross-check from what it observed."""
    modes = [
        _mode(manifest, mode, [one for one in observations if one.mode == mode]) for mode in manifest.modes
    ]
    problems = list(manifest.host_problems)
    for one in observations:
        place = f"{one.mode.receive_mode}, block {one.block + 1}, {one.tool}"
        problems += [f"{place}: {problem}" for problem in one.problems]
    wanted = len(manifest.modes) * manifest.repeats * len(TOOLS)
    if len(observations) < wanted and not manifest.host_problems:
        problems.append(f"{wanted - len(observations)} of {wanted} executions were not made")
    verdicts: list[Verdict] = [
        one.verdict for mode in modes for one in mode.ratios if one.verdict is not None
    ]
    if problems:
        verdicts.append("invalid")
    if any(manifest.console_reports.values()):
        verdicts.append("fail")
    return CrosscheckDocument.model_validate(
        manifest.model_dump(exclude={"modes", "bounds", "host_problems"})
        | {"modes": modes, "problems": problems}
        | manifest.judged(*verdicts)
    )


CROSSCHECK = Kind("crosscheck", CrosscheckManifest, Observation, judge, judged_again=True)


def _mode(manifest: CrosscheckManifest, mode: Mode, observations: list[Observation]) -> ModeDocument:
    by_tool: dict[ToolName, dict[int, Sample | None]] = {
        tool: {one.block: one.sample for one in observations if one.tool == tool and not one.problems}
        for tool in TOOLS
    }
    return ModeDocument(
        **mode.model_dump(),
        tools=[_figures(tool, manifest.repeats, samples) for tool, samples in by_tool.items()],
        ratios=[
            _ratio(manifest, mode, against, metric, by_tool[OWN], by_tool[against])
            for against in _OTHERS
            for metric in _METRICS
        ],
    )


def _figures(tool: ToolName, repeats: int, samples: dict[int, Sample | None]) -> ToolFigures:
    values = {
        name: [getattr(samples.get(block), name, None) for block in range(repeats)]
        for name in Sample.model_fields
    }
    medians = {
        f"median_{name}": median([one for one in known if one is not None]) for name, known in values.items()
    }
    return ToolFigures.model_validate({"tool": tool, **values, **medians})


def _ratio(
    manifest: CrosscheckManifest,
    mode: Mode,
    against: ToolName,
    metric: CrossMetric,
    own: dict[int, Sample | None],
    others: dict[int, Sample | None],
) -> Ratio:
    pairs = [
        (getattr(mine, metric), getattr(other, metric))
        for block, mine in own.items()
        if mine is not None and (other := others.get(block)) is not None
    ]
    ratios = [mine / other for mine, other in pairs if mine and other]
    interval = sample_interval(ratios) if ratios else None
    bounds = manifest.bounds
    at_least = bounds.throughput_at_least if metric == "gbit_per_s" else None
    at_most = None if metric == "gbit_per_s" else bounds.receiver_usec_per_mib_at_most
    declared = at_least is not None or at_most is not None
    reason = _not_gated_because(manifest, mode, against, metric, declared)
    verdict: Verdict | None = "invalid" if reason is None else None
    if reason is None and interval is not None:
        verdict = decide(interval, at_least, at_most, passes_by_estimate=True)
    return Ratio(
        against=against,
        metric=metric,
        n=len(ratios),
        ratio_median=interval.estimate if interval else None,
        ratio_ci95=(interval.low, interval.high) if interval else (None, None),
        at_least=at_least,
        at_most=at_most,
        gated=reason is None,
        not_gated_because=reason,
        verdict=verdict,
    )


def _not_gated_because(
    manifest: CrosscheckManifest, mode: Mode, against: ToolName, metric: CrossMetric, declared: bool
) -> str | None:
    """Return why a ratio is shown and not judged; null if it is judged."""
    if against == "iperf3" and mode.receive_mode != "copy":
        return "iperf3 only copies"
    if against == "iperf3" and metric == "receiver_usec_per_mib":
        return "iperf3 is judged by throughput"
    if manifest.emulated and metric == "receiver_usec_per_mib":
        return "emulated CPU"
    if not declared:
        return "not declared by the lab"
    return None
