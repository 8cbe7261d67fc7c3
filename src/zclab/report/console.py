# SPDX-License-Identifier: Apache-2.0
"""Progress of a run, and its tables, for people. It never measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from zclab.analysis.document import ComparisonDocument, MeasurementDocument, RunDocument
from zclab.analysis.metric_values import value as metric_value
from zclab.analysis.pilot import Need
from zclab.analysis.verdict import MeasuringRun, median
from zclab.backends.backend import StatusRow
from zclab.base.groups import grouped
from zclab.base.metrics import Metric
from zclab.base.timing import Timing
from zclab.plan import schedule
from zclab.plan.plan import AA, Plan
from zclab.report import published, receive_designs
from zclab.report.terminal import new_table, print_line, print_reports, styled


class RunReporter:
    """Shows a progress bar on a terminal, and one plain line per measurement elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None

    def started(self, run: MeasuringRun, plan: Plan, overhead_seconds: float, boot_seconds: float) -> None:
        """Print how many measurements and boots follow and how long they take."""
        total, boots = len(schedule.measurements(plan)), schedule.boots(plan)
        minutes = schedule.expected_seconds(plan, overhead_seconds, boot_seconds) / 60
        ends_early = any(one.at_least < one.at_most for one in (plan.repeats, plan.boots))
        most = "at most " if ends_early else ""
        counts = f"{total} measurements" + (f" and {boots} boots of both hosts" if boots else "")
        self._console.print(f"run {run.id}: {most}{counts}, about {minutes:.1f} minutes, seed {plan.seed}")
        if self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self._console,
                # Drawn after each measurement: a refreshing thread would take CPU during one.
                auto_refresh=False,
            )
            self._progress.start()
            self._progress.add_task("measuring", total=total)

    def measured(self, run: MeasuringRun, document: MeasurementDocument) -> None:
        """Print the result of one measurement."""
        line = measurement_line(document)
        if self._progress is None:
            print_line(self._console, line)
        else:
            self._progress.update(
                self._progress.task_ids[0], advance=1, description=document.id, refresh=True
            )
            if "invalid" in line:
                print_line(self._progress.console, line)

    def finished(self, run: MeasuringRun) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()


def measurement_line(one: MeasurementDocument) -> str:
    """Return a measurement as one line."""
    if one.skipped:
        return f"{one.id}: skipped: {one.skipped}"
    state = "valid" if one.valid else f"invalid: {'; '.join(one.invalid_reasons)}"
    if one.rpc is not None:
        rate = f"{one.rpc.rpcs_per_s:.0f} RPC/s" if one.rpc.rpcs_per_s else "no RPC"
        return f"{one.id}: {rate}, {state}"
    mapped = (
        f", {one.mapped_fraction:.2%} mapped"
        if one.receive_mode != "copy" and one.mapped_fraction is not None
        else ""
    )
    checked = "" if one.phase != "integrity" else f", integrity {one.integrity}"
    rate = f"{one.gbit_per_s:.3f} Gbit/s" if one.gbit_per_s else "no bytes"
    return f"{one.id}: {rate}{mapped}{checked}, {state}"


