# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: the manifest, and one raw record a measurement.

runs/<id>/manifest.json      what was measured, on what, expecting what
runs/<id>/measurements.jsonl one Record a line, appended and never edited
runs/<id>/playbooks/         what bringing the lab up printed, where the run did that
runs/<id>/console/           what each console said since the run began
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from zclab.base.model import Model
from zclab.host.snapshot import HostFacts, Snapshot
from zclab.kernel.identity import Artifact
from zclab.lab.model import Host, Link, Threshold, Validity
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.traffic.document import RpcDocument, TrafficDocument
from zclab.traffic.profile import Profile

#: What either end printed, told apart by its `end`.
EndDocument = Annotated[TrafficDocument | RpcDocument, Field(discriminator="end")]


class End(Model):
    """How one end of a measurement ended: the traffic tool's document, its exit status and messages."""

    document: EndDocument | None
    status: int | None
    stderr: str


class Record(Model):
    """One measurement as it came, before any judgement. Times are UTC, ISO 8601.

    `boots` are the boot ids that the hosts had when their kernel was last proven. `controller_cpu_share` is
    the CPU that this machine's zclab used while both ends ran, as a share of one core.
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


class Manifest(Model):
    """What a run was: everything that judging its records again needs.

    `artifact` is null where the hosts run this machine's own kernel; `shared_cpu` where they share its CPUs;
    `counts_instructions` where CPU times are counts of instructions, a billion a second.
    """

    schema_version: Literal[3] = 3
    run_id: str
    lab: str
    emulated: bool
    accelerator: str | None
    started_at: str
    finished_at: str | None = None
    plan: Plan
    link: Link
    validity: Validity
    thresholds: list[Threshold]
    smallest_effect: float
    rcvlowat_bytes: int
    shared_cpu: bool = False
    counts_instructions: bool = False
    pair: list[Host]
    artifact: Artifact | None
    other_artifacts: dict[str, Artifact] = {}
    hosts: list[HostFacts]
    versions: dict[str, str]
    console_offsets: dict[str, int] = {}
    console_reports: dict[str, list[str]] = {}
