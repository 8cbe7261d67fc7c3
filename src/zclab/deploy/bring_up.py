# SPDX-License-Identifier: Apache-2.0
"""Brings a lab up and down, boots another of its kernels, and goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from zclab.backends.choice import backend_of
from zclab.base.progress import Progress
from zclab.base.timing import Timing
from zclab.deploy import cache, playbooks
from zclab.deploy import state as deploy_state
from zclab.lab.model import Lab

#: Does something with a lab and one of its kernels or hosts.
Act = Callable[[Lab, str, Progress], None]


def bring_up(lab: Lab, on_progress: Progress, **extra_vars: Any) -> list[Timing]:
    """Bring the hosts of a lab to the declared state; return how long each part took."""
    outcome = run_playbook(lab, on_progress, "site", **extra_vars)
    changed = ", ".join(f"{host} {count}" for host, count in outcome.changed.items())
    on_progress(f"{lab.name} is up; changed: {changed}")
    return outcome.timings


def bring_up_missing(lab: Lab, on_progress: Progress) -> None:
    """Bring a lab up whose hosts are missing and take only seconds, so that nobody has to ask for them."""
    if backend_of(lab).missing():
        run_playbook(lab, on_progress, "site")


def boot(lab: Lab, variant: str, on_progress: Progress) -> None:
    """Have the hosts of a lab run one of its kernels, with link and limits set again.

    Virtual hosts are started anew first if that kernel needs another amount of memory.
    """
    run = partial(run_playbook, lab.with_kernel(variant), on_progress)
    backend_of(lab).up(run)
    for playbook in ("kernel", "tune"):
        run(playbook)


def reset(lab: Lab, host: str, on_progress: Progress) -> None:
    """Cycle the power of a host that hangs, and wait until it answers; LabError if it does not."""
    backend_of(lab).reset(partial(run_playbook, lab, on_progress), host)


def take_down(lab: Lab, on_progress: Progress, *, purge: bool) -> None:
    """Take the hosts of a lab down, with purge also their disks and keys; UsageError if zclab made none."""
    # What the playbook leaves outlives the lab's own state.
    run = partial(run_playbook, lab, on_progress, artifacts=cache.runner_dir())
    backend_of(lab).down(run, purge=purge)


def run_playbook(
    lab: Lab, on_progress: Progress, playbook: str, artifacts: Path | None = None, **extra_vars: Any
) -> playbooks.Outcome:
    """Run a playbook with the lab as it was read: it need not read the inventory again."""
    variables = {"zclab": backend_of(lab).facts(), **extra_vars}
    artifacts = artifacts or lab.state_dir / "playbooks"
    return playbooks.run(playbook, lab.lab_dir, artifacts, on_progress, variables)


@contextlib.contextmanager
def booted(lab: Lab, variant: str | None, on_progress: Progress, boot: Act = boot) -> Iterator[str | None]:
    """Have the hosts of a lab run one of its kernels, and leave them with the kernel they had.

    variant: null for the kernel that they run. Yields its name, null where it is this machine's own.
    """
    if lab.traits.one_guest:
        yield variant or lab.kernel_variant  # each guest boots it anew
        return
    bring_up_missing(lab, on_progress)
    before = deploy_state.running_kernel(lab)
    if variant is None or before is None or before.variant == variant:
        yield before.variant if before else None
        return
    try:
        boot(lab, variant, on_progress)
        yield variant
    finally:
        boot(lab, before.variant, on_progress)