def show(console: Console, document: RunDocument) -> None:
    """Print a run as tables, and its verdict."""
    emulated = ", emulated: CPU figures are the emulator's" if document.emulated else ""
    kernels = ", ".join(sorted({host.kernel_release for host in document.hosts}))
    kernels += "" if document.artifact_key else " (this machine's own: none was built or booted)"
    console.print(f"run {document.run_id}  lab {document.lab}{emulated}  kernel {kernels}", highlight=False)
    tables = [_arms_table(document), _guest_table(document), _rpc_table(document), _sweep_table(document)]
    for table in [*tables, _baseline_table(document)]:
        if table.row_count:
            console.print(table)
    console.print(_comparisons_table(document.comparisons))
    if (beside := published.table(document)).row_count:
        console.print(beside)
    if (by_design := receive_designs.table(document)) is not None:
        console.print(by_design)
        for sentence in receive_designs.sentences(document):
            print_line(console, sentence)
    _show_profiles(console, document)
    for one in document.measurements:
        if not one.valid or one.phase == "integrity":
            line = measurement_line(one)
            print_line(console, line, None if one.valid and one.integrity != "mismatch" else "red")
    print_reports(console, document.console_reports)
    for line in _comparison_lines(document.comparisons):
        print_line(console, line)
    for line in [*_precondition_lines(document), *_left_out_lines(document)]:
        print_line(console, line)
    for problem in document.problems:
        console.print(problem, style="red", highlight=False)
    for line in [*_baseline_lines(document), *_guest_lines(document)]:
        print_line(console, line)
    # What makes all else doubtful comes first.
    for line in equal_arms_lines(document):
        print_line(console, line, "red")
    verdict = f"verdict: {styled(document.verdict)} {escape(_explained(document))}"
    console.print(verdict, highlight=False, soft_wrap=True)
    print_line(console, COVERS if document.emulator is None else COVERS_GUEST)


#: What no interval of a run says.
COVERS = "Intervals are of this run, on hosts brought up once: another run can differ by more."
COVERS_GUEST = (
    "Intervals are over boots of these kernels: another compilation, or another emulator, can differ by more."
)


def _baseline_table(document: RunDocument) -> Table:
    """Return each count beside the pinned one; empty where none is pinned."""
    figures = ("n", "counted", "pinned", "ratio", "at most", "verdict")
    table = new_table("Instructions per MiB of the whole guest beside the baseline's", ("cell",), figures)
    for one in document.baseline:
        counts = [one.instructions_per_mib, one.baseline]
        table.add_row(
            one.cell,
            str(one.n),
            *("-" if count is None else f"{count:.0f}" for count in counts),
            "-" if one.ratio is None else f"{one.ratio:.4f}",
            f"{one.at_most:g}",
            styled(one.verdict),
        )
    return table


def _baseline_lines(document: RunDocument) -> list[str]:
    """Return why a cell was not compared with its baseline, and which counts have become smaller."""
    found = [f"baseline: {one.because}" for one in document.baseline if one.because]
    found += [
        f"baseline: {one.cell}: {1 - one.ratio:.2%} less than pinned: a later rise by as much would pass: "
        "renew it with `zclab baseline set`"
        for one in document.baseline
        if one.ratio is not None and one.ratio < 2 - one.at_most
    ]
    return [*dict.fromkeys(found)]


def _guest_lines(document: RunDocument) -> list[str]:
    """Return which emulator counted, and that a second execution was the same if there was one."""
    found = [f"counted by {document.emulator.version}"] if document.emulator else []
    again = document.repetition
    if again is not None and again.difference is None:
        found.append(f"executed twice, the same: digest {again.digest[:12]} (second run {again.run_id})")
    return found


def equal_arms_lines(document: RunDocument) -> list[str]:
    """Return a line for each metric by which equal arms differ."""
    return [
        f"EQUAL ARMS DIFFER: {one.metric} by a factor of {one.ratio:.3f}, "
        f"{_between(one.ratio_ci95)} in {one.n} pairs: no gate is judged"
        for one in document.equal_arms
        if one.differ
    ]


def _between(interval: tuple[float | None, float | None], digits: int = 3) -> str:
    low, high = interval
    return "-" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _digits(one: ComparisonDocument) -> int:
    """Return the digits that a ratio is shown with: one more than the smallest effect that matters."""
    return max(3, 1 - math.floor(math.log10(one.smallest_effect)))


