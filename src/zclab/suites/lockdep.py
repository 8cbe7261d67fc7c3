# SPDX-License-Identifier: Apache-2.0
"""Lock check: what lockdep reports when everything is done that takes a socket's lock and the mapping lock.

lockdep reports the first thing that it finds and then stops watching, until the next boot.
"""

from __future__ import annotations

import json
from typing import Literal

from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import InvalidError, LabError
from zclab.base.model import Model
from zclab.deploy import state as deploy_state
from zclab.host import console, facts
from zclab.host.ssh import Remote, connected
from zclab.lab.model import Lab
from zclab.probe.table import CASE_SECONDS
from zclab.suites import probe_command

SCHEMA_VERSION = 1
#: "debug_locks: 1" as long as lockdep watches. There only where the kernel can.
_STATS = "/proc/lockdep_stats"
_CIRCULAR = "possible circular locking dependency detected"
_TABLE = "lock_order"
_GRACE_SECONDS = 30.0


class LockCheck(Model):
    """What a lock check found.

    expected: the locks that lockdep is to report, none: nothing is to be reported. reports: by host, the
    kernel lines that report anything. unexpected: what is not as it should be, one line each.
    """

    schema_version: int = SCHEMA_VERSION
    lab: str
    emulated: bool
    kernel: str
    kernel_release: str
    started_at: str
    expected: list[str]
    rows: dict[str, str]
    reports: dict[str, list[str]]
    unexpected: list[str]
    verdict: Literal["pass", "fail"]

    @property
    def exit_code(self) -> int:
        """Return 0 for a pass, else 1."""
        return 0 if self.verdict == "pass" else 1


def carry_out(lab: Lab) -> LockCheck:
    """Do everything that takes both locks on the receiver, and judge what its kernel reports.

    Raises:
        LabError: the lab is not up or has no console log, or a host can not be reached.
        InvalidError: lockdep does not watch.
    """
    pair = lab.pair()
    receiver = pair.receiver.name
    with deploy_state.exclusive(lab), connected(pair.names, lab.state_dir / "ssh_config") as remotes:
        artifact = deploy_state.deployed_kernel(lab)
        if artifact is None:
            raise InvalidError(
                f"{lab.name}: its hosts run this machine's own kernel: name a lab that boots one"
            )
        release = facts.snapshot(remotes, pair)[receiver].kernel_release
        if release != artifact.release:
            raise InvalidError(f"{receiver}: runs {release}, not {artifact.release}: run `zclab up`")
        logs = {name: console.log_path(lab.state_dir, name) for name in pair.names}
        if missing := [name for name, path in logs.items() if not path.is_file()]:
            raise LabError(f"{missing[0]}: its console is not logged: nothing could be seen there")
        if not _watches(remotes[receiver]):
            raise InvalidError(f"{receiver}: lockdep has reported already and stopped: boot it again")
        offsets = {name: console.size(path) for name, path in logs.items()}
        started_at = now()
        rows = {
            f"{row} IPv{family}": outcome
            for family in probe_command.FAMILIES
            for row, outcome in _attempted(remotes[receiver], family).items()
        }
        said = {name: console.since(path, offsets[name]) for name, path in logs.items()}
        expected = list(lab.kernel_variants[artifact.variant].lock_report)
        unexpected = _unexpected(expected, receiver, said) + _unlike(rows)
        return LockCheck(
            lab=lab.name,
            emulated=backend_of(lab).accelerator() == "tcg",
            kernel=artifact.variant,
            kernel_release=artifact.release,
            started_at=started_at,
            expected=expected,
            rows=rows,
            reports={name: console.reports(text) for name, text in said.items()},
            unexpected=unexpected,
            verdict="fail" if unexpected else "pass",
        )


def lines(found: LockCheck) -> list[str]:
    """Return a lock check in words, the verdict last."""
    wanted = f"a report of {' and '.join(found.expected)}" if found.expected else "silence"
    return [
        *(f"{host}: {line}" for host, reports in found.reports.items() for line in reports),
        *(f"not as it should be: {line}" for line in found.unexpected),
        f"locks: lab {found.lab}, kernel {found.kernel} ({found.kernel_release}), expected {wanted}",
        f"verdict: {found.verdict}",
    ]


def _watches(remote: Remote) -> bool:
    stats = remote.run(f"cat {_STATS}")
    if stats.status != 0:
        raise InvalidError(f"{remote.name}: its kernel does not check locks: boot a variant that does")
    return any(line.split() == ["debug_locks:", "1"] for line in stats.stdout.splitlines())


def _attempted(remote: Remote, family: probe_command.Family) -> dict[str, str]:
    """Try the table on a host; return the outcome of each row."""
    process = remote.start(probe_command.rows_command(_TABLE, family, None))
    try:
        process.send(probe_command.handed_over())
        told = [json.loads(line) for line in process.lines(CASE_SECONDS + _GRACE_SECONDS)]
        done = process.wait(_GRACE_SECONDS)
    finally:
        process.close()
    if reasons := [one["reason"] for one in told if "reason" in one and "row" not in one]:
        raise InvalidError(f"{remote.name}: {reasons[0]}")
    if done.status != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise LabError(f"{remote.name}: the probe ended with status {done.status}: {last}")
    return {one["row"]: one["outcome"] or f"not tried: {one['reason']}" for one in told if "row" in one}


def _unlike(rows: dict[str, str]) -> list[str]:
    """Return the rows whose outcome is not the expected one: then not everything was done."""
    wanted = {row.name: row.rule("0")[1] for row in probe_command.table(_TABLE).cases}
    found = {
        (name, family): rows.get(f"{name} IPv{family}")
        for name in wanted
        for family in probe_command.FAMILIES
    }
    return [
        f"{name} IPv{family}: {outcome}, expected: {wanted[name]}"
        for (name, family), outcome in found.items()
        if outcome != wanted[name]
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
