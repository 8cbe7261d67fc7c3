# SPDX-License-Identifier: Apache-2.0
"""What lockdep reports when everything is done that takes a socket's lock and the mapping lock.

lockdep reports the first thing that it finds and then stops watching, until the next boot.
"""

from __future__ import annotations

import json
from typing import Literal

from zclab.base.errors import InvalidError, LabError
from zclab.base.exit_codes import Verdict
from zclab.base.model import Model
from zclab.host import console
from zclab.host.ssh import Remote
from zclab.lab.model import Lab
from zclab.measure.session import Opener, Session
from zclab.probe.table import CASE_SECONDS
from zclab.runs.manifest import BaseManifest, Kind
from zclab.suites import probe_command

#: "debug_locks: 1" as long as lockdep watches. There only where the kernel can.
_STATS = "/proc/lockdep_stats"
_CIRCULAR = "possible circular locking dependency detected"
_TABLE = "lock_order"
_GRACE_SECONDS = 30.0


class LockRow(Model):
    """A row of what takes both locks, tried over one address family; outcome null: it is not known."""

    row: str
    family: probe_command.Family
    expected: str
    outcome: str | None


class LockdepManifest(BaseManifest):
    """What a check of the lock order was.

    expected: the locks that lockdep is to report, none: nothing is to be reported. unexpected: what the
    consoles say and should not, or should say and do not, one line each.
    """

    kind: Literal["lockdep"] = "lockdep"
    expected: list[str]
    unexpected: list[str] = []


class LockdepDocument(LockdepManifest):
    """What lockdep found: `zclab lockdep --json` prints it."""

    exit_code: int
    verdict: Verdict
    rows: list[LockRow]


def judge(manifest: LockdepManifest, rows: list[LockRow]) -> LockdepDocument:
    """Judge what lockdep reported; it fails, too, if a row was not done as expected."""
    unexpected = [*manifest.unexpected, *unlike(rows)]
    judged = manifest.judged("fail" if unexpected else "pass")
    return LockdepDocument(**(dict(manifest) | judged | {"unexpected": unexpected}), rows=rows)


LOCKDEP = Kind("lockdep", LockdepManifest, LockRow, judge)


def carry_out(lab: Lab, open_session: Opener = Session.open_declared) -> LockdepDocument:
    """Do everything that takes both locks on the receiver, and judge what its kernel reports.

    Raises:
        LabError: the lab is not up or has no console log, or a host cannot be reached.
        InvalidError: the hosts run another kernel, or lockdep does not watch.
    """
    with open_session(lab) as session:
        artifact = session.artifact
        if artifact is None:
            raise InvalidError(
                f"{lab.name}: its hosts run this machine's own kernel: name a lab that boots one"
            )
        session.require_one_kernel()
        receiver = session.remotes[session.members[1].name]
        if missing := [name for name in session.console.logs if name not in session.console.offsets]:
            raise LabError(f"{missing[0]}: its console is not logged: a report would not be seen")
        if not _watches(receiver):
            raise InvalidError(f"{receiver.name}: lockdep has reported already and stopped: boot it again")
        expected = list(lab.kernel_variants[artifact.variant].lock_report)
        run = session.begin(LOCKDEP, expected=expected, programs=probe_command.programs())
        with session.recording(run):
            for family in probe_command.FAMILIES:
                for row in _attempted(receiver, family):
                    run.append(row)
            run.update(unexpected=_unexpected(expected, receiver.name, session.console.texts()))
    return run.document()


def lines(found: LockdepDocument) -> list[str]:
    """Return what was found in words, the verdict last."""
    wanted = f"a report of {' and '.join(found.expected)}" if found.expected else "no report"
    return [
        *(f"{host}: {line}" for host, reports in found.console_reports.items() for line in reports),
        *(f"not as expected: {line}" for line in found.unexpected),
        f"lockdep: lab {found.lab}, kernel {found.kernel}, expected {wanted}",
        f"verdict: {found.verdict}",
    ]


def _watches(remote: Remote) -> bool:
    stats = remote.run(f"cat {_STATS}")
    if stats.status != 0:
        raise InvalidError(f"{remote.name}: its kernel does not check locks: boot a variant that does")
    return any(line.split() == ["debug_locks:", "1"] for line in stats.stdout.splitlines())


def _attempted(remote: Remote, family: probe_command.Family) -> list[LockRow]:
    """Run the table on a host; return the outcome of each row."""
    with probe_command.started(remote, probe_command.rows_command(_TABLE, family, None)) as process:
        printed = [json.loads(line) for line in process.lines(CASE_SECONDS + _GRACE_SECONDS)]
        done = process.wait(_GRACE_SECONDS)
    if reasons := [one["reason"] for one in printed if "reason" in one and "row" not in one]:
        raise InvalidError(f"{remote.name}: {reasons[0]}")
    if done.status != 0:
        last = probe_command.last_message(done)
        raise LabError(f"{remote.name}: the probe ended with status {done.status}: {last}")
    outcomes = {
        one["row"]: one["outcome"] or f"not tested: {one['reason']}" for one in printed if "row" in one
    }
    return [
        LockRow(row=row.name, family=family, expected=row.rule("0")[1], outcome=outcomes.get(row.name))
        for row in probe_command.table(_TABLE).cases
    ]


def unlike(rows: list[LockRow]) -> list[str]:
    """Return the rows whose outcome is not the expected one: then not everything was done."""
    return [
        f"{row.row} IPv{row.family}: {row.outcome}, expected: {row.expected}"
        for row in rows
        if row.outcome != row.expected
    ]


def _unexpected(expected: list[str], host: str, said: dict[str, str]) -> list[str]:
    """Return what the consoles say and should not, and what one should and does not."""
    wrong = []
    for name, text in said.items():
        reports = console.reports(text)
        wanted = expected if name == host else []
        report = next((at for at, line in enumerate(reports) if wanted and _CIRCULAR in line), None)
        wrong += [f"{name}: {line}" for at, line in enumerate(reports) if at != report]
        if wanted and report is None:
            wrong.append(f"{host}: no report of {' and '.join(wanted)}")
        wrong += [f"{host}: the report does not name {lock}" for lock in wanted if lock not in text]
    return wrong
