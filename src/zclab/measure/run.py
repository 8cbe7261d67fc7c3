# SPDX-License-Identifier: Apache-2.0
"""A run from its beginning: a plan or a run to go on with is chosen, the lab is brought up, and measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from zclab.analysis.document import RunDocument
from zclab.analysis.pilot import Need, exit_code, needs, pilot_of
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.choice import backend_of
from zclab.base.errors import UsageError
from zclab.base.progress import Progress
from zclab.base.timing import Timing
from zclab.deploy import bring_up
from zclab.lab.defaults import TWO_HOSTS
from zclab.lab.model import Lab
from zclab.measure import engine
from zclab.measure import twice as repeated
from zclab.measure.choice import opener_of
from zclab.plan import plan as plans
from zclab.plan.plan import Plan
from zclab.runs import query
from zclab.runs.folder import Run


def lab_for(plan_name: str | None) -> str:
    """Return the name of the lab that carries a plan out where none is named; null: for a lab's own plan.

    Raises:
        UsageError: there is no such plan, or it has an impossible value.
    """
    return (plans.load(plan_name).lab if plan_name else None) or TWO_HOSTS


def judge_pilot(
    lab: Lab, plan_name: str | None, selectors: dict[str, Any], document: RunDocument
) -> tuple[Plan, list[Need], int]:
    """Return the plan that a pilot was of, what each of its comparisons needs, and the exit code.

    Raises:
        UsageError: there is no such plan, or it does not fit the lab.
    """
    plan = _chosen_plan(lab, plan_name, selectors)
    found = needs(document, plan, lab.expectations.smallest_effect)
    return plan, found, exit_code(document, found)


def _chosen_plan(lab: Lab, plan_name: str | None, selectors: dict[str, Any]) -> Plan:
    """Return a plan, null: the lab's own, narrowed as `Plan.select` does."""
    return (plans.load(plan_name) if plan_name else plans.of_lab(lab)).select(**selectors)


def carry_out(
    lab: Lab,
    plan_name: str | None,
    selectors: dict[str, Any],
    resume: str | None,
    with_up: bool,
    reporter: engine.Reporter,
    on_progress: Progress,
    on_unreadable: Progress,
    pilot: bool = False,
    twice: bool = False,
    up: Callable[[Lab, Progress], list[Timing]] = bring_up.bring_up,
    execute: Callable[..., MeasuringRun] = engine.execute,
    compare: Callable[[Lab, MeasuringRun, Progress], None] = repeated.compare,
) -> tuple[RunDocument, list[Timing]]:
    """Carry out a plan, null: the lab's own, or the rest of a run; return it judged, and each part's time.

    selectors: as of `Plan.select`. resume: a run's id, or latest. with_up: bring the lab up even if no host
    is missing; no times if it was up already. on_unreadable: gets one line for each run that cannot be read.
    pilot: measure only as much as says how much the plan needs. twice: execute the plan a second time, and
    compare.

    Raises:
        UsageError: there is no such plan or run, or it does not fit the lab.
        LabError: the lab does not come up, is in use, or a host cannot be reached.
    """
    if resume and (pilot or any(value is not None for value in (plan_name, *selectors.values()))):
        raise UsageError("--resume goes on with the run's own plan: leave PLAN and its selectors out")
    if twice:
        repeated.check_fits(lab)
    plan = _chosen_plan(lab, plan_name, selectors)
    unfinished = Run(query.find(resume, on_unreadable, kind=RUN.name).directory, RUN) if resume else None
    with_up = with_up or backend_of(lab).missing()  # nobody should have to ask for these
    timings = up(lab, on_progress) if with_up else []
    started = time.monotonic()
    boot = partial(bring_up.boot, on_progress=on_progress)
    chosen = pilot_of(plan) if pilot else plan
    run = execute(lab, chosen, reporter, unfinished, open_driver=opener_of(lab, boot, on_progress))
    if twice:
        compare(lab, run, on_progress)
    if with_up:
        timings.append(Timing("measurements", time.monotonic() - started))
    return run.document(), timings
