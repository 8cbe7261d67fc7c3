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
from typing import Any

from zclab.analysis.baseline import COMPILER, SOURCE
from zclab.analysis.verdict import MeasuringRun
from zclab.backends.exact.instructions import Window, of_transfers
from zclab.backends.exact.steps import Output, Step
from zclab.base.clock import now
from zclab.base.errors import LabError, UsageError
from zclab.host import facts as hostfacts
from zclab.host import placement
from zclab.host import state as hoststate
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Host, Lab
from zclab.measure import ends
from zclab.measure.driver import Boot, Driver, Opener
from zclab.measure.guests import ANSWER_SECONDS, Guests, OpenGuests, run_command, seed_of
from zclab.plan.plan import Plan, RepeatInvalid
from zclab.plan.schedule import Measurement
from zclab.runs.records import End, GuestBoot, Manifest, Record
from zclab.traffic import command as commands

#: Seconds of the guest's clock for a transfer, beside what it takes at the slowest.
_TRANSFER_SECONDS = 60.0
#: A MiB takes about two million instructions: ten times that, in seconds of the guest's clock.
_SECONDS_PER_MIB = 0.02
#: Limits, not expectations, of the emulator's CPU time: for each transfer, and each MiB of it.
_TRANSFER_CPU_SECONDS, _CPU_SECONDS_PER_MIB = 60, 0.5
#: The same for a second of the guest's clock, by which a ping-pong goes on: 10^9 instructions.
_CPU_SECONDS_PER_SECOND = 200
_MIB = 2**20
# For how long the guest was idle since it booted, in nanoseconds of its clock (kernel/time/timer_list.c).
_IDLE = "sed -n -e 's/^ *[.]idle_sleeptime *: *\\([0-9]*\\) nsecs$/\\1/p' /proc/timer_list"


def opener(open_guests: OpenGuests) -> Opener:
    """Return what opens a driver that boots a guest for each boot of a plan."""

    @contextmanager
    def opened(lab: Lab) -> Iterator[Driver]:
        with open_guests(lab) as guests:
            yield Exact(guests)

    return opened


def _named(place: int, what: str) -> str:
    """Return the name of a process of the measurement in this place of a boot.

    Nothing of the plan's names is in it, so that the list of another comparison is no longer than this one.
    """
    return f"{place}/{what}"


