# SPDX-License-Identifier: Apache-2.0
"""Choose what runs the guests: KVM where a probe has seen it run one, else emulation, with the reason.

/dev/kvm alone proves nothing: there are machines where it can be opened, and a guest then hangs in its
firmware.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from zclab.base import paths
from zclab.base.environment import of_child
from zclab.base.errors import LabError
from zclab.base.files import write_whole

EMULATOR = "qemu-system-x86_64"
PROBE_SECONDS = 15.0
_EXIT_PORT = 0xF4
_EXIT_VALUE = 0x2A
# isa-debug-exit ends the emulator with this status, which no failure of its own has.
_EXIT_STATUS = (_EXIT_VALUE << 1) | 1


@dataclass(frozen=True)
class Accelerator:
    """What runs the guests, and why."""

    accelerator: Literal["kvm", "tcg"]
    reason: str

    @property
    def emulated(self) -> bool:
        """Whether the guests' processor is emulated: CPU figures then say nothing about a real one."""
        return self.accelerator == "tcg"

    def __str__(self) -> str:
        return f"emulation ({self.reason})" if self.emulated else f"KVM ({self.reason})"


@dataclass(frozen=True)
class Machine:
    """Where the probe looks; tests put others in place of these."""

    cpuinfo: Path = Path("/proc/cpuinfo")
    kvm: Path = Path("/dev/kvm")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    emulator: str = EMULATOR
    probe_seconds: float = PROBE_SECONDS


def choose(machine: Machine | None = None) -> Accelerator:
    """Return the accelerator for this machine; raise LabError if the emulator is not installed.

    The probe's outcome is kept until the machine boots again.
    """
    machine = machine or Machine()
    if obstacle := _obstacle(machine):
        return Accelerator("tcg", obstacle)
    boot_id = machine.boot_id.read_text().strip()
    memory = paths.cache_dir() / "accelerator.json"
    if known := _remembered(memory, boot_id):
        return known
    found = _probe(machine)
    write_whole(memory, json.dumps({"boot_id": boot_id, **asdict(found)}))
    return found


def _obstacle(machine: Machine) -> str:
    """Return why KVM cannot work here, as far as that can be seen without running anything."""
    if not re.search(r"^flags\s*:.*\b(vmx|svm)\b", machine.cpuinfo.read_text(), re.MULTILINE):
        return "the processor shows neither vmx nor svm"
    if not machine.kvm.exists():
        return f"{machine.kvm} is missing"
    try:
        os.close(os.open(machine.kvm, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{machine.kvm} cannot be opened: {error.strerror}"
    return ""


def _remembered(memory: Path, boot_id: str) -> Accelerator | None:
    try:
        record = json.loads(memory.read_text())
        if record["boot_id"] == boot_id and record["accelerator"] in ("kvm", "tcg"):
            return Accelerator(record["accelerator"], str(record["reason"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def boot_sector() -> bytes:
    """Return a guest of 512 bytes: it writes to the port that ends the emulator, then halts."""
    code = bytes([0xBA, _EXIT_PORT, 0x00, 0xB0, _EXIT_VALUE, 0xEE, 0xF4, 0xEB, 0xFD])
    return code.ljust(510, b"\0") + b"\x55\xaa"


def _probe(machine: Machine) -> Accelerator:
    with tempfile.NamedTemporaryFile(suffix=".img") as disk:
        disk.write(boot_sector())
        disk.flush()
        command = [
            *[machine.emulator, "-no-user-config", "-nodefaults", "-display", "none", "-machine", "pc"],
            *["-accel", "kvm", "-cpu", "host", "-m", "16", "-no-reboot"],
            *["-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=0x1"],
            *["-drive", f"file={disk.name},format=raw,if=ide,readonly=off"],
        ]
        try:
            done = subprocess.run(
                command,
                env=of_child(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=machine.probe_seconds,
                check=False,
            )
        except FileNotFoundError as error:
            raise LabError(f"{machine.emulator} is not installed: run playbooks/controller.yml") from error
        except subprocess.TimeoutExpired:
            return Accelerator("tcg", f"a probe guest under KVM hung for {machine.probe_seconds:.0f} s")
    if done.returncode == _EXIT_STATUS:
        return Accelerator("kvm", "a probe guest ran")
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return Accelerator("tcg", f"a probe guest under KVM failed: {last}")
