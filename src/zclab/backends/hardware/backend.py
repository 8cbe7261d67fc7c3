# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: hardware`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zclab.backends.backend import StatusRow
from zclab.base.errors import UsageError
from zclab.host import console
from zclab.host.ssh import Remote
from zclab.lab.model import Lab


class Hardware:
    """Servers, which zclab configures and does not make."""

    overhead_seconds = 0.7

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def status(self) -> Iterator[StatusRow]:
        """Yield each host's role and kernel; RemoteError if it cannot be reached."""
        for host in self._lab.hosts:
            with Remote(host.name, self._lab.state_dir / "ssh_config") as remote:
                yield {"host": host.name, "state": f"{host.role}, runs {remote.output('uname -r').strip()}"}

    def console(self, host: str) -> Path:
        """Return where a log of the host's console is, if someone writes one there."""
        return console.log_path(self._lab.state_dir, host)

    def accelerator(self) -> str | None:
        """Return None."""
        return None

    def missing(self) -> bool:
        """Return False: they are brought up when that is asked for."""
        return False

    def check_down(self) -> None:
        """Raise UsageError."""
        raise UsageError(
            f"{self._lab.name}: hardware hosts cannot be taken down: playbooks/restore.yml restores them"
        )
