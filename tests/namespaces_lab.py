# SPDX-License-Identifier: Apache-2.0
"""A namespaces lab for tests: a copy of the inventory, with a state of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests import factories

from zclab.backends.namespaces import lab as namespaces
from zclab.base.paths import project_root
from zclab.lab import inventory
from zclab.lab.model import Lab


class NamespacesLab:
    """A copy of the namespaces inventory below a directory. Who brings it up takes it down."""

    def __init__(self, directory: Path, name: str = "namespaces") -> None:
        self.directory = directory / "inventory" / name
        shutil.copytree(project_root() / "inventory" / "namespaces", self.directory)

    @property
    def lab(self) -> Lab:
        """The lab as its inventory is now."""
        return inventory.parse(self.directory, factories.listing(self.directory))

    def namespace(self, host: str) -> str:
        """Return the name of a host's network namespace."""
        return namespaces.namespace(self.lab.state_dir, host)
