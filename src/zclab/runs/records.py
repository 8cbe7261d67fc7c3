# SPDX-License-Identifier: Apache-2.0
"""What a run of `zclab run` leaves behind: its manifest, and one raw record per measurement."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zclab.backends.exact.emulator import EmulatorFacts
from zclab.backends.exact.instructions import InstructionCounts
from zclab.base.model import Model
from zclab.host.placement import Placement
from zclab.host.snapshot import HostFacts, Snapshot
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Expectations, Host, Limits
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.manifest import BaseManifest
from zclab.traffic.copies import Copies
from zclab.traffic.document import RpcDocument, TrafficDocument
from zclab.traffic.profile import Profile

#: What either end printed, told apart by its `end`.
EndDocument = Annotated[TrafficDocument | RpcDocument, Field(discriminator="end")]


class End(Model):
    """How one end of a measurement ended: the traffic tool's document, its exit status and messages."""

    document: EndDocument | None
    status: int | None
    stderr: str


class GuestBoot(Model):
    """The boot of the one guest that made a measurement, both ends in it.

    seed: of the guest's random numbers. place: the measurement's among those of the boot, from 0. idle_ns:
    for how long the guest was idle between two looks just before and after the transfer, in nanoseconds of
    its clock; null if it did not say. digest: sha256 in hex over all that the boot printed. programs: the key
    of its programs, which come from packages. cpu_seconds: of the emulator's process. From emulator on all is
    null of a boot that failed.
    """

    seed: int
    place: int
    idle_ns: int | None = None
    emulator: EmulatorFacts | None = None
    programs: str | None = None
    digest: str | None = None
    cpu_seconds: float | None = None
    instructions: InstructionCounts | None = None


class Record(Model):
    """One measurement as it came, before any judgement. Times are UTC, ISO 8601.

    `guest` is null where the hosts are not both in one guest. `boots` are the boot ids that the hosts had
    when their kernel was last proven. `controller_cpu_share` is the CPU that this machine's zclab used while
    both ends ran, as a share of one core.
    """

    planned: Measurement
    started_at: str
    ended_at: str
    problem: str | None = None
    skipped: str | None = None
    receiver: End | None = None
    sender: End | None = None
    before: dict[str, Snapshot] = {}
    after: dict[str, Snapshot] = {}
    boots: dict[str, str] = {}
    controller_cpu_share: float | None = None
    profiles: dict[str, Profile] = {}
    copies: Copies | None = None
    guest: GuestBoot | None = None


class Repetition(Model):
    """What a second execution of a run's plan gave: its run, and the digest of what each guest made.

    difference: the first record that differs, where and how; null if all is the same.
    """

    run_id: str
    digest: str
    second_digest: str
    difference: str | None


class Manifest(BaseManifest):
    """What a run was: everything that judging its records again needs.

    `other_kernels` are those that arms of the plan boot, by variant. `limits` is what the lab declares of
    its hosts; null in runs before schema version 5. `placements` are what was read of the plan's
    preconditions, by host, each time that measuring began or ended. `emulator` is what a lab with one guest
    measured with, null elsewhere. `repetition` is null unless the plan was executed twice.
    """

    kind: Literal["run"] = "run"
    plan: Plan
    expectations: Expectations
    pair: list[Host]
    limits: Limits | None = None
    placements: dict[str, list[Placement]] = {}
    other_kernels: dict[str, KernelIdentity] = {}
    hosts: list[HostFacts]
    emulator: EmulatorFacts | None = None
    repetition: Repetition | None = None
