# SPDX-License-Identifier: Apache-2.0
"""One emulator: its command line, its process, its control socket.

A process is known by the uuid in its command line, never by a pid alone, which can be another program's by
now. What runs is read back from that command line, so there is no state file that could disagree with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zclab.backends.virtual.accel import EMULATOR, Accelerator
from zclab.base.environment import of_child
from zclab.base.errors import LabError

NIC_DEVICES = {"virtio-net": "virtio-net-pci", "e1000e": "e1000e"}
# Five-level page tables and nested SVM cost the emulator time at each boot; with erms each byte that the
# guest copies is emulated by itself.
EMULATED_CPU = "max,-la57,-svm,-erms,-fsrm"
QMP_SECONDS = 10.0
UNIX_PATH_MAX = 107
# Emulators that this process started: kept to take their exit status, so that none stays a zombie.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True)
class Emulator:
    """What one emulator is started with. Paths are absolute.

    firmware_files: name under opt/zclab/ -> file that the guest reads through the firmware interface.
    data_link: (own socket, the peer's socket), None without a data link. memory in MiB.
    """

    name: str
    uuid: str
    memory_mib: int
    cpus: int
    nic_model: str
    management_mac: str
    data_mac: str
    disk: Path
    console: Path
    qmp: Path
    pidfile: Path
    log: Path
    firmware_files: dict[str, Path]
    data_link: tuple[Path, Path] | None

    def command(self, accelerator: Accelerator, ssh_port: int) -> list[str]:
        """Return the emulator's command line."""
        if self.nic_model not in NIC_DEVICES:
            raise LabError(
                f"{self.name}: NIC model {self.nic_model!r} is not one of {', '.join(NIC_DEVICES)}"
            )
        for socket in (self.qmp, *(self.data_link or ())):
            if len(os.fsencode(socket)) > UNIX_PATH_MAX:
                raise LabError(
                    f"{self.name}: {socket} is longer than the {UNIX_PATH_MAX} bytes that the path of a "
                    "socket may have: set ZCLAB_CACHE to a shorter directory, or give the host a shorter name"
                )
        arguments = [
            *[EMULATOR, "-name", f"zclab-{self.name}", "-uuid", self.uuid],
            *["-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc"],
            *_processor(accelerator),
            *["-m", str(self.memory_mib), "-smp", str(self.cpus), "-rtc", "base=utc"],
            *["-device", "virtio-rng-pci"],
            # The disk can be made again at any time: no waiting for this machine's disk at a flush.
            *["-drive", f"if=none,id=root,file={_value(self.disk)},format=qcow2,cache=unsafe,discard=unmap"],
            *["-device", "virtio-blk-pci,drive=root,bootindex=1"],
            *["-netdev", f"user,id=management,ipv6=off,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"],
            *["-device", f"virtio-net-pci,netdev=management,mac={self.management_mac},romfile="],
            *self._data_arguments(),
            *[
                "-chardev",
                f"file,id=console,path={_value(self.console)},append=on",
                "-serial",
                "chardev:console",
            ],
            *[
                "-chardev",
                f"socket,id=qmp,path={_value(self.qmp)},server=on,wait=off",
                "-mon",
                "qmp,mode=control",
            ],
            *["-pidfile", str(self.pidfile)],
        ]
        for name, path in self.firmware_files.items():
            arguments += ["-fw_cfg", f"name=opt/zclab/{name},file={_value(path)}"]
        return arguments

    def _data_arguments(self) -> list[str]:
        if self.data_link is None:
            return []
        # Datagrams, so that either side can be started again without the other one noticing.
        own, peer = (_value(path) for path in self.data_link)
        ends = f"local.type=unix,local.path={own},remote.type=unix,remote.path={peer}"
        device = NIC_DEVICES[self.nic_model]
        return [
            *["-netdev", f"dgram,id=data,{ends}"],
            *["-device", f"{device},netdev=data,mac={self.data_mac},romfile="],
        ]


def _processor(accelerator: Accelerator) -> list[str]:
    if accelerator.emulated:
        return ["-accel", "tcg,thread=multi,tb-size=128", "-cpu", EMULATED_CPU]
    return ["-accel", "kvm", "-cpu", "host"]


def _value(path: Path) -> str:
    """Return a path as it stands in an option list, where a comma is doubled."""
    return str(path).replace(",", ",,")


@dataclass(frozen=True)
class Running:
    """A live emulator, as its process shows it. started: seconds since the epoch."""

    pid: int
    command: tuple[str, ...]
    started: float

    @property
    def ssh_port(self) -> int:
        """The port of 127.0.0.1 that leads to the guest's SSH server."""
        match = re.search(r"hostfwd=tcp:127\.0\.0\.1:(\d+)-", " ".join(self.command))
        return int(match[1]) if match else 0

    @property
    def accelerator(self) -> str:
        """What runs the guest: "kvm" or "tcg"."""
        words = list(self.command)
        return words[words.index("-accel") + 1].partition(",")[0] if "-accel" in words else "tcg"


def find(uuid: str, pidfile: Path, proc: Path = Path("/proc")) -> Running | None:
    """Return the live emulator with this uuid. The pidfile only says where to look first."""
    for child in list(_children.values()):
        if child.poll() is not None:
            _children.pop(child.pid, None)  # hosts are looked at by several threads at once
    with contextlib.suppress(OSError, ValueError):
        if running := _look_at(proc / str(int(pidfile.read_text())), uuid):
            return running
    for process in proc.glob("[0-9]*"):
        if running := _look_at(process, uuid):
            return running
    return None


def _look_at(process: Path, uuid: str) -> Running | None:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        if "-uuid" not in words or words[words.index("-uuid") + 1 :][:1] != [uuid]:
            return None
        stat = (process / "stat").read_text().rpartition(")")[2].split()
        if stat[0] in ("Z", "X"):
            return None
        boot = next(
            int(line.split()[1])
            for line in (process.parent / "stat").read_text().splitlines()
            if line.startswith("btime ")
        )
        return Running(int(process.name), tuple(words), boot + int(stat[19]) / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def launch(emulator: Emulator, command: Sequence[str], seconds: float = 30.0) -> int:
    """Start the emulator, in a session of its own; return its pid once its control socket answers.

    Raises LabError with the emulator's own last line if it ends at once. What it prints is in emulator.log.
    """
    for leftover in (emulator.qmp, emulator.pidfile):
        leftover.unlink(missing_ok=True)
    with emulator.log.open("wb") as log:
        try:
            child = subprocess.Popen(
                command,
                env=of_child(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise LabError(f"{command[0]} is not installed: run playbooks/controller.yml") from error
    _children[child.pid] = child
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            if child.poll() is not None:
                _children.pop(child.pid, None)
                printed = emulator.log.read_text(errors="replace").strip().splitlines()
                detail = printed[-1] if printed else f"exit status {child.returncode}"
                raise LabError(f"{emulator.name}: the emulator ended at once: {detail}: see {emulator.log}")
            if emulator.qmp.exists() and emulator.pidfile.exists() and ask(emulator.qmp, "query-status"):
                return child.pid
            time.sleep(0.05)
        raise LabError(f"{emulator.name}: the emulator does not answer on {emulator.qmp}: see {emulator.log}")
    except BaseException:
        child.kill()
        child.wait()
        raise


def ask(qmp: Path, command: str, **arguments: Any) -> Any:
    """Execute one command on a control socket and return its answer; None if the emulator does not answer."""
    import asyncio

    from qemu.qmp import QMPClient, QMPError

    async def conversation() -> Any:
        client = QMPClient("zclab")
        await client.connect(str(qmp))
        try:
            answer = await client.execute(command, arguments or None)
            return {} if answer is None else answer
        finally:
            with contextlib.suppress(QMPError, OSError, EOFError):
                await client.disconnect()

    try:
        return asyncio.run(asyncio.wait_for(conversation(), QMP_SECONDS))
    except (QMPError, OSError, EOFError, TimeoutError):
        return None


def wait_gone(pid: int, uuid: str, seconds: float) -> bool:
    """Return whether the process has ended, after waiting for it at most so long."""
    deadline = time.monotonic() + seconds
    while _is_ours(pid, uuid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def end(pid: int, uuid: str) -> None:
    """End an emulator by SIGTERM, which lets it close its disk, and by SIGKILL if that does not do.

    Raises LabError if it survives even that.
    """
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if not _is_ours(pid, uuid):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise LabError(f"the emulator with pid {pid} is another user's: end it as that user") from error
        if wait_gone(pid, uuid, seconds):
            return
    raise LabError(
        f"the emulator with pid {pid} cannot be killed: see what it waits for in /proc/{pid}/stack"
    )


def _is_ours(pid: int, uuid: str) -> bool:
    if (child := _children.get(pid)) is not None and child.poll() is not None:
        _children.pop(pid, None)
    return _look_at(Path(f"/proc/{pid}"), uuid) is not None
