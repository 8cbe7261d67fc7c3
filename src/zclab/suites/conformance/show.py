# SPDX-License-Identifier: Apache-2.0
"""What people see of the suite: one table per interface, and what moved between two kernels."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zclab.base.groups import grouped
from zclab.report.terminal import new_table, print_line, print_reports, styled
from zclab.suites.conformance.document import FIXED, ConformanceDocument, Diff, Moved, RowDocument, counted


def show(console: Console, document: ConformanceDocument) -> None:
    """Print a result: each interface as a table, then what was counted."""
    for abi, rows in grouped(document.rows, lambda row: row.abi).items():
        if reason := _reason_of_all(rows):
            print_line(console, f"{abi}: all {len(rows)} rows skipped: {reason}", "yellow")
        else:
            console.print(_table(abi, rows))
    print_reports(console, document.console_reports)
    print_line(console, summary(document), None if document.exit_code == 0 else "red")


def show_diff(console: Console, diff: Diff) -> None:
    """Print what moved between two kernels, and that what should not move did not."""
    for document in (diff.a, diff.b):
        print_line(console, summary(document))
    kernels = [str(one.kernel_variant) for one in (diff.a, diff.b)]
    table = new_table(f"changes from {' to '.join(kernels)}", ("interface", "row", "IP", "claims", *kernels))
    for moved in grouped(diff.moved, _movement).values():
        before, after = moved[0].before, moved[0].after
        families = ", ".join(str(one.before.family) for one in moved)
        came = [escape(_came_of(one)) for one in (before, after)]
        table.add_row(before.abi, before.row, families, ", ".join(after.claim_ids), *came)
    console.print(table)
    for abi in FIXED:
        if not diff.compared[abi]:
            print_line(console, f"{abi}: no row was tested on both kernels", "red")
    of_each = " and ".join(f"{_called(abi)} ({diff.compared[abi]} rows on both)" for abi in FIXED)
    if moved_but_fixed := diff.moved_but_fixed:
        print_line(console, f"changed, but should not: {len(moved_but_fixed)} rows of {of_each}", "red")
    elif all(diff.compared.values()):
        print_line(console, f"unchanged: {of_each}", "green")


def summary(document: ConformanceDocument) -> str:
    """Return one line: the kernel, how many rows passed, failed and were skipped, how many deviate."""
    emulated = ", emulated" if document.emulated else ""
    counts = ", ".join(f"{count} {word}" for word, count in counted(document.rows).items())
    deviating = sum(row.deviates for row in document.rows)
    if deviating:
        counts += f"; {deviating} of the passed show what their document does not say"
    return f"conformance: lab {document.lab}{emulated}, kernel {document.kernel}: {counts}"


def _called(abi: str) -> str:
    return "map_once (zerocopy_receive)" if abi == "zerocopy_receive" else abi


def _table(abi: str, rows: list[RowDocument]) -> Table:
    table = new_table(abi, ("row", "IP", "link", "claims", "setup", "expected", "outcome"), fold=True)
    table.add_column("verdict")
    # What is alike over both families takes one line.
    for same in grouped(rows, lambda row: (row.row, row.verdict, _came_of(row))).values():
        one = same[0]
        expected = one.expected
        if one.since not in (None, "0"):
            expected += f" (since {one.since})"
        elif one.document is not None:
            expected += " (since the interface exists)"
        if one.document is not None:
            expected += f"\nthe document: {one.document}"
        table.add_row(
            one.row,
            ", ".join(str(row.family) for row in same),
            one.link or "not recorded",
            ", ".join(one.claim_ids),
            *(escape(text) for text in (one.setup, expected, _came_of(one))),
            styled(one.verdict),
        )
    return table


def _movement(one: Moved) -> tuple[str, ...]:
    return one.before.abi, one.before.row, _came_of(one.before), _came_of(one.after)


def _came_of(row: RowDocument) -> str:
    return row.outcome if row.outcome is not None else f"({row.reason})"


def _reason_of_all(rows: list[RowDocument]) -> str | None:
    """Return the one reason for which every row of a table was skipped, if that is so."""
    reasons = {row.reason for row in rows if row.verdict == "skipped"}
    return reasons.pop() if len(reasons) == 1 and all(row.verdict == "skipped" for row in rows) else None
