# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: namespaces`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zclab.backends.backend import Backend, StatusRow
from zclab.backends.namespaces import lab as namespaces
from zclab.base.errors import UsageError
from zclab.lab.model import Lab


class Namespaces(Backend):
    """Network namespaces of this machine, joined by veth pairs."""

    role = "namespace_hosts"
    overhead_seconds = 0.3

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._names = [host.name for host in lab.hosts]

    def status(self) -> Iterator[StatusRow]:
        """Yield whether each namespace is there, and how many processes run in it."""
        for one in namespaces.status(self._lab.state_dir, self._names):
            yield {"host": one.name, "state": f"up, {one.processes} processes" if one.running else "down"}

    def console(self, host: str) -> Path:
        """Raise UsageError."""
        raise UsageError(
            f"{self._lab.name}: its hosts have no console: they run this machine's kernel, "
            "which reports to dmesg"
        )

    def missing(self) -> bool:
        """Return whether a host is not there, or was not set up to the end."""
        return not namespaces.ready(self._lab.state_dir, self._names)
