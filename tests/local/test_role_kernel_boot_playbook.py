# SPDX-License-Identifier: Apache-2.0
"""docs/kernel_boot-playbook.yml as another project runs it: with an Ansible whose Python has no zclab.

The host is a mount namespace of this machine: a fake host's files lie over the machine's own, its programs
come first, its ssh runs commands here, and its shutdown boots what GRUB would.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.kernel_boot_fake import BUILD_ID, MARK, MINE, STOCK, FakeHost, make_deb
from tests.role_modules import write_tree

from zclab.base.paths import project_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root")

PROGRAMS = ("dpkg", "dpkg-query", "grub-editenv", "grub-probe", "grub-reboot", "update-grub", "shutdown")
#: Files and directories of the fake host that lie over the machine's own.
MOUNTED = (
    "boot",
    "etc/default",
    "var/lib",
    "usr/local/sbin",
    "proc/sys/kernel/osrelease",
    "proc/sys/kernel/random/boot_id",
    "sys/kernel/notes",
)
SSH = """#!/bin/sh
for word; do [ "$word" != -O ] || exit 1; done
exec sh -c "$word"
"""
#: ansible-playbook in a Python where zclab cannot be imported.
WITHOUT_ZCLAB = "import sys; sys.modules['zclab'] = None; from ansible.cli.playbook import main; main()"


class Bench:
    """A fake host below `directory`, and playbooks that are run against it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        self.fake = FakeHost(self.root, STOCK)
        self.fake.boots()
        write_tree(self.root, {"var/lib/zclab/keep": "", "var/lib/dpkg/status": "", "etc/default/grub": ""})
        (self.root / "var/lib/zclab/keep").unlink()
        write_tree(self.root / "usr/local/sbin", {name: self.program(name) for name in PROGRAMS})
        write_tree(
            directory, {"ssh": SSH, "ansible.cfg": "[defaults]\ninterpreter_python = /usr/bin/python3\n"}
        )
        for path in (directory / "ssh", *(self.root / "usr/local/sbin").iterdir()):
            path.chmod(0o755)
        host = {
            "ansible_user": "root",
            "ansible_ssh_executable": str(directory / "ssh"),
            "ansible_ssh_transfer_method": "piped",
        }
        inventory = {"all": {"hosts": {"server1": host}}}
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def program(self, name: str) -> str:
        """Return a script that is one of the fake host's programs."""
        run = f"cd {project_root()} && exec {sys.executable} -m tests.kernel_boot_fake {self.root}"
        return f'#!/bin/sh\n{run} {name} "$@"\n'

    def play(self, playbook: Path, **variables: str) -> tuple[int, str]:
        """Run a playbook where the fake host is and zclab is not; return its status and what it printed."""
        mounts = [f"mount --bind {self.root / path} /{path}" for path in MOUNTED]
        # The role's shutdown is in /sbin, where a machine in a chroot or container has none.
        layers = f"{self.root}/usr/local/sbin:/usr/sbin"
        mounts.append(f"mount -t overlay -o ro,lowerdir={layers} none $(readlink -f /sbin)")
        mounts.append("if [ -d /sys/firmware/efi ]; then mount -t tmpfs none /sys/firmware/efi; fi")
        arguments = [word for item in variables.items() for word in ("-e", "=".join(item))]
        command = [sys.executable, "-c", WITHOUT_ZCLAB, "-i", str(self.directory / "hosts.yml")]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, 'exec "$@"']), "sh", *command]
            + [*arguments, str(playbook)],
            cwd=self.directory,
            env={
                **os.environ,
                "ANSIBLE_ROLES_PATH": str(project_root() / "roles"),
                "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr

    def boot(self, **given: str) -> tuple[int, str]:
        """Run the documented playbook."""
        variables = {
            "my_kernel_release": MINE,
            "my_kernel_build_id": BUILD_ID,
            "my_kernel_package": str(self.directory / "kernel.deb"),
            "my_kernel_mark": MARK,
            **given,
        }
        return self.play(project_root() / "docs/kernel_boot-playbook.yml", **variables)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    make_deb(tmp_path, MINE, "# none\n")
    return made


def changed(output: str) -> str:
    found = re.search(r"^server1 .*changed=(\d+)", output, re.MULTILINE)
    return found[1] if found else output


def test_the_documented_playbook_boots_proves_and_promotes(bench: Bench) -> None:
    status, output = bench.boot()
    assert status == 0, output
    assert f"server1: rebooting into {MINE}" in output
    assert bench.fake.host.kernel()["release"] == MINE
    assert bench.fake.host.attempt()["outcome"] == "proved"
    assert bench.fake.host.default() == MINE
    status, output = bench.boot()
    assert (status, changed(output)) == (0, "0"), output


def test_it_refuses_a_kernel_without_the_mark(bench: Bench) -> None:
    before = bench.fake.state()
    status, output = bench.boot(my_kernel_mark="-mylab-")
    assert status != 0
    assert f"kernel {MINE} does not have -mylab- in its release" in " ".join(output.split())
    assert bench.fake.state() == before


def test_another_build_of_the_same_release_is_not_it(bench: Bench) -> None:
    status, output = bench.boot(my_kernel_build_id="cd34")
    assert status != 0
    assert f"its build id is {BUILD_ID}, not the artifact's cd34" in " ".join(output.split())
    assert bench.fake.host.default() == STOCK


def test_a_kernel_that_hangs_is_reset_once(bench: Bench) -> None:
    write_tree(bench.root, {"hangs": ""})
    status, output = bench.boot(kernel_boot_timeout="2")
    assert status != 0
    said = " ".join(output.split())
    assert f"kernel {MINE} did not come up within 2 s, and no reset command is known" in said
    reset = bench.directory / "reset"
    reset.write_text(bench.program("reset"), encoding="utf-8")
    reset.chmod(0o755)
    status, output = bench.boot(kernel_boot_timeout="2", kernel_boot_reset_command=str(reset))
    assert status != 0
    assert f"did not come up within 2 s; it was reset and {STOCK} runs now" in " ".join(output.split())
    assert bench.fake.host.attempt()["outcome"] == "fell back"


def test_link_and_limits_need_no_zclab_either(bench: Bench) -> None:
    """What the machine has already is declared, so that nothing is changed."""
    link = {"role": "link_tuning", "link_tuning_interface": "lo", "link_tuning_addresses": []}
    timestamps = Path("/proc/sys/net/ipv4/tcp_timestamps").read_text(encoding="ascii").strip()
    limits = {"role": "host_limits", "host_limits_sysctls": {"net.ipv4.tcp_timestamps": timestamps}}
    play = [{"hosts": "all", "gather_facts": False, "roles": [link, limits]}]
    (bench.directory / "tune.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    status, output = bench.play(bench.directory / "tune.yml")
    assert (status, changed(output)) == (0, "0"), output
    assert "Tune the link" in output and "Set the limits" in output


def test_zclab_is_really_missing(bench: Bench) -> None:
    """A role that needs the package fails there."""
    play = [{"hosts": "all", "gather_facts": False, "roles": ["lab"]}]
    (bench.directory / "lab.yml").write_text(yaml.safe_dump(play), encoding="utf-8")
    status, output = bench.play(bench.directory / "lab.yml")
    assert status != 0
    assert "No module named 'zclab" in output, output
