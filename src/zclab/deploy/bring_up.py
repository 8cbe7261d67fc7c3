# SPDX-License-Identifier: Apache-2.0
"""Brings a lab up, boots another of its kernels, and goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from zclab.backends.choice import backend_of
from zclab.base.progress import Progress
from zclab.base.timing import Timing
from zclab.deploy import playbooks
from zclab.deploy import state as deploy_state
from zclab.lab.model import Lab


def bring_up(lab: Lab, on_progress: Progress, **extra_vars: Any) -> list[Timing]:
    """Bring the hosts of a lab to the declared state; return how long each part took."""
    outcome = _run("site", lab, on_progress, **extra_vars)
    changed = ", ".join(f"{host} {count}" for host, count in outcome.changed.items())
    on_progress(f"{lab.name} is up; changed: {changed}")
    return outcome.timings


def bring_up_missing(lab: Lab, on_progress: Progress) -> None:
    """Bring a lab up whose hosts are missing and take only seconds, so that nobody has to ask for them."""
    if backend_of(lab).missing():
        _run("site", lab, on_progress)


def boot(lab: Lab, variant: str, on_progress: Progress) -> None:
    """Have the hosts of a lab run one of its kernels, with link and limits set again.

    Virtual hosts are started anew first if that kernel needs another amount of memory.
    """
    for playbook in ("hosts_up", "kernel", "tune"):
        _run(playbook, lab.with_kernel(variant), on_progress)


def reset(lab: Lab, host: str, on_progress: Progress) -> None:
    """Cycle the power of a host that hangs, and wait until it answers.

    Raises:
        LabError: nothing is known that resets it, or it does not come back.
    """
    _run("reset", lab, on_progress, zclab_host=host)


def _run(playbook: str, lab: Lab, on_progress: Progress, **extra_vars: Any) -> playbooks.Outcome:
    """Run a playbook with the lab as it was read: it need not read the inventory again."""
    variables = {"zclab": lab.facts(), **extra_vars}
    return playbooks.run(playbook, lab.lab_dir, lab.state_dir / "playbooks", on_progress, variables)


@contextlib.contextmanager
def booted(lab: Lab, variant: str | None, on_progress: Progress) -> Iterator[str | None]:
    """Have the hosts of a lab run one of its kernels, and leave them with the kernel they had."""
    before = deploy_state.running_kernel(lab)
    if variant is None or before is None or before.variant == variant:
        yield before.variant if before else None
        return
    try:
        boot(lab, variant, on_progress)
        yield variant
    finally:
        boot(lab, before.variant, on_progress)
