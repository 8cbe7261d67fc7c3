# SPDX-License-Identifier: Apache-2.0
"""The engine: carries out a plan on a pair of hosts and keeps every measurement as it came.

It configures nothing. Each measurement is judged as it comes, because the stopping rule counts valid ones
only; comparisons and the verdict are judged from the run's files. Each sender and receiver is one command
over zclab's own channels; when a channel closes, the traffic tool at its end stops by itself, so that nothing
stays behind on a host.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from zclab.analysis import measurement, validity
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.stopping import next_attempt, next_measurement
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import UsageError
from zclab.base.model import first_problem
from zclab.deploy import state as deploy_state
from zclab.host import facts as hostfacts
from zclab.host import placement
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Lab
from zclab.measure.session import Opener, Session
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement, Step
from zclab.runs.records import End, EndDocument, Manifest, Record
from zclab.traffic import command as commands
from zclab.traffic import copies
from zclab.traffic.document import RpcDocument, TrafficDocument
from zclab.traffic.profile import profile, recording, rest

#: Brings the hosts of a lab up with one of its kernels, and proves it.
Boot = Callable[[Lab, str], None]
_DOCUMENT: TypeAdapter[TrafficDocument | RpcDocument] = TypeAdapter(EndDocument)


class Reporter(Protocol):
    """Callbacks of a run's progress."""

    def started(self, run: MeasuringRun, plan: Plan, overhead_seconds: float, boot_seconds: float) -> None:
        """A run begins; each measurement takes about so many seconds beside its window, and each boot."""

    def measured(self, run: MeasuringRun, document: MeasurementDocument) -> None:
        """One measurement was made and written."""

    def finished(self, run: MeasuringRun) -> None:
        """The run ended, whole or not."""


def execute(
    lab: Lab,
    plan: Plan,
    reporter: Reporter,
    resume: MeasuringRun | None = None,
    boot: Boot | None = None,
    open_session: Opener = Session.open_declared,
) -> MeasuringRun:
    """Carry out a plan, or the rest of an interrupted run's, and return the run.

    `boot` brings the hosts up with another kernel of the lab, for plans whose arms name one.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached.
        UsageError: the plan does not fit the lab; the run to resume is of another lab or already whole.
    """
    _check_fits(lab, plan, boot)
    with open_session(lab) as session:
        settled = plan.settled(lab.expectations.link.ip_version, secrets.randbelow(2**32))
        fields = manifest_fields(session, settled)
        if resume is None:
            run, records = session.begin(RUN, **fields), []
        else:
            _check_resumed(resume, Manifest.model_validate(fields), reboots=schedule.boots(plan) > 0)
            run, records = resume, resume.resume()
        backend = backend_of(lab)
        reporter.started(run, run.manifest().plan, backend.overhead_seconds, backend.boot_seconds)
        try:
            with session.recording(run):
                _note_placements(session, run)
                _Engine(session, run, reporter, boot).carry_out(records)
                _note_placements(session, run)
        finally:
            reporter.finished(run)
    return run


def _check_fits(lab: Lab, plan: Plan, boot: Boot | None) -> None:
    """Raise UsageError if a plan asks for what the lab does not have."""
    for one in plan.comparisons:
        for arm in (one.a, one.b):
            if arm.kernel is not None and arm.kernel not in lab.kernel_variants:
                known = ", ".join(lab.kernel_variants) or "none"
                raise UsageError(
                    f"plan {plan.name}: {one.name}: lab {lab.name} has no kernel {arm.kernel!r}: {known}"
                )
            if arm.kernel is not None and boot is None:
                raise UsageError(
                    f"plan {plan.name}: {one.name}: compares kernels: carry it out with `zclab run`"
                )
    for version in plan.ip_versions or []:
        for host in lab.pair():
            host.endpoints(version)


