# SPDX-License-Identifier: Apache-2.0
"""Action: read and check the inventory of this play, and return it resolved."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from zclab.backends.choice import backend_of
from zclab.base.errors import ZclabError
from zclab.lab import inventory


class ActionModule(ActionBase):
    """Runs on the controller; touches no host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the resolved lab as plain values, or a failure of one line."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        first = variables["groups"]["all"][0]
        try:
            lab = inventory.load(variables["hostvars"][first]["inventory_dir"])
            facts = backend_of(lab).facts(variables.get("zclab_variant"))
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**facts, **result, "changed": False}
