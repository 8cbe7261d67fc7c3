# SPDX-License-Identifier: Apache-2.0
"""Which driver measures a lab."""

from __future__ import annotations

from zclab.base.progress import Progress, quiet
from zclab.lab.model import Lab
from zclab.measure import channels, exact, guests
from zclab.measure.driver import Opener


def opener_of(lab: Lab, boot: channels.BootHosts | None = None, on_progress: Progress = quiet) -> Opener:
    """Return what opens the driver of a lab.

    boot: brings hosts that stand up with another kernel; null: the kernels of a plan cannot be compared.
    """
    return (
        exact.opener(guests.opener(on_progress=on_progress))
        if lab.traits.one_guest
        else channels.opener(boot=boot)
    )
