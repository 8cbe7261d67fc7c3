# SPDX-License-Identifier: Apache-2.0
"""Bringing hosts up and down, with emulators that are none: what is decided, written and cleaned up."""

from __future__ import annotations

import json
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zclab.backends.virtual import accel, image, lab, ports, qemu
from zclab.backends.virtual.__main__ import main
from zclab.backends.virtual.accel import Accelerator
from zclab.backends.virtual.host import Host, sockets_dir
from zclab.backends.virtual.lab import HostSpec, LabSpec
from zclab.base.errors import LabError, UsageError

# Understands what an emulator is told as far as these tests need: it has a pidfile, answers on its control
# socket, greets as an SSH server on its forwarded port, and ends when told to.
EMULATOR = r"""
import json, os, re, socket, sys, threading
words = sys.argv[1:]
value = lambda name: words[words.index(name) + 1]
line = " ".join(words)
def ssh():
    with socket.create_server(("127.0.0.1", int(re.search(r"127\.0\.0\.1:(\d+)-", line)[1]))) as server:
        while True:
            client = server.accept()[0]
            if "ZCLAB_TEST_MUTE" not in os.environ:
                client.sendall(b"SSH-2.0-test\r\n")
            client.close()
threading.Thread(target=ssh, daemon=True).start()
with open(value("-pidfile"), "w") as file:
    file.write(str(os.getpid()))
path = re.search(r"socket,id=qmp,path=([^,]+)", line)[1]
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen(5)
version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
while True:
    client = server.accept()[0]
    send = lambda message: client.sendall(json.dumps(message).encode() + b"\r\n")
    send({"QMP": {"version": version, "capabilities": []}})
    # One request at a time comes, and it has no newline at its end.
    while text := client.recv(65536):
        message = json.loads(text)
        status = {"status": os.environ.get("ZCLAB_TEST_STATUS", "running"), "running": True}
        answer = {"return": status if message["execute"] == "query-status" else {}}
        send({**answer, **({"id": message["id"]} if "id" in message else {})})
        if message["execute"] == "quit":
            os._exit(0)
"""


def emulator_program(directory: Path) -> Path:
    return directory / "emulator"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabSpec:
    """Two hosts of a lab whose emulators are the script above."""
    cache = tmp_path / "c"
    monkeypatch.setenv("ZCLAB_CACHE", str(cache))
    base = image.Image("k", cache / "image" / "k")
    base.directory.mkdir(parents=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base.path), "1M"], check=True)
    monkeypatch.setattr(image, "ensure", lambda disk_mib, suite, on_progress: base)
    monkeypatch.setattr(image, "find", lambda disk_mib, suite: base)
    monkeypatch.setattr(accel, "choose", lambda **_: Accelerator("tcg", "test"))
    program = emulator_program(tmp_path)
    program.write_text(f"#!{sys.executable}{EMULATOR}")
    program.chmod(0o755)
    monkeypatch.setattr(qemu, "EMULATOR", str(program))
    monkeypatch.setattr(Host, "login_problem", lambda self: "")
    monkeypatch.setattr(Host, "_ssh", lambda self, command, seconds: None)
    monkeypatch.setattr(lab, "BOOT_SECONDS", 3.0)
    monkeypatch.setattr(lab, "REBOOT_SECONDS", 0.5)
    declared = (HostSpec("sender1", "virtio-net", "receiver1"), HostSpec("receiver1", "e1000e", "sender1"))
    return LabSpec(tmp_path / "s", declared)


@pytest.fixture(autouse=True)
def clean(spec: LabSpec) -> Any:
    yield
    lab.down(spec.state_dir, purge=True)
    assert [one for one in spec.hosts if Host(spec.state_dir, one.name).running()] == []


def pids(spec: LabSpec) -> list[int | None]:
    return [one.pid for one in lab.status(spec.state_dir)]


def crash(spec: LabSpec, name: str) -> None:
    running = Host(spec.state_dir, name).running()
    assert running is not None
    subprocess.run(["kill", "-9", str(running.pid)], check=True)
    while Host(spec.state_dir, name).running():
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------ up


def test_up_twice_changes_nothing(spec: LabSpec) -> None:
    assert lab.pending(spec) == ["start sender1", "start receiver1"]
    first = lab.up(spec)
    assert first.changes == ["started sender1", "started receiver1"]
    assert sorted(one.part for one in first.timings) == ["boot receiver1", "boot sender1"]
    assert lab.pending(spec) == []
    before = pids(spec), (spec.state_dir / "ssh_config").stat().st_mtime_ns
    again = lab.up(spec)
    assert not again.changed and again.timings == []
    assert (pids(spec), (spec.state_dir / "ssh_config").stat().st_mtime_ns) == before


