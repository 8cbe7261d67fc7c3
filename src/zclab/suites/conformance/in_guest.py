# SPDX-License-Identifier: Apache-2.0
"""All tables of the suite as one list that a guest carries out."""

from __future__ import annotations

from zclab.backends.exact.steps import Output, Step
from zclab.base.errors import LabError, UsageError
from zclab.host.ssh import Completed
from zclab.lab.model import Host
from zclab.measure.guests import Guests, seed_of
from zclab.probe.table import CASE_SECONDS
from zclab.suites import in_guest, probe_command
from zclab.suites.conformance.answers import Answers

#: Seconds of the guest's clock for a peer to listen, and of the emulator's CPU for a table: limits.
_LISTEN_SECONDS, _TABLE_CPU_SECONDS = 60.0, 300.0


class TablesInGuest:
    """The suite in one guest, whose rows all were tried when the first table is asked for."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self.release = guests.artifact().release
        self._outputs: dict[str, Output] = {}
        self._trouble: str | None = None
        try:
            steps = [
                step
                for abi in probe_command.ABIS
                for family in probe_command.FAMILIES
                for step in self._steps(abi, family)
            ]
            tables = len(probe_command.ABIS) * len(probe_command.FAMILIES)
            seed = seed_of(0, "conformance")
            done = in_guest.boot(guests, "conformance", seed, steps, _TABLE_CPU_SECONDS * tables)
            self._outputs = done.outputs
        except LabError as error:
            self._trouble = str(error)

    def ask(self, abi: str, family: probe_command.Family, host: Host) -> Answers:
        """Return what the probe reported of a table; of a guest that went wrong nothing is known."""
        answers = Answers(trouble=self._trouble)
        found = self._outputs.get(_name(abi, family))
        if found is None:
            return answers
        for line in found.stdout.splitlines():
            try:
                answers.hear(line)
            except ValueError:  # cut off where the probe was killed
                break
        if found.status is None:
            answers.trouble = "the probe did not end in time, and was killed"
        else:
            answers.end(Completed(found.status, found.stdout, found.stderr))
        if not answers.began:
            raise LabError(f"{host.name}: the probe did not start: {answers.trouble}")
        return answers

    def _steps(self, abi: str, family: probe_command.Family) -> list[Step]:
        sender, receiver = self._guests.members
        host = sender if probe_command.ABIS[abi] == "sender" else receiver
        name = _name(abi, family)
        sink, steps = f"{name}/peer", list[Step]()
        peer: tuple[str, str, str] | None = None
        try:
            own, address = sender.endpoints(family)
        except UsageError:  # the lab has no such address: its rows say that there is no peer
            own, address = "", ""
        if host is sender and address:
            peer = (address, "{port}", sender.data_interface)
            command = probe_command.in_guest(
                probe_command.sink_command(address, own, receiver.data_interface)
            )
            steps += [
                Step(do="start", name=sink, namespace="receiver", command=command),
                Step(do="await", name=sink, stream="stderr", prefix="listening ", seconds=_LISTEN_SECONDS),
            ]
        # The port is the one that the peer has just named.
        command = probe_command.in_guest(probe_command.rows_command(abi, family, peer))
        seconds = CASE_SECONDS * (1 + len(probe_command.table(abi).cases))
        return [
            *steps,
            Step(do="start", name=name, namespace=host.role, command=command),
            Step(do="end", name=name, seconds=seconds),
        ]


def _name(abi: str, family: int) -> str:
    return f"{abi}/{family}"
