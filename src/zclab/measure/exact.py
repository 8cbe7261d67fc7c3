# SPDX-License-Identifier: Apache-2.0
"""The driver of a lab with one guest: all measurements of a boot are one list that its init carries out.

What a guest prints depends on its kernel, its list, its seed and the emulator alone. So whatever goes in is
derived from the plan and its seed, and what comes out is parsed as that of any other host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from zclab.analysis.verdict import MeasuringRun
from zclab.backends.exact import guest, kernel
from zclab.backends.exact.backend import directory as guest_directory
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import Execution, Guest
from zclab.backends.exact.steps import Output, Step, check_setup, setup_steps
from zclab.base.clock import now
from zclab.base.errors import LabError, UsageError
from zclab.base.paths import cache_dir, project_root
from zclab.base.progress import Progress, quiet
from zclab.deploy import state as deploy_state
from zclab.host import console, placement
from zclab.host import facts as hostfacts
from zclab.host import state as hoststate
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError
from zclab.kernel.artifact import BuiltArtifact
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import ExactGuest, Host, Lab
from zclab.measure import ends
from zclab.measure.driver import Boot, Driver, Opener, common_fields
from zclab.plan.plan import Plan, RepeatInvalid
from zclab.plan.schedule import Measurement
from zclab.runs.records import End, GuestBoot, Manifest, Record
from zclab.traffic import binary
from zclab.traffic import command as commands

#: The host under whose name the console of the guest is kept, which is both hosts'.
GUEST = "guest"
#: Seconds of the guest's clock: for an answer, and beside what a transfer takes at the slowest.
_ANSWER_SECONDS, _TRANSFER_SECONDS = 60.0, 60.0
#: A MiB takes about two million instructions: ten times that, in seconds of the guest's clock.
_SECONDS_PER_MIB = 0.02
#: Limits, not expectations, of the emulator's CPU time: for a boot with its set-up, each transfer, and each
#: MiB of it; and how much more of real time, which a busy machine stretches.
_BOOT_CPU_SECONDS, _TRANSFER_CPU_SECONDS, _CPU_SECONDS_PER_MIB = 120, 60, 0.5
_REAL_FACTOR = 10
_MIB = 2**20
# For how long the guest was idle since it booted, in nanoseconds of its clock (kernel/time/timer_list.c).
_IDLE = "sed -n -e 's/^ *[.]idle_sleeptime *: *\\([0-9]*\\) nsecs$/\\1/p' /proc/timer_list"

#: Boots a guest, as `zclab.backends.exact.guest.execute` does.
Execute = Callable[[Guest, Sequence[Step], Path, Limits], Execution]
#: Returns the artifact of a lab's kernel, built if it has to be.
Kernel = Callable[[Lab, str], BuiltArtifact]


def opener(
    directory: Path | None = None,
    execute: Execute = guest.execute,
    kernel_of: Kernel | None = None,
    on_progress: Progress = quiet,
) -> Opener:
    """Return what opens a driver that boots a guest for each boot of a plan.

    directory: gets the files of the guest, null: a folder in the lab's state directory, where `zclab console`
    looks. kernel_of: null builds a kernel that is missing.
    """

    @contextmanager
    def opened(lab: Lab) -> Iterator[Driver]:
        lab.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with deploy_state.exclusive(lab):
            yield Exact(lab, directory or guest_directory(lab), execute, kernel_of or _built(on_progress))

    return opened


def _built(on_progress: Progress) -> Kernel:
    def built(lab: Lab, variant: str) -> BuiltArtifact:
        return kernel.ensure(variant, lab.kernel_variants[variant], on_progress).artifact

    return built


def seed_of(plan: Plan, what: str) -> int:
    """Return the seed of the random numbers of one boot: of what it is for, by the plan's seed."""
    return int.from_bytes(hashlib.sha256(f"{plan.seed}/{what}".encode()).digest()[:4], "big")


def _named(place: int, what: str) -> str:
    """Return the name of a process of the measurement in this place of a boot.

    Nothing of the plan's names is in it, so that the list of another comparison is no longer than this one.
    """
    return f"{place}/{what}"


