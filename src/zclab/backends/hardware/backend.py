# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: hardware`."""

from __future__ import annotations

from collections.abc import Iterator

from zclab.backends.backend import Backend, StatusRow
from zclab.base.errors import UsageError
from zclab.host.ssh import Remote


class Hardware(Backend):
    """Servers, which zclab configures and does not make."""

    overhead_seconds = 0.7

    def status(self) -> Iterator[StatusRow]:
        """Yield each host's role and kernel; RemoteError if it cannot be reached."""
        for host in self._lab.hosts:
            with Remote(host.name, self._lab.state_dir / "ssh_config") as remote:
                yield {"host": host.name, "state": f"{host.role}, runs {remote.output('uname -r').strip()}"}

    def check_down(self) -> None:
        """Raise UsageError."""
        raise UsageError(
            f"{self._lab.name}: hardware hosts cannot be taken down: playbooks/restore.yml restores them"
        )
