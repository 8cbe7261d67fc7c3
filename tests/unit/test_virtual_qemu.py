# SPDX-License-Identifier: Apache-2.0
"""The emulator's command line, finding its process, ports, keys and SSH files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zclab.backends.virtual import ports, qemu
from zclab.backends.virtual.accel import Accelerator
from zclab.base.errors import LabError

TCG = Accelerator("tcg", "test")
KVM = Accelerator("kvm", "test")


def make_emulator(directory: Path, nic_model: str = "e1000e", linked: bool = True) -> qemu.Emulator:
    return qemu.Emulator(
        name="receiver1",
        uuid="11111111-2222-5333-8444-555555555555",
        memory_mib=256,
        cpus=1,
        nic_model=nic_model,
        management_mac="52:54:00:00:00:01",
        data_mac="52:54:00:00:00:02",
        disk=directory / "disk.qcow2",
        console=directory / "console.log",
        qmp=directory / "receiver1.qmp",
        pidfile=directory / "pid",
        log=directory / "qemu.log",
        firmware_files={"hostname": directory / "hostname"},
        data_link=(directory / "receiver1.data", directory / "sender1.data") if linked else None,
    )


# ---------------------------------------------------------------------------------------- command line


def test_command_line_of_the_receiver() -> None:
    line = " ".join(make_emulator(Path("/s")).command(TCG, 2222))
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in line
    assert "-device e1000e,netdev=data,mac=52:54:00:00:00:02" in line
    assert "dgram,id=data,local.type=unix,local.path=/s/receiver1.data" in line
    assert "remote.type=unix,remote.path=/s/sender1.data" in line
    assert "-accel tcg,thread=multi" in line and "-nodefaults" in line and "append=on" in line
    assert "name=opt/zclab/hostname,file=/s/hostname" in line


def test_nic_model_and_accelerator_show() -> None:
    emulator = make_emulator(Path("/s"), "virtio-net")
    assert "virtio-net-pci,netdev=data" in " ".join(emulator.command(TCG, 1))
    assert "-accel kvm -cpu host" in " ".join(emulator.command(KVM, 1))
    assert "id=data" not in " ".join(make_emulator(Path("/s"), linked=False).command(TCG, 1))


def test_unknown_nic_model_is_named() -> None:
    with pytest.raises(LabError, match="receiver1: NIC model 'rtl8139' is not one of virtio-net, e1000e"):
        make_emulator(Path("/s"), "rtl8139").command(TCG, 1)


def test_socket_path_that_is_too_long_is_refused() -> None:
    room = qemu.UNIX_PATH_MAX - len("/receiver1.data")
    make_emulator(Path("/" + "x" * (room - 1))).command(TCG, 1)
    with pytest.raises(LabError, match=r"longer than the 107 bytes .* set ZCLAB_CACHE to a shorter"):
        make_emulator(Path("/" + "x" * room)).command(TCG, 1)


def test_comma_in_a_path_is_doubled() -> None:
    assert "file=/a,,b/disk.qcow2," in " ".join(make_emulator(Path("/a,b")).command(TCG, 1))


# ---------------------------------------------------------------------------------------- processes


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has our uuid in its command line, as an emulator has."""
    words = ["-accel", "tcg,thread=multi", "-netdev", "user,hostfwd=tcp:127.0.0.1:4242-:22", "-uuid", "u-1"]
    command = [sys.executable, "-c", "print(flush=True); input()", *words]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    yield child
    child.kill()
    child.communicate()


def test_found_by_uuid_with_or_without_a_pidfile(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    pidfile = tmp_path / "pid"
    for text in (None, "", "garbage", "1", str(os.getpid()), "99999999", str(sleeper.pid)):
        if text is not None:
            pidfile.write_text(text)
        running = qemu.find("u-1", pidfile)
        assert running is not None and running.pid == sleeper.pid, text
        assert running.ssh_port == 4242 and running.accelerator == "tcg"


def test_another_process_with_that_pid_is_not_ours(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A pid that was taken again by another program is neither found nor killed."""
    pidfile = tmp_path / "pid"
    pidfile.write_text(str(sleeper.pid))
    assert qemu.find("u-2", pidfile) is None
    qemu.end(sleeper.pid, "u-2")
    assert sleeper.poll() is None
    qemu.end(sleeper.pid, "u-1")
    assert sleeper.wait() != 0


def test_a_zombie_is_not_running(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert qemu.find("u-1", tmp_path / "pid") is None


def test_emulator_that_ends_at_once_says_why(tmp_path: Path) -> None:
    script = "echo warning >&2; echo 'Could not set up host forwarding rule' >&2; exit 1"
    with pytest.raises(
        LabError, match=r"receiver1: the emulator ended at once: Could not set up .*qemu\.log"
    ):
        qemu.launch(make_emulator(tmp_path), ["sh", "-c", script])


def test_emulator_that_never_answers_is_ended(tmp_path: Path) -> None:
    emulator = make_emulator(tmp_path)
    command = [sys.executable, "-c", "import time; time.sleep(99)", "-uuid", emulator.uuid]
    with pytest.raises(LabError, match="does not answer"):
        qemu.launch(emulator, command, seconds=0.3)
    assert qemu.find(emulator.uuid, emulator.pidfile) is None


def test_no_emulator_installed(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no-such-emulator is not installed"):
        qemu.launch(make_emulator(tmp_path), ["no-such-emulator"])


def test_a_silent_control_socket_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert qemu.ask(tmp_path / "missing", "query-status") is None
    monkeypatch.setattr(qemu, "QMP_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "silent"))
        server.listen(1)
        assert qemu.ask(tmp_path / "silent", "query-status") is None


# ---------------------------------------------------------------------------------------- ports


def test_port_in_use_and_its_owner() -> None:
    with socket.socket() as server:
        server.bind((ports.LOOPBACK, 0))
        server.listen(1)
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.any_free() != port
        assert ports.owner(port).startswith(f"pid {os.getpid()} (")
    assert ports.is_free(port)
    assert ports.owner(port) == "another process"


def test_a_child_that_another_thread_has_just_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts are stopped in parallel, and each look also clears children that have ended."""
    children: dict[int, Any] = {}

    class Ended:
        pid = 7

        def poll(self) -> int:
            children.pop(self.pid, None)  # what the other thread does between our look and our removal
            return 0

    children[Ended.pid] = Ended()
    monkeypatch.setattr(qemu, "_children", children)
    assert qemu.find("0b7ad1a5-0000-0000-0000-000000000000", tmp_path / "pid") is None
    assert not children
