# SPDX-License-Identifier: Apache-2.0
"""Action: read and check the inventory of this play, and return it resolved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase

from zclab.backends.choice import backend_of
from zclab.base.errors import UsageError, ZclabError
from zclab.base.paths import project_root
from zclab.lab import inventory


def _check_settings() -> None:
    """Raise UsageError unless Ansible has read this project's ansible.cfg: the playbooks rely on it.

    Ansible looks for it in the current directory alone, and not if others can write there.
    """
    wanted = project_root() / "ansible.cfg"
    if constants.CONFIG_FILE is None or Path(constants.CONFIG_FILE) != wanted:
        raise UsageError(
            f"Ansible has not read {wanted}: run ansible-playbook in {wanted.parent} (where no "
            f"others may write), or set ANSIBLE_CONFIG={wanted}"
        )


class ActionModule(ActionBase):
    """Runs on the controller; touches no host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the resolved lab as plain values, or a failure of one line."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        first = variables["groups"]["all"][0]
        try:
            _check_settings()
            lab = inventory.load(variables["hostvars"][first]["inventory_dir"])
            facts = backend_of(lab).facts(variables.get("zclab_variant"))
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**facts, **result, "changed": False}