class _Engine:
    """One run in progress: makes what is due, in order, and keeps each record as it came."""

    def __init__(self, session: Session, run: MeasuringRun, reporter: Reporter, boot: Boot | None) -> None:
        self.session = session
        self.lab = session.lab
        self.run = run
        self.reporter = reporter
        self.manifest = run.manifest()
        self._boot = boot
        self._variant = self.lab.kernel_variant
        self._boot_made: tuple[str, int] | None = None
        self._boots: dict[str, str] = {}
        self._orders = {one.id: one.order for one in schedule.measurements(self.manifest.plan)}
        self._made: dict[str, MeasurementDocument] = {}

    def carry_out(self, records: list[Record]) -> None:
        """Make what is due beside the records that are there already."""
        plan = self.manifest.plan
        for record in records:
            self._made[record.planned.id] = measurement.document(self.manifest, record)
        try:
            for planned in schedule.checks(plan):
                self._make_until_settled(planned)
            for step in schedule.steps(plan):
                while (due := next_measurement(plan, step, self._made)) is not None:
                    self._make(due, step)
            for planned in schedule.profiles(plan):
                self._make_until_settled(planned)
        finally:
            self._switch(self.lab.kernel_variant)

    def _make_until_settled(self, planned: Measurement) -> None:
        while (due := next_attempt(self.manifest.plan, planned, self._made)) is not None:
            self._make(due)

    def _make(self, planned: Measurement, step: Step | None = None) -> None:
        boot = (step.cells[0].name, planned.boot) if step and planned.boot is not None else None
        self._switch(planned.kernel_variant or self.lab.kernel_variant, boot)
        order = self._orders[schedule.first_attempt_id(planned)]
        planned = planned.model_copy(update={"order": order})
        record = self._measure(planned)
        self.run.append(record)
        self._made[planned.id] = document = measurement.document(self.manifest, record)
        self.reporter.measured(self.run, document)

    def _switch(self, variant: str | None, boot: tuple[str, int] | None = None) -> None:
        """Have both hosts run a kernel of the lab, proven; nothing is done if they do.

        boot: which of the plan's boots is asked for; the same kernel is booted again for the next one.
        """
        same = variant == self._variant and (boot is None or boot == self._boot_made)
        if variant is None or same or self._boot is None:
            return
        self.session.disconnect()
        self._variant, self._boot_made = variant, None
        self._boot(self.lab, variant)
        self._boot_made = boot
        artifact = deploy_state.deployed_kernel(self.lab, variant)
        self._boots = {name: found.boot_id for name, found in self.session.snapshot().items()}
        if variant != self.lab.kernel_variant and artifact is not None:
            others = {**self.manifest.other_kernels, variant: KernelIdentity.of(artifact)}
            self.manifest = self.run.update(other_kernels=others)

    def _measure(self, planned: Measurement) -> Record:
        """Make one measurement. Whatever goes wrong is kept in its record; the plan goes on."""
        started_at = now()
        found: dict[str, Any] = {"boots": self._boots}
        try:
            with self.session.watching() as watched:
                found["before"] = watched.before()
                empty = Record(planned=planned, started_at=started_at, ended_at=started_at, boots=self._boots)
                if unfit := validity.host_reasons(self.manifest, empty, found["before"]):
                    found["problem"] = f"not made: {'; '.join(unfit)}"
                else:
                    found |= self._transfer(planned, found["before"])
                    found["after"] = watched.after()
                    found["skipped"] = _unsupported(found["receiver"], found["sender"])
        except RemoteError as error:
            found["problem"] = str(error)
            self.session.disconnect()
        return Record(planned=planned, started_at=started_at, ended_at=now(), **found)

    def _transfer(self, planned: Measurement, before: dict[str, Snapshot]) -> dict[str, Any]:
        """Run both ends to their end; return what they left, as fields of a record."""
        sender, receiver = self.session.members
        token = secrets.token_hex(16)
        event = self.manifest.plan.profile_event if planned.phase == "profile" else None

        def profiled(command: str) -> str:
            return recording(command, event) if event else command

        receive = profiled(commands.receive(self.lab, planned, receiver, token))
        receive = copies.watched(planned, before[receiver.name], receive)
        ends = self.session.transfer(
            commands.mapping(planned, receive),
            lambda port: profiled(commands.send(self.lab, planned, sender, port, token)),
            planned.warmup_seconds + planned.baseline_seconds + planned.seconds,
            _failed,
        )
        if ends.sender is None:
            return {"receiver": end_of(ends.receiver), "sender": None}
        return {
            "sender": end_of(ends.sender),
            "receiver": end_of(ends.receiver),
            "copies": copies.copies(ends.receiver.stderr),
            "controller_cpu_share": ends.controller_cpu_share,
            "profiles": {
                "sender": profile(ends.sender.stderr, event),
                "receiver": profile(ends.receiver.stderr, event),
            }
            if event
            else {},
        }