class Exact:
    """Has the measurements of each boot made by one guest."""

    whole_boots = True

    def __init__(self, lab: Lab, directory: Path, execute: Execute, kernel_of: Kernel) -> None:
        assert lab.exact is not None and lab.kernel_variant is not None
        self._lab = lab
        self._declared: ExactGuest = lab.exact
        self._directory = directory
        self._execute = execute
        self._kernel_of = kernel_of
        self._own: str = lab.kernel_variant
        self._variant = self._own
        self._artifacts: dict[str, BuiltArtifact] = {}
        self._tool = binary.build(project_root() / "traffic", cache_dir()).path
        self._programs = {commands.TRAFFIC: hashlib.sha256(self._tool.read_bytes()).hexdigest()}
        self._run: MeasuringRun | None = None
        self._reports: list[str] = []

    @property
    def lab(self) -> Lab:
        """The lab that is measured."""
        return self._lab

    @property
    def members(self) -> Sequence[Host]:
        """The sender and the receiver."""
        return [*self._lab.pair()]

    def settled(self, plan: Plan) -> Plan:
        """Return the plan with boots for each arm; nothing is made again, for it would be the same."""
        if plan.bytes is None:
            raise UsageError(
                f"plan {plan.name}: its transfers have a length in seconds, and the clock of a guest in lab "
                f"{self._lab.name} counts instructions: give bytes in place of seconds and warmup_seconds"
            )
        if plan.profile_event is not None:
            raise UsageError(f"plan {plan.name}: an emulated CPU has no perf events: leave profile_event out")
        never = RepeatInvalid(per_measurement=0, per_run=0)
        return plan.model_copy(update={"boot_each_arm": True, "aa_pairs": 0, "repeat_invalid": never})

    def boot(self, variant: str | None, boot: Boot | None) -> KernelIdentity | None:
        """Have the next guest boot a kernel of the lab."""
        self._variant = variant or self._own
        artifact = self._artifact()
        return None if self._variant == self._own else KernelIdentity.of(artifact)

    def restore(self) -> None:
        """Do nothing: no guest stands."""

    def _artifact(self) -> BuiltArtifact:
        if self._variant not in self._artifacts:
            self._artifacts[self._variant] = self._kernel_of(self._lab, self._variant)
        return self._artifacts[self._variant]

    def _guest(self, seed: int) -> Guest:
        of_kernel = self._lab.kernel_variants[self._variant].memory_mib or 0
        return Guest(
            artifact_key=self._artifact().key,
            link=self._declared.link,
            seed=seed,
            suite=self._declared.suite,
            files={commands.TRAFFIC: self._tool},
            locked_memory_kib=self._lab.limits.locked_memory_kib,
            memory_mib=max(self._declared.memory_mib, of_kernel),
        )

    # ------------------------------------------------------------------------------------------ the manifest

    def manifest_fields(self, plan: Plan) -> dict[str, Any]:
        """Return the manifest of a run of a plan as fields, by what a guest says that measures nothing."""
        steps = setup_steps(self._lab, self._declared.link)
        for host in self.members:
            steps += _run(f"{host.role}/state", self._state(host), host)
            steps += _run(f"{host.role}/facts", hostfacts.command(host), host)
        steps += _run("machine", hoststate.machine_command(self._lab))
        steps += _run("version", f"{commands.TRAFFIC} --version")
        found = self._execute(self._guest(seed_of(plan, "")), steps, self._directory, _limits([]))
        check_setup(found.outputs)
        artifact = self._artifact()
        common = common_fields(
            self._lab, KernelIdentity.of(artifact), emulated=True, accelerator="tcg", programs=self._programs
        )
        machine = hoststate.parse_machine(found.outputs["machine"].stdout, self._lab)
        return common | {
            "plan": plan,
            "expectations": self._lab.expectations,
            "pair": self.members,
            "limits": self._lab.limits,
            "hosts": [
                hostfacts.parse(
                    found.outputs[f"{host.role}/facts"].stdout,
                    host,
                    self._lab,
                    artifact,
                    hoststate.parse(found.outputs[f"{host.role}/state"].stdout, host, self._lab, machine),
                )
                for host in self.members
            ],
            "versions": common["versions"] | {"traffic": found.outputs["version"].stdout.strip()},
            "emulator": found.emulator,
        }

    def _state(self, host: Host) -> str:
        return hoststate.snapshot_command(host, self._lab, self._programs)

    @contextmanager
    def _recording(self, run: MeasuringRun) -> Iterator[None]:
        self._run, self._reports = run, [*run.manifest().console_reports.get(GUEST, [])]
        try:
            yield
        finally:
            run.update(console_reports={GUEST: self._reports})
        run.update(finished_at=now())

    def recording(self, run: MeasuringRun) -> AbstractContextManager[None]:
        """Keep what the console of each guest says."""
        return self._recording(run)

    def note_placements(self, run: MeasuringRun) -> None:
        """Note that the placement is not known where the plan asks for one: the guest has one CPU."""
        wanted = [host.name for host in self.members if host.role in run.manifest().plan.preconditions]
        if wanted:
            run.update(placements={name: [placement.Placement()] for name in wanted})

    # -------------------------------------------------------------------------------------- the measurements

    def measure(self, manifest: Manifest, batch: Sequence[Measurement]) -> Iterator[Record]:
        """Make all measurements of one boot in one guest. Whatever goes wrong is kept in their records."""
        first = batch[0]
        label = first.id if first.boot is None else f"{first.comparison}-boot{first.boot:03d}"
        seed = seed_of(manifest.plan, label)
        steps = setup_steps(self._lab, self._declared.link)
        for place, planned in enumerate(batch):
            steps += self._steps(planned, place, seed)
        started_at, problem = now(), None
        try:
            found = self._execute(self._guest(seed), steps, self._directory, _limits(batch))
            check_setup(found.outputs)
        except LabError as error:
            found, problem = None, str(error)
        self._keep_console(label)
        for place, planned in enumerate(batch):
            boot = GuestBoot(seed=seed, place=place)
            fields: dict[str, Any] = {"planned": planned, "started_at": started_at, "ended_at": now()}
            if found is None or problem is not None:
                yield Record(**fields, problem=problem, guest=boot)
                continue
            boot = boot.model_copy(
                update={
                    "emulator": found.emulator,
                    "programs": found.programs,
                    "digest": found.digest,
                    "cpu_seconds": found.cpu_seconds,
                }
            )
            yield Record(**fields, **self._record(found.outputs, boot))

    def _keep_console(self, label: str) -> None:
        """Keep what the guest's console said, and the kernel reports in it."""
        text = console.since(self._directory / guest.CONSOLE, 0)
        self._reports += console.reports(text)
        if self._run is not None:
            self._run.write_file(f"console/{label}.log", text)

    def _steps(self, planned: Measurement, place: int, seed: int) -> list[Step]:
        """Return the steps of one measurement: its transfer between two looks at both ends."""
        sender, receiver = self.members
        name = partial(_named, place)
        token = hashlib.sha256(f"{seed}/{place}".encode()).hexdigest()[:32]
        receive = commands.mapping(planned, commands.receive(self._lab, planned, receiver, token))
        send = commands.send(self._lab, planned, sender, "{port}", token)
        seconds = _seconds(planned)
        steps = []
        for host in self.members:
            watch = hoststate.watch_command(host, self._lab, self._programs)
            steps += [
                Step(do="start", name=name(host.role), namespace=host.role, command=watch),
                Step(
                    do="await",
                    name=name(host.role),
                    stream="stdout",
                    prefix=hoststate.BEFORE,
                    seconds=_ANSWER_SECONDS,
                ),
            ]
        return [
            *steps,
            *_run(name("machine/before"), hoststate.machine_command(self._lab)),
            *_run(name("idle/before"), _IDLE),
            Step(do="start", name=name("receive"), namespace="receiver", command=receive),
            Step(
                do="await",
                name=name("receive"),
                stream="stderr",
                prefix="listening ",
                seconds=_ANSWER_SECONDS,
            ),
            Step(do="start", name=name("send"), namespace="sender", command=send),
            Step(do="end", name=name("send"), seconds=seconds),
            Step(do="end", name=name("receive"), seconds=_ANSWER_SECONDS),
            *_run(name("idle/after"), _IDLE),
            *(Step(do="write", name=name(host.role), prefix="") for host in self.members),
            *(Step(do="end", name=name(host.role), seconds=_ANSWER_SECONDS) for host in self.members),
            *_run(name("machine/after"), hoststate.machine_command(self._lab)),
        ]

    def _record(self, outputs: dict[str, Output], boot: GuestBoot) -> dict[str, Any]:
        """Return what one measurement left, as fields of its record."""
        name = partial(_named, boot.place)
        receiver, sender = _end(outputs[name("receive")]), _end(outputs[name("send")])
        idle = [_idle(outputs[name(f"idle/{when}")]) for when in ("before", "after")]
        if idle[0] is not None and idle[1] is not None:
            boot = boot.model_copy(update={"idle_ns": idle[1] - idle[0]})
        found: dict[str, Any] = {
            "guest": boot,
            "receiver": receiver,
            "sender": sender,
            "skipped": ends.unsupported(receiver, sender),
        }
        try:
            before, after = self._states(outputs, name)
        except RemoteError as error:
            return found | {"problem": str(error), "skipped": None}
        boots = {host: one.boot_id for host, one in before.items()}
        return found | {"before": before, "after": after, "boots": boots}

    def _states(
        self, outputs: dict[str, Output], name: Callable[[str], str]
    ) -> tuple[dict[str, Snapshot], dict[str, Snapshot]]:
        """Return the states of both hosts before and after; RemoteError if one is not known."""
        before, after = {}, {}
        machine = {
            when: hoststate.parse_machine(outputs[name(f"machine/{when}")].stdout, self._lab)
            for when in ("before", "after")
        }
        for host in self.members:
            watch = outputs[name(host.role)]
            first, mark, rest = watch.stdout.partition(f"\n{hoststate.BEFORE}\n")
            if not mark or watch.status is None:
                said = watch.stderr.strip() or "no message"
                raise RemoteError(f"{host.name}: cannot read its state: {said}")
            before[host.name] = hoststate.parse(first, host, self._lab, machine["before"])
            after[host.name] = hoststate.parse_after(rest, host, self._lab, machine["after"])
        return before, after


