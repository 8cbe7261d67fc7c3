# SPDX-License-Identifier: Apache-2.0
"""site.yml as a dry run, and restore.yml, as a user runs them: for each kind of lab, untouched and up.

The tests of the namespaces lab run in the order of this file.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import factories
from tests.ssh_server import free_port

from zclab.backends.namespaces import lab as namespaces
from zclab.base.paths import project_root
from zclab.lab import inventory

SENDER, RECEIVER = "sender1", "receiver1"


@dataclass
class Played:
    """How a playbook ended: what it printed, its status, and its messages of failure."""

    printed: str
    status: int

    @property
    def failures(self) -> list[str]:
        """The messages of what failed or was unreachable, in order."""
        blocks = re.findall(
            r"^(?:fatal|failed): .*\n((?:    .*\n)+)", self.printed.replace("\n\n", "\n"), re.MULTILINE
        )
        return [str(yaml.safe_load(block)["msg"]) for block in blocks]

    def changes(self, task: str) -> list[str]:
        """The lines that a task printed of its changes on all hosts, sorted."""
        part = self.printed.partition(f": {task}] *")[2].partition("\nTASK [")[0].partition("\nPLAY ")[0]
        return sorted(line for line in part.splitlines() if " -> " in line)

    def changed(self) -> dict[str, int]:
        """The number of changed tasks by host."""
        found = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", self.printed, re.MULTILINE)
        return {host: int(count) for host, count in found}


class LabUnderTest:
    """A copy of an inventory, with a state and a cache of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.root = directory
        self.inventory = directory / "inventory" / name
        shutil.copytree(project_root() / "inventory" / name, self.inventory)

    @property
    def state_dir(self) -> Path:
        return inventory.parse(self.inventory, factories.listing(self.inventory)).state_dir

    def play(
        self, playbook: str, *options: str, cache: Path | None = None, connect_anew: bool = False
    ) -> Played:
        """Run a playbook; connect_anew: not over connections that earlier ones left open."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.inventory)]
        done = subprocess.run(
            [*command, f"playbooks/{playbook}.yml", *options],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "COLUMNS": "1000",
                **({"ZCLAB_CACHE": str(cache)} if cache else {}),
                **({"ANSIBLE_SSH_ARGS": "-o ControlPath=none -o BatchMode=yes"} if connect_anew else {}),
            },
        )
        return Played(done.stdout + done.stderr, done.returncode)

    def files(self) -> dict[str, str]:
        """Return the files below the lab's directory, with when they were changed.

        Left out is what Ansible keeps for itself, and the lists of Debian's packages, read under a lock.
        """
        cache = self.root / "cache"
        own = {cache / "ansible", cache / "apt", cache / "locks"}
        return {
            str(path): str(path.stat().st_mtime_ns)
            for path in self.root.rglob("*")
            if path != cache and not own & {path, *path.parents}
        }


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "virtual",
            ["build the base image", "start sender1", "start receiver1", "kernel full: absent -> built"],
        ),
        ("namespaces", ["would be: sender1: made network namespace", "would be: receiver1: made network"]),
    ],
)
def test_a_dry_run_of_an_untouched_lab(tmp_path: Path, name: str, lines: list[str]) -> None:
    if name == "namespaces" and os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    lab = LabUnderTest(tmp_path, name)
    before = lab.files()
    played = lab.play("site", "--check", "--diff", cache=tmp_path / "cache")
    assert (played.status, played.failures) == (0, []), played.printed
    for line in lines:
        assert line in played.printed
    for host in (SENDER, RECEIVER):
        told = f"{host}: not up yet, so what would be changed on it is not known"
        assert played.printed.count(told) == 1
    assert lab.files() == before


def hardware(directory: Path) -> LabUnderTest:
    """Return a hardware lab whose hosts do not answer."""
    lab = LabUnderTest(directory, "connectx3")
    hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text(encoding="utf-8"))
    for group in hosts.values():
        for host in group["hosts"].values():
            host.update(ansible_host="127.0.0.1", ansible_port=free_port())
    (lab.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    return lab


def test_a_dry_run_refuses_unknown_host_keys_as_a_real_run_does(tmp_path: Path) -> None:
    lab = hardware(tmp_path)
    before = lab.files()
    played = lab.play("site", "--check", "--diff", cache=tmp_path / "cache")
    assert played.status != 0
    assert len(played.failures) == 1, played.printed
    assert (
        f"{lab.state_dir}/known_hosts: has no key for cx3-sender1, cx3-receiver1: run `ssh-keyscan"
        in played.failures[0]
    )
    assert lab.files() == before


def test_hosts_that_do_not_answer_are_all_that_is_said(tmp_path: Path) -> None:
    """The build does not follow with a reason of its own, in a dry run and without."""
    lab = hardware(tmp_path)
    lab.state_dir.mkdir(parents=True)
    hosts = yaml.safe_load((lab.inventory / "hosts.yml").read_text(encoding="utf-8"))
    ports = [host["ansible_port"] for group in hosts.values() for host in group["hosts"].values()]
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
    key = f"ssh-ed25519 {base64.b64encode(blob).decode()}"
    known = "".join(f"[127.0.0.1]:{port} {key}\n" for port in ports)
    (lab.state_dir / "known_hosts").write_text(known, encoding="utf-8")
    before = lab.files()
    planned = lab.play("site", "--check", "--diff", cache=tmp_path / "cache")
    assert lab.files() == before
    done = lab.play("site", cache=tmp_path / "cache")
    for played in (planned, done):
        assert played.status != 0
        assert len(played.failures) == 2, played.printed
        assert all("Connection refused" in message for message in played.failures)


# The namespaces lab, up


class Host:
    """One of its hosts, seen from outside."""

    def __init__(self, lab: LabUnderTest, name: str) -> None:
        self.namespace = namespaces.namespace(lab.state_dir, name)
        self.tree = namespaces.tree(lab.state_dir, name)

    def run(self, *command: str) -> str:
        words = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def state(self) -> dict[str, Any]:
        """Return the whole state of the host: network, sysctls, NIC, files."""
        links = json.loads(self.run("ip", "-j", "-d", "addr"))
        for link in links:
            link["flags"] = "UP" in link["flags"]
            del link["operstate"], link["qdisc"]
            link["addr_info"] = [item for item in link["addr_info"] if item["scope"] != "link"]
        routes = [
            line
            for family in ("-4", "-6")
            for line in self.run("ip", family, "-d", "route", "show", "table", "all").splitlines()
            if "fe80::" not in line and "ff00::" not in line
        ]
        sysctls = self.run("sysctl", "-a", "-r", "^net[.]").splitlines()
        return {
            "links": links,
            "routes": sorted(re.sub(r" linkdown| dead", "", line) for line in routes),
            "rules": self.run("ip", "rule"),
            # What the kernel draws by lot or counts by itself.
            "sysctls": [
                line for line in sysctls if "fastopen_key" not in line and "nf_conntrack" not in line
            ],
            "ethtool": [
                self.run("sh", "-c", f"ethtool {option} data0 2>&1; true") for option in ("-k", "-l", "-c")
            ],
            "steering": self.run("sh", "-c", "cat /sys/class/net/data0/queues/rx-*/rps_cpus"),
            "files": self.files(),
        }

    def files(self) -> dict[str, bytes]:
        """Return the host's own files, but for what every login may leave."""
        found = sorted(path for top in ("etc", "usr", "var/lib") for path in (self.tree / top).rglob("*"))
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in found}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("openssh-server is not installed")
    made = LabUnderTest(tmp_path_factory.mktemp("lab"), "namespaces")
    assert made.play("hosts_up").status == 0
    try:
        yield made
    finally:
        assert made.play("hosts_down", "-e", "purge=true").status == 0


