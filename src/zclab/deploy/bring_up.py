# SPDX-License-Identifier: Apache-2.0
"""Brings a lab up, boots another of its kernels, and goes back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from zclab.backends.choice import backend_of
from zclab.deploy import playbooks
from zclab.deploy import state as deploy_state
from zclab.deploy.playbooks import Timing
from zclab.lab.model import Lab


def bring_up(lab: Lab, say: Callable[[str], None], **extra_vars: Any) -> list[Timing]:
    """Bring the hosts of a lab to the declared state; return how long each part took."""
    if lab.kernel_variant:
        extra_vars["zclab_variant"] = lab.kernel_variant
    outcome = playbooks.run("site", lab.lab_dir, lab.state_dir / "playbooks", say, extra_vars)
    changed = ", ".join(f"{host} {count}" for host, count in outcome.changed.items())
    say(f"{lab.name} is up; changed: {changed}")
    return outcome.timings


def bring_up_missing(lab: Lab, say: Callable[[str], None]) -> None:
    """Bring a lab up whose hosts are missing and take only seconds, so that nobody has to ask for them."""
    if backend_of(lab).missing():
        playbooks.run("site", lab.lab_dir, lab.state_dir / "playbooks", say)


def boot(lab: Lab, variant: str, say: Callable[[str], None]) -> None:
    """Have the hosts of a lab run one of its kernels, with link and limits set again.

    Virtual hosts are started anew first if that kernel needs another amount of memory.
    """
    for playbook in ("hosts_up", "kernel", "tune"):
        playbooks.run(playbook, lab.lab_dir, lab.state_dir / "playbooks", say, {"zclab_variant": variant})


@contextlib.contextmanager
def booted(lab: Lab, variant: str | None, say: Callable[[str], None]) -> Iterator[str | None]:
    """Have the hosts of a lab run one of its kernels, and leave them with the kernel they had."""
    before = deploy_state.running_kernel(lab)
    if variant is None or before is None or before.variant == variant:
        yield before.variant if before else None
        return
    try:
        boot(lab, variant, say)
        yield variant
    finally:
        boot(lab, before.variant, say)
