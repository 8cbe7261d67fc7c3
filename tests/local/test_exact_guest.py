# SPDX-License-Identifier: Apache-2.0
"""The parts of an exact guest that need programs: its initramfs, the limits of its emulator."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

import pytest

from zclab.backends.exact import cpio, emulator


def test_equal_files_give_equal_bytes_that_cpio_unpacks(tmp_path: Path) -> None:
    entries = {"usr/bin/a": cpio.program(b"abc"), "etc/b": cpio.regular(b""), "bin": cpio.symlink("usr/bin")}
    made = cpio.archive(entries)
    assert made == cpio.archive(dict(reversed(entries.items()))) and len(made) % 4 == 0
    subprocess.run(["cpio", "-i", "--quiet"], input=made, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/a").read_bytes() == b"abc" and (tmp_path / "etc/b").read_bytes() == b""
    assert (tmp_path / "bin").is_symlink() and (tmp_path / "usr/bin/a").stat().st_mode & 0o777 == 0o755
    device = cpio.archive({"dev/console": cpio.Entry(stat.S_IFCHR | 0o600, device=(5, 1))})
    listing = subprocess.run(["cpio", "-itv", "--quiet"], input=device, check=True, capture_output=True)
    assert re.search(rb"^crw------- .* 5,\s+1 .*dev/console$", listing.stdout, re.MULTILINE)


def test_limits_and_time_are_of_the_emulators_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "EMULATOR", "/bin/sh")
    good = emulator.execute(["-c", "echo said; exit 3"], emulator.Limits(cpu_seconds=5, real_seconds=5))
    assert (good.status, good.said, good.killed) == (3, "said", "")
    busy = emulator.execute(["-c", "while :; do :; done"], emulator.Limits(cpu_seconds=1, real_seconds=60))
    assert busy.killed == "it used more than 1 s of CPU" and 0.5 <= busy.cpu_seconds <= 2
    idle = emulator.execute(["-c", "exec sleep 60"], emulator.Limits(cpu_seconds=60, real_seconds=1))
    assert idle.killed == "it took more than 1 s" and idle.cpu_seconds < 1
    shot = emulator.execute(["-c", "kill -9 $$"], emulator.Limits(cpu_seconds=60, real_seconds=60))
    assert shot.killed == "something killed its emulator"