@pytest.fixture(scope="module")
def hosts(lab: LabUnderTest) -> dict[str, Host]:
    return {name: Host(lab, name) for name in (SENDER, RECEIVER)}


@pytest.fixture(scope="module")
def untuned(hosts: dict[str, Host]) -> dict[str, Any]:
    return {name: host.state() for name, host in hosts.items()}


TASKS = ("Install the traffic tool", "Tune the link", "Set the limits")


def test_a_dry_run_says_what_then_happens(
    lab: LabUnderTest, hosts: dict[str, Host], untuned: dict[str, Any]
) -> None:
    planned = lab.play("site", "--check", "--diff")
    assert planned.status == 0, planned.printed
    assert {name: host.state() for name, host in hosts.items()} == untuned
    link = planned.changes("Tune the link")
    for wanted in ("address fd5a:6c61:62:1::1/64", "address 198.18.1.1/30", "address 198.18.1.2/30"):
        assert f"{wanted}: absent -> present" in link

    done = lab.play("site", "--diff")
    assert done.status == 0, done.printed
    for task in TASKS:
        assert planned.changes(task), task
        assert planned.changes(task) == done.changes(task)
    assert planned.changed() == done.changed()


def test_a_dry_run_of_a_lab_that_is_as_declared(lab: LabUnderTest) -> None:
    played = lab.play("site", "--check", "--diff")
    assert (played.status, set(played.changed().values())) == (0, {0}), played.printed


