# SPDX-License-Identifier: Apache-2.0
"""The driver of hosts that stand: each sender and receiver is one command over zclab's own channels.

When a channel closes, the traffic tool at its end stops by itself, so that nothing stays behind on a host.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from zclab.analysis import validity
from zclab.analysis.verdict import MeasuringRun
from zclab.base.clock import now
from zclab.base.errors import UsageError
from zclab.deploy import state as deploy_state
from zclab.host import facts as hostfacts
from zclab.host import placement
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import RemoteError
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Host, Lab
from zclab.measure import ends
from zclab.measure.driver import Boot, Driver
from zclab.measure.driver import Opener as DriverOpener
from zclab.measure.session import Opener, Session
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.records import Manifest, Record
from zclab.traffic import command as commands
from zclab.traffic import copies
from zclab.traffic.profile import profile, recording

#: Brings the hosts of a lab up with one of its kernels, and proves it.
BootHosts = Callable[[Lab, str], None]


def opener(open_session: Opener = Session.open_declared, boot: BootHosts | None = None) -> DriverOpener:
    """Return what opens a driver over the channels of a session.

    boot: brings the hosts up with another kernel of the lab; null: the kernels of a plan cannot be compared.
    """

    @contextmanager
    def opened(lab: Lab) -> Iterator[Driver]:
        with open_session(lab) as session:
            yield Channels(session, boot)

    return opened


class Channels:
    """Measures one by one on the hosts of a session."""

    whole_boots = False

    def __init__(self, session: Session, boot: BootHosts | None = None) -> None:
        self._session = session
        self._boot_hosts = boot
        self._variant = session.lab.kernel_variant
        self._boot_made: Boot | None = None
        self._boots: dict[str, str] = {}

    @property
    def lab(self) -> Lab:
        """The lab that is measured."""
        return self._session.lab

    @property
    def members(self) -> Sequence[Host]:
        """The sender and the receiver."""
        return self._session.members

    def settled(self, plan: Plan) -> Plan:
        """Return the plan; UsageError if it compares kernels and none can be booted."""
        for one in plan.comparisons if self._boot_hosts is None else ():
            if one.a.kernel is not None or one.b.kernel is not None:
                raise UsageError(
                    f"plan {plan.name}: {one.name}: compares kernels: carry it out with `zclab run`"
                )
        return plan

    def manifest_fields(self, plan: Plan) -> dict[str, Any]:
        """Return the manifest of a run of a plan as fields; RemoteError if a host is gone."""
        return manifest_fields(self._session, plan)

    def recording(self, run: MeasuringRun) -> AbstractContextManager[None]:
        """Keep what the consoles of the hosts say meanwhile."""
        return self._session.recording(run)

    def note_placements(self, run: MeasuringRun) -> None:
        """Keep how the hosts are set up now; of one that is gone nothing is known."""
        manifest = run.manifest()
        found = dict(manifest.placements)
        for host in self.members:
            if host.role in manifest.plan.preconditions:
                try:
                    read = placement.read(self._session.remotes[host.name], host)
                except RemoteError:
                    read = placement.Placement()
                found[host.name] = [*found.get(host.name, []), read]
        if found != manifest.placements:
            run.update(placements=found)

    def boot(self, variant: str | None, boot: Boot | None) -> KernelIdentity | None:
        """Have both hosts run a kernel of the lab, proven; nothing is done if they do.

        boot: which of the plan's boots is asked for; the same kernel is booted again for the next one.
        """
        variant = variant or self.lab.kernel_variant
        same = variant == self._variant and (boot is None or boot == self._boot_made)
        if variant is None or same or self._boot_hosts is None:
            return None
        self._session.disconnect()
        self._variant, self._boot_made = variant, None
        self._boot_hosts(self.lab, variant)
        self._boot_made = boot
        artifact = deploy_state.deployed_kernel(self.lab, variant)
        self._boots = {name: found.boot_id for name, found in self._session.snapshot().items()}
        other = variant != self.lab.kernel_variant and artifact is not None
        return KernelIdentity.of(artifact) if other and artifact else None

    def restore(self) -> None:
        """Boot the lab's own kernel, if another runs."""
        self.boot(None, None)

    def measure(self, manifest: Manifest, batch: Sequence[Measurement]) -> Iterator[Record]:
        """Make measurements, one after the other. Whatever goes wrong is kept in the record."""
        for planned in batch:
            yield self._measure(manifest, planned)

    def _measure(self, manifest: Manifest, planned: Measurement) -> Record:
        started_at = now()
        found: dict[str, Any] = {"boots": self._boots}
        try:
            with self._session.watching() as watched:
                found["before"] = watched.before()
                empty = Record(planned=planned, started_at=started_at, ended_at=started_at, boots=self._boots)
                if unfit := validity.host_reasons(manifest, empty, found["before"]):
                    found["problem"] = f"not made: {'; '.join(unfit)}"
                else:
                    found |= self._transfer(manifest, planned, found["before"])
                    found["after"] = watched.after()
                    found["skipped"] = ends.unsupported(found["receiver"], found["sender"])
        except RemoteError as error:
            found["problem"] = str(error)
            self._session.disconnect()
        return Record(planned=planned, started_at=started_at, ended_at=now(), **found)

    def _transfer(
        self, manifest: Manifest, planned: Measurement, before: dict[str, Snapshot]
    ) -> dict[str, Any]:
        """Run both ends to their end; return what they left, as fields of a record."""
        sender, receiver = self.members
        token = secrets.token_hex(16)
        event = manifest.plan.profile_event if planned.phase == "profile" else None

        def profiled(command: str) -> str:
            return recording(command, event) if event else command

        receive = profiled(commands.receive(self.lab, planned, receiver, token))
        receive = copies.watched(planned, before[receiver.name], receive)
        left = self._session.transfer(
            commands.mapping(planned, receive),
            lambda port: profiled(commands.send(self.lab, planned, sender, port, token)),
            planned.warmup_seconds + planned.baseline_seconds + planned.seconds,
            ends.failed,
        )
        if left.sender is None:
            return {"receiver": ends.end_of(left.receiver), "sender": None}
        return {
            "sender": ends.end_of(left.sender),
            "receiver": ends.end_of(left.receiver),
            "copies": copies.copies(left.receiver.stderr),
            "controller_cpu_share": left.controller_cpu_share,
            "profiles": {
                "sender": profile(left.sender.stderr, event),
                "receiver": profile(left.receiver.stderr, event),
            }
            if event
            else {},
        }


def manifest_fields(session: Session, plan: Plan) -> dict[str, Any]:
    """Return the manifest of a run of a plan on the hosts of a session as fields; it has no id yet.

    Raises:
        RemoteError: a host is gone.
    """
    lab = session.lab
    common = session.manifest_fields()
    tool = session.remotes[session.members[0].name].output(f"{commands.TRAFFIC} --version").strip()
    return common | {
        "plan": plan,
        "expectations": lab.expectations,
        "pair": session.members,
        "limits": lab.limits,
        "hosts": [
            hostfacts.facts(session.remotes[host.name], host, lab, session.artifact, session.state[host.name])
            for host in session.members
        ],
        "versions": common["versions"] | {"traffic": tool},
    }
