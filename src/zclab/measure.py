# SPDX-License-Identifier: Apache-2.0
"""The engine: carries out a plan on a pair of hosts and keeps every measurement as it came.

It configures nothing and judges nothing. Each sender and receiver is one command over zclab's own channels;
when a channel closes, the traffic tool at its end stops by itself, so that nothing stays behind on a host.
"""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any, Protocol

from filelock import FileLock, Timeout
from pydantic import ValidationError

from zclab import console, hostfacts, judge
from zclab.errors import LabError, UsageError
from zclab.inventory import Host, Lab
from zclab.kernel.spec import KernelVariant
from zclab.plan import Measurement, Plan
from zclab.remote import Completed, Process, Remote, RemoteError, connected
from zclab.results import Artifact, End, Manifest, Record, Run, Snapshot, now
from zclab.traffic import TrafficDocument
from zclab.virtual import hosts

TRAFFIC = "/usr/local/bin/zclab-traffic"
#: Seconds that either end may take beyond its window: start, connect, drain. A limit, not an expectation.
_GRACE_SECONDS = 30.0


class Reporter(Protocol):
    """Is told how a run goes on."""

    def started(self, run: Run, plan: Plan, total: int) -> None:
        """A run of `total` measurements begins."""

    def measured(self, run: Run, manifest: Manifest, record: Record) -> None:
        """One measurement was made and written."""

    def finished(self, run: Run) -> None:
        """The run ended, whole or not."""


