# SPDX-License-Identifier: Apache-2.0
"""Carries out the suite on the hosts of a lab, as they run, or in a guest of one.

Each table is one command on one host. Over zclab's own channel it ends when the channel does, with the row
that it is at and with what it has set; so does the sink on the other host. A guest carries all tables out as
one list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from zclab.base.errors import LabError, UsageError
from zclab.base.progress import Progress
from zclab.host.ssh import Process, RemoteError
from zclab.kernel.spec import KernelVariant
from zclab.lab.model import Host, Lab
from zclab.measure import guests as exact_guests
from zclab.measure.driver import begin
from zclab.measure.guests import OpenGuests
from zclab.measure.session import Opener, Session
from zclab.probe.table import CASE_SECONDS, Peer
from zclab.runs.folder import Run
from zclab.suites import on_kernel, probe_command
from zclab.suites.conformance.answers import Answers
from zclab.suites.conformance.document import (
    CONFORMANCE,
    ConformanceDocument,
    ConformanceManifest,
    RowDocument,
    counted,
    diff,
    fingerprint,
)
from zclab.suites.conformance.in_guest import TablesInGuest

#: Seconds that a host may take beyond the time of a row. A limit, not an expectation.
_GRACE_SECONDS = 30.0


def carry_out(
    lab: Lab,
    on_progress: Progress,
    open_session: Opener = Session.open,
    open_guests: OpenGuests | None = None,
) -> ConformanceDocument:
    """Try every table over both address families on the lab's first pair; keep the result and return it.

    on_progress: gets one line for each table.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached or has no Python.
        InvalidError: the hosts run another kernel than the lab has booted.
    """
    if lab.traits.one_guest:
        with (open_guests or exact_guests.opener(on_progress=on_progress))(lab) as guests:
            fields = _fields(lab.kernel_variants[guests.artifact().variant])
            run = begin(lab.name, CONFORMANCE, guests.manifest_fields() | fields)
            with guests.recording(run):
                in_guest = TablesInGuest(guests)
                _try_all(run, guests.members, in_guest.release, in_guest.ask, on_progress)
        return run.document()
    with open_session(lab) as session:
        session.require_one_kernel()
        variant = lab.kernel_variants[session.artifact.variant] if session.artifact else None
        run = session.begin(CONFORMANCE, **_fields(variant))
        with session.recording(run):
            release = session.state[session.members[1].name].kernel_release
            _try_all(run, session.members, release, _Tables(session).ask, on_progress)
    return run.document()


SUITE = on_kernel.Suite(CONFORMANCE, carry_out, fingerprint, diff)


def _fields(variant: KernelVariant | None) -> dict[str, Any]:
    return {"fingerprint": fingerprint(variant), "programs": probe_command.programs()}


#: Asks a host for a table over a family.
_Ask = Callable[[str, probe_command.Family, Host], Answers]


def _try_all(
    run: Run[ConformanceManifest, RowDocument, ConformanceDocument],
    members: Sequence[Host],
    release: str,
    ask: _Ask,
    on_progress: Progress,
) -> None:
    """Try every table; every row of it is in the result. release: of the kernel."""
    for abi, role in probe_command.ABIS.items():
        for family in probe_command.FAMILIES:
            host = members[0] if role == "sender" else members[1]
            rows = [*ask(abi, family, host).rows(abi, family, release)]
            for row in rows:
                run.append(row)
            counts = ", ".join(f"{count} {word}" for word, count in counted(rows).items() if count)
            on_progress(f"{host.name}: {abi} over IPv{family}: {counts}")


class _Tables:
    """The suite on one pair of hosts, over their channels."""

    def __init__(self, session: Session) -> None:
        self._members = session.members
        self._remotes = session.remotes
        self._troubled: set[str] = set()  # hosts that stopped answering within a table

    def ask(self, abi: str, family: probe_command.Family, host: Host) -> Answers:
        """Try a table over a family on a host."""
        remote = self._remotes[host.name]
        answers = Answers()
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
                return Answers(of_all=f"not tested: {error}")
            self._troubled.add(host.name)
        if not answers.began:
            raise LabError(f"{host.name}: the probe did not start: {answers.trouble}: is python3 there?")
        return answers

    def _listen(self, process: Process, answers: Answers) -> None:
        """Read what the probe prints, one JSON object per line, to its end."""
        for line in process.lines(CASE_SECONDS + _GRACE_SECONDS):
            answers.hear(line)
        answers.end(process.wait(_GRACE_SECONDS))

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
