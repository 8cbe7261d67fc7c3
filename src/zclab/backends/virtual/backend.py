# SPDX-License-Identifier: Apache-2.0
"""The backend of `kind: virtual`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta

from zclab.backends.backend import Backend, StatusRow
from zclab.backends.virtual import lab as virtual
from zclab.base.errors import LabError


class VirtualHosts(Backend):
    """Emulators on this machine."""

    role = "virtual_hosts"
    overhead_seconds = 2.0

    def status(self) -> Iterator[StatusRow]:
        """Yield each host's role, state, emulator and SSH port."""
        by_name = {host.name: host for host in virtual.status(self._lab.state_dir)}
        for host in self._lab.hosts:
            found = by_name.get(host.name)
            row = {"host": host.name, "role": host.role}
            if found is None or not found.running:
                yield row | {"state": "down"} | dict.fromkeys(("pid", "ssh", "accelerator", "up for"), "-")
                continue
            yield row | {
                "state": "running",
                "pid": str(found.pid),
                "ssh": f"127.0.0.1:{found.ssh_port}",
                "accelerator": "emulated (tcg)" if found.accelerator == "tcg" else str(found.accelerator),
                "up for": str(timedelta(seconds=round(found.uptime_s or 0))),
            }

    def reset_command(self, host: str) -> list[str]:
        """Return the command that presses the emulator's reset button."""
        return [sys.executable, "-m", "zclab.backends.virtual", "reset", str(self._lab.state_dir), host]

    def accelerator(self) -> str | None:
        """Return "kvm" or "tcg" ("tcg" if either host of the pair is emulated); LabError if one is down."""
        names = {host.name for host in self._lab.pair()}
        found = [host.accelerator for host in virtual.status(self._lab.state_dir) if host.name in names]
        if len(found) != len(names) or None in found:
            raise LabError(f"{self._lab.name}: a virtual host does not run: run `zclab up`")
        return "tcg" if "tcg" in found else "kvm"