class Exact:
    """Has the measurements of each boot made by one guest."""

    whole_boots = True

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._lab = guests.lab
        self._variant: str | None = None

    @property
    def lab(self) -> Lab:
        """The lab that is measured."""
        return self._lab

    @property
    def members(self) -> Sequence[Host]:
        """The sender and the receiver."""
        return self._guests.members

    def settled(self, plan: Plan) -> Plan:
        """Return the plan with boots for each arm; nothing is made again, for it would be the same."""
        if plan.bytes is None and plan.comparisons:
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
        self._variant = variant
        own, artifact = self._guests.artifact(), self._guests.artifact(variant)
        return KernelIdentity.of(artifact) if variant is not None and artifact != own else None

    def restore(self) -> None:
        """Do nothing: no guest stands."""

    # ------------------------------------------------------------------------------------------ the manifest

    def manifest_fields(self, plan: Plan) -> dict[str, Any]:
        """Return the manifest of a run of a plan as fields, by what a guest says that measures nothing."""
        steps: list[Step] = []
        for host in self.members:
            state = hoststate.snapshot_command(host, self._lab, self._guests.programs)
            steps += run_command(f"{host.role}/state", state, host)
            steps += run_command(f"{host.role}/facts", hostfacts.command(host), host)
        steps += run_command("machine", hoststate.machine_command(self._lab))
        steps += run_command("version", f"{commands.TRAFFIC} --version")
        found = self._guests.boot("facts", seed_of(plan.seed, ""), steps, cpu_seconds=0)
        common = self._guests.manifest_fields()
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
                    self._guests.artifact(),
                    hoststate.parse(found.outputs[f"{host.role}/state"].stdout, host, self._lab, machine),
                )
                for host in self.members
            ],
            "versions": common["versions"]
            | {
                "traffic": found.outputs["version"].stdout.strip(),
                COMPILER: self._guests.artifact().compiler,
                SOURCE: self._guests.artifact().source,
            },
            "emulator": found.emulator,
        }

    def recording(self, run: MeasuringRun) -> AbstractContextManager[None]:
        """Keep what the console of each guest says."""
        return self._guests.recording(run)

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
        seed = seed_of(manifest.plan.seed, label)
        steps: list[Step] = []
        for place, planned in enumerate(batch):
            steps += self._steps(planned, place, seed)
        started_at, problem = now(), None
        try:
            cpu = _TRANSFER_CPU_SECONDS * len(batch) + _CPU_SECONDS_PER_MIB * _mib(batch)
            cpu += _CPU_SECONDS_PER_SECOND * sum(one.seconds + one.warmup_seconds for one in batch)
            found = self._guests.boot(
                label, seed, steps, cpu_seconds=cpu, variant=self._variant, by_function=True
            )
        except LabError as error:
            found, problem = None, str(error)
        records = []
        for place, planned in enumerate(batch):
            boot = GuestBoot(seed=seed, place=place)
            fields: dict[str, Any] = {"planned": planned, "started_at": started_at, "ended_at": now()}
            if found is None or problem is not None:
                records.append(Record(**fields, problem=problem, guest=boot))
                continue
            boot = boot.model_copy(
                update={
                    "emulator": found.emulator,
                    "programs": found.programs,
                    "digest": found.digest,
                    "cpu_seconds": found.cpu_seconds,
                }
            )
            records.append(Record(**fields, **self._record(found.outputs, boot)))
        yield from records if found is None else _with_instructions(records, found.windows or [])

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
            watch = hoststate.watch_command(host, self._lab, self._guests.programs)
            steps += [
                Step(do="start", name=name(host.role), namespace=host.role, command=watch),
                Step(
                    do="await",
                    name=name(host.role),
                    stream="stdout",
                    prefix=hoststate.BEFORE,
                    seconds=ANSWER_SECONDS,
                ),
            ]
        return [
            *steps,
            *run_command(name("machine/before"), hoststate.machine_command(self._lab)),
            *run_command(name("idle/before"), _IDLE),
            Step(do="start", name=name("receive"), namespace="receiver", command=receive),
            Step(
                do="await", name=name("receive"), stream="stderr", prefix="listening ", seconds=ANSWER_SECONDS
            ),
            Step(do="start", name=name("send"), namespace="sender", command=send),
            Step(do="end", name=name("send"), seconds=seconds),
            Step(do="end", name=name("receive"), seconds=ANSWER_SECONDS),
            *run_command(name("idle/after"), _IDLE),
            *(Step(do="write", name=name(host.role), prefix="") for host in self.members),
            *(Step(do="end", name=name(host.role), seconds=ANSWER_SECONDS) for host in self.members),
            *run_command(name("machine/after"), hoststate.machine_command(self._lab)),
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


def _seconds(planned: Measurement) -> float:
    """Return how many seconds of its clock a guest may take for a transfer."""
    moved = planned.bytes or 0
    paced = moved * 8 / 1e9 / planned.pace_gbit_per_s if planned.pace_gbit_per_s else 0.0
    timed = planned.seconds + planned.warmup_seconds
    return _TRANSFER_SECONDS + timed + 2 * paced + moved / _MIB * _SECONDS_PER_MIB


def _mib(batch: Sequence[Measurement]) -> float:
    """Return how much a boot is to move, in MiB."""
    return sum(one.bytes or 0 for one in batch) / _MIB


def _end(output: Output) -> End:
    """Return how an end of a transfer ended; one that init had to kill says so."""
    end = ends.end_of(Completed(output.status, output.stdout, output.stderr))
    if output.status is None:
        said = "\n".join(filter(None, [end.stderr, "it did not end in time, and was killed"]))
        return end.model_copy(update={"document": None, "stderr": said})
    return end


def _with_instructions(records: Sequence[Record], windows: Sequence[Window]) -> Iterator[Record]:
    """Yield the records of one guest with what each receiver's window executed, by function."""
    documents = [record.receiver.document if record.receiver else None for record in records]
    seconds = [document.window.seconds if document else None for document in documents]
    for record, counts in zip(records, of_transfers(windows, "receiver", seconds), strict=True):
        assert record.guest is not None
        changes = {"guest": record.guest.model_copy(update={"instructions": counts})}
        yield record.model_copy(update=changes)


def _idle(output: Output) -> int | None:
    """Return for how long the guest was idle since its boot, in nanoseconds; null if it does not say."""
    lines = output.stdout.split()
    return sum(map(int, lines)) if output.status == 0 and lines else None
