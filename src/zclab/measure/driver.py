# SPDX-License-Identifier: Apache-2.0
"""What the engine asks of whoever makes the measurements: over channels, or by a list in one guest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from importlib import metadata
from typing import Any, NamedTuple, Protocol

from zclab.analysis.verdict import MeasuringRun
from zclab.base.clock import now
from zclab.base.paths import from_checkout
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Host, Lab
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement
from zclab.runs.folder import Run
from zclab.runs.manifest import D, Kind, M, R
from zclab.runs.records import Manifest, Record


class Boot(NamedTuple):
    """One of the boots that a plan asks for: what it is for, and its number there."""

    what: str
    number: int


class Driver(Protocol):
    """Has measurements made on a pair of hosts, and returns what came of each.

    whole_boots: it makes all measurements of a boot at once; otherwise one at a time.
    """

    whole_boots: bool

    @property
    def lab(self) -> Lab:
        """The lab that is measured."""

    @property
    def members(self) -> Sequence[Host]:
        """The sender and the receiver."""

    def settled(self, plan: Plan) -> Plan:
        """Return the plan as it can be carried out here.

        Raises:
            UsageError: it cannot.
        """

    def manifest_fields(self, plan: Plan) -> dict[str, Any]:
        """Return the manifest of a run of a plan as fields; it has no id yet.

        Raises:
            LabError: the hosts cannot say what they are.
        """

    def recording(self, run: MeasuringRun) -> AbstractContextManager[None]:
        """Keep what the consoles say meanwhile; if nothing goes wrong, the run is finished."""

    def note_placements(self, run: MeasuringRun) -> None:
        """Keep how the hosts are set up now, where the plan asks for it."""

    def boot(self, variant: str | None, boot: Boot | None) -> KernelIdentity | None:
        """Have what is measured next run on a kernel of the lab, and in that boot if the plan asks for one.

        Return the kernel if it is another than the lab's own; null also if nothing had to be done.

        Raises:
            LabError: it does not boot.
        """

    def measure(self, manifest: Manifest, batch: Sequence[Measurement]) -> Iterator[Record]:
        """Make measurements, all of one boot, and yield the record of each, in order.

        Whatever goes wrong is in the record.
        """

    def restore(self) -> None:
        """Leave the hosts with the lab's own kernel."""


#: Opens a driver of a lab for one run.
Opener = Callable[[Lab], AbstractContextManager[Driver]]


def begin(lab: str, kind: Kind[M, R, D], fields: dict[str, Any]) -> Run[M, R, D]:
    """Make the folder of a run of a lab, with its manifest."""
    run = Run.create(lab, kind)
    run.write_manifest(kind.manifest.model_validate(fields | {"run_id": run.id}))
    return run


def common_fields(
    lab: Lab, kernel: KernelIdentity, *, emulated: bool, accelerator: str | None, programs: dict[str, str]
) -> dict[str, Any]:
    """Return the manifest fields that all kinds of runs share; the run sets run_id."""
    return {
        **kernel.model_dump(),
        "run_id": "",
        "lab": lab.name,
        "lab_dir": from_checkout(lab.lab_dir),
        "emulated": emulated,
        "accelerator": accelerator,
        "started_at": now(),
        "programs": programs,
        "versions": {"zclab": metadata.version("zclab"), "python": sys.version.split()[0]},
    }
