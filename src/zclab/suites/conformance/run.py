# SPDX-License-Identifier: Apache-2.0
"""Carries out the suite on the hosts of a lab, as they run.

Each table is one command on one host, over zclab's own channel. It ends when the channel does, with the row
that it is at and with what it has set; so does the sink on the other host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zclab.base.errors import LabError, UsageError
from zclab.base.progress import Progress
from zclab.host.ssh import Process, RemoteError
from zclab.lab.model import Host, Lab
from zclab.measure.session import Opener, Session
from zclab.probe.table import CASE_SECONDS, Peer
from zclab.suites import on_kernel, probe_command
from zclab.suites.conformance.document import (
    CONFORMANCE,
    ConformanceDocument,
    RowDocument,
    counted,
    diff,
    fingerprint,
    judged,
)

#: Seconds that a host may take beyond the time of a row. A limit, not an expectation.
_GRACE_SECONDS = 30.0


@dataclass
class _Answers:
    """What a host reported of a table: by row, or of the whole; and what kept it from reporting more."""

    began: bool = False
    of_rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_all: str | None = None
    trouble: str | None = None


def carry_out(lab: Lab, on_progress: Progress, open_session: Opener = Session.open) -> ConformanceDocument:
    """Try every table over both address families on the lab's first pair; keep the result and return it.

    on_progress: gets one line for each table.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached or has no Python.
        InvalidError: the hosts run another kernel than the lab has booted.
    """
    with open_session(lab) as session:
        session.require_one_kernel()
        variant = lab.kernel_variants[session.artifact.variant] if session.artifact else None
        run = session.begin(CONFORMANCE, fingerprint=fingerprint(variant), programs=probe_command.programs())
        with session.recording(run):
            tables = _Tables(session, on_progress)
            for abi, role in probe_command.ABIS.items():
                for family in probe_command.FAMILIES:
                    host = session.members[0] if role == "sender" else session.members[1]
                    for row in tables.table(abi, family, host):
                        run.append(row)
    return run.document()


SUITE = on_kernel.Suite(CONFORMANCE, carry_out, fingerprint, diff)


class _Tables:
    """The suite on one pair of hosts."""

    def __init__(self, session: Session, on_progress: Progress) -> None:
        self._members = session.members
        self._remotes = session.remotes
        self._release = session.state[session.members[1].name].kernel_release
        self._on_progress = on_progress
        self._troubled: set[str] = set()  # hosts that stopped answering within a table

    def table(self, abi: str, family: probe_command.Family, host: Host) -> list[RowDocument]:
        """Try a table over a family on a host; every row of it is in the result."""
        answers = self._ask(abi, family, host)
        rows = [*self._judged(abi, family, answers)]
        counts = ", ".join(f"{count} {word}" for word, count in counted(rows).items() if count)
        self._on_progress(f"{host.name}: {abi} over IPv{family}: {counts}")
        return rows

    def _judged(self, abi: str, family: probe_command.Family, answers: _Answers) -> Iterator[RowDocument]:
        """Yield each row of a table. The first that nothing is known of is where the probe stopped."""
        stopped_at = None
        trouble = answers.trouble or "the probe reported nothing of it"
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
                reason = f"not tested: at {stopped_at}: {trouble}"
                yield judged(abi, row, family, self._release, None, reason)

    def _ask(self, abi: str, family: probe_command.Family, host: Host) -> _Answers:
        remote = self._remotes[host.name]
        answers = _Answers()
        try:
            with (
                self._peer(abi, family) as peer,
                probe_command.started(remote, probe_command.rows_command(abi, family, peer)) as process,
            ):
                self._listen(process, answers)
        except RemoteError as error:
            remote.close()
            answers.trouble = str(error)
            if not answers.began and host.name in self._troubled:
                return _Answers(of_all=f"not tested: {error}")
            self._troubled.add(host.name)
        if not answers.began:
            raise LabError(f"{host.name}: the probe did not start: {answers.trouble}: is python3 there?")
        return answers

    def _listen(self, process: Process, answers: _Answers) -> None:
        """Read what the probe prints, one JSON object per line, to its end."""
        for line in process.lines(CASE_SECONDS + _GRACE_SECONDS):
            said = json.loads(line)
            if "row" in said:
                answers.of_rows[said["row"]] = said
            elif "reason" in said:
                answers.of_all = said["reason"]
            answers.began = True
        done = process.wait(_GRACE_SECONDS)
        if done.status != 0:
            last = probe_command.last_message(done)
            answers.trouble = f"the probe ended with status {done.status}: {last}"

    @contextmanager
    def _peer(self, abi: str, family: probe_command.Family) -> Iterator[Peer | None]:
        """Serve as the peer of a sender's rows on the receiver, over the link; yield where it is."""
        sender, receiver = self._members
        try:
            own, address = sender.endpoints(family)
        except UsageError:  # the lab has no such address: its rows say that there is no peer
            own, address = "", ""
        if probe_command.ABIS[abi] != "sender" or not address or receiver.name in self._troubled:
            yield None
            return
        command = probe_command.sink_command(address, own, receiver.data_interface)
        with probe_command.started(self._remotes[receiver.name], command) as process:
            line = process.wait_for_stderr_line("listening ", _GRACE_SECONDS)
            if line is None:
                done = process.wait(_GRACE_SECONDS)
                raise LabError(f"{receiver.name}: no peer on {address}: {done.stderr.strip()[-200:]}")
            yield Peer(address, int(line.split()[1]), sender.data_interface)
