# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: hardware`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zclab.backends.backend import Backend, RunPlaybook, StatusRow
from zclab.base.errors import UsageError
from zclab.host.ssh import Remote
from zclab.host.ssh_keys import Endpoint, keyscan_commands, ssh_config, without_key


class Hardware(Backend):
    """Servers, which zclab configures and does not make."""

    role = "hardware_hosts"
    overhead_seconds = 0.7
    boot_seconds = 300.0  # firmware of a server

    def facts(self, variant: str | None = None) -> dict[str, Any]:
        """Return the `zclab` fact, with the SSH configuration and hosts without a known key.

        Raises UsageError: no such kernel.
        """
        ends = {one.name: Endpoint(one.address, one.port, user=one.user) for one in self._lab.hosts}
        facts = super().facts(variant)
        known = self._lab.state_dir / "known_hosts"
        unknown = without_key(ends, known)
        facts["backend"] |= {
            "ssh_config": ssh_config(ends, known),
            "unknown_hosts": unknown,
            "keyscan": keyscan_commands(ends[name] for name in unknown),
        }
        return facts

    def status(self) -> Iterator[StatusRow]:
        """Yield each host's role and kernel; RemoteError if it cannot be reached."""
        for host in self._lab.hosts:
            with Remote(host.name, self._lab.state_dir / "ssh_config") as remote:
                yield {"host": host.name, "state": f"{host.role}, runs {remote.output('uname -r').strip()}"}

    def down(self, run: RunPlaybook, *, purge: bool) -> None:
        """Raise UsageError."""
        raise UsageError(
            f"{self._lab.name}: hardware hosts cannot be taken down: playbooks/restore.yml restores them"
        )