def deployed_kernel(lab: Lab) -> Artifact:
    """Return the kernel that the lab's hosts were last made to boot.

    Raises:
        LabError: the lab was never brought up, or with another kernel than its inventory names now.
    """
    path = lab.state_dir / "kernel.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        artifact = Artifact.model_validate(recorded["artifact"])
        definition = KernelVariant.model_validate(recorded["definition"])
    except FileNotFoundError:
        raise LabError(f"{lab.name}: this lab has booted no kernel yet: run `zclab up`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise LabError(f"{path}: cannot be read ({reason}): run `zclab up`") from None
    if artifact.variant != lab.kernel_variant or definition != lab.kernel:
        raise LabError(
            f"{lab.name}: its hosts were set up with another kernel than {lab.kernel_variant!r} of the "
            f"inventory ({artifact.variant}, {artifact.release}): run `zclab up`"
        )
    return artifact


@contextmanager
def exclusive(lab: Lab) -> Iterator[None]:
    """Hold the lab for one run. The kernel drops the lock with the process, however that ends.

    Raises:
        LabError: another run holds it.
    """
    if not lab.state_dir.is_dir():
        raise LabError(f"{lab.name}: this lab is not up: run `zclab up`")
    lock = FileLock(lab.state_dir / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LabError(f"{lab.name}: another run is using this lab: wait for its end") from None
    try:
        yield
    finally:
        lock.release()


def execute(lab: Lab, plan: Plan, reporter: Reporter, resume: Run | None = None) -> Run:
    """Carry out a plan, or the rest of an interrupted run's, and return the run.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached.
        UsageError: the run to resume is of another lab or already whole.
    """
    artifact = deployed_kernel(lab)
    members = list(lab.pair())
    with exclusive(lab), connected([host.name for host in members], lab.state_dir / "ssh_config") as remotes:
        state = hostfacts.snapshot(remotes, members)
        manifest = _manifest(lab, plan, artifact, remotes, state)
        if resume is None:
            run, done = Run.create(lab.name), set[str]()
        else:
            run, done = resume, {record.planned.id for record in resume.keep_whole_records()}
            manifest = _resumed(resume, manifest)
        # Kept from the start, so that a run that is killed and goes on has no gap in what its consoles said.
        consoles = manifest.console_offsets or {
            host.name: console.size(path)
            for host in members
            if (path := console.log_path(lab.state_dir, host.name)).is_file()
        }
        manifest = manifest.model_copy(update={"run_id": run.id, "console_offsets": consoles})
        run.write_manifest(manifest)
        todo = [planned for planned in manifest.plan.measurements() if planned.id not in done]
        reporter.started(run, manifest.plan, len(todo))
        try:
            unfit = judge.host_reasons(manifest, state)
            for planned in todo:
                record = _not_made(planned, unfit) if unfit else _measure(lab, planned, members, remotes)
                run.append(record)
                reporter.measured(run, manifest, record)
            manifest = manifest.model_copy(update={"finished_at": now()})
        finally:
            run.write_manifest(_with_consoles(lab, manifest, run, consoles))
            reporter.finished(run)
    return run


def _manifest(
    lab: Lab, plan: Plan, artifact: Artifact, remotes: dict[str, Remote], state: dict[str, Snapshot]
) -> Manifest:
    sender, receiver = lab.pair()
    accelerator = _accelerator(lab)
    return Manifest(
        run_id="",
        lab=lab.name,
        emulated=accelerator == "tcg",
        accelerator=accelerator,
        started_at=now(),
        plan=plan,
        link=lab.link,
        validity=lab.validity,
        thresholds=lab.thresholds,
        receive_low_water_bytes=lab.limits.receive_low_water_bytes,
        pair=[sender, receiver],
        artifact=artifact,
        hosts=[
            hostfacts.facts(remotes[host.name], host, lab, artifact, state[host.name])
            for host in (sender, receiver)
        ],
        versions={
            "zclab": metadata.version("zclab"),
            "python": sys.version.split()[0],
            "traffic": remotes[sender.name].output(f"{TRAFFIC} --version").strip(),
        },
    )


def _accelerator(lab: Lab) -> str | None:
    """Return what runs the virtual hosts, "kvm" or "tcg" ("tcg" if either is emulated); null on hardware.

    Raises:
        LabError: a virtual host does not run.
    """
    if lab.kind != "virtual":
        return None
    names = {host.name for host in lab.pair()}
    found = [host.accelerator for host in hosts.status(lab.state_dir) if host.name in names]
    if len(found) != len(names) or None in found:
        raise LabError(f"{lab.name}: a virtual host does not run: run `zclab up`")
    return "tcg" if "tcg" in found else "kvm"


def _resumed(run: Run, fresh: Manifest) -> Manifest:
    """Return the manifest of a run that goes on, once it is clear that it is the same lab and kernel."""
    old = run.manifest()
    if old.lab != fresh.lab:
        raise UsageError(f"{run.id}: is a run of lab {old.lab}, not of {fresh.lab}")
    if old.finished_at is not None:
        raise UsageError(f"{run.id}: is already whole: start a new run")
    if old.artifact != fresh.artifact:
        raise UsageError(
            f"{run.id}: measured {old.artifact.release}, the lab is now set to {fresh.artifact.release}"
        )
    if (before := [host.boot_id for host in old.hosts]) != [host.boot_id for host in fresh.hosts]:
        raise UsageError(f"{run.id}: a host rebooted since ({', '.join(before)}): start a new run")
    return old


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


def _not_made(planned: Measurement, reasons: list[str]) -> Record:
    """Return the record of a measurement that would be invalid from the start."""
    time = now()
    return Record(planned=planned, started_at=time, ended_at=time, problem=f"not made: {'; '.join(reasons)}")


def _measure(lab: Lab, planned: Measurement, members: list[Host], remotes: dict[str, Remote]) -> Record:
    """Make one measurement. Whatever goes wrong is kept in its record; the plan goes on."""
    started_at = now()
    found: dict[str, Any] = {}
    try:
        found["before"] = hostfacts.snapshot(remotes, members)
        found["receiver"], found["sender"] = _transfer(lab, planned, members, remotes)
        found["after"] = hostfacts.snapshot(remotes, members)
        found["skipped"] = _unsupported(found["receiver"], found["sender"])
    except RemoteError as error:
        found["problem"] = str(error)
        for remote in remotes.values():
            remote.close()
    return Record(planned=planned, started_at=started_at, ended_at=now(), **found)


def _transfer(
    lab: Lab, planned: Measurement, members: list[Host], remotes: dict[str, Remote]
) -> tuple[End, End | None]:
    sender, receiver = members
    token = secrets.token_hex(16)
    limit = planned.warmup_seconds + planned.seconds + _GRACE_SECONDS
    receiving = remotes[receiver.name].start(receive_command(lab, planned, receiver, token))
    sending: Process | None = None
    try:
        listening = receiving.wait_for_stderr_line("listening ", _GRACE_SECONDS)
        if listening is None:
            return _end(receiving.wait(_GRACE_SECONDS)), None
        port = int(listening.split()[-1])
        sending = remotes[sender.name].start(send_command(planned, sender, port, token))
        sent = _end(sending.wait(limit))
        return _end(receiving.wait(_GRACE_SECONDS)), sent
    finally:
        receiving.close()
        if sending is not None:
            sending.close()


def receive_command(lab: Lab, planned: Measurement, host: Host, token: str) -> str:
    """Return the receiver's command line."""
    return shlex.join(
        [TRAFFIC, "receive", "--bind", host.ip, "--peer", host.peer_address, "--token", token]
        + ["--mode", planned.receive_mode, "--chunk-bytes", str(planned.chunk_bytes)]
        + ["--rcvlowat", str(lab.limits.receive_low_water_bytes)]
        + _window_options(planned)
    )


def send_command(planned: Measurement, host: Host, port: int, token: str) -> str:
    """Return the sender's command line."""
    pace = [] if planned.pace_gbit_per_s is None else ["--pace-gbit", f"{planned.pace_gbit_per_s:g}"]
    return shlex.join(
        [
            TRAFFIC,
            "send",
            "--bind",
            host.ip,
            "--peer",
            host.peer_address,
            "--port",
            str(port),
            "--token",
            token,
        ]
        + ["--mode", planned.send_mode, "--message-bytes", str(planned.message_bytes), *pace]
        + _window_options(planned)
    )


def _window_options(planned: Measurement) -> list[str]:
    return ["--warmup", f"{planned.warmup_seconds:g}", "--seconds", f"{planned.seconds:g}", "--watch-stdin"]


def _end(done: Completed) -> End:
    """Keep what an end printed; a document that is none, or of another version, counts as none."""
    try:
        document = TrafficDocument.model_validate_json(done.stdout)
    except ValidationError as error:
        printed = f"printed no valid result: {error.errors()[0]['msg']}" if done.stdout else ""
        return End(document=None, status=done.status, stderr="\n".join(filter(None, [done.stderr, printed])))
    return End(document=document, status=done.status, stderr=done.stderr)


def _unsupported(*ends: End | None) -> str | None:
    """Return why an end could not do what was asked of it on this kernel, if so."""
    documents = [end.document for end in ends if end and end.document]
    return next((one.error or "unsupported" for one in documents if one.outcome == "unsupported"), None)
