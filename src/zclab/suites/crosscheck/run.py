# SPDX-License-Identifier: Apache-2.0
"""Carries out a cross-check: each tool once a block, in a drawn order, each on a new connection.

runs/<id>/crosscheck.json        settings: what was compared, on what, expecting what
runs/<id>/observations.jsonl     one execution of one tool a line, as it came
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from zclab.analysis import measurement, validity
from zclab.base.clock import now
from zclab.base.errors import UsageError
from zclab.base.model import ReceiveMode, SendMode
from zclab.deploy import state as deploy_state
from zclab.host import facts
from zclab.host.ssh import Completed, Process, Remote, RemoteError, connected
from zclab.lab.model import Crosscheck, Lab
from zclab.measure import engine
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.runs.folder import Run
from zclab.runs.records import Manifest, Record
from zclab.suites.crosscheck.document import OWN, TOOLS, Left, Mode, Observation, Settings, ToolName
from zclab.suites.crosscheck.programs import OTHERS, TIMED_OUT, Program, Sample, Task, ToolError
from zclab.traffic import command

#: Seconds that a tool may take beyond its time: start, connect, drain. A limit, not an expectation.
_GRACE_SECONDS = 30.0
#: The same for a receiver whose sender has failed. It may wait for one for ever.
_FAILED_SECONDS = 2.0
#: Receive modes that tcp_mmap has, too.
MODES: tuple[ReceiveMode, ...] = ("copy", "map_once")
#: Is told of each execution.
Told = Callable[[Observation], None]


class Slot(NamedTuple):
    """One execution in the order of a cross-check."""

    mode: Mode
    block: int
    position: int
    tool: ToolName


class Ends(NamedTuple):
    """What both ends left; the sender's is null if it was not started."""

    receiver: Completed
    sender: Completed | None


def modes_of(lab: Lab, wanted: list[str] | None) -> list[Mode]:
    """Return the modes to compare: of those that tcp_mmap has, the wanted ones, else what this lab can map.

    Each gets the plainest send mode that can be received so.

    Raises:
        UsageError: a wanted mode is none of these, or nothing is mapped so on this lab.
    """
    if unknown := [one for one in wanted or [] if one not in MODES]:
        raise UsageError(f"mode {unknown[0]!r} can not be compared: tcp_mmap has {', '.join(MODES)}")
    found = []
    for mode in MODES:
        if wanted is not None and mode not in wanted:
            continue
        send_mode = _send_mode(lab, mode)
        if send_mode is not None:
            found.append(Mode(receive_mode=mode, send_mode=send_mode))
        elif wanted is not None:
            raise UsageError(
                f"{lab.name}: zclab_validity.mapped_fraction expects no mapped bytes of {mode}: leave it out"
            )
    return found


def _send_mode(lab: Lab, mode: ReceiveMode) -> SendMode | None:
    if mode == "copy":
        return "copy"
    bounds = lab.validity.mapped_fraction.get(mode, {})
    senders: tuple[SendMode, ...] = ("copy", "zerocopy")
    return next((one for one in senders if (found := bounds.get(one)) and found.at_least), None)


def order(modes: list[Mode], repeats: int, seed: int) -> list[Slot]:
    """Return what is executed: each tool once a block, in an order drawn from `seed` for each block."""
    draw = random.Random(seed)
    slots = []
    for mode in modes:
        for block in range(repeats):
            tools = list(TOOLS)
            draw.shuffle(tools)
            slots += [Slot(mode, block, position, tool) for position, tool in enumerate(tools)]
    return slots


