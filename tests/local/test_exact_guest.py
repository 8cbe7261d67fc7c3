# SPDX-License-Identifier: Apache-2.0
"""The parts of an exact guest that need programs: its initramfs, the limits of its emulator."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from zclab.backends.exact import cpio, emulator, programs
from zclab.base.errors import LabError


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


# The programs


def test_a_guest_has_its_programs_and_the_libraries_that_they_need(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    (root / "bin").mkdir()
    with pytest.raises(LabError, match="no package has the program cat"):
        programs.select(root, python=False)
    for name in programs.PROGRAMS:
        shutil.copy("/bin/true", root / "bin" / name)
    # As iproute2 has it: a link from one directory to another, of which / has the old name.
    (root / "bin/ip").rename(root / "usr/sbin/real-ip")
    (root / "bin/ip").symlink_to("/usr/sbin/real-ip")
    with pytest.raises(LabError, match=r"no package has the library lib64/ld-linux-x86-64.so.2"):
        programs.select(root, python=False)
    for library in ("/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"):
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    found = programs.select(root, python=False)
    assert found["usr/bin/cat"].data == Path("/bin/true").read_bytes()
    assert found["usr/bin/ip"].data == b"/usr/sbin/real-ip"
    assert {
        "usr/sbin/real-ip",
        "usr/lib/x86_64-linux-gnu/libc.so.6",
        "usr/lib64/ld-linux-x86-64.so.2",
    } <= set(found)
    assert found["bin"].data == b"usr/bin" and not any(path.startswith("bin/") for path in found)
    (root / "bin/cat").unlink()
    (root / "bin/cat").symlink_to("cat2")
    with pytest.raises(LabError, match="/usr/bin/cat2 is a link to nothing"):
        programs.select(root, python=False)
    (root / "bin/cat2").symlink_to("cat")
    with pytest.raises(LabError, match="is a link in a circle"):
        programs.select(root, python=False)


def test_an_emulator_that_refuses_an_option_is_named_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "qemu-old"
    old.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "QEMU emulator version 2.0" && exit\necho bad >&2\nexit 1\n'
    )
    old.chmod(0o755)
    monkeypatch.setattr(emulator, "EMULATOR", str(old))
    version = emulator.facts("veth", 1024).version
    ended = emulator.execute(["-icount", "shift=0"], emulator.Limits(cpu_seconds=5, real_seconds=5))
    words = r"qemu-old \(QEMU emulator version 2.0\): bad: an exact guest needs QEMU 7.2 or later with TCG"
    with pytest.raises(LabError, match=words):
        raise emulator.unfit(version, ended)