def _run(name: str, command: str, host: Host | None = None) -> list[Step]:
    """Return the steps that run a command to its end, on a host or beside them."""
    role = host.role if host else None
    return [
        Step(do="start", name=name, namespace=role, command=command),
        Step(do="end", name=name, seconds=_ANSWER_SECONDS),
    ]


def _seconds(planned: Measurement) -> float:
    """Return how many seconds of its clock a guest may take for a transfer."""
    moved = planned.bytes or 0
    paced = moved * 8 / 1e9 / planned.pace_gbit_per_s if planned.pace_gbit_per_s else 0.0
    return _TRANSFER_SECONDS + 2 * paced + moved / _MIB * _SECONDS_PER_MIB


def _limits(batch: Sequence[Measurement]) -> Limits:
    """Return how long the guest of a boot may take."""
    mib = sum(one.bytes or 0 for one in batch) / _MIB
    cpu = _BOOT_CPU_SECONDS + _TRANSFER_CPU_SECONDS * len(batch) + round(_CPU_SECONDS_PER_MIB * mib)
    return Limits(cpu_seconds=cpu, real_seconds=_REAL_FACTOR * cpu)


def _end(output: Output) -> End:
    """Return how an end of a transfer ended; one that init had to kill says so."""
    end = ends.end_of(Completed(output.status, output.stdout, output.stderr))
    if output.status is None:
        said = "\n".join(filter(None, [end.stderr, "it did not end in time, and was killed"]))
        return end.model_copy(update={"document": None, "stderr": said})
    return end


def _idle(output: Output) -> int | None:
    """Return for how long the guest was idle since its boot, in nanoseconds; null if it does not say."""
    lines = output.stdout.split()
    return sum(map(int, lines)) if output.status == 0 and lines else None
