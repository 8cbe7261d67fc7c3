# SPDX-License-Identifier: Apache-2.0
"""What the kind of a lab decides, as its backend answers it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paramiko
import pytest
from tests import factories

from zclab.backends.choice import backend_of
from zclab.backends.namespaces import lab as namespaces
from zclab.base.errors import LabError, UsageError
from zclab.base.paths import project_root
from zclab.kernel import build as kernel_build
from zclab.lab.model import Lab

KINDS = ("virtual", "namespaces", "hardware", "exact")


def lab_of(kind: str, state_dir: Path) -> Lab:
    name = {"hardware": "connectx3"}.get(kind, kind)
    return factories.lab(name).model_copy(update={"state_dir": state_dir})


@pytest.mark.parametrize(
    ("kind", "seconds"), [("virtual", 2.0), ("namespaces", 0.3), ("hardware", 0.7), ("exact", 4.0)]
)
def test_seconds_beside_a_window(kind: str, seconds: float, tmp_path: Path) -> None:
    assert backend_of(lab_of(kind, tmp_path)).overhead_seconds == seconds


@pytest.mark.parametrize("kind", ["virtual", "hardware"])
def test_a_console_log_is_in_the_folder_of_its_host(kind: str, tmp_path: Path) -> None:
    found = backend_of(lab_of(kind, tmp_path)).console("receiver1")
    assert found == tmp_path / "hosts" / "receiver1" / "console.log"


def test_namespaces_have_no_console(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"namespaces: its hosts have no console: .* reports to dmesg$"):
        backend_of(lab_of("namespaces", tmp_path)).console("receiver1")


def test_only_what_the_lab_makes_can_be_taken_down(tmp_path: Path) -> None:
    ran: list[Any] = []

    def run(playbook: str, **extra_vars: Any) -> None:
        ran.append((playbook, extra_vars))

    for kind in ("virtual", "namespaces", "exact"):
        backend_of(lab_of(kind, tmp_path)).down(run, purge=kind == "virtual")
    assert ran == [("hosts_down", {"purge": purge}) for purge in (True, False, False)]
    with pytest.raises(UsageError, match=r"hardware hosts cannot be taken down: playbooks/restore.yml"):
        backend_of(lab_of("hardware", tmp_path)).down(run, purge=False)
    assert len(ran) == 3


def test_up_and_reset_are_playbooks_handed_to_whoever_runs_them(tmp_path: Path) -> None:
    ran: list[Any] = []

    def run(playbook: str, **extra_vars: Any) -> None:
        ran.append((playbook, extra_vars))

    for kind in ("virtual", "namespaces", "hardware"):
        backend_of(lab_of(kind, tmp_path)).up(run)
        backend_of(lab_of(kind, tmp_path)).reset(run, "receiver1")
    assert ran == [("hosts_up", {}), ("reset", {"zclab_host": "receiver1"})] * 3
    exact = backend_of(lab_of("exact", tmp_path))
    exact.up(run)
    assert ran[6:] == [("hosts_up", {})]
    with pytest.raises(UsageError, match="exact: no host stands between measurements"):
        exact.reset(run, "receiver1")


@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_names_the_role_that_makes_its_hosts(kind: str, tmp_path: Path) -> None:
    """Whatever a backend names, playbooks/hosts_up.yml and hosts_down.yml find with all its variables."""
    lab = lab_of(kind, tmp_path)
    backend = backend_of(lab).facts()["backend"]
    role = project_root() / "roles" / backend["role"]
    specs = factories.read_yaml(role / "meta/argument_specs.yml")["argument_specs"]
    assert set(specs) == ({"main", "down"} if backend["made"] else {"main"})
    assert backend["made"] == lab.traits.made
    options = {name for spec in specs.values() for name in spec["options"]}
    given = factories.read_yaml(project_root() / "playbooks/vars/hosts.yml")
    assert {name for name in given if name.startswith(f"{role.name}_")} == options


@pytest.mark.parametrize("kind", KINDS)
def test_facts_say_how_a_console_is_read_and_a_host_reset(kind: str, tmp_path: Path) -> None:
    """The command holds together where a path has spaces; what is not known is empty."""
    lab = lab_of(kind, tmp_path / "a lab")
    said = backend_of(lab).facts()["backend"]["hosts"]
    assert list(said) == [host.name for host in lab.hosts]
    for name, one in said.items():
        log, button = "", []
        if kind == "virtual":
            log = f"{tmp_path}/a lab/hosts/{name}/console.log"
            button = [sys.executable, "-m", "zclab.backends.virtual", "reset", f"{tmp_path}/a lab", name]
        assert (one["console_log"], shlex.split(one["reset_command"])) == (log, button)


def test_facts_are_the_labs_with_the_kernel_that_was_asked_for(tmp_path: Path) -> None:
    lab = lab_of("virtual", tmp_path)
    facts = backend_of(lab).facts("full-debug")
    del facts["backend"]
    assert facts == lab.facts("full-debug")
    with pytest.raises(UsageError, match="no kernel variant is called 'mine'"):
        backend_of(lab).facts("mine")


def test_hardware_hosts_are_reached_as_the_inventory_says(tmp_path: Path) -> None:
    """By name and by address, with the user's own keys: nothing else is written down."""
    lab = lab_of("hardware", tmp_path / "a lab")
    sender = lab.hosts[0].model_copy(update={"address": "192.0.2.7", "user": "admin", "port": 2222})
    receiver = lab.hosts[1].model_copy(update={"address": lab.hosts[1].name})
    facts = backend_of(lab.model_copy(update={"hosts": [sender, receiver]})).facts()
    config = paramiko.SSHConfig.from_text(facts["backend"]["ssh_config"])
    known = {"userknownhostsfile": f"{tmp_path}/a lab/known_hosts", "stricthostkeychecking": "yes"}
    for name in (sender.name, "192.0.2.7"):
        assert config.lookup(name) == known | {"hostname": "192.0.2.7", "user": "admin", "port": "2222"}
    assert config.lookup(receiver.name) == known | {"hostname": receiver.name, "user": "root", "port": "22"}


