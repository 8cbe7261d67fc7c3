# SPDX-License-Identifier: Apache-2.0
"""The base image's name, its boot sector, and what a failed or interrupted build leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from zclab.backends.virtual import disk, image
from zclab.base.errors import LabError
from zclab.base.progress import Progress


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(image, "NEEDED_MIB", 1)
    return tmp_path / "cache"


def fake_build(work: Path, key: str, disk_mib: int, suite: str, on_progress: Progress) -> None:
    (work / "base.qcow2").write_text(key)


# ---------------------------------------------------------------------------------------------- name


def test_key_is_the_same_for_the_same_inputs() -> None:
    assert image.image_key(3072, "bookworm") == image.image_key(3072, "bookworm")
    assert len(image.image_key(3072, "bookworm")) == 16


def test_key_changes_with_each_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = {image.image_key(3072, "bookworm"), image.image_key(4096, "bookworm")}
    with monkeypatch.context() as changed:
        changed.setattr(image, "PACKAGES", (*image.PACKAGES, "strace"))
        keys.add(image.image_key(3072, "bookworm"))
    with monkeypatch.context() as changed:
        changed.setattr(image, "RECIPE", image.RECIPE + 1)
        keys.add(image.image_key(3072, "bookworm"))
    with monkeypatch.context() as changed:
        changed.setattr("zclab.debian.sources.debian_sources", lambda suite, machine: "Types: deb\n")
        keys.add(image.image_key(3072, "bookworm"))
    guest = tmp_path / "guest"
    shutil.copytree(image._GUEST, guest)
    monkeypatch.setattr(image, "_GUEST", guest)
    for change in ("customize.sh", "files/etc/default/grub"):
        path = guest / change
        path.write_text(path.read_text() + "# changed\n")
        keys.add(image.image_key(3072, "bookworm"))
    (guest / "files/usr/local/sbin/zclab-identity").chmod(0o644)
    keys.add(image.image_key(3072, "bookworm"))
    assert len(keys) == 8


# ---------------------------------------------------------------------------------------------- cache


def test_built_once_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_build", fake_build)
    first = image.ensure(3072, "bookworm")
    assert first.built and first.path.is_file()
    again = image.ensure(3072, "bookworm")
    assert not again.built and again.path == first.path
    assert [one.image.key for one in image.cached()] == [first.key]


def test_two_at_once_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def slow(*arguments: Any) -> None:
        calls.append(1)
        time.sleep(0.3)
        fake_build(*arguments)

    monkeypatch.setattr(image, "_build", slow)
    built: list[bool] = []

    def build() -> None:
        built.append(image.ensure(3072, "bookworm").built)

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [False, True] and len(calls) == 1


def test_failure_leaves_only_its_log(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def fail(work: Path, *_: Any) -> None:
        (work / "build.log").write_text("E: no such package\n")
        raise LabError("base image: no such package")

    monkeypatch.setattr(image, "_build", fail)
    with pytest.raises(LabError):
        image.ensure(3072, "bookworm")
    key = image.image_key(3072, "bookworm")
    assert sorted(path.name for path in (cache / "image").iterdir()) == [f"failed-{key}.log"]
    monkeypatch.setattr(image, "_build", fake_build)
    assert image.ensure(3072, "bookworm").built
    assert not (cache / "image" / f"failed-{key}.log").exists()


def test_what_a_killed_build_left_is_removed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    left = cache / "image" / ".making-another-abc"
    (left / "root").mkdir(parents=True)
    (left / "base.qcow2").write_text("half")
    monkeypatch.setattr(image, "_build", fake_build)
    made = image.ensure(3072, "bookworm")
    assert made.path.read_text() == made.key and not left.exists()


def test_a_killed_build_is_removed_at_once(cache: Path) -> None:
    script = (
        "import time; from zclab.backends.virtual import image\n"
        "image.NEEDED_MIB = 1\n"
        "image._build = lambda *_: print(flush=True) or time.sleep(99)\n"
        "image.ensure(3072, 'bookworm')"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ)
    assert child.stdout is not None and child.stdout.readline()
    assert len(list((cache / "image").glob(".making-*"))) == 1
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 30
    while list((cache / "image").glob(".making-*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_full_disk_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setattr(image, "NEEDED_MIB", 1 << 40)
    with pytest.raises(
        LabError, match=r"building the base image needs \d+ bytes free, \d+ are: .*ZCLAB_CACHE"
    ):
        image.ensure(3072, "bookworm")
    assert list((cache / "image").iterdir()) == []


def test_images_in_use_are_not_pruned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image, "_build", fake_build)
    used, unused = image.ensure(3072, "bookworm"), image.ensure(4096, "bookworm")
    overlay = tmp_path / "disk.qcow2"
    overlay.write_text("")
    image.register_user(used, overlay)
    assert [one.image.key for one in image.prune()] == [unused.key]
    image.forget_user(overlay)
    assert [one.image.key for one in image.prune()] == [used.key]


def test_a_disk_that_is_gone_does_not_hold_its_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image, "_build", fake_build)
    image.register_user(image.ensure(3072, "bookworm"), tmp_path / "gone.qcow2")
    assert len(image.prune()) == 1


# ---------------------------------------------------------------------------------------------- steps


def test_missing_program_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "mmdebstrap_command", lambda *_, **__: ["no-such-program"])
    monkeypatch.setattr(image, "privately", lambda command: command)
    with pytest.raises(LabError, match=r"^no-such-program is not installed: run playbooks/controller.yml$"):
        image.ensure(3072, "bookworm")


def test_failing_step_names_first_error_and_log(monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo I: working; echo 'E: Unable to fetch some archives'; echo E: later; exit 3"
    monkeypatch.setattr(image, "mmdebstrap_command", lambda *_, **__: ["sh", "-c", script])
    monkeypatch.setattr(image, "privately", lambda command: command)
    lines: list[str] = []
    with pytest.raises(LabError, match=r"Unable to fetch some archives: see (.*failed-.*\.log)$") as error:
        image.ensure(3072, "bookworm", lines.append)
    assert "image: working" in lines
    assert "E: later" in Path(str(error.value).rpartition("see ")[2]).read_text()


def test_hooks_do_not_need_this_checkout() -> None:
    """In unshare mode hooks run as a user who may not enter a home directory."""
    target, source = Path("/t"), Path("/s")
    command = image.mmdebstrap_command("bookworm", target, source, uuid.UUID(int=1), as_root=False)
    assert "--mode=unshare" in command and "--format=tar" in command
    assert not any(str(image._GUEST) in word for word in command)
    assert max(len(word) for word in command) < 100_000


def test_the_packages_are_seen_to_be_the_named_ones() -> None:
    """apt takes a name that it does not know for a pattern, and installs what matches."""
    command = image.mmdebstrap_command("trixie", Path("/t"), Path("/s"), uuid.UUID(int=1), as_root=True)
    hooks = [word for word in command if word.startswith("--customize-hook=")]
    asked = hooks[0].partition(" dpkg --status ")[2].removesuffix(" >/dev/null").split()
    included = next(word for word in command if word.startswith("--include="))
    assert asked == included.removeprefix("--include=").split(",") == list(image.PACKAGES)


# ---------------------------------------------------------------------------------------------- disk


def test_boot_sector_has_one_active_partition() -> None:
    sector = disk.boot_sector(b"\xeb\x63".ljust(512, b"\x90"), 6291456, b"abcd")
    assert len(sector) == 512 and sector[:2] == b"\xeb\x63" and sector[510:] == b"\x55\xaa"
    assert sector[0x1B8:0x1BC] == b"abcd"
    entry = sector[0x1BE:0x1CE]
    assert entry[0] == 0x80 and entry[4] == 0x83
    assert int.from_bytes(entry[8:12], "little") == 2048
    assert int.from_bytes(entry[12:16], "little") == 6291456 - 2048
    assert sector[0x1CE:0x1FE] == bytes(48)


@pytest.mark.parametrize(("boot", "core"), [(b"x" * 511, b""), (b"x" * 512, b"x" * (2048 * 512))])
def test_what_does_not_fit_is_refused(tmp_path: Path, boot: bytes, core: bytes) -> None:
    raw = tmp_path / "raw"
    disk.create(raw, 8)
    with pytest.raises(ValueError, match="bytes"):
        disk.install_grub(raw, boot, core, b"abcd")
