# SPDX-License-Identifier: Apache-2.0
"""Every kind of run: how one is read, judged and shown, and the list of them all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

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
from zclab.runs.manifest import SCHEMA_VERSION, BaseManifest, Kind, KindName
from zclab.runs.query import Found
from zclab.suites import declared_today, lockdep
from zclab.suites.conformance import show as conformance
from zclab.suites.conformance.document import CONFORMANCE
from zclab.suites.crosscheck import show as crosscheck
from zclab.suites.crosscheck.document import CROSSCHECK
from zclab.suites.selftests import show as selftests
from zclab.suites.selftests.document import SELFTESTS
from zclab.suites.stress import document as stress

Show = Callable[[Console, Any], None]
#: Of the differences to the inventory, so many are shown.
_FIRST_DIFFERENCES = 3


class Shown(NamedTuple):
    """A kind of run and what shows its document."""

    kind: Kind[Any, Any, Any]
    show_document: Show

    def show(self, console: Console, document: Any) -> None:
        """Print what has to be known before a document, and the document."""
        for line in first_lines(document):
            print_line(console, line, "red")
        self.show_document(console, document)


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


def first_lines(document: BaseManifest) -> list[str]:
    """Return what has to be known before a run's figures: why they are not, or less, to be trusted."""
    broken = document.chain.problems if document.chain else []
    found = [f"{problem}: what follows is not what was measured" for problem in broken]
    if document.is_older:
        found.append(
            f"recorded by an older version (schema {document.recorded_schema}), which kept no hash chain and "
            "no interface counters: its verdict is at best inconclusive"
        )
    today = document.declared_today
    if today and today.problem:
        found.append(
            f"whether the inventory still declares what this was judged by is not known: {today.problem}"
        )
    if today and today.differences:
        rest = len(today.differences) - _FIRST_DIFFERENCES
        more = f"; and {rest} more (--json has all)" if rest > 0 else ""
        listed = "; ".join(today.differences[:_FIRST_DIFFERENCES])
        found.append(f"judged by what the inventory no longer declares: {listed}{more}")
    return found


class ListedRun(KernelIdentity):
    """A run in the list. verdict, exit_code: judged again from the records where its kind is.

    chain: whether the run is as it was written; none where an older version kept no chain.
    """

    id: str
    kind: KindName
    lab: str
    verdict: Verdict
    exit_code: int
    started_at: str
    chain: Literal["whole", "broken", "none"]


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
    run = Run(found.directory, KINDS[found.summary.kind].kind)
    return run.document().model_copy(update={"declared_today": declared_today.compared(run.manifest())})


def listed(on_unreadable: Progress, lab: str | None, kind: KindName | None) -> RunList:
    """Return the runs of a lab and a kind, null for any, newest first.

    on_unreadable: gets one line for each folder that is left out because it cannot be read.
    """
    runs = []
    for found in query.all_runs(on_unreadable, lab, kind):
        summary = found.summary
        verdict = summary.verdict
        if verdict is None:
            try:
                verdict = Run(found.directory, KINDS[summary.kind].kind).document().verdict
            except UsageError as error:
                on_unreadable(str(error))
                continue
        fields = summary.model_dump(include=set(ListedRun.model_fields))
        fields |= {"id": found.directory.name, "chain": summary.chain.state if summary.chain else "none"}
        runs.append(ListedRun.model_validate(fields | summary.judged(verdict)))
    return RunList(runs=runs)


def show_list(console: Console, runs: RunList) -> None:
    """Print runs as a table."""
    table = new_table(None, ("id", "kind", "lab", "kernel", "verdict", "started"), fold=True)
    for one in runs.runs:
        started = one.started_at.replace("T", " ")[:19]
        verdict = styled(one.verdict) + (" (changed after it was written)" if one.chain == "broken" else "")
        table.add_row(one.id, one.kind, one.lab, one.kernel, verdict, started)
    console.print(table)
