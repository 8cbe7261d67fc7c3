# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind: the manifest, and one raw record a measurement.

runs/<id>/manifest.json      what was measured, on what, expecting what
runs/<id>/measurements.jsonl one Record a line, appended and never edited
runs/<id>/playbooks/         what bringing the lab up printed, where the run did that
runs/<id>/console/           what each console said since the run began
"""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from zclab.errors import UsageError
from zclab.inventory import Host, Link, Model, Threshold, Validity
from zclab.paths import runs_dir
from zclab.plan import Plan
from zclab.rpc_documents import RpcDocument
from zclab.schedule import Measurement
from zclab.traffic import TrafficDocument


class Snapshot(Model):
    """What one host says of itself just before or after a measurement.

    `missing_offloads` names what the data interface lacks to send pages from where they are;
    `carrier_changes` counts how often its link came or went; `nic_counters` are all that `ethtool -S` shows;
    `route_mtu_ipv4` is the MTU in bytes of the route to the peer's IPv4 address, null if none is set there.
    """

    boot_id: str
    kernel_release: str
    kernel_build_id: str | None
    mtu: int
    tcp_timestamps: int
    addresses: list[str]
    drops: int
    header_split: int | None
    missing_offloads: list[str]
    carrier_changes: int
    nic_counters: dict[str, int]
    route_mtu_ipv4: int | None = None


#: What either end printed, told apart by its `end`.
EndDocument = Annotated[TrafficDocument | RpcDocument, Field(discriminator="end")]


class End(Model):
    """How one end of a measurement ended: the traffic tool's document, its exit status and messages."""

    document: EndDocument | None
    status: int | None
    stderr: str


class Symbol(Model):
    """One line of a profile: the share of samples in percent, and the symbol (k: the kernel's)."""

    percent: float
    symbol: str


class Profile(Model):
    """Where one end spent its CPU: event, number of samples, first symbols; `unavailable` says why not."""

    event: str
    samples: int | None
    symbols: list[Symbol]
    unavailable: str | None


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


class Artifact(Model):
    """The kernel that every host of the lab has to run."""

    variant: str
    key: str
    release: str
    build_id: str


class Nic(Model):
    """The data interface of a host; `header_split` is null where the NIC does not count it."""

    name: str
    driver: str | None
    mtu: int
    speed_mbps: int | None
    header_split: int | None


class CpuAccounting(Model):
    """How the kernel accounts for CPU (its configuration): by tick or exactly, interrupts apart or not."""

    mode: Literal["tick", "exact"]
    irq_time: bool
    hz: int | None


class HostFacts(Model):
    """A host as it was when the run began; `cpu_accounting` null where its configuration can not be read."""

    name: str
    role: Literal["sender", "receiver"]
    kernel_release: str
    kernel_build_id: str | None
    artifact_key: str | None
    boot_id: str
    nic: Nic
    cpu_accounting: CpuAccounting | None = None
    sysctls: dict[str, int | str | None]


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
    receive_low_water_bytes: int
    shared_cpu: bool = False
    counts_instructions: bool = False
    pair: list[Host]
    artifact: Artifact | None
    other_artifacts: dict[str, Artifact] = {}
    hosts: list[HostFacts]
    versions: dict[str, str]
    console_offsets: dict[str, int] = {}
    console_reports: dict[str, list[str]] = {}


def now() -> str:
    """Return the time as UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Run:
    """The folder of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest_path = directory / "manifest.json"
        self.measurements_path = directory / "measurements.jsonl"

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.directory.name

    @classmethod
    def create(cls, lab: str) -> Run:
        """Make a folder for a new run of a lab, named so that names sort by time."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        directory = runs_dir() / f"{stamp}-{lab}-{secrets.token_hex(2)}"
        directory.mkdir(parents=True)
        return cls(directory)

    @classmethod
    def find(cls, name: str) -> Run:
        """Return a run by its id, by its directory, or the newest one by "latest".

        Raises:
            UsageError: there is none.
        """
        if name == "latest":
            runs = sorted(path.parent for path in runs_dir().glob("*/manifest.json"))
            if not runs:
                raise UsageError(f"{runs_dir()}: no run yet: make one with `zclab run`")
            return cls(runs[-1])
        for directory in (runs_dir() / name, Path(name)):
            if (directory / "manifest.json").is_file():
                return cls(directory)
        raise UsageError(f"{name}: no such run in {runs_dir()}: `zclab show latest` shows the newest")

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, whole or not at all."""
        partial = self.manifest_path.with_suffix(".partial")
        partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(self.manifest_path)

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            UsageError: it is missing, or another schema wrote it.
        """
        try:
            return Manifest.model_validate_json(self.manifest_path.read_text(encoding="utf-8"))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"])
            raise UsageError(f"{self.manifest_path}: cannot be read: {key}: {problem['msg']}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.manifest_path}: cannot be read: {error}") from None

    def append(self, record: Record) -> None:
        """Add one record, on disk before this returns."""
        with self.measurements_path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_whole_records(self) -> list[Record]:
        """Return all records, and cut a line that a crash left unfinished off the file."""
        records = self.records()
        if self.measurements_path.is_file():
            whole = self.measurements_path.read_bytes().split(b"\n")[: len(records)]
            os.truncate(self.measurements_path, sum(len(line) + 1 for line in whole))
        return records

    def records(self) -> list[Record]:
        """Read all records; a last line that was cut off by a crash is left out.

        Raises:
            UsageError: another line is damaged.
        """
        if not self.measurements_path.is_file():
            return []
        # Only what ends in a newline was written whole; no other character ends a line here.
        *lines, _ = self.measurements_path.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(Record.model_validate(json.loads(line)))
            except (ValueError, ValidationError):
                raise UsageError(f"{self.measurements_path}: line {number} is damaged") from None
        return records
