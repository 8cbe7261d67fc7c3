# SPDX-License-Identifier: Apache-2.0
"""Action: bring the virtual hosts of a lab up or down, on the controller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from zclab.backends.virtual import lab as hosts
from zclab.base.errors import ZclabError
from zclab.base.process import end_with_parent


class ActionModule(ActionBase):
    """Runs on the controller; what it needs of the guests goes through their own SSH ports."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {changed, changes, accelerator, emulated, hosts, zclab_timing}, or a failure of one line."""
        end_with_parent()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["up", "down", "absent"], "default": "up"},
                "state_dir": {"type": "path", "required": True},
                "hosts": {"type": "list", "elements": "dict", "default": []},
                "memory_mib": {"type": "int"},
                "cpus": {"type": "int"},
                "disk_mib": {"type": "int"},
                "suite": {"type": "str"},
            },
            required_if=[("state", "up", ("hosts", "memory_mib", "cpus", "disk_mib", "suite"))],
        )
        try:
            done = _apply(arguments, arguments["state"], check=bool(self._task.check_mode))
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, **done}


def _apply(arguments: dict[str, Any], state: str, *, check: bool) -> dict[str, Any]:
    state_dir = Path(arguments["state_dir"]).resolve()
    if state == "up":
        spec = hosts.LabSpec.from_facts({**arguments, "virtual": arguments})
        if check:
            return _planned(hosts.pending(spec))
        outcome = hosts.up(spec, Display().display)
    elif check:
        return _planned(_pending_down(state_dir, state))
    else:
        outcome = hosts.down(state_dir, purge=state == "absent", on_progress=Display().display)
    done: dict[str, Any] = {
        "changed": outcome.changed,
        "changes": outcome.changes,
        "zclab_timing": [{"part": timing.part, "seconds": timing.seconds} for timing in outcome.timings],
        "hosts": [
            {"name": host.name, "running": host.running, "pid": host.pid, "ssh_port": host.ssh_port}
            for host in hosts.status(state_dir)
        ],
    }
    if outcome.accelerator is not None:
        done["accelerator"] = outcome.accelerator.accelerator
        done["emulated"] = outcome.accelerator.emulated
        done["reason"] = outcome.accelerator.reason
    return done


def _planned(changes: list[str]) -> dict[str, Any]:
    """Return the result of a dry run; `--diff` prints a line for each change."""
    diff = {"prepared": "".join(f"{line}\n" for line in changes)}
    return {"changed": bool(changes), "changes": changes, "diff": diff}


def _pending_down(state_dir: Path, state: str) -> list[str]:
    changes = [f"stop {host.name}" for host in hosts.status(state_dir) if host.running]
    if state == "absent" and state_dir.is_dir():
        changes.append(f"remove {state_dir}")
    return changes
