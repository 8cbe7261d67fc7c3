# SPDX-License-Identifier: Apache-2.0
"""Action: build a kernel on the controller, or find it built."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from pydantic import TypeAdapter

from zclab.base.errors import ZclabError
from zclab.base.process import end_with_parent
from zclab.kernel import build
from zclab.kernel.artifact import BuiltArtifact
from zclab.kernel.drivers import Requirement
from zclab.kernel.spec import KernelVariant, check_variant_name, problem_of


class ActionModule(ActionBase):
    """Runs on the controller; touches no host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {changed, artifact, zclab_timing}, or a failure of one line."""
        end_with_parent()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "variant": {"type": "str", "required": True},
                "spec": {"type": "dict", "required": True},
                "required": {"type": "list", "elements": "dict", "default": []},
                "host_config": {"type": "str", "default": ""},
            }
        )
        try:
            variant = check_variant_name(arguments["variant"])
            spec = KernelVariant.model_validate(arguments["spec"])
            needs = TypeAdapter(tuple[Requirement, ...]).validate_python(arguments["required"])
        except ValueError as error:
            return {**result, "failed": True, "msg": problem_of(arguments["variant"], error)}
        host_config = arguments["host_config"] or None
        try:
            if self._task.check_mode:
                return {**result, **_planned(variant, spec, needs, host_config)}
            built = build.build(variant, spec, needs, host_config, Display().display)
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        timings = [{"part": timing.part, "seconds": timing.seconds} for timing in built.timings]
        return {
            **result,
            "changed": built.changed,
            "artifact": _fact(built.artifact),
            "zclab_timing": timings,
        }


def _planned(
    variant: str, spec: KernelVariant, needs: tuple[Requirement, ...], host_config: str | None
) -> dict[str, Any]:
    """Return the result of a dry run; `--diff` prints a line if the kernel would be built."""
    found = None
    if spec.config.base == "host" and host_config is None:
        line = f"kernel {variant}: starts from the configuration of a host that is not up, so it may be built"
    else:
        found = build.find(variant, spec, needs, host_config)
        line = "" if found else f"kernel {variant}: absent -> built"
    diff = {"prepared": f"{line}\n"} if line else {}
    return {"changed": found is None, "artifact": _fact(found), "diff": diff, "zclab_timing": []}


def _fact(artifact: BuiltArtifact | None) -> dict[str, Any]:
    """Return the artifact as plain values, with its directory; empty if there is none."""
    return {**artifact.model_dump(mode="json"), "directory": str(artifact.directory)} if artifact else {}
