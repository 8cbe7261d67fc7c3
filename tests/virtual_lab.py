# SPDX-License-Identifier: Apache-2.0
"""A virtual lab of the tests' own, driven by the commands that a user types."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from zclab.base.paths import project_root, runs_dir
from zclab.host.ssh import Remote, RemoteError
from zclab.lab import inventory
from zclab.lab.model import Lab


class Done(NamedTuple):
    """What a command printed and how it ended."""

    status: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"status {self.status}\n{self.stdout[-6000:]}\n{self.stderr[-3000:]}"


class LabUnderTest:
    """A copy of the virtual inventory with a state of its own, driven by the commands a user types."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "inventory" / "virtual"
        shutil.copytree(project_root() / "inventory" / "virtual", self.directory)
        self._plan = directory / "plan.yml"
        self.set("lab.yml", "zclab_plan", str(self._plan))

    @property
    def lab(self) -> Lab:
        return inventory.load(self.directory)

    def use(self, kernel_variant: str, plan: dict[str, Any]) -> None:
        """Bring the hosts up with a kernel of the lab, and make a plan the lab's own."""
        self.set("kernel.yml", "zclab_kernel_variant", kernel_variant)
        self._plan.write_text(yaml.safe_dump(plan), encoding="utf-8")
        self.up()

    def set(self, file: str, key: str, value: Any) -> None:
        """Replace one top-level key of a file in group_vars (all/ unless the file is a group's own)."""
        path = self.directory / "group_vars" / file
        if not path.exists():
            path = self.directory / "group_vars" / "all" / file
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        data[key] = value
        path.write_text(yaml.safe_dump(data), encoding="utf-8")

    def run_tool(self, *command: str, seconds: float = 1500) -> Done:
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def zclab(self, command: str, *arguments: str) -> Done:
        return self.run_tool("zclab", command, "--lab", str(self.directory), *arguments)

    def playbook(self, name: str, *arguments: str) -> Done:
        return self.run_tool(
            "ansible-playbook", "-i", str(self.directory), f"playbooks/{name}.yml", *arguments
        )

    def up(self) -> str:
        done = self.zclab("up")
        assert done.status == 0, str(done)
        return done.stdout

    def measure(self, *plan: str) -> tuple[Done, dict[str, Any]]:
        """Carry out a plan, else the lab's own; return what was printed and the run's document."""
        done = self.zclab("run", *plan)
        match = re.search(r"^run (\S+):", done.stdout, re.MULTILINE)
        assert match, str(done)
        document = json.loads(self.run_tool("zclab", "show", match[1], "--json").stdout)
        shutil.rmtree(runs_dir() / match[1])
        return done, document

    def remote(self, host: str) -> Remote:
        return Remote(host, self.lab.state_dir / "ssh_config")

    def shell(self, host: str, command: str) -> str:
        with self.remote(host) as remote:
            return remote.output(command)

    def wait_for_reboot(self, host: str, boot_id: str) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if self.shell(host, "cat /proc/sys/kernel/random/boot_id").strip() != boot_id:
                    return
            except RemoteError:
                time.sleep(2)
        raise AssertionError(f"{host} did not come back")