def carry_out(
    lab: Lab, modes: list[Mode], repeats: int, seconds: int, seed: int, versions: dict[str, str], told: Told
) -> tuple[Settings, list[Observation]]:
    """Carry out a cross-check of a lab whose hosts have the tools; keep it in runs/, and return it.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached.
    """
    pair = lab.pair()
    with deploy_state.exclusive(lab), connected(pair.names, lab.state_dir / "ssh_config") as remotes:
        plan = _plan(lab, modes, repeats, seconds, seed)
        state = facts.snapshot(remotes, pair)
        manifest = engine.manifest_of(_lenient(lab), plan, deploy_state.deployed_kernel(lab), remotes, state)
        run = Run.create(lab.name)
        templates = {cell.comparison: cell.arms["a"] for cell in schedule.cells(plan)}
        empty = Record(planned=next(iter(templates.values())), started_at=now(), ended_at=now())
        settings = Settings(
            run_id=run.id,
            lab=lab.name,
            emulated=manifest.emulated,
            seed=seed,
            repeats=repeats,
            seconds=seconds,
            chunk_bytes=plan.chunk_bytes[0],
            modes=modes,
            versions={**versions, "zclab": manifest.versions["traffic"]},
            bounds=lab.crosscheck or Crosscheck(),
            started_at=manifest.started_at,
            host_problems=validity.host_reasons(manifest, empty, state),
        )
        (run.directory / "crosscheck.json").write_text(settings.model_dump_json(indent=2) + "\n", "utf-8")
        bench = _Bench(lab, remotes, manifest, templates, seconds)
        observations = []
        for slot in order(modes, repeats, seed) if not settings.host_problems else []:
            observations.append(bench.observe(slot))
            with (run.directory / "observations.jsonl").open("a", encoding="utf-8") as file:
                file.write(observations[-1].model_dump_json() + "\n")
            told(observations[-1])
    return settings, observations


def _lenient(lab: Lab) -> Lab:
    """Return a lab that bears retransmits: what the link does, it does to every tool, and others hide it."""
    validity = lab.validity.model_copy(update={"retransmitted_share_at_most": 1.0})
    return lab.model_copy(update={"validity": validity})


def _plan(lab: Lab, modes: list[Mode], repeats: int, seconds: int, seed: int) -> Plan:
    """Return what zclab's own tool does: as tcp_mmap, one size for messages, chunks and the low-water mark.

    There is no warm-up: the other tools have none.
    """
    size = lab.limits.rcvlowat_bytes
    return Plan.model_validate(
        {
            "name": "crosscheck",
            "seconds": seconds,
            "warmup_seconds": 0,
            "repeats": repeats,
            "seed": seed,
            "message_bytes": [size],
            "chunk_bytes": size,
            "pace_gbit_per_s": [None],
            "ip_versions": [lab.link.ip_version],
            "comparisons": [
                {
                    "name": mode.receive_mode,
                    "a": mode.model_dump(),
                    "b": mode.model_dump(),
                    "metrics": {"gbit_per_s": [], "receiver_usec_per_mib": []},
                }
                for mode in modes
            ],
        }
    )


