# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: exact`: no host stands between measurements, and all that a guest needs is built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zclab.backends.backend import Backend, RunPlaybook, StatusRow
from zclab.backends.exact import guest
from zclab.base.errors import UsageError
from zclab.kernel import build
from zclab.lab.model import Lab


class ExactGuest(Backend):
    """One guest for each boot that a plan asks for, with both ends in it."""

    role = "exact_guest"
    overhead_seconds = 4.0
    boot_seconds = 12.0

    def reset(self, run: RunPlaybook, host: str) -> None:
        """Raise UsageError."""
        raise UsageError(f"{self._lab.name}: no host stands between measurements: there is nothing to reset")

    def status(self) -> Iterator[StatusRow]:
        """Yield that no host stands, and whether the kernel that the next guest boots is built."""
        names = ", ".join(host.name for host in self._lab.hosts)
        yield {"host": names, "state": "none of them stands: each boot of a plan is one guest with both"}
        variant = self._lab.kernel_variant
        if variant is not None:
            built = build.find(variant, self._lab.kernel_variants[variant])
            state = f"built, {built.release}" if built else "not built: `zclab up` or the next run builds it"
            yield {"host": f"kernel {variant}", "state": state}

    def console(self, host: str) -> Path:
        """Return the console log of the last guest, in which both hosts were."""
        return directory(self._lab) / guest.CONSOLE

    def accelerator(self) -> str | None:
        """Return "tcg": only an emulated CPU counts its instructions."""
        return "tcg"


def directory(lab: Lab) -> Path:
    """Return the directory for the files of a lab's guest."""
    return lab.state_dir / "guest"
