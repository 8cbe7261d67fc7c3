# SPDX-License-Identifier: Apache-2.0
"""Two virtual hosts of a test's own, and playbooks of single roles against them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

from zclab.backends.virtual import lab as hosts
from zclab.base.paths import project_root

SENDER, RECEIVER = "role-sender", "role-receiver"
ADDRESSES = {SENDER: "fd5a:6c61:64::1/64", RECEIVER: "fd5a:6c61:64::2/64"}
COMMAND_SECONDS = 120


@dataclass
class Played:
    """How a playbook ended: its exit status, the numbers a host, and the results of its tasks by host."""

    status: int
    stats: dict[str, dict[str, int]]
    results: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    printed: str = ""

    def changed(self) -> dict[str, int]:
        """Return the number of changed tasks of each host."""
        return {host: self.stats["changed"].get(host, 0) for host in ADDRESSES}

    def message(self, host: str) -> str:
        """Return the failure of a host, "" if it did not fail."""
        return next(
            (str(res["msg"]) for name, _, res in self.results if name == host and res.get("failed")), ""
        )

    def result(self, host: str, task: str) -> dict[str, Any]:
        """Return what a task returned for a host."""
        return next(res for name, title, res in self.results if (name, title) == (host, task))

    def remote_tasks(self, host: str) -> int:
        """Return how many tasks did something on a host (all but the checks of the roles' arguments)."""
        return sum(name == host and "Validating arguments" not in title for name, title, _ in self.results)


class RoleLab:
    """Two running virtual hosts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.inventory = directory / "hosts.yml"
        self._plays = 0

    def up(self) -> None:
        """Start the hosts and write the inventory."""
        declared = (
            hosts.HostSpec(SENDER, "virtio-net", peer=RECEIVER),
            hosts.HostSpec(RECEIVER, "e1000e", peer=SENDER),
        )
        hosts.up(hosts.LabSpec(self.state_dir, declared))
        document = {
            "all": {
                "vars": {
                    "ansible_user": "root",
                    "ansible_ssh_common_args": f"-F {self.state_dir}/ssh_config",
                },
                "hosts": {name: {"address": address} for name, address in ADDRESSES.items()},
            }
        }
        self.inventory.write_text(yaml.safe_dump(document), encoding="utf-8")

    def console_log(self) -> str:
        """Return the path of a host's console log, as a template for playbooks."""
        return f"{self.state_dir}/hosts/{{{{ inventory_hostname }}}}/console.log"

    def reset_command(self) -> str:
        """Return the command that resets a host, as a template for playbooks."""
        return (
            f"{sys.executable} -m zclab.backends.virtual reset {self.state_dir} {{{{ inventory_hostname }}}}"
        )

    def play(self, *roles: dict[str, Any], check: bool = False, limit: str = "all") -> Played:
        """Run roles on the hosts, each one as {name, tasks_from (optional), vars (optional)}."""
        self._plays += 1
        private = self.directory / f"play-{self._plays}"
        private.mkdir()
        tasks = [
            {
                "name": f"Role {role['name']}",
                "ansible.builtin.include_role": {
                    key: role[key] for key in ("name", "tasks_from") if key in role
                },
                "vars": role.get("vars", {}),
            }
            for role in roles
        ]
        playbook = private / "play.yml"
        playbook.write_text(
            yaml.safe_dump([{"name": "Play", "hosts": "all", "gather_facts": False, "tasks": tasks}]),
            encoding="utf-8",
        )
        done = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(project_root()),
            playbook=str(playbook),
            inventory=str(self.inventory),
            limit=limit,
            cmdline="--check" if check else "",
            envvars={
                "ANSIBLE_CONFIG": str(project_root() / "ansible.cfg"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            quiet=True,
        )
        played = Played(done.rc, {"changed": {}, **(done.stats or {})}, printed=done.stdout.read())
        for event in done.events:
            if event["event"] in ("runner_on_ok", "runner_on_failed", "runner_on_unreachable"):
                data = event["event_data"]
                title = str(data["task"]).rpartition(" : ")[2]
                if not data["task_action"].endswith(("include_role", "include_tasks")):
                    played.results.append(
                        (data["host"], title, {**data["res"], "failed": event["event"] != "runner_on_ok"})
                    )
        return played

    def ssh(self, host: str, command: str) -> str:
        """Run a command on a host and return what it printed."""
        return self.ssh_bytes(host, command).decode()

    def ssh_bytes(self, host: str, command: str) -> bytes:
        """Run a command on a host and return what it printed, as it is."""
        words = ["ssh", "-F", str(self.state_dir / "ssh_config"), "-o", "ControlPath=none", host, command]
        return subprocess.run(
            words, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS
        ).stdout

    def broken_artifact(self, name: str, image: bytes) -> dict[str, str]:
        """Make an artifact whose package is well-formed and whose kernel cannot come up."""
        key = hashlib.sha256(name.encode()).hexdigest()
        release = f"6.1.999-zclab-{key[:10]}"
        directory = self.directory / name
        tree = directory / "tree"
        for part in ("DEBIAN", "boot"):
            (tree / part).mkdir(parents=True)
        (tree / f"boot/vmlinuz-{release}").write_bytes(image)
        (tree / f"boot/config-{release}").write_text("# none\n", encoding="utf-8")
        (tree / "DEBIAN/control").write_text(
            f"Package: linux-image-{release}\nVersion: 1\nArchitecture: amd64\n"
            "Maintainer: a test <test@example.invalid>\nDescription: a kernel that does not come up\n",
            encoding="utf-8",
        )
        command = [
            "dpkg-deb",
            "--root-owner-group",
            "-Znone",
            "--build",
            str(tree),
            str(directory / "kernel.deb"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {
            "key": key,
            "release": release,
            "build_id": key[:40],
            "deb": "kernel.deb",
            "directory": str(directory),
        }


@contextlib.contextmanager
def role_lab(directory: Path) -> Iterator[RoleLab]:
    """Bring two hosts up below `directory`, and take them down at the end."""
    lab = RoleLab(directory)
    try:
        lab.up()
        yield lab
    finally:
        hosts.down(lab.state_dir, purge=True)
