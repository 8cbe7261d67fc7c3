# SPDX-License-Identifier: Apache-2.0
"""What the kind of a lab decides: who makes its hosts, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zclab.host import console
from zclab.lab.model import Lab

#: One line of a lab's status: what is shown of a host, under its heading; "host" comes first.
StatusRow = dict[str, str]


class Backend:
    """Who makes the hosts of a lab. What is here holds unless a kind of lab says otherwise."""

    #: Seconds that a measurement takes beside its window, about. Nothing is judged by it.
    overhead_seconds: float

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

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

    def check_down(self) -> None:
        """See that the hosts can be taken down.

        Raises:
            UsageError: zclab did not make them.
        """
