# SPDX-License-Identifier: Apache-2.0
"""Loads the plugins of roles for unit tests, and runs a role's module as Ansible would."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible.module_utils

from zclab.base.paths import project_root

ROLES = project_root() / "roles"
#: What roles' modules share; Ansible puts these files into each module that it sends.
MODULE_UTILS = sorted(str(path) for path in ROLES.glob("*/module_utils"))
ansible.module_utils.__path__.extend(MODULE_UTILS)


def load(path: str) -> Any:
    """Import a file under roles/; what roles' modules share has the name by which these import it."""
    file = ROLES / path
    if file.parent.name == "module_utils":
        return importlib.import_module(f"ansible.module_utils.{file.stem}")
    name = f"role_plugin_{file.parent.parent.name}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_module(
    path: str, arguments: dict[str, Any], *prefix: str, check: bool = False, diff: bool = True
) -> dict[str, Any]:
    """Run a module file under roles/ as a program, with its arguments on stdin, and return its result.

    prefix: a command before the interpreter, such as `ip netns exec NAME`.
    """
    internal = {
        "_ansible_check_mode": check,
        "_ansible_diff": diff,
        "_ansible_remote_tmp": "/tmp",
        "_ansible_keep_remote_files": False,
    }
    # Ansible wraps a module the same way: its arguments and its profile are handed over, then it is run.
    wrapper = (
        "import ansible.module_utils, runpy, sys\n"
        f"ansible.module_utils.__path__.extend({MODULE_UTILS})\n"
        "from ansible.module_utils import basic\n"
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read()\n"
        "basic._ANSIBLE_PROFILE = 'legacy'\n"
        "runpy.run_path(sys.argv[1], run_name='__main__')\n"
    )
    done = subprocess.run(
        [*prefix, sys.executable, "-c", wrapper, str(ROLES / path)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **internal}}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, f"no result: {done.stdout}{done.stderr}"
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def write_tree(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory and return it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root
