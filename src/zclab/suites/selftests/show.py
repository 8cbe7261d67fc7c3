# SPDX-License-Identifier: Apache-2.0
"""What people see of the kernel's own tests: one line per test, and what moved between two kernels."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from zclab.report.terminal import new_table, print_line, print_reports, styled
from zclab.suites.selftests.document import Diff, SelftestsDocument, TestDocument


def show(console: Console, document: SelftestsDocument) -> None:
    """Print a result: each test, then what was counted."""
    headings = ("test", "purpose", "subtests", "result", "reason")
    table = new_table("the kernel's own tests", headings, fold=True)
    for test in document.tests:
        reason = "\n".join(text for text in (test.reason, test.changed) if text)
        result = styled(test.result)
        table.add_row(test.name, test.why, _parts(test), result, escape(reason))
    console.print(table)
    print_reports(console, document.console_reports)
    for problem in document.host_problems:
        print_line(console, problem, "red")
    print_line(console, summary(document), None if document.exit_code == 0 else "red")


def show_diff(console: Console, diff: Diff) -> None:
    """Print what moved between two kernels, and what did not although it failed."""
    for document in (diff.a, diff.b):
        print_line(console, summary(document))
        print_reports(console, document.console_reports, f"{document.kernel_variant}: ")
    kernels = [str(one.kernel_variant) for one in (diff.a, diff.b)]
    if diff.moved:
        headings = ("test", "part", *kernels, "reason")
        table = new_table(f"changes from {' to '.join(kernels)}", headings, fold=True)
        for one in diff.moved:
            came = [styled(result) if result else "-" for result in (one.before, one.after)]
            table.add_row(one.test, escape(one.subtest or "-"), *came, escape(one.reason or ""))
        console.print(table)
    moved = {one.test for one in diff.moved}
    for test in diff.b.tests:
        if test.result == "fail" and test.name not in moved:
            print_line(console, f"fails on both: {test.name}: {test.reason}", "yellow")
    text = f"{diff.compared} tests ran on both kernels, {len(moved)} changed"
    print_line(console, text, "green" if diff.exit_code == 0 else "red")


def summary(document: SelftestsDocument) -> str:
    """Return one line that says on which kernel how many tests passed, failed and were skipped."""
    emulated = ", emulated" if document.emulated else ""
    counts = f"{document.count('pass')} passed, {document.count('fail')} failed"
    return (
        f"selftests: lab {document.lab}{emulated}, kernel {document.kernel}, "
        f"from {document.tree}: {counts}, {document.count('skipped')} skipped"
    )


def _parts(test: TestDocument) -> str:
    failed = sum(part.result == "fail" for part in test.subtests)
    return f"{len(test.subtests)}, {failed} failed" if failed else str(len(test.subtests) or "-")
