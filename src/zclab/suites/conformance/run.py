# SPDX-License-Identifier: Apache-2.0
"""Carries out the suite on the hosts of a lab, as they run.

Each table is one command on one host, over zclab's own channel. It ends when the channel does, with the row
that it is at and with what it has set; so does the sink on the other host.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.deploy import state as deploy_state
from zclab.host import console, facts
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Process, Remote, RemoteError, connected
from zclab.kernel.identity import Artifact
from zclab.lab.model import Host, Lab, Pair
from zclab.probe.table import CASE_SECONDS
from zclab.suites import probe_command
from zclab.suites.conformance.document import MACHINE, ConformanceDocument, RowDocument, judged, keep, made_of

#: Seconds that a host may take beyond the time of a row. A limit, not an expectation.
_GRACE_SECONDS = 30.0
#: Is told a line when a table was tried.
Told = Callable[[str], None]


@dataclass
class _Answers:
    """What a host told of a table: by row, or of the whole; and what kept it from telling more."""

    began: bool = False
    of_rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_all: str | None = None
    trouble: str | None = None


def carry_out(lab: Lab, told: Told) -> ConformanceDocument:
    """Try every table over both address families on the lab's first pair; keep the result and return it.

    Raises:
        LabError: the lab is not up, is in use, or a host can not be reached or has no Python.
        InvalidError: the hosts run another kernel than the lab has booted.
    """
    pair = lab.pair()
    with (
        deploy_state.exclusive(lab),
        connected(pair.names, lab.state_dir / "ssh_config") as remotes,
    ):
        artifact = deploy_state.running_kernel(lab)
        state = facts.snapshot(remotes, pair)
        release, build_id = identity(artifact, state)
        started_at = now()
        logs = {host.name: console.log_path(lab.state_dir, host.name) for host in pair}
        offsets = {name: console.size(path) for name, path in logs.items() if path.is_file()}
        suite = _Suite(pair, remotes, release, told)
        rows = [
            row
            for abi, role in probe_command.ABIS.items()
            for family in probe_command.FAMILIES
            for row in suite.table(abi, family, pair.sender if role == "sender" else pair.receiver)
        ]
        document = ConformanceDocument(
            lab=lab.name,
            emulated=backend_of(lab).accelerator() == "tcg",
            kernel=artifact.variant if artifact else MACHINE,
            artifact_key=artifact.key if artifact else None,
            kernel_release=release,
            kernel_build_id=build_id,
            made_of=made_of(lab.kernel_variants[artifact.variant] if artifact else None),
            started_at=started_at,
            console_reports={
                name: console.reports(console.since(logs[name], at)) for name, at in offsets.items()
            },
            rows=rows,
        )
        keep(lab, document)
    return document


def identity(artifact: Artifact | None, state: dict[str, Snapshot]) -> tuple[str, str | None]:
    """Return release and build id of the one kernel that all hosts run."""
    found = {name: (one.kernel_release, one.kernel_build_id) for name, one in state.items()}
    wanted = (artifact.release, artifact.build_id) if artifact else next(iter(found.values()))
    for name, identity in found.items():
        if identity != wanted:
            raise InvalidError(
                f"{name}: runs {identity[0]} (build id {identity[1]}), not {wanted[0]} ({wanted[1]}): "
                "run `zclab up`"
            )
    return wanted


class _Suite:
    """The suite on one pair of hosts."""

    def __init__(self, pair: Pair, remotes: dict[str, Remote], release: str, told: Told) -> None:
        self._pair = pair
        self._remotes = remotes
        self._release = release
        self._told = told
        self._troubled: set[str] = set()  # hosts that stopped answering within a table

    def table(self, abi: str, family: probe_command.Family, host: Host) -> list[RowDocument]:
        """Try a table over a family on a host; every row of it is in the result."""
        answers = self._ask(abi, family, host)
        rows = [*self._judged(abi, family, answers)]
        counts = ", ".join(
            f"{count} {words}"
            for verdict, words in (("pass", "passed"), ("fail", "failed"), ("skipped", "skipped"))
            if (count := sum(row.verdict == verdict for row in rows))
        )
        self._told(f"{host.name}: {abi} over IPv{family}: {counts}")
        return rows

    def _judged(self, abi: str, family: probe_command.Family, answers: _Answers) -> Iterator[RowDocument]:
        """Yield each row of a table. The first that nothing is known of is where the probe stopped."""
        stopped_at = None
        trouble = answers.trouble or "the probe told nothing of it"
        for row in probe_command.table(abi).cases:
            said = answers.of_rows.get(row.name)
            if said is not None:
                yield judged(abi, row, family, self._release, said["outcome"], said["reason"])
            elif answers.of_all is not None:
                yield judged(abi, row, family, self._release, None, answers.of_all)
            elif stopped_at is None:
                stopped_at = row.name
                unknown = judged(abi, row, family, self._release, None, trouble)
                yield unknown.model_copy(update={"verdict": "fail"})
            else:
                reason = f"not tried: at {stopped_at}: {trouble}"
                yield judged(abi, row, family, self._release, None, reason)

    def _ask(self, abi: str, family: probe_command.Family, host: Host) -> _Answers:
        remote = self._remotes[host.name]
        answers = _Answers()
        try:
            with self._peer(abi, family) as peer:
                process = remote.start(probe_command.rows_command(abi, family, peer))
                try:
                    self._listen(process, answers)
                finally:
                    process.close()
        except RemoteError as error:
            remote.close()
            answers.trouble = str(error)
            if not answers.began and host.name in self._troubled:
                return _Answers(of_all=f"not tried: {error}")
            self._troubled.add(host.name)
        if not answers.began:
            raise LabError(f"{host.name}: the probe did not begin: {answers.trouble}: is python3 there?")
        return answers

    def _listen(self, process: Process, answers: _Answers) -> None:
        """Read what the probe tells, one JSON object a line, to its end."""
        process.send(probe_command.handed_over())
        for line in process.lines(CASE_SECONDS + _GRACE_SECONDS):
            said = json.loads(line)
            if "row" in said:
                answers.of_rows[said["row"]] = said
            elif "reason" in said:
                answers.of_all = said["reason"]
            answers.began = True
        done = process.wait(_GRACE_SECONDS)
        if done.status != 0:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            answers.trouble = f"the probe ended with status {done.status}: {last}"

    @contextmanager
    def _peer(self, abi: str, family: probe_command.Family) -> Iterator[tuple[str, int] | None]:
        """Serve as the peer of a sender's rows on the receiver, over the link; yield its address and port."""
        sender, receiver = self._pair
        try:
            own, address = sender.endpoints(family)
        except UsageError:  # the lab has no such address: its rows say that there is no peer
            own, address = "", ""
        if probe_command.ABIS[abi] != "sender" or not address or receiver.name in self._troubled:
            yield None
            return
        process = self._remotes[receiver.name].start(probe_command.sink_command(address, own))
        try:
            process.send(probe_command.handed_over())
            line = process.wait_for_stderr_line("listening ", _GRACE_SECONDS)
            if line is None:
                done = process.wait(_GRACE_SECONDS)
                raise LabError(f"{receiver.name}: no peer on {address}: {done.stderr.strip()[-200:]}")
            yield address, int(line.split()[1])
        finally:
            process.close()
