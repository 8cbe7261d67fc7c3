# SPDX-License-Identifier: Apache-2.0
"""Action: build the base image of the virtual hosts on the controller, or find it built."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from zclab.backends.virtual import image
from zclab.base.errors import ZclabError


class ActionModule(ActionBase):
    """Runs on the controller; touches no host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {changed, image, key, zclab_timing}, or a failure of one line."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={"disk_mib": {"type": "int", "required": True}}
        )
        disk_mib = arguments["disk_mib"]
        try:
            if self._task.check_mode:
                found = image.find(disk_mib)
                return {**result, "changed": found is None, "image": str(found.path) if found else ""}
            made = image.ensure(disk_mib, Display().display)
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        timing = [{"part": "image", "seconds": made.seconds}] if made.built else []
        return {
            **result,
            "changed": made.built,
            "image": str(made.path),
            "key": made.key,
            "zclab_timing": timing,
        }
