# SPDX-License-Identifier: Apache-2.0
"""The engine: carries out a plan on a pair of hosts and keeps every measurement as it came.

It configures nothing. Each measurement is judged as it comes, because the stopping rule counts valid ones
only; comparisons and the verdict are judged from the run's files. Each sender and receiver is one command
over zclab's own channels; when a channel closes, the traffic tool at its end stops by itself, so that nothing
stays behind on a host.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from zclab.analysis import measurement, validity
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.stopping import next_measurement
from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import UsageError
from zclab.deploy import state as deploy_state
from zclab.host import console
from zclab.host import facts as hostfacts
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, Process, Remote, RemoteError, connected
from zclab.kernel.identity import Artifact
from zclab.lab.model import Lab, Pair
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.folder import Run
from zclab.runs.records import End, EndDocument, Manifest, Record
from zclab.traffic import command as commands
from zclab.traffic.document import RpcDocument, TrafficDocument
from zclab.traffic.profile import profile, recording, rest

#: Brings the hosts of a lab up with one of its kernels, and proves it.
Boot = Callable[[Lab, str], None]
_DOCUMENT: TypeAdapter[TrafficDocument | RpcDocument] = TypeAdapter(EndDocument)
#: Seconds that either end may take beyond its window: start, connect, drain. A limit, not an expectation.
_GRACE_SECONDS = 30.0
#: Seconds that a receiver has to say what it saw of a sender that failed.
_FAILED_SECONDS = 3.0


class Reporter(Protocol):
    """Is told how a run goes on."""

    def started(self, run: Run, plan: Plan, overhead_seconds: float) -> None:
        """A run begins; each measurement takes about so many seconds beside its window."""

    def measured(self, run: Run, document: MeasurementDocument) -> None:
        """One measurement was made and written."""

    def finished(self, run: Run) -> None:
        """The run ended, whole or not."""


def execute(
    lab: Lab, plan: Plan, reporter: Reporter, resume: Run | None = None, boot: Boot | None = None
) -> Run:
    """Carry out a plan, or the rest of an interrupted run's, and return the run.

    `boot` brings the hosts up with another kernel of the lab, for plans whose arms name one.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached.
        UsageError: the plan does not fit the lab; the run to resume is of another lab or already whole.
    """
    _check_fits(lab, plan, boot)
    artifact = deploy_state.deployed_kernel(lab)
    members = lab.pair()
    with (
        deploy_state.exclusive(lab),
        connected(members.names, lab.state_dir / "ssh_config") as remotes,
    ):
        state = hostfacts.snapshot(remotes, members)
        settled = plan.settled(lab.link.ip_version, secrets.randbelow(2**32))
        manifest = manifest_of(lab, settled, artifact, remotes, state)
        if resume is None:
            run, records = Run.create(lab.name), []
        else:
            run, records = resume, resume.keep_whole_records()
            manifest = _resumed(resume, manifest)
        # Kept from the start, so that a run that is killed and goes on has no gap in what its consoles said.
        consoles = manifest.console_offsets or {
            host.name: console.size(path)
            for host in members
            if (path := console.log_path(lab.state_dir, host.name)).is_file()
        }
        manifest = manifest.model_copy(update={"run_id": run.id, "console_offsets": consoles})
        run.write_manifest(manifest)
        engine = _Engine(lab, members, remotes, run, reporter, manifest, boot)
        reporter.started(run, manifest.plan, backend_of(lab).overhead_seconds)
        try:
            engine.carry_out(records)
            manifest = engine.manifest.model_copy(update={"finished_at": now()})
        finally:
            run.write_manifest(
                _with_consoles(lab, manifest if manifest.finished_at else engine.manifest, run, consoles)
            )
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

    def __init__(
        self,
        lab: Lab,
        members: Pair,
        remotes: dict[str, Remote],
        run: Run,
        reporter: Reporter,
        manifest: Manifest,
        boot: Boot | None,
    ) -> None:
        self.lab = lab
        self.members = members
        self.remotes = remotes
        self.run = run
        self.reporter = reporter
        self.manifest = manifest
        self._boot = boot
        self._variant = lab.kernel_variant
        self._boots: dict[str, str] = {}

    def carry_out(self, records: list[Record]) -> None:
        """Make what is due beside the records that are there already."""
        plan = self.manifest.plan
        orders = {one.id: one.order for one in schedule.measurements(plan)}
        made = {record.planned.id: measurement.document(self.manifest, record) for record in records}
        try:
            for planned in schedule.checks(plan):
                self._make(planned, orders, made)
            for cell in schedule.compared(plan):
                while (planned_next := next_measurement(plan, cell, made)) is not None:
                    self._make(planned_next, orders, made)
            for planned in schedule.profiles(plan):
                self._make(planned, orders, made)
        finally:
            self._switch(self.lab.kernel_variant)

    def _make(
        self, planned: Measurement, orders: dict[str, int], made: dict[str, MeasurementDocument]
    ) -> None:
        if planned.id in made:
            return
        self._switch(planned.kernel or self.lab.kernel_variant)
        planned = planned.model_copy(update={"order": orders[planned.id]})
        record = self._measure(planned)
        self.run.append(record)
        made[planned.id] = measurement.document(self.manifest, record)
        self.reporter.measured(self.run, made[planned.id])

    def _switch(self, variant: str | None) -> None:
        """Have both hosts run a kernel of the lab, proven; nothing is done if they do."""
        if variant is None or variant == self._variant or self._boot is None:
            return
        for remote in self.remotes.values():
            remote.close()
        self._variant = variant
        self._boot(self.lab, variant)
        artifact = deploy_state.deployed_kernel(self.lab, variant)
        state = hostfacts.snapshot(self.remotes, self.members)
        self._boots = {name: found.boot_id for name, found in state.items()}
        if variant != self.lab.kernel_variant and artifact is not None:
            others = {**self.manifest.other_artifacts, variant: artifact}
            self.manifest = self.manifest.model_copy(update={"other_artifacts": others})
            self.run.write_manifest(self.manifest)

    def _measure(self, planned: Measurement) -> Record:
        """Make one measurement. Whatever goes wrong is kept in its record; the plan goes on."""
        started_at = now()
        found: dict[str, Any] = {"boots": self._boots}
        try:
            found["before"] = hostfacts.snapshot(self.remotes, self.members)
            empty = Record(planned=planned, started_at=started_at, ended_at=started_at, boots=self._boots)
            if unfit := validity.host_reasons(self.manifest, empty, found["before"]):
                found["problem"] = f"not made: {'; '.join(unfit)}"
            else:
                found |= self._transfer(planned)
                found["after"] = hostfacts.snapshot(self.remotes, self.members)
                found["skipped"] = _unsupported(found["receiver"], found["sender"])
        except RemoteError as error:
            found["problem"] = str(error)
            for remote in self.remotes.values():
                remote.close()
        return Record(planned=planned, started_at=started_at, ended_at=now(), **found)

    def _transfer(self, planned: Measurement) -> dict[str, Any]:
        """Run both ends to their end; return what they left, as fields of a record."""
        sender, receiver = self.members.sender, self.members.receiver
        token = secrets.token_hex(16)
        limit = planned.warmup_seconds + planned.baseline_seconds + planned.seconds + _GRACE_SECONDS
        event = self.manifest.plan.profile_event if planned.phase == "profile" else None

        def profiled(command: str) -> str:
            return recording(command, event) if event else command

        command = profiled(commands.receive(self.lab, planned, receiver, token))
        receiving = self.remotes[receiver.name].start(commands.mapping(planned, command))
        sending: Process | None = None
        try:
            listening = receiving.wait_for_stderr_line("listening ", _GRACE_SECONDS)
            if listening is None:
                return {"receiver": end_of(receiving.wait(_GRACE_SECONDS)), "sender": None}
            port = int(listening.split()[-1])
            command = commands.send(self.lab, planned, sender, port, token)
            clocks = time.process_time(), time.monotonic()
            sending = self.remotes[sender.name].start(profiled(command))
            sent = sending.wait(limit)
            busy, elapsed = time.process_time() - clocks[0], time.monotonic() - clocks[1]
            sent_end = end_of(sent)
            if sent_end.document is None or sent_end.document.outcome != "complete":
                receiving.ask_to_end(_FAILED_SECONDS)  # nothing more will come
            received = receiving.wait(_GRACE_SECONDS)
            return {
                "sender": sent_end,
                "receiver": end_of(received),
                "controller_cpu_share": busy / elapsed,
                "profiles": {
                    "sender": profile(sent.stderr, event),
                    "receiver": profile(received.stderr, event),
                }
                if event
                else {},
            }
        finally:
            receiving.close()
            if sending is not None:
                sending.close()


def manifest_of(
    lab: Lab, plan: Plan, artifact: Artifact | None, remotes: dict[str, Remote], state: dict[str, Snapshot]
) -> Manifest:
    """Return the manifest of a run that begins on hosts in this state; it has no id yet.

    Raises:
        LabError: a host cannot be reached, or a virtual one does not run.
    """
    sender, receiver = lab.pair()
    runs_on = backend_of(lab).accelerator()
    return Manifest(
        run_id="",
        lab=lab.name,
        emulated=runs_on == "tcg",
        accelerator=runs_on,
        started_at=now(),
        plan=plan,
        link=lab.link,
        validity=lab.validity,
        thresholds=lab.thresholds,
        smallest_effect=lab.smallest_effect,
        shared_cpu=lab.shared_cpu,
        counts_instructions=lab.counts_instructions,
        rcvlowat_bytes=lab.limits.rcvlowat_bytes,
        pair=[sender, receiver],
        artifact=artifact,
        hosts=[
            hostfacts.facts(remotes[host.name], host, lab, artifact, state[host.name])
            for host in (sender, receiver)
        ],
        versions={
            "zclab": metadata.version("zclab"),
            "python": sys.version.split()[0],
            "traffic": remotes[sender.name].output(f"{commands.TRAFFIC} --version").strip(),
        },
    )


def _resumed(run: Run, fresh: Manifest) -> Manifest:
    """Return the manifest of a run that goes on, once it is clear that it is the same lab and kernel."""
    old = run.manifest()
    if old.lab != fresh.lab:
        raise UsageError(f"{run.id}: is a run of lab {old.lab}, not of {fresh.lab}")
    if old.finished_at is not None:
        raise UsageError(f"{run.id}: is already whole: start a new run")
    if old.artifact != fresh.artifact:
        raise UsageError(
            f"{run.id}: measured {_kernel_name(old)}, the lab is now set to {_kernel_name(fresh)}"
        )
    if (before := [host.boot_id for host in old.hosts]) != [host.boot_id for host in fresh.hosts]:
        raise UsageError(f"{run.id}: a host rebooted since ({', '.join(before)}): start a new run")
    return old


def _kernel_name(manifest: Manifest) -> str:
    return manifest.artifact.release if manifest.artifact else "this machine's own kernel"


def _with_consoles(lab: Lab, manifest: Manifest, run: Run, offsets: dict[str, int]) -> Manifest:
    """Keep what each console said since the run began, and the kernel reports in it."""
    directory = run.directory / "console"
    directory.mkdir(exist_ok=True)
    found = {}
    for host, offset in offsets.items():
        text = console.since(console.log_path(lab.state_dir, host), offset)
        (directory / f"{host}.log").write_text(text, encoding="utf-8")
        found[host] = console.reports(text)
    return manifest.model_copy(update={"console_reports": found})


def end_of(done: Completed) -> End:
    """Keep what an end printed; a document that is none, or of another version, counts as none."""
    try:
        document = _DOCUMENT.validate_json(done.stdout)
    except ValidationError as error:
        printed = f"printed no valid result: {error.errors()[0]['msg']}" if done.stdout else ""
        said = "\n".join(filter(None, [rest(done.stderr), printed]))
        return End(document=None, status=done.status, stderr=said)
    return End(document=document, status=done.status, stderr=rest(done.stderr))


def _unsupported(*ends: End | None) -> str | None:
    """Return why an end could not do what was asked of it on this kernel, if so."""
    documents = [end.document for end in ends if end and end.document]
    return next((one.error or "unsupported" for one in documents if one.outcome == "unsupported"), None)
