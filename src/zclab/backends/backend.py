# SPDX-License-Identifier: Apache-2.0
"""The protocol of a backend: who makes the hosts of a lab, and what can be asked of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zclab.host import console
from zclab.lab.model import Lab

#: One line of a lab's status: what is shown of a host, under its heading; "host" comes first.
StatusRow = dict[str, str]
#: Runs playbooks/NAME.yml on the backend's lab, NAME its only argument, extra variables by keyword.
RunPlaybook = Callable[..., object]


class Backend:
    """Who makes the hosts of a lab. What is here holds unless a kind of lab says otherwise."""

    #: The role that brings the hosts up (`main`) and, if zclab makes them, takes them down (`down`).
    #: playbooks/vars/hosts.yml has its variables.
    role: str
    #: Seconds that a measurement takes beside its window, about. Nothing is judged by it.
    overhead_seconds: float
    #: Seconds that booting one kernel and proving it takes, about.
    boot_seconds = 90.0

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def facts(self, variant: str | None = None) -> dict[str, Any]:
        """Return the `zclab` fact of the playbooks: the resolved lab, and what its backend says of its hosts.

        variant: the kernel to boot, null for the lab's own. A console log or reset command not known is "".

        Raises:
            UsageError: the lab has no such kernel.
        """
        traits = self._lab.traits
        hosts = {
            host.name: {
                "console_log": str(self.console(host.name)) if traits.emulators else "",
                "reset_command": shlex.join(self.reset_command(host.name)),
            }
            for host in self._lab.hosts
        }
        backend = {"role": self.role, "made": traits.made, "standing": not traits.one_guest, "hosts": hosts}
        return {**self._lab.facts(variant), "backend": backend}

    def up(self, run: RunPlaybook) -> None:
        """Bring the hosts up, so that SSH reaches them."""
        run("hosts_up")

    def down(self, run: RunPlaybook, *, purge: bool) -> None:
        """Take the hosts down; with purge also remove their disks and keys.

        Raises:
            UsageError: zclab did not make them.
        """
        run("hosts_down", purge=purge)

    def reset(self, run: RunPlaybook, host: str) -> None:
        """Cycle the power of a host that hangs, and wait until it answers.

        Raises:
            LabError: nothing is known that resets it, or it does not come back.
        """
        run("reset", zclab_host=host)

    def reset_command(self, host: str) -> list[str]:
        """Return the command on this machine that cycles the power of a host, [] if none is known."""
        return []

    def status(self) -> Iterator[StatusRow]:
        """Yield what each host is at now.

        Raises:
            LabError: a host cannot be asked.
        """
        raise NotImplementedError

    def console(self, host: str) -> Path:
        """Return the console log of a host.

        Raises:
            UsageError: hosts of this kind have no console.
        """
        return console.log_path(self._lab.state_dir, host)

    def accelerator(self) -> str | None:
        """Return what runs virtual hosts, "kvm" or "tcg" ("tcg" if either is emulated); None for others.

        Raises:
            LabError: a virtual host does not run.
        """
        return None

    def missing(self) -> bool:
        """Return whether hosts that every command makes by itself, as it takes seconds, are not all there."""
        return False