def manifest_fields(session: Session, plan: Plan) -> dict[str, Any]:
    """Return the manifest of a run of a plan as fields; it has no id yet.

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


def _note_placements(session: Session, run: MeasuringRun) -> None:
    """Keep how the hosts are set up now, where the plan asks for it; of one that is gone nothing is known."""
    manifest = run.manifest()
    found = dict(manifest.placements)
    for host in session.members:
        if host.role in manifest.plan.preconditions:
            try:
                read = placement.read(session.remotes[host.name], host)
            except RemoteError:
                read = placement.Placement()
            found[host.name] = [*found.get(host.name, []), read]
    if found != manifest.placements:
        run.update(placements=found)


def _check_resumed(run: MeasuringRun, fresh: Manifest, *, reboots: bool) -> None:
    """Raise UsageError unless a run can go on on this lab and kernel. `reboots`: the run boots the hosts."""
    old = run.manifest()
    if old.lab != fresh.lab:
        raise UsageError(f"{run.id}: is a run of lab {old.lab}, not of {fresh.lab}")
    if old.finished_at is not None:
        raise UsageError(f"{run.id}: is already whole: start a new run")
    if _artifact(old) != _artifact(fresh):
        raise UsageError(
            f"{run.id}: measured {_kernel_name(old)}, the lab is now set to {_kernel_name(fresh)}"
        )
    if old.programs != fresh.programs:
        raise UsageError(f"{run.id}: measured with another build of the traffic tool: start a new run")
    before = [host.boot_id for host in old.hosts]
    if not reboots and before != [host.boot_id for host in fresh.hosts]:
        raise UsageError(f"{run.id}: a host rebooted since ({', '.join(before)}): start a new run")


def _artifact(manifest: Manifest) -> dict[str, Any] | None:
    own = manifest.artifact_key is None
    return None if own else manifest.model_dump(include=set(KernelIdentity.model_fields))


def _kernel_name(manifest: Manifest) -> str:
    own = manifest.artifact_key is None
    return "this machine's own kernel" if own else str(manifest.kernel_release)


def _failed(sent: Completed) -> bool:
    document = end_of(sent).document
    return document is None or document.outcome != "complete"


def end_of(done: Completed) -> End:
    """Keep what an end printed; a document that is none, or of another version, counts as none."""
    try:
        document = _DOCUMENT.validate_json(done.stdout)
    except ValidationError as error:
        printed = f"printed no valid result: {first_problem(error)}" if done.stdout else ""
        said = "\n".join(filter(None, [_own(done.stderr), printed]))
        return End(document=None, status=done.status, stderr=said)
    return End(document=document, status=done.status, stderr=_own(done.stderr))


def _own(stderr: str) -> str:
    """Return what the traffic tool itself printed on stderr."""
    return rest(copies.rest(stderr))


def _unsupported(*ends: End | None) -> str | None:
    """Return why an end could not do what was asked of it on this kernel, if so."""
    documents = [end.document for end in ends if end and end.document]
    return next((one.error or "unsupported" for one in documents if one.outcome == "unsupported"), None)