def _comparison_lines(comparisons: list[ComparisonDocument]) -> list[str]:
    """Return what the table of comparisons has no place for."""
    found = []
    for one in comparisons:
        place = f"{_named(one.name)}: {one.metric}"
        found += [f"{place}: invalid: {reason}" for reason in one.invalid_reasons]
        if one.inconclusive_because is not None:
            found.append(f"{place}: inconclusive: {one.inconclusive_because}")
        if one.contradiction is not None:
            found.append(f"{place}: contradiction: {one.contradiction}")
        if one.stopped == "limit" and one.precision_wanted is not None:
            reached = f"{one.precision:.2%}" if one.precision is not None else "no interval"
            if one.precision is None or one.precision > one.precision_wanted:
                found.append(
                    f"{place}: precision not reached: {reached} where {one.precision_wanted:.2%} was asked"
                )
    return list(dict.fromkeys(found))


def _precondition_lines(document: RunDocument) -> list[str]:
    """Return a line for each condition of the plan that did not hold, or is not known to have held."""
    return [
        f"{one.host}: {one.what}: {one.wanted} was asked, "
        + ("it cannot be read" if one.found is None else f"found: {one.found}")
        for one in document.preconditions
        if not one.met
    ]


def _left_out_lines(document: RunDocument) -> list[str]:
    """Return a line for each reason for which comparisons of the lab's plan were not made."""
    by_reason = grouped(document.left_out, lambda name: document.left_out[name])
    return [f"left out: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _explained(document: RunDocument) -> str:
    valid = sum(one.valid for one in document.measurements)
    gated = [one for one in document.comparisons if one.gated]
    kept = sum(one.verdict == "pass" for one in gated)
    reasons = sorted({one.not_gated_because for one in document.comparisons if one.not_gated_because})
    shown = len(document.comparisons) - len(gated)
    text = f"({valid} of {len(document.measurements)} measurements valid"
    if document.remeasured:
        text += f", {document.remeasured} of them made again because they were invalid"
    if document.baseline:
        near = sum(one.verdict == "pass" for one in document.baseline)
        text += f", {near} of {len(document.baseline)} counts within the baseline's margin"
    if all(one.threshold is None for one in document.comparisons):
        text += "" if document.baseline else "; no threshold declared: figures shown, none judged"
    else:
        text += f", {kept} of {len(gated)} gates kept" if gated else "; figures shown, none judged"
        text += f", {shown} comparisons shown and not gated: {', '.join(reasons)}" if shown else ""
    return f"{text}{_unwitnessed(document)})"


def _unwitnessed(document: RunDocument) -> str:
    """Return of how many measurements no kernel could confirm the mapped bytes, and why; "" if of none."""
    found = [one.mapped_witness for one in document.measurements if one.mapped_witness]
    without = [one.unavailable or "not asked" for one in found if one.source is None]
    if not without:
        return ""
    return f", mapped bytes of {len(without)} without a second witness: {'; '.join(sorted({*without}))}"


def _arms_table(document: RunDocument) -> Table:
    cost = "emulated µs/MiB" if document.emulated else "µs/MiB"
    costs = (f"receiver {cost}", f"sender {cost}")
    figures = ("valid", "Gbit/s", "mapped", *costs, "retransmits", "copied")
    table = new_table("Measurements (medians)", ("comparison", "arm", "send", "receive"), figures)
    bulk = [one for one in document.measurements if one.phase in ("compare", "aa") and one.rpc is None]
    for (comparison, arm), members in _arms(bulk):
        first = members[0]
        copied = [one.completions.copied for one in members if one.completions]
        retransmitted = [
            one.retransmitted_segments for one in members if one.retransmitted_segments is not None
        ]
        table.add_row(
            _named(comparison),
            arm,
            first.send_mode,
            first.receive_mode,
            f"{sum(one.valid for one in members)}/{len(members)}",
            _median([one.gbit_per_s for one in members], "{:.3f}"),
            _median([one.mapped_fraction for one in members], "{:.2%}")
            if first.receive_mode != "copy"
            else "-",
            _figure(members, "receiver_usec_per_mib"),
            _figure(members, "sender_usec_per_mib"),
            str(sum(retransmitted)) if retransmitted else "-",
            str(sum(copied)) if copied else "-",
        )
    return table


def _arms(
    measurements: Iterable[MeasurementDocument],
) -> Iterator[tuple[tuple[str, str], list[MeasurementDocument]]]:
    """Yield each arm of each comparison with its measurements, arm A first, whichever was measured first."""
    for comparison, members in grouped(measurements, lambda one: one.comparison).items():
        for arm, own in sorted(grouped(members, lambda one: one.arm).items()):
            yield (comparison, arm), own


def _guest_table(document: RunDocument) -> Table:
    """Return what one guest with both ends executed, and who in it; empty for hosts that stand."""
    figures = ("whole guest", "receiver", "sender", "others", "calls per MiB")
    title = "Instructions per MiB of one emulated guest (thousands, medians)"
    table = new_table(title, ("comparison", "arm", "receive", "kernel"), figures)
    bulk = [one for one in document.measurements if one.phase == "compare" and one.guest is not None]
    for (comparison, arm), members in _arms(bulk):
        table.add_row(
            _named(comparison),
            arm,
            members[0].receive_mode,
            members[0].kernel_variant or document.kernel_variant or "",
            *(
                _median([value and value / 1000 for value in values], "{:.1f}")
                for values in (
                    [one.guest_instructions_per_mib for one in members],
                    [metric_value(one, "receiver_instructions_per_mib") for one in members],
                    [metric_value(one, "sender_instructions_per_mib") for one in members],
                    [one.guest_other_instructions_per_mib for one in members],
                )
            ),
            _figure(members, "receiver_system_calls_per_mib", "{:.2f}"),
        )
    return table


def show_pilot(console: Console, plan: Plan, needs: list[Need]) -> None:
    """Print how many pairs or boots each comparison needs for the plan's precision."""
    wanted = "no precision asked" if plan.precision is None else f"for {plan.precision:.2%}"
    figures = ("spread of a pair", wanted, "at most", "precision then", 'for "none"')
    table = new_table(f"Pairs that plan {plan.name} needs, by its pilot", ("comparison", "metric"), figures)
    for one in needs:
        unit = " boots" if one.by_boot else ""
        table.add_row(
            one.name,
            one.metric,
            f"{one.spread:.2%}",
            "-" if one.needed is None else f"{one.needed}{unit}",
            f"{one.at_most}{unit}",
            f"{one.reached:.2%}",
            f"{one.for_none}{unit}",
        )
    console.print(table)
    for one in needs:
        if not one.suffices:
            line = (
                f"{one.name}: {one.metric}: about {one.needed} are needed, the plan has at most {one.at_most}"
            )
            print_line(console, line, "yellow")
    print_line(console, "Of so few pairs the numbers are right within a factor of about 2.5.")


def _named(comparison: str) -> str:
    """Return a comparison's name as people read it."""
    return f"A/A{comparison.removeprefix(AA)}" if comparison.partition("-")[0] == AA else comparison


def _median(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(median(known)) if known else "-"


def _figure(members: list[MeasurementDocument], metric: Metric, form: str = "{:.0f}") -> str:
    return _median([metric_value(one, metric) for one in members], form)


def _rpc_table(document: RunDocument) -> Table:
    figures = (
        *("valid", "RPC/s", "RPC/s per CPU-s", "calls per RPC", "instructions per RPC"),
        *("p50 µs", "p99 µs", "p99.99 µs"),
    )
    table = new_table("Ping-pong (medians)", ("comparison", "arm", "receive"), figures)
    calls = [one for one in document.measurements if one.rpc is not None]
    for (comparison, arm), members in _arms(calls):
        latencies = [one.rpc.latency_us for one in members if one.rpc and one.rpc.latency_us]
        table.add_row(
            comparison,
            arm,
            members[0].receive_mode,
            f"{sum(one.valid for one in members)}/{len(members)}",
            _figure(members, "rpcs_per_s"),
            _figure(members, "rpcs_per_cpu_s"),
            _figure(members, "system_calls_per_rpc", "{:.2f}"),
            _figure(members, "guest_instructions_per_rpc"),
            _median([one.p50 for one in latencies], "{:.1f}"),
            _median([one.p99 for one in latencies], "{:.1f}"),
            _median([one.p99_99 for one in latencies], "{:.1f}"),
        )
    return table


def _sweep_table(document: RunDocument) -> Table:
    """Return sender cycles by message size, laid out as published; empty where none were counted."""
    headings = ("comparison", "message bytes", "process A", "process B", "all CPUs A", "all CPUs B")
    table = new_table("Sender cycles by message size (thousands per MiB, medians)", (), headings)
    bulk = [one for one in document.measurements if one.phase == "compare" and one.rpc is None]
    for (comparison, size), members in grouped(bulk, lambda one: (one.comparison, one.message_bytes)).items():
        figures = [
            _median(
                [value / 1000 for one in members if one.arm == arm and (value := metric_value(one, metric))],
                "{:.0f}",
            )
            for metric in ("sender_cycles_per_mib", "sender_host_cycles_per_mib")
            for arm in ("a", "b")
        ]
        if set(figures) != {"-"}:
            table.add_row(comparison, str(size), *figures)
    return table


def _show_profiles(console: Console, document: RunDocument) -> None:
    for one in document.measurements:
        for end, profile in one.profiles.items():
            if profile.unavailable:
                console.print(f"{one.id}: {end}: no profile: {profile.unavailable}", highlight=False)
                continue
            title = f"{one.id}: {end} by {profile.event}, {profile.samples} samples"
            table = new_table(title, (), ["percent"])
            table.add_column("symbol")
            for symbol in profile.symbols[:5]:
                table.add_row(f"{symbol.percent:.2f}", escape(symbol.symbol))
            console.print(table)


def _comparisons_table(comparisons: list[ComparisonDocument]) -> Table:
    figures = ("n", "B/A", "95 % interval", "whole host", "difference", "bound", "verdict")
    table = new_table("Comparisons", ("comparison", "metric", "A", "B"), figures)
    for one in comparisons:
        host = one.host_cpu.ratio if one.host_cpu else None
        sign = {"at_least": "≥", "at_most": "≤", None: ""}[one.direction]
        verdict = one.verdict or f"not gated ({one.not_gated_because})"
        table.add_row(
            _named(one.name),
            one.metric,
            one.arm_a or "",
            one.arm_b,
            f"{one.n} boots" if one.n_boots is not None else str(one.n),
            "-" if one.ratio_median is None else f"{one.ratio_median:.{_digits(one)}f}",
            _between(one.ratio_ci95, _digits(one)),
            "-" if host is None else f"{host:.3f}",
            one.effect or "-",
            "-" if one.threshold is None else f"{sign} {one.threshold:g}",
            styled(one.verdict) if one.verdict else escape(verdict),
        )
    return table


def show_status(console: Console, lab: str, rows: Iterable[StatusRow]) -> None:
    """Print a lab's hosts, a line each as it comes, or a table where there is more than a host's state."""
    table = Table(title=f"lab {lab}", title_justify="left")
    for row in rows:
        if list(row) == ["host", "state"]:
            print_line(console, f"{row['host']}: {row['state']}")
            continue
        for heading in list(row)[len(table.columns) :]:
            table.add_column(heading)
        table.add_row(*row.values())
    if table.rows:
        console.print(table)


def show_timings(console: Console, timings: list[Timing], total: float) -> None:
    """Print the time of each part, their sum, and the total."""
    table = new_table("Time", ["part"], ["seconds"])
    for timing in timings:
        table.add_row(timing.part, f"{timing.seconds:.1f}")
    parts = sum(timing.seconds for timing in timings)
    table.add_section()
    table.add_row("sum of the parts", f"{parts:.1f}")
    table.add_row("whole", f"{total:.1f}")
    console.print(table)
    if parts:
        console.print(f"whole / parts: {total / parts:.2f}", highlight=False)