def test_nobody_else_can_reach_sockets_and_keys(spec: LabSpec) -> None:
    lab.up(spec)
    for path in (spec.state_dir, sockets_dir(spec.state_dir), spec.state_dir / "keys"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (spec.state_dir / "keys/id_ed25519", spec.state_dir / "hosts/sender1/identity/ssh_host_key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dead_host_is_started_again_on_its_port(spec: LabSpec) -> None:
    lab.up(spec)
    before = {one.name: (one.pid, one.ssh_port) for one in lab.status(spec.state_dir)}
    crash(spec, "sender1")
    assert lab.pending(spec) == ["start sender1"]
    assert lab.up(spec).changes == ["started sender1"]
    after = {one.name: (one.pid, one.ssh_port) for one in lab.status(spec.state_dir)}
    assert after["receiver1"] == before["receiver1"]
    assert after["sender1"][0] != before["sender1"][0] and after["sender1"][1] == before["sender1"][1]


def test_a_port_that_was_taken_meanwhile_is_replaced_everywhere(spec: LabSpec) -> None:
    lab.up(spec)
    port = lab.status(spec.state_dir)[1].ssh_port
    assert port is not None
    crash(spec, "sender1")
    while not ports.is_free(port):  # what the emulator has started ends a little later
        time.sleep(0.02)
    with socket.create_server((ports.LOOPBACK, port)):
        lab.up(spec)
        new = lab.status(spec.state_dir)[1].ssh_port
    assert new is not None and new != port
    assert f"Port {new}\n" in (spec.state_dir / "ssh_config").read_text()
    assert f"Port {port}\n" not in (spec.state_dir / "ssh_config").read_text()
    assert f"sender1,[127.0.0.1]:{new} " in (spec.state_dir / "known_hosts").read_text()


def test_a_fixed_port_in_use_names_its_owner(spec: LabSpec) -> None:
    with socket.create_server((ports.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        fixed = replace(spec, hosts=(replace(spec.hosts[0], ssh_port=port), spec.hosts[1]))
        with pytest.raises(LabError, match=rf"^sender1: port {port} .* in use by pid \d+ \(.*\): end that"):
            lab.up(fixed)
    lab.up(fixed)
    assert lab.status(spec.state_dir)[1].ssh_port == port


def test_a_port_lost_in_a_race_is_asked_for_again(spec: LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    launch, tries = qemu.launch, []

    def unlucky(emulator: qemu.Emulator, command: list[str], seconds: float = 30.0) -> int:
        tries.append(command)
        if len(tries) == 1:
            raise LabError("sender1: the emulator ended at once: Could not set up host forwarding rule")
        return launch(emulator, command, seconds)

    monkeypatch.setattr(qemu, "launch", unlucky)
    lab.up(spec)
    assert len(tries) == 3


@pytest.mark.parametrize("change", ["memory", "nic"])
def test_a_changed_declaration_restarts(spec: LabSpec, change: str) -> None:
    lab.up(spec)
    if change == "memory":
        other = replace(spec, memory_mib=512)
        assert lab.pending(other)[0] == "restart sender1: runs with -m 384, declared is -m 512"
        assert len(lab.up(other).changes) == 4
    else:
        other = replace(spec, hosts=(spec.hosts[0], replace(spec.hosts[1], nic_model="virtio-net")))
        assert lab.up(other).changes[0].startswith("stopped receiver1: runs with -device e1000e")
    assert lab.pending(other) == []


def test_new_keys_restart(spec: LabSpec) -> None:
    lab.up(spec)
    (spec.state_dir / "hosts/sender1/ssh_host_ed25519_key").unlink()
    changes = lab.up(spec).changes
    assert changes == ["stopped sender1: its keys were made anew", "started sender1"]


@pytest.mark.parametrize("text", ["", "0", "99999999", "{}", "\0\xff"])
def test_damaged_state_files_do_no_harm(spec: LabSpec, text: str) -> None:
    lab.up(spec)
    before = pids(spec)
    for name in ("pid", "port"):
        (spec.state_dir / "hosts/sender1" / name).write_text(text)
    assert not lab.up(spec).changed and pids(spec) == before
    crash(spec, "sender1")
    assert lab.up(spec).changes == ["started sender1"]


def test_a_guest_that_hangs_is_reset_and_then_given_up(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZCLAB_TEST_MUTE", "1")
    expected = r"^(sender|receiver)1: no SSH after 3 s \(guest running\): last on the console: .* see .*log$"
    with pytest.raises(LabError, match=expected):
        lab.up(spec)
    assert pids(spec) == [None, None], "hosts that did not get ready are stopped"
    monkeypatch.delenv("ZCLAB_TEST_MUTE")
    assert lab.up(spec).changed


def test_a_guest_stopped_by_a_full_disk_is_named(spec: LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZCLAB_TEST_STATUS", "io-error")
    lab.up(spec)
    with pytest.raises(LabError, match=r"sender1: stopped, as it could not write to .*disk is full"):
        lab.up(spec)


def test_an_emulator_that_does_not_start(spec: LabSpec, tmp_path: Path) -> None:
    emulator_program(tmp_path).write_text("#!/bin/sh\necho 'no such device' >&2\nexit 1\n")
    with pytest.raises(LabError, match=r"^sender1: the emulator ended at once: no such device: see "):
        lab.up(spec)
    assert pids(spec) == [None, None]


def test_a_base_image_that_is_gone(spec: LabSpec) -> None:
    lab.up(spec)
    lab.down(spec.state_dir)
    record = spec.state_dir / "hosts/sender1/disk.json"
    record.write_text(json.dumps({"image_key": "x", "base": "/gone/base.qcow2"}))
    with pytest.raises(LabError, match=r"the base image of .* is gone \(/gone/base.qcow2\): .*purge"):
        lab.up(spec)
    record.write_text("{")
    with pytest.raises(LabError, match="not recorded"):
        lab.up(spec)


def test_an_existing_disk_keeps_its_base(spec: LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.up(spec)
    lab.down(spec.state_dir)
    newer = image.Image("newer", image.images().path("newer"))
    newer.directory.mkdir()
    newer.path.write_text("")
    monkeypatch.setattr(image, "ensure", lambda disk_mib, suite, on_progress: newer)
    lab.up(spec)
    known = [Host(spec.state_dir, one.name) for one in lab.status(spec.state_dir)]
    assert {host.image_record()["image_key"] for host in known} == {"k"}
    assert [one.image.key for one in image.prune()] == ["newer"]


# ------------------------------------------------------------------------------------------------ console


def test_console_log_is_kept_and_marked(spec: LabSpec) -> None:
    lab.up(spec)
    lab.down(spec.state_dir)
    lab.up(spec)
    marks = [
        line.split(": ", 2)[2]
        for line in (spec.state_dir / "hosts/sender1/console.log").read_text().splitlines()
        if line.startswith("--- zclab: ")
    ]
    assert marks == ["started, emulation (test)", "stopped", "started, emulation (test)"]


# ------------------------------------------------------------------------------------------------ down


def test_down_leaves_disks_and_keys_and_nothing_else(spec: LabSpec) -> None:
    lab.up(spec)
    outcome = lab.down(spec.state_dir)
    assert outcome.changes == ["stopped receiver1", "stopped sender1"]
    assert pids(spec) == [None, None]
    assert not sockets_dir(spec.state_dir).exists()
    assert not (spec.state_dir / "lock").exists()
    assert not list(spec.state_dir.rglob("pid"))
    assert (spec.state_dir / "hosts/sender1/disk.qcow2").is_file()
    assert not lab.down(spec.state_dir).changed
    assert not (spec.state_dir / "lock").exists()


def test_purge_leaves_nothing(spec: LabSpec) -> None:
    lab.up(spec)
    assert lab.down(spec.state_dir, purge=True).changed
    assert not spec.state_dir.exists() and not sockets_dir(spec.state_dir).exists()
    assert len(image.prune()) == 1
    assert not lab.down(spec.state_dir, purge=True).changed


def test_purge_of_another_directory_removes_nothing(spec: LabSpec, tmp_path: Path) -> None:
    other = tmp_path / "documents"
    other.mkdir()
    (other / "letter").write_text("dear")
    assert not lab.down(other, purge=True).changed
    assert [path.name for path in other.iterdir()] == ["letter"]


def test_down_works_for_a_lab_that_declares_no_host_any_more(spec: LabSpec) -> None:
    lab.up(spec)
    assert lab.down(spec.state_dir).changed


# ------------------------------------------------------------------------------------------------ buttons


def test_power_buttons(spec: LabSpec, capsys: pytest.CaptureFixture[str]) -> None:
    state = str(spec.state_dir)
    assert main(["reset", state, "sender1"]) == 5
    assert "sender1: does not run: bring the lab up" in capsys.readouterr().err
    lab.up(spec)
    assert main(["reset", state, "sender1"]) == 0
    assert "sender1: reset" in (spec.state_dir / "hosts/sender1/console.log").read_text()
    assert main(["kill", state, "sender1"]) == 0
    assert [one.running for one in lab.status(spec.state_dir)] == [True, False]
    assert main(["explode", state, "sender1"]) == 2
    assert main([]) == 2


# ------------------------------------------------------------------------------------------------ facts

FACTS: dict[str, Any] = {
    "state_dir": "/state",
    "virtual": {"memory_mib": 384, "cpus": 1, "disk_mib": 3072, "suite": "bookworm"},
    "hosts": [
        {"name": "s1", "peer": "r1", "nic_model": "virtio-net"},
        {"name": "s2", "peer": "r2", "nic_model": "virtio-net"},
        {"name": "r2", "peer": "s2", "nic_model": "e1000e"},
        {"name": "r1", "peer": "s1", "nic_model": "e1000e"},
    ],
}


def test_peers_are_the_two_of_a_pair() -> None:
    spec = LabSpec.from_facts(FACTS)
    assert {one.name: one.peer for one in spec.hosts} == {"s1": "r1", "r1": "s1", "s2": "r2", "r2": "s2"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"virtual": None}, "incomplete"),
        ({"virtual": {"memory_mib": 1, "cpus": 1}}, "disk_mib"),
        ({"hosts": [{"name": "s1", "nic_model": "e1000e"}]}, "peer"),
        ({"hosts": [{**FACTS["hosts"][0], "name": "a/../b"}]}, "cannot be a host name"),
    ],
)
def test_incomplete_facts_are_one_line(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        LabSpec.from_facts({**FACTS, **change})