@pytest.mark.parametrize(
    ("lines", "unknown", "keyscan"),
    [
        (None, ["cx3-sender1", "cx3-receiver1"], ["ssh-keyscan -p 2222 192.0.2.7", "ssh-keyscan receiver"]),
        ([], ["cx3-sender1", "cx3-receiver1"], ["ssh-keyscan -p 2222 192.0.2.7", "ssh-keyscan receiver"]),
        (["192.0.2.7", "receiver"], ["cx3-sender1"], ["ssh-keyscan -p 2222 192.0.2.7"]),
        (["[192.0.2.7]:2222"], ["cx3-receiver1"], ["ssh-keyscan receiver"]),
        (["[192.0.2.7]:2222,other", "receiver"], [], []),
    ],
    ids=["no file", "empty file", "the wrong port", "one host only", "both"],
)
def test_a_key_is_known_for_the_address_and_port_of_each_hardware_host(
    lines: list[str] | None, unknown: list[str], keyscan: list[str], tmp_path: Path
) -> None:
    """paramiko and OpenSSH both look a key up under [address]:port where the port is not 22."""
    lab = lab_of("hardware", tmp_path)
    hosts = [
        lab.hosts[0].model_copy(update={"address": "192.0.2.7", "port": 2222}),
        lab.hosts[1].model_copy(update={"address": "receiver"}),
    ]
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJb0bNmbE2ZUPgyxiXAuQTB1Yqgpl1lXkbpvMj5oGWFM"
    if lines is not None:
        (tmp_path / "known_hosts").write_text("".join(f"{names} {key}\n" for names in lines))
    facts = backend_of(lab.model_copy(update={"hosts": hosts})).facts()["backend"]
    assert (facts["unknown_hosts"], facts["keyscan"]) == (unknown, keyscan)


def test_only_namespaces_are_made_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, missing in (("virtual", False), ("namespaces", True), ("hardware", False), ("exact", False)):
        assert backend_of(lab_of(kind, tmp_path)).missing() is missing
    monkeypatch.setattr(namespaces, "ready", lambda state_dir, hosts: True)
    assert not backend_of(lab_of("namespaces", tmp_path)).missing()


def test_only_virtual_hosts_have_an_accelerator(tmp_path: Path) -> None:
    for kind in ("namespaces", "hardware"):
        assert backend_of(lab_of(kind, tmp_path)).accelerator() is None
    assert backend_of(lab_of("exact", tmp_path)).accelerator() == "tcg"
    with pytest.raises(LabError, match="a virtual host does not run"):
        backend_of(lab_of("virtual", tmp_path)).accelerator()


def test_status_of_hosts_that_are_not_there(tmp_path: Path) -> None:
    rows = list(backend_of(lab_of("namespaces", tmp_path)).status())
    assert rows == [{"host": name, "state": "down"} for name in lab_of("namespaces", tmp_path).pair().names]
    assert {row["state"] for row in backend_of(lab_of("virtual", tmp_path)).status()} == {"down"}


@pytest.mark.parametrize("built", [True, False])
def test_status_where_no_host_stands(built: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(release="6.1.192-zclab-1") if built else None
    monkeypatch.setattr(kernel_build, "find", lambda variant, spec: found)
    hosts, kernel = backend_of(lab_of("exact", tmp_path)).status()
    assert hosts["host"] == "sender1, receiver1" and "none of them stands" in hosts["state"]
    assert kernel["host"] == "kernel full"
    assert kernel["state"] == (
        "built, 6.1.192-zclab-1" if built else "not built: `zclab up` or the next run builds it"
    )


def test_the_console_of_the_last_guest(tmp_path: Path) -> None:
    for host in ("sender1", "receiver1"):
        assert backend_of(lab_of("exact", tmp_path)).console(host) == tmp_path / "guest" / "console.log"