class _Bench:
    """Two hosts and the link between them; runs one tool at a time."""

    def __init__(
        self,
        lab: Lab,
        remotes: dict[str, Remote],
        manifest: Manifest,
        templates: dict[str, schedule.Measurement],
        seconds: int,
    ) -> None:
        self._lab = lab
        self._remotes = remotes
        self._manifest = manifest
        self._templates = templates
        self._seconds = seconds
        self._pair = lab.pair()

    def observe(self, slot: Slot) -> Observation:
        """Execute one tool. Whatever goes wrong is kept; the cross-check goes on."""
        found: dict[str, Any] = {"sample": None, "problems": [], "receiver": None, "sender": None}
        started_at = now()
        try:
            if slot.tool == OWN:
                found |= self._own(slot, started_at)
            else:
                found |= self._other(next(one for one in OTHERS if one.name == slot.tool), slot)
        except RemoteError as error:
            found["problems"] = [str(error)]
            for remote in self._remotes.values():
                remote.close()
        return Observation(
            tool=slot.tool,
            mode=slot.mode,
            block=slot.block,
            position=slot.position,
            started_at=started_at,
            **found,
        )

    def _own(self, slot: Slot, started_at: str) -> dict[str, Any]:
        """Measure with zclab's traffic tool, and count it only if `zclab run` would."""
        planned = self._templates[slot.mode.receive_mode]
        planned = planned.model_copy(update={"id": f"{planned.comparison}-{slot.block + 1:02d}"})
        token = secrets.token_hex(16)
        before = facts.snapshot(self._remotes, self._pair)
        ends = transfer(
            self._remotes[self._pair.receiver.name],
            self._remotes[self._pair.sender.name],
            command.receive(self._lab, planned, self._pair.receiver, token),
            lambda port: command.send(self._lab, planned, self._pair.sender, port, token),
            planned.seconds,
        )
        record = Record(
            planned=planned,
            started_at=started_at,
            ended_at=now(),
            receiver=engine.end_of(ends.receiver),
            sender=engine.end_of(ends.sender) if ends.sender else None,
            before=before,
            after=facts.snapshot(self._remotes, self._pair),
        )
        document = measurement.document(self._manifest, record)
        cost = document.receiver_cpu.usec_per_mib if document.receiver_cpu else None
        reasons = document.invalid_reasons
        sample = None
        if not reasons and document.gbit_per_s is not None and cost is not None:
            sample = Sample(
                gbit_per_s=document.gbit_per_s,
                receiver_usec_per_mib=cost,
                mapped_fraction=document.mapped_fraction,
            )
        return {**_left(ends), "sample": sample, "problems": reasons or ([] if sample else ["no result"])}

    def _other(self, program: Program, slot: Slot) -> dict[str, Any]:
        task = Task(
            maps=slot.mode.receive_mode != "copy",
            send_mode=slot.mode.send_mode,
            chunk_bytes=self._manifest.plan.chunk_bytes[0],
            seconds=self._seconds,
            sender=self._pair.sender,
            receiver=self._pair.receiver,
        )
        ends = transfer(
            self._remotes[self._pair.receiver.name],
            self._remotes[self._pair.sender.name],
            program.receive(task),
            lambda port: program.send(task),
            task.seconds,
        )
        found = _left(ends)
        try:
            sample = program.sample(ends.receiver, ends.sender or Completed(None, "", "did not start"))
        except ToolError as error:
            return {**found, "problems": [str(error)]}
        problems = []
        if task.maps and sample.mapped_fraction == 0:
            problems.append(f"{program.name}: mapped nothing, so that it is not in the same mode")
        return {**found, "sample": sample, "problems": problems}


def transfer(
    receiving: Remote, sending: Remote, receive: str, send: Callable[[int], str], seconds: float
) -> Ends:
    """Run both ends of a tool to their end; `send` gets the port that the receiver says it listens on.

    Whatever happens, both channels are closed, which ends what runs on.

    Raises:
        RemoteError: a host can not be reached, or an end did not end within `seconds` and a grace.
    """
    receiver = receiving.start(receive)
    sender: Process | None = None
    try:
        listening = receiver.wait_for_stderr_line("listening ", _GRACE_SECONDS)
        if listening is None:
            return Ends(receiver.wait(_GRACE_SECONDS), None)
        sender = sending.start(send(int(listening.split()[-1])))
        sent = sender.wait(seconds + _GRACE_SECONDS)
        if sent.status not in (0, TIMED_OUT):
            receiver.ask_to_end(_FAILED_SECONDS)  # nothing more will come
        return Ends(receiver.wait(_GRACE_SECONDS), sent)
    finally:
        receiver.close()
        if sender is not None:
            sender.close()


def _left(ends: Ends) -> dict[str, Left | None]:
    def left(done: Completed | None) -> Left | None:
        return None if done is None else Left(status=done.status, stdout=done.stdout, stderr=done.stderr)

    return {"receiver": left(ends.receiver), "sender": left(ends.sender)}
