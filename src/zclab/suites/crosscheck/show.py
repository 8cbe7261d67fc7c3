# SPDX-License-Identifier: Apache-2.0
"""What people see of a cross-check: what each tool did and how zclab's compares."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zclab.report.terminal import new_table, print_line, print_reports, styled
from zclab.suites.crosscheck.document import CrosscheckDocument, Ratio, ToolFigures


def show(console: Console, document: CrosscheckDocument) -> None:
    """Print a cross-check as tables, and its verdict."""
    emulated = ", emulated: CPU figures are the emulator's" if document.emulated else ""
    tools = ("tcp_mmap", "iperf3", "traffic")
    versions = ", ".join(document.versions[tool] for tool in tools if tool in document.versions)
    print_line(
        console,
        f"cross-check {document.run_id}  lab {document.lab}{emulated}  seed {document.seed}  "
        f"{document.chunk_bytes} bytes per call, {document.seconds} s each  ({versions})",
    )
    for mode in document.modes:
        title = f"{mode.send_mode} to {mode.receive_mode}"
        console.print(_figures(f"{title} (medians)", mode.tools))
        console.print(_ratios(f"{title}: zclab to the others", mode.ratios))
    print_reports(console, document.console_reports)
    for problem in document.problems:
        print_line(console, problem, "red")
    console.print(f"verdict: {styled(document.verdict)}", highlight=False)


def _figures(title: str, tools: list[ToolFigures]) -> Table:
    table = new_table(title, ["tool"], ("n", "Gbit/s", "receiver µs/MiB", "mapped"))
    for one in tools:
        table.add_row(
            one.tool,
            str(sum(value is not None for value in one.gbit_per_s)),
            _number(one.median_gbit_per_s, "{:.3f}"),
            _number(one.median_receiver_usec_per_mib, "{:.1f}"),
            _number(one.median_mapped_fraction, "{:.2%}"),
        )
    return table


def _ratios(title: str, ratios: list[Ratio]) -> Table:
    figures = ("n", "ratio", "95 % interval", "bound", "verdict")
    table = new_table(title, ("against", "metric"), figures)
    for one in ratios:
        low, high = one.ratio_ci95
        bound = f"≥ {one.at_least:g}" if one.at_least is not None else _number(one.at_most, "≤ {:g}")
        table.add_row(
            one.against,
            one.metric,
            str(one.n),
            _number(one.ratio_median, "{:.3f}"),
            "-" if low is None or high is None else f"{low:.3f} to {high:.3f}",
            bound if one.gated else "-",
            styled(one.verdict) if one.verdict else escape(f"not gated ({one.not_gated_because})"),
        )
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
