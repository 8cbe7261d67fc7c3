# SPDX-License-Identifier: Apache-2.0
"""What people see: progress while a run goes on, and tables of a run. It never measures."""

from __future__ import annotations

from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from zclab import judge
from zclab.inventory import Lab
from zclab.plan import Plan
from zclab.playbooks import Timing
from zclab.results import ComparisonDocument, Manifest, MeasurementDocument, Record, Run, RunDocument
from zclab.virtual.hosts import HostStatus

_STYLES = {"pass": "green", "fail": "red", "invalid": "red", "inconclusive": "yellow"}


class RunReporter:
    """Shows a progress bar on a terminal, and a plain line a measurement elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def started(self, run: Run, plan: Plan, total: int) -> None:
        """Say what begins and how long it takes."""
        each = plan.expected_seconds() / max(1, len(plan.measurements()))
        self._console.print(f"run {run.id}: {total} measurements, about {total * each / 60:.1f} minutes")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._progress.start()
            self._progress.add_task("measuring", total=total)

    def measured(self, run: Run, manifest: Manifest, record: Record) -> None:
        """Say what one measurement gave."""
        line = measurement_line(judge.judge_measurement(manifest, record))
        if self._progress is None:
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)
        else:
            self._progress.update(self._progress.task_ids[0], advance=1, description=record.planned.id)
            if "invalid" in line:
                self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def finished(self, run: Run) -> None:
        """Take the progress bar away."""
        if self._progress is not None:
            self._progress.stop()


def measurement_line(one: MeasurementDocument) -> str:
    """Return a measurement as one line."""
    if one.skipped:
        return f"{one.id}: skipped: {one.skipped}"
    state = "valid" if one.valid else f"invalid: {'; '.join(one.invalid_reasons)}"
    mapped = (
        f", {one.mapped_fraction:.2%} mapped"
        if one.receive_mode != "copy" and one.mapped_fraction is not None
        else ""
    )
    rate = f"{one.gbit_per_s:.3f} Gbit/s" if one.gbit_per_s else "no bytes"
    return f"{one.id}: {rate}{mapped}, {state}"


def show(console: Console, document: RunDocument) -> None:
    """Print a run as tables, and its verdict."""
    emulated = ", emulated: CPU figures are the emulator's" if document.emulated else ""
    kernels = ", ".join(sorted({host.kernel_release for host in document.hosts}))
    console.print(f"run {document.run_id}  lab {document.lab}{emulated}  kernel {kernels}", highlight=False)
    console.print(_arms_table(document))
    console.print(_comparisons_table(document.comparisons))
    for one in document.measurements:
        if not one.valid:
            line = measurement_line(one)
            console.print(line, style="red", highlight=False, soft_wrap=True, markup=False)
    for host, reports in document.console_reports.items():
        for report in reports:
            line = f"{host}: console: {report}"
            console.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    for problem in document.problems:
        console.print(problem, style="red", highlight=False)
    verdict = document.verdict
    styled = f"verdict: [{_STYLES[verdict]}]{verdict}[/] {escape(_explained(document))}"
    console.print(styled, highlight=False, soft_wrap=True)


def _explained(document: RunDocument) -> str:
    valid = sum(one.valid for one in document.measurements)
    gated = [one for one in document.comparisons if one.gated]
    kept = sum(one.verdict == "pass" for one in gated)
    reasons = sorted({one.not_gated_because for one in document.comparisons if one.not_gated_because})
    shown = len(document.comparisons) - len(gated)
    text = f"({valid} of {len(document.measurements)} measurements valid, {kept} of {len(gated)} gates kept"
    return text + (f", {shown} comparisons shown and not gated: {', '.join(reasons)})" if shown else ")")


def _arms_table(document: RunDocument) -> Table:
    table = Table(title="Measurements (medians)", title_justify="left")
    for heading in ("comparison", "arm", "send", "receive"):
        table.add_column(heading)
    cost = "emulated µs/MiB" if document.emulated else "µs/MiB"
    for heading in (
        "valid",
        "Gbit/s",
        "mapped",
        f"receiver {cost}",
        f"sender {cost}",
        "retransmits",
        "copied",
    ):
        table.add_column(heading, justify="right")
    cells: dict[tuple[str, str], list[MeasurementDocument]] = {}
    for one in document.measurements:
        cells.setdefault((one.comparison, one.arm), []).append(one)
    for (comparison, arm), members in sorted(cells.items()):
        first = members[0]
        copied = [one.completions.copied for one in members if one.completions]
        retransmitted = [
            one.retransmitted_segments for one in members if one.retransmitted_segments is not None
        ]
        table.add_row(
            comparison,
            arm,
            first.send_mode,
            first.receive_mode,
            f"{sum(one.valid for one in members)}/{len(members)}",
            _median([one.gbit_per_s for one in members], "{:.3f}"),
            _median([one.mapped_fraction for one in members], "{:.2%}")
            if first.receive_mode != "copy"
            else "-",
            _median([judge.metric_of(one, "receiver_usec_per_mib") for one in members], "{:.0f}"),
            _median([judge.metric_of(one, "sender_usec_per_mib") for one in members], "{:.0f}"),
            str(sum(retransmitted)) if retransmitted else "-",
            str(sum(copied)) if copied else "-",
        )
    return table


def _median(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(judge.median(known)) if known else "-"


def _comparisons_table(comparisons: list[ComparisonDocument]) -> Table:
    table = Table(title="Comparisons", title_justify="left")
    for heading in ("comparison", "metric", "A", "B"):
        table.add_column(heading)
    for heading in ("n", "B/A", "95 % interval", "bound", "verdict"):
        table.add_column(heading, justify="right")
    for one in comparisons:
        low, high = one.ratio_ci95
        sign = {"at_least": "≥", "at_most": "≤", None: ""}[one.direction]
        verdict = one.verdict or f"not gated ({one.not_gated_because})"
        table.add_row(
            one.name,
            one.metric,
            one.arm_a or "",
            one.arm_b,
            str(one.n),
            "-" if one.ratio_median is None else f"{one.ratio_median:.3f}",
            "-" if low is None or high is None else f"{low:.3f} to {high:.3f}",
            "-" if one.threshold is None else f"{sign} {one.threshold:g}",
            f"[{_STYLES[one.verdict]}]{verdict}[/]" if one.verdict else escape(verdict),
        )
    return table


def show_hosts(console: Console, lab: Lab, found: list[HostStatus]) -> None:
    """Print the virtual hosts of a lab."""
    table = Table(title=f"lab {lab.name}", title_justify="left")
    for heading in ("host", "role", "state", "pid", "ssh", "accelerator", "up for"):
        table.add_column(heading)
    by_name = {host.name: host for host in found}
    for host in lab.hosts:
        one = by_name.get(host.name)
        if one is None or not one.running:
            table.add_row(host.name, host.role, "down", "-", "-", "-", "-")
            continue
        kind = "emulated (tcg)" if one.accelerator == "tcg" else str(one.accelerator)
        up_for = str(timedelta(seconds=round(one.uptime_s or 0)))
        table.add_row(
            host.name, host.role, "running", str(one.pid), f"127.0.0.1:{one.ssh_port}", kind, up_for
        )
    console.print(table)


def show_timings(console: Console, timings: list[Timing], total: float) -> None:
    """Print what the unavoidable parts took, their sum, and the whole."""
    table = Table(title="Time", title_justify="left")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    for timing in timings:
        table.add_row(timing.part, f"{timing.seconds:.1f}")
    parts = sum(timing.seconds for timing in timings)
    table.add_section()
    table.add_row("sum of the parts", f"{parts:.1f}")
    table.add_row("whole", f"{total:.1f}")
    console.print(table)
    if parts:
        console.print(f"whole / parts: {total / parts:.2f}", highlight=False)
