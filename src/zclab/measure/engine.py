# SPDX-License-Identifier: Apache-2.0
"""The engine: carries out a plan on a pair of hosts and keeps every measurement as it came.

It configures nothing. A driver has the measurements made (zclab.measure.driver). Each is judged as it comes,
because the stopping rule counts valid ones only; comparisons and the verdict are judged from the run's files.
"""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from zclab.analysis import measurement
from zclab.analysis.document import MeasurementDocument
from zclab.analysis.stopping import next_attempt, next_measurement
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.choice import backend_of
from zclab.base.errors import UsageError
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import Lab
from zclab.measure.driver import Boot, Driver, Opener, begin
from zclab.plan import schedule
from zclab.plan.plan import Plan
from zclab.plan.schedule import Measurement, Step
from zclab.runs.records import Manifest, Record


class Reporter(Protocol):
    """Callbacks of a run's progress."""

    def started(self, run: MeasuringRun, plan: Plan, overhead_seconds: float, boot_seconds: float) -> None:
        """A run begins; each measurement takes about so many seconds beside its window, and each boot."""

    def measured(self, run: MeasuringRun, document: MeasurementDocument) -> None:
        """One measurement was made and written."""

    def finished(self, run: MeasuringRun) -> None:
        """The run ended, whole or not."""


def execute(
    lab: Lab, plan: Plan, reporter: Reporter, resume: MeasuringRun | None = None, *, open_driver: Opener
) -> MeasuringRun:
    """Carry out a plan, or the rest of an interrupted run's, and return the run.

    Raises:
        LabError: the lab is not up, is in use, or a host cannot be reached.
        UsageError: the plan does not fit the lab; the run to resume is of another lab or already whole.
    """
    _check_fits(lab, plan)
    with open_driver(lab) as driver:
        settled = driver.settled(plan.settled(lab.expectations.link.ip_version, secrets.randbelow(2**32)))
        fields = driver.manifest_fields(settled)
        if resume is None:
            run, records = begin(lab.name, RUN, fields), []
        else:
            reboots = driver.whole_boots or schedule.boots(plan) > 0
            _check_resumed(resume, Manifest.model_validate(fields), reboots=reboots)
            run, records = resume, resume.resume()
        backend = backend_of(lab)
        reporter.started(run, run.manifest().plan, backend.overhead_seconds, backend.boot_seconds)
        try:
            with driver.recording(run):
                driver.note_placements(run)
                _Engine(driver, run, reporter).carry_out(records)
                driver.note_placements(run)
        finally:
            reporter.finished(run)
    return run


def _check_fits(lab: Lab, plan: Plan) -> None:
    """Raise UsageError if a plan asks for what the lab does not have."""
    for one in plan.comparisons:
        for arm in (one.a, one.b):
            if arm.kernel is not None and arm.kernel not in lab.kernel_variants:
                known = ", ".join(lab.kernel_variants) or "none"
                raise UsageError(
                    f"plan {plan.name}: {one.name}: lab {lab.name} has no kernel {arm.kernel!r}: {known}"
                )
    for version in plan.ip_versions or []:
        for host in lab.pair():
            host.endpoints(version)


class _Engine:
    """One run in progress: has made what is due, in order, and keeps each record as it came."""

    def __init__(self, driver: Driver, run: MeasuringRun, reporter: Reporter) -> None:
        self._driver = driver
        self._run = run
        self._reporter = reporter
        self._manifest = run.manifest()
        self._orders = {one.id: one.order for one in schedule.measurements(self._manifest.plan)}
        self._made: dict[str, MeasurementDocument] = {}

    def carry_out(self, records: list[Record]) -> None:
        """Make what is due beside the records that are there already."""
        plan = self._manifest.plan
        for record in records:
            self._made[record.planned.id] = measurement.document(self._manifest, record)
        try:
            for planned in schedule.checks(plan):
                self._make_until_settled(planned)
            for step in schedule.steps(plan):
                while (due := next_measurement(plan, step, self._made)) is not None:
                    self._make(due, step)
            for planned in schedule.profiles(plan):
                self._make_until_settled(planned)
        finally:
            self._driver.restore()

    def _make_until_settled(self, planned: Measurement) -> None:
        while (due := next_attempt(self._manifest.plan, planned, self._made)) is not None:
            self._make(due)

    def _make(self, due: Measurement, step: Step | None = None) -> None:
        boot = Boot(step.cells[0].name, due.boot) if step and due.boot is not None else None
        other = self._driver.boot(due.kernel_variant, boot)
        if other is not None:
            self._note_kernel(other)
        batch = [due]
        if step and boot and self._driver.whole_boots:
            batch = schedule.of_boot(self._manifest.plan, step, boot.number)
        for record in self._driver.measure(self._manifest, [*map(self._in_order, batch)]):
            planned = record.planned
            # Of a boot that was interrupted, all is made again and what is there already stays as it is.
            if planned.id not in self._made:
                self._run.append(record)
                self._made[planned.id] = document = measurement.document(self._manifest, record)
                self._reporter.measured(self._run, document)

    def _in_order(self, planned: Measurement) -> Measurement:
        order = self._orders[schedule.first_attempt_id(planned)]
        return planned.model_copy(update={"order": order})

    def _note_kernel(self, kernel: KernelIdentity) -> None:
        others = {**self._manifest.other_kernels, str(kernel.kernel_variant): kernel}
        if others != self._manifest.other_kernels:
            self._manifest = self._run.update(other_kernels=others)


def _check_resumed(run: MeasuringRun, fresh: Manifest, *, reboots: bool) -> None:
    """Raise UsageError unless a run can go on on this lab and kernel. `reboots`: the run boots the hosts."""
    old = run.manifest()
    if old.lab != fresh.lab:
        raise UsageError(f"{run.id}: is a run of lab {old.lab}, not of {fresh.lab}")
    if old.finished_at is not None:
        raise UsageError(f"{run.id}: is already whole: start a new run")
    if _artifact(old) != _artifact(fresh):
        raise UsageError(
            f"{run.id}: measured {_kernel_name(old)}, the lab is now set to {_kernel_name(fresh)}"
        )
    if old.programs != fresh.programs:
        raise UsageError(f"{run.id}: measured with another build of the traffic tool: start a new run")
    before = [host.boot_id for host in old.hosts]
    if not reboots and before != [host.boot_id for host in fresh.hosts]:
        raise UsageError(f"{run.id}: a host rebooted since ({', '.join(before)}): start a new run")


def _artifact(manifest: Manifest) -> dict[str, Any] | None:
    own = manifest.artifact_key is None
    return None if own else manifest.model_dump(include=set(KernelIdentity.model_fields))


def _kernel_name(manifest: Manifest) -> str:
    own = manifest.artifact_key is None
    return "this machine's own kernel" if own else str(manifest.kernel_release)