@pytest.mark.nightly
@pytest.mark.usefixtures("untuned")  # read before anything is tuned, also when no other test is selected
def test_a_dry_run_refuses_what_a_real_run_does(lab: LabUnderTest) -> None:
    path = lab.inventory / "group_vars/all/limits.yml"
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    document["zclab_limits"]["sysctls"]["net.ipv4.nosuch"] = 1
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    try:
        planned, done = lab.play("tune", "--check", "--diff"), lab.play("tune")
    finally:
        path.write_text(text, encoding="utf-8")
    assert sorted(planned.failures) == sorted(done.failures)
    assert "has no sysctl net.ipv4.nosuch" in planned.failures[0]


def test_restore_goes_on_whatever_fails_and_names_it(
    lab: LabUnderTest, hosts: dict[str, Host], untuned: dict[str, Any]
) -> None:
    """A host does not answer, and a part of the other one fails; later, all is as before the first change."""
    keys = hosts[SENDER].tree / "etc/ssh/authorized_keys"
    saved = hosts[RECEIVER].tree / "var/lib/zclab/limits.json"
    texts = {path: path.read_text(encoding="utf-8") for path in (keys, saved)}
    keys.write_text("", encoding="utf-8")
    saved.write_text("{", encoding="utf-8")
    first = lab.play("restore", connect_anew=True)
    assert first.status != 0, first.printed
    assert first.failures[-2:] == [
        "sender1: not restored: tools of a cross-check, the kernel's own tests, traffic tool, limits, link: "
        "it does not answer",
        "receiver1: not restored: limits: receiver1: /var/lib/zclab/limits.json is not JSON: look at it, "
        "then remove it",
    ]
    assert hosts[RECEIVER].state()["links"] == untuned[RECEIVER]["links"]
    assert not (hosts[RECEIVER].tree / "usr/local/bin/zclab-traffic").exists()

    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    second = lab.play("restore", "--diff")
    assert (second.status, second.failures) == (0, []), second.printed
    assert "address 198.18.1.1/30: present -> absent" in second.changes("Put the link back as it was")
    assert {name: host.state() for name, host in hosts.items()} == untuned


@pytest.mark.nightly
def test_a_dry_restore_says_what_then_happens(
    lab: LabUnderTest, hosts: dict[str, Host], untuned: dict[str, Any]
) -> None:
    assert (played := lab.play("tune")).status == 0, played.printed
    before = {name: host.state() for name, host in hosts.items()}
    planned = lab.play("restore", "--check", "--diff")
    assert {name: host.state() for name, host in hosts.items()} == before
    done = lab.play("restore", "--diff")
    for task in ("Put the link back as it was", "Put the limits back as they were"):
        assert planned.changes(task) == done.changes(task) != []
    assert {name: host.state() for name, host in hosts.items()} == untuned
    assert set(lab.play("restore").changed().values()) == {0}
