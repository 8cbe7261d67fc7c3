# SPDX-License-Identifier: Apache-2.0
"""KVM is used only where a probe has seen it run a guest; otherwise the reason is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zclab.backends.virtual import accel
from zclab.backends.virtual.accel import Machine, choose
from zclab.base.errors import LabError


def machine_in(directory: Path) -> Machine:
    """Return a machine that looks as if it had KVM."""
    (directory / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu vmx sse\n")
    (directory / "kvm").write_text("")
    (directory / "boot_id").write_text("one\n")
    return Machine(directory / "cpuinfo", directory / "kvm", directory / "boot_id", "/nonexistent", 0.5)


@pytest.fixture
def machine(tmp_path: Path, cache: Path) -> Machine:
    return machine_in(tmp_path)


def emulator(machine: Machine, script: str) -> Machine:
    path = machine.kvm.parent / "qemu"
    path.write_text(f"#!/bin/sh\necho run >>{path}.runs\n{script}\n")
    path.chmod(0o755)
    return replace(machine, emulator=str(path))


def runs(machine: Machine) -> int:
    return len(Path(f"{machine.emulator}.runs").read_text().splitlines())


def test_no_flag_in_the_processor(machine: Machine) -> None:
    machine.cpuinfo.write_text("flags\t\t: fpu sse svmx\nbugs\t: vmx\n")
    found = choose(machine)
    assert found.emulated and found.reason == "the processor shows neither vmx nor svm"
    assert str(found) == "emulation (the processor shows neither vmx nor svm)"


def test_no_device(machine: Machine) -> None:
    machine.kvm.unlink()
    assert choose(machine).reason == f"{machine.kvm} is missing"


def test_device_that_can_not_be_opened(machine: Machine) -> None:
    machine.kvm.unlink()
    machine.kvm.mkdir()
    assert "cannot be opened: Is a directory" in choose(machine).reason


def test_probe_that_hangs(machine: Machine) -> None:
    found = choose(emulator(machine, "exec sleep 60"))
    assert found.emulated and "hung" in found.reason


def test_probe_that_fails(machine: Machine) -> None:
    found = choose(emulator(machine, "echo could not >&2; echo access KVM kernel module >&2; exit 1"))
    assert found.emulated and found.reason.endswith("access KVM kernel module")


def test_probe_that_ends_without_having_run(machine: Machine) -> None:
    assert choose(emulator(machine, "exit 0")).reason.endswith("exit status 0")


def test_probe_that_runs_is_remembered_until_the_next_boot(machine: Machine) -> None:
    machine = emulator(machine, f"exit {accel._EXIT_STATUS}")
    assert choose(machine).accelerator == "kvm"
    assert choose(machine).accelerator == "kvm"
    assert runs(machine) == 1
    machine.boot_id.write_text("two\n")
    assert choose(machine).accelerator == "kvm"
    assert runs(machine) == 2


@pytest.mark.parametrize("text", ["", "[]", '{"boot_id": "one"}', '{"boot_id": "one", "accelerator": "x"}'])
def test_damaged_memory_is_probed_again(machine: Machine, text: str) -> None:
    machine = emulator(machine, f"exit {accel._EXIT_STATUS}")
    memory = machine.kvm.parent / "cache" / "accelerator.json"
    memory.parent.mkdir()
    memory.write_text(text)
    assert choose(machine).accelerator == "kvm"


def test_a_device_that_vanished_is_noticed_in_spite_of_the_memory(machine: Machine) -> None:
    machine = emulator(machine, f"exit {accel._EXIT_STATUS}")
    assert not choose(machine).emulated
    machine.kvm.unlink()
    assert choose(machine).emulated


def test_no_emulator(machine: Machine) -> None:
    with pytest.raises(LabError, match="/nonexistent is not installed"):
        choose(machine)
