# SPDX-License-Identifier: Apache-2.0
"""The guest that probes whether KVM works, in a real emulator."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.test_virtual_accel import emulator, machine_in

from zclab.backends.virtual import accel
from zclab.backends.virtual.accel import choose


@pytest.mark.skipif(shutil.which(accel.EMULATOR) is None, reason="the emulator is not installed")
def test_the_probe_guest_itself_works(tmp_path: Path, cache: Path) -> None:
    """The same guest under emulation reaches its end: what hangs under KVM is then KVM."""
    script = f"""set -- "$@"
for word; do shift; case $word in kvm) word=tcg ;; host) word=max ;; esac; set -- "$@" "$word"; done
exec {accel.EMULATOR} "$@\""""
    assert choose(replace(emulator(machine_in(tmp_path), script), probe_seconds=60)).accelerator == "kvm"
