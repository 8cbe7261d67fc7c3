# SPDX-License-Identifier: Apache-2.0
"""Action: build what a guest of an exact lab is made from on the controller, or find it built."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from zclab.backends.exact import kernel, programs
from zclab.base.errors import ZclabError
from zclab.base.paths import cache_dir, project_root
from zclab.base.process import end_with_parent
from zclab.kernel import build
from zclab.kernel.spec import KernelVariant, check_variant_name, problem_of
from zclab.traffic import binary


class ActionModule(ActionBase):
    """Runs on the controller; touches no host."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return {changed, zclab_timing}, or a failure of one line."""
        end_with_parent()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "suite": {"type": "str", "required": True},
                "kernel": {"type": "str", "required": True},
                "kernel_spec": {"type": "dict", "required": True},
            }
        )
        try:
            variant = check_variant_name(arguments["kernel"])
            spec = KernelVariant.model_validate(arguments["kernel_spec"])
        except ValueError as error:
            return {**result, "failed": True, "msg": problem_of(arguments["kernel"], error)}
        try:
            if self._task.check_mode:
                return {**result, **_planned(variant, spec)}
            return {**result, **_built(variant, spec, arguments["suite"])}
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}


def _built(variant: str, spec: KernelVariant, suite: str) -> dict[str, Any]:
    say = Display().display
    tool = binary.build(project_root() / "traffic", cache_dir())
    built = kernel.ensure(variant, spec, say)
    began = time.monotonic()
    programs.ensure(suite, "traffic", say)
    timings = [{"part": timing.part, "seconds": timing.seconds} for timing in built.timings]
    timings.append({"part": "programs of the guest", "seconds": round(time.monotonic() - began, 1)})
    return {"changed": tool.changed or built.changed, "zclab_timing": timings}


def _planned(variant: str, spec: KernelVariant) -> dict[str, Any]:
    """Return the result of a dry run; `--diff` prints a line if the kernel would be built."""
    found = build.find(variant, spec)
    diff = {} if found else {"prepared": f"kernel {variant}: absent -> built\n"}
    return {"changed": found is None, "diff": diff, "zclab_timing": []}
