# SPDX-License-Identifier: Apache-2.0
"""Carries out a cross-check: each tool once per block, in a drawn order, each on a new connection."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from zclab.analysis import measurement, path, validity
from zclab.base.clock import now
from zclab.base.errors import UsageError
from zclab.base.model import ReceiveMode, SendMode
from zclab.base.progress import Progress
from zclab.deploy import bring_up
from zclab.deploy import state as deploy_state
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, RemoteError
from zclab.lab.model import Crosscheck, Expectations, Lab
from zclab.measure import channels
from zclab.measure.ends import end_of
from zclab.measure.session import Ends, Session
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.runs.records import Manifest, Record
from zclab.suites import install
from zclab.suites.crosscheck import tools
from zclab.suites.crosscheck.document import (
    CROSSCHECK,
    OWN,
    TOOLS,
    CrosscheckDocument,
    Left,
    Mode,
    Observation,
    ToolName,
)
from zclab.suites.crosscheck.programs import OTHERS, Sample, Task, ToolError, tool_failed
from zclab.traffic import command, copies

#: Receive modes that tcp_mmap has, too.
MODES: tuple[ReceiveMode, ...] = ("copy", "map_once")


#: Judges what a tool left, once it is known what the hosts did meanwhile: fields of an observation.
Judge = Callable[[Record], dict[str, Any]]


class Slot(NamedTuple):
    """One execution in the order of a cross-check."""

    mode: Mode
    block: int
    position: int
    tool: ToolName


def modes_of(lab: Lab, wanted: list[str] | None) -> list[Mode]:
    """Return the modes to compare: of those that tcp_mmap has, the wanted ones, else what this lab can map.

    Each gets the plainest send mode that can be received so.

    Raises:
        UsageError: a wanted mode is none of these, or nothing is mapped so on this lab.
    """
    if unknown := [one for one in wanted or [] if one not in MODES]:
        raise UsageError(f"mode {unknown[0]!r} cannot be compared: tcp_mmap has {', '.join(MODES)}")
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
    bounds = lab.expectations.validity.mapped_fraction.get(mode, {})
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
    lab: Lab, wanted: list[str] | None, repeats: int, seconds: int, seed: int, on_progress: Progress
) -> CrosscheckDocument:
    """Put the tools on the hosts of a lab and carry out a cross-check; keep it in runs/, and return it.

    wanted: receive modes, null for all that the lab can map. on_progress: gets one line for each execution.

    Raises:
        UsageError: a wanted mode cannot be compared, or the lab names no tree that has tcp_mmap.
        LabError: the lab is not up, is in use, a host cannot be reached, or a tool cannot be had.
    """
    deploy_state.require_hosts(lab)
    modes = modes_of(lab, wanted)
    found = tools.prepare(lab, on_progress)
    bring_up.bring_up_missing(lab, on_progress)
    install.install(lab, found.files, on_progress)
    with Session.open_declared(lab) as opened:
        session = opened.with_programs(install.sums(found.files))
        plan = _plan(lab, modes, repeats, seconds, seed)
        measured = channels.manifest_fields(session, plan) | {"expectations": _lenient(lab)}
        manifest = Manifest.model_validate(measured)
        scheduled = {one.id: one for one in schedule.measurements(plan)}
        empty = Record(planned=next(iter(scheduled.values())), started_at=now(), ended_at=now())
        host_problems = validity.host_reasons(manifest, empty, session.state)
        run = session.begin(
            CROSSCHECK,
            seed=seed,
            repeats=repeats,
            seconds=seconds,
            chunk_bytes=plan.chunk_bytes[0],
            modes=modes,
            versions={**manifest.versions, **found.versions},
            bounds=lab.crosscheck or Crosscheck(),
            host_problems=host_problems,
        )
        slots = order(modes, repeats, seed) if not host_problems else []
        with session.recording(run):
            bench = _Bench(session, manifest, scheduled, seconds)
            for number, slot in enumerate(slots, 1):
                observation = bench.observe(slot)
                run.append(observation)
                on_progress(f"{number}/{len(slots)} {_line(observation)}")
    return run.document()


def _line(one: Observation) -> str:
    """Return an execution as one line."""
    if one.sample and not one.problems:
        result = f"{one.sample.gbit_per_s:.3f} Gbit/s, {one.sample.receiver_usec_per_mib:.0f} µs/MiB"
    else:
        result = f"invalid: {'; '.join(one.problems)}"
    return f"{one.mode.receive_mode}, block {one.block + 1}, {one.tool}: {result}"


def _lenient(lab: Lab) -> Expectations:
    """Return what a lab expects, with any share of retransmits: they affect every tool, others hide them."""
    validity = lab.expectations.validity.model_copy(update={"retransmitted_share_at_most": 1.0})
    return lab.expectations.model_copy(update={"validity": validity})


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
            "ip_versions": [lab.expectations.link.ip_version],
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


@dataclass(frozen=True)
class _Bench:
    """Two hosts and the link between them; runs one tool at a time."""

    session: Session
    manifest: Manifest
    scheduled: dict[str, schedule.Measurement]
    seconds: int

    def observe(self, slot: Slot) -> Observation:
        """Execute one tool. Whatever goes wrong is kept; the cross-check goes on."""
        found: dict[str, Any] = {"sample": None, "problems": [], "receiver": None, "sender": None}
        started_at = now()
        # Arm A stands for every tool: what was to be sent, over which link.
        cell = next(
            one for one in schedule.cells(self.manifest.plan) if one.comparison == slot.mode.receive_mode
        )
        planned = self.scheduled[f"{cell.name}-{slot.block + 1:02d}a"]
        try:
            with self.session.watching() as watched:
                before = watched.before()
                ends, judged = self._own(planned, before) if slot.tool == OWN else self._other(slot)
                around = Record(
                    planned=planned,
                    started_at=started_at,
                    ended_at=now(),
                    before=before,
                    after=watched.after(),
                )
            found |= _left(ends) | judged(around)
        except RemoteError as error:
            found["problems"] = [str(error)]
            self.session.disconnect()
        return Observation(**slot._asdict(), started_at=started_at, **found)

    def _own(self, planned: schedule.Measurement, before: dict[str, Snapshot]) -> tuple[Ends, Judge]:
        """Run zclab's traffic tool; it counts only if `zclab run` would count it."""
        token = secrets.token_hex(16)
        lab, (sender, receiver) = self.session.lab, self.session.members
        ends = self.session.transfer(
            copies.watched(planned, before[receiver.name], command.receive(lab, planned, receiver, token)),
            lambda port: command.send(lab, planned, sender, port, token),
            planned.seconds,
            tool_failed,
        )

        def judged(around: Record) -> dict[str, Any]:
            left = {
                "receiver": end_of(ends.receiver),
                "sender": end_of(ends.sender) if ends.sender else None,
                "copies": copies.copies(ends.receiver.stderr),
            }
            document = measurement.document(self.manifest, around.model_copy(update=left))
            cost = document.receiver_cpu.usec_per_mib if document.receiver_cpu else None
            reasons = document.invalid_reasons
            sample = None
            if not reasons and document.gbit_per_s is not None and cost is not None:
                sample = Sample(
                    gbit_per_s=document.gbit_per_s,
                    receiver_usec_per_mib=cost,
                    mapped_fraction=document.mapped_fraction,
                )
            return {"sample": sample, "problems": reasons or ([] if sample else ["no result"])}

        return ends, judged

    def _other(self, slot: Slot) -> tuple[Ends, Judge]:
        """Run another tool; it counts only if the hosts and their link were as for zclab's."""
        program = next(one for one in OTHERS if one.name == slot.tool)
        sender, receiver = self.session.members
        task = Task(
            maps=slot.mode.receive_mode != "copy",
            send_mode=slot.mode.send_mode,
            chunk_bytes=self.manifest.plan.chunk_bytes[0],
            seconds=self.seconds,
            sender=sender,
            receiver=receiver,
        )
        ends = self.session.transfer(
            program.receive(task), lambda port: program.send(task), task.seconds, tool_failed
        )

        def judged(around: Record) -> dict[str, Any]:
            problems = validity.surrounding_reasons(self.manifest, around)
            try:
                sample = program.sample(ends.receiver, ends.sender or Completed(None, "", "did not start"))
                moved = program.received_bytes(ends.receiver)
            except ToolError as error:
                return {"problems": [*problems, str(error)]}
            problems += path.too_little(self.manifest, around, moved)
            if task.maps and sample.mapped_fraction == 0:
                problems.append(f"{program.name}: mapped nothing, so that it is not in the same mode")
            return {"sample": sample, "problems": problems}

        return ends, judged


def _left(ends: Ends) -> dict[str, Left | None]:
    found = {"receiver": ends.receiver, "sender": ends.sender}
    return {end: None if done is None else Left(**done._asdict()) for end, done in found.items()}
