# SPDX-License-Identifier: Apache-2.0
"""Action: build the traffic tool on the controller, once for each state of its source, and install it."""

from __future__ import annotations

import hashlib
import shlex
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from zclab.base.c_program import MODE
from zclab.base.errors import ZclabError
from zclab.base.paths import cache_dir, project_root
from zclab.base.process import end_with_parent
from zclab.traffic.binary import binary_path, build


class ActionModule(ActionBase):
    """Arguments: dest, the path on the host."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return path, sha256 and changed; failed with one line if it does not compile."""
        end_with_parent()
        result: dict[str, Any] = super().run(tmp, task_vars)
        dest = self._task.args["dest"]
        directory = project_root() / "traffic"
        try:
            if self._task.check_mode and not binary_path(directory, cache_dir()).is_file():
                diff = {"prepared": f"{dest}: not built yet -> built and installed\n"}
                return {**result, "changed": True, "diff": diff}
            built = build(directory, cache_dir())
        except ZclabError as error:
            return {**result, "failed": True, "msg": str(error)}
        content = built.path.read_bytes()
        result.update(path=str(built.path), sha256=hashlib.sha256(content).hexdigest(), changed=False)
        if built.changed:
            Display().display(f"built {built.path} in {built.seconds} s")
            result["zclab_timing"] = {"part": "traffic tool compile", "seconds": built.seconds}
        # One command, and no module, when nothing differs; an emulated host takes seconds to start Python.
        file = shlex.quote(dest)
        question = f"test ! -L {file} && stat -c %a:%u:%g {file} && sha256sum <{file}"
        answer = str(self._low_level_execute_command(question)["stdout"]).split()
        if answer[:2] == [f"{MODE:o}:0:0", result["sha256"]]:
            return result
        task = self._task.copy()
        task.args = {
            "src": str(built.path),
            "dest": dest,
            "mode": f"{MODE:04o}",
            "owner": "root",
            "group": "root",
        }
        copy = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        copied = copy.run(task_vars=task_vars)
        copied.pop("invocation", None)
        was = "another file" if answer[2:] == ["-"] else "absent"
        copied["diff"] = {"prepared": f"{dest}: {was} -> sha256 {result['sha256'][:12]}\n"}
        return {**copied, **{key: value for key, value in result.items() if key != "changed"}}
