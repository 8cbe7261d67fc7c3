# SPDX-License-Identifier: Apache-2.0
"""Every kind of run: how one is read, judged and shown, and the list of them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from rich.console import Console

from zclab.analysis.verdict import RUN
from zclab.base.errors import UsageError
from zclab.base.exit_codes import Verdict
from zclab.base.model import Model
from zclab.base.progress import Progress
from zclab.kernel.identity import KernelIdentity
from zclab.report import console as report
from zclab.report.terminal import new_table, print_line, styled
from zclab.runs import query
from zclab.runs.folder import Run
from zclab.runs.manifest import SCHEMA_VERSION, Kind, KindName
from zclab.runs.query import Found
from zclab.suites import lockdep
from zclab.suites.conformance import show as conformance
from zclab.suites.conformance.document import CONFORMANCE
from zclab.suites.crosscheck import show as crosscheck
from zclab.suites.crosscheck.document import CROSSCHECK
from zclab.suites.selftests import show as selftests
from zclab.suites.selftests.document import SELFTESTS
from zclab.suites.stress import document as stress

Show = Callable[[Console, Any], None]


class Shown(NamedTuple):
    """A kind of run and what shows its document."""

    kind: Kind[Any, Any, Any]
    show: Show


def _show_lines(lines: Callable[[Any], list[str]], console: Console, document: Any) -> None:
    for line in lines(document):
        print_line(console, line)


KINDS: dict[KindName, Shown] = {
    "run": Shown(RUN, report.show),
    "crosscheck": Shown(CROSSCHECK, crosscheck.show),
    "conformance": Shown(CONFORMANCE, conformance.show),
    "selftests": Shown(SELFTESTS, selftests.show),
    "stress": Shown(stress.STRESS, partial(_show_lines, stress.lines)),
    "lockdep": Shown(lockdep.LOCKDEP, partial(_show_lines, lockdep.lines)),
}


class ListedRun(KernelIdentity):
    """A run in the list. verdict, exit_code: judged again from the records where its kind is."""

    id: str
    kind: KindName
    lab: str
    verdict: Verdict
    exit_code: int
    started_at: str


class RunList(Model):
    """What `zclab list --json` prints: runs, newest first."""

    schema_version: int = SCHEMA_VERSION
    runs: list[ListedRun]
    exit_code: ClassVar[int] = 0


def document_of(found: Found) -> Any:
    """Return the document of a run of any kind, judged.

    Raises:
        UsageError: it cannot be read.
    """
    return Run(found.directory, KINDS[found.summary.kind].kind).document()


def listed(on_unreadable: Progress, lab: str | None, kind: KindName | None) -> RunList:
    """Return the runs of a lab and a kind, null for any, newest first.

    on_unreadable: gets one line for each folder that is left out because it cannot be read.
    """
    runs = []
    for found in query.all_runs(on_unreadable, lab, kind):
        summary = found.summary
        judged: Any = summary
        if summary.verdict is None or summary.exit_code is None:
            try:
                judged = document_of(found)
            except UsageError as error:
                on_unreadable(str(error))
                continue
        fields = summary.model_dump(include=set(ListedRun.model_fields))
        fields |= {"id": found.directory.name, "verdict": judged.verdict, "exit_code": judged.exit_code}
        runs.append(ListedRun.model_validate(fields))
    return RunList(runs=runs)


def show_list(console: Console, runs: RunList) -> None:
    """Print runs as a table."""
    table = new_table(None, ("id", "kind", "lab", "kernel", "verdict", "started"), fold=True)
    for one in runs.runs:
        started = one.started_at.replace("T", " ")[:19]
        table.add_row(one.id, one.kind, one.lab, one.kernel, styled(one.verdict), started)
    console.print(table)
