# SPDX-License-Identifier: Apache-2.0
"""A suite on a kernel of a lab: boot it, carry the suite out, go back; or compare two kernels by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from zclab.base.paths import from_checkout
from zclab.base.progress import Progress
from zclab.deploy import bring_up
from zclab.kernel.spec import KernelVariant
from zclab.lab.model import Lab
from zclab.runs import query
from zclab.runs.manifest import D, Kind

_C = TypeVar("_C")


class Suite(NamedTuple, Generic[D, _C]):
    """A suite whose results on two kernels can be compared.

    fingerprint: a hash of the suite and of what a kernel is made of; a result with another one is outdated.
    """

    kind: Kind[Any, Any, D]
    carry_out: Callable[[Lab, Progress], D]
    fingerprint: Callable[[KernelVariant | None], str]
    diff: Callable[[D, D], _C]

    def latest(self, lab: Lab, variant: str | None) -> D | None:
        """Return the newest whole result of a kernel of a lab; null if there is none that is not outdated."""
        fingerprint = self.fingerprint(lab.kernel_variants.get(variant or ""))
        return query.latest_whole(self.kind, lab.name, from_checkout(lab.lab_dir), variant, fingerprint)


def carry_out(
    lab: Lab,
    variant: str | None,
    suite: Callable[[Lab, Progress], D],
    on_progress: Progress,
    boot: bring_up.Act = bring_up.boot,
) -> D:
    """Carry a suite out on a kernel of a lab, null: as its hosts run; they go back to the one they had.

    Raises:
        UsageError: the lab has no such kernel.
        LabError: the lab is not up, or does not boot the kernel.
    """
    lab.check_kernels(variant)
    with bring_up.booted(lab, variant, on_progress, boot) as running:
        return suite(lab.with_kernel(running), on_progress)


def compare(
    lab: Lab,
    variants: tuple[str, str],
    suite: Suite[D, _C],
    on_progress: Progress,
    boot: bring_up.Act = bring_up.boot,
) -> _C:
    """Compare two kernels by their latest results; one without is tried first, as `carry_out` does it."""
    lab.check_kernels(*variants)
    a, b = (
        suite.latest(lab, name) or carry_out(lab, name, suite.carry_out, on_progress, boot)
        for name in variants
    )
    return suite.diff(a, b)
