# SPDX-License-Identifier: Apache-2.0
"""Role kernel_boot without a host: menus, refusals, choices, the package, the console."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.kernel_boot_fake import (
    BUILD_ID,
    DISK,
    MARK,
    MINE,
    OTHER,
    STOCK,
    FakeHost,
    grub,
    kernel,
    make_deb,
    menu_text,
)
from tests.role_modules import load, run_module, write_tree

install = load("kernel_boot/action_plugins/zclab_kernel_install.py")
reboot = load("kernel_boot/action_plugins/zclab_kernel_reboot.py")


def spec(release: str) -> str:
    return f"gnulinux-advanced-{DISK}>gnulinux-{release}-advanced-{DISK}"


# Menus


def test_entry_is_found_by_the_exact_release() -> None:
    menu = grub.parse_menu(menu_text("6.6.0-rc2", "6.6.0", "6.6.0-rc2+", STOCK))
    for release in ("6.6.0-rc2", "6.6.0", "6.6.0-rc2+", STOCK):
        found = grub.find_entry(menu, release)
        assert found is not None
        assert found.spec == spec(release)
        assert not found.recovery
    assert grub.find_entry(menu, "6.6") is None
    assert grub.find_entry(menu, "6.6.0-rc") is None


def test_the_simple_entry_stands_for_no_release() -> None:
    text = (
        "menuentry 'Debian' --id 'gnulinux-simple-1' {\n linux /boot/vmlinuz-6.6.0 ro\n}\n"
        "menuentry 'Mine' --id=mine {\n linux /vmlinuz-6.6.1 ro\n}\n"
        "menuentry 'No id' {\n linuxefi /boot/vmlinuz-6.6.2 ro\n}\n"
    )
    menu = grub.parse_menu(text)
    assert grub.find_entry(menu, "6.6.0") is None
    assert grub.find_entry(menu, "6.6.1").spec == "mine"
    assert grub.find_entry(menu, "6.6.2").spec == "No id"


@pytest.mark.parametrize(
    ("value", "release"),
    [
        ("0", "6.6.0"),
        ("1", "6.6.0"),
        ("1>2", STOCK),
        (spec(STOCK), STOCK),
        ("Advanced options for Debian>Debian, with Linux " + STOCK, STOCK),
        ("1>9", None),
        ("gone", None),
    ],
)
def test_default_is_resolved_as_grub_does(value: str, release: str | None) -> None:
    entry = grub.resolve(grub.parse_menu(menu_text("6.6.0", STOCK)), value)
    assert (entry.kernel if entry else None) == release


def test_default_comes_from_the_menu_or_the_environment() -> None:
    environment = grub.parse_environment("# GRUB Environment Block\nsaved_entry=1>2\nnext_entry=\n#######")
    assert environment == {"saved_entry": "1>2", "next_entry": ""}
    assert grub.default_value(menu_text(STOCK), environment) == "1>2"
    assert grub.default_value(menu_text(STOCK), {}) == "0"
    assert grub.default_value(menu_text(STOCK, default="3"), environment) == "3"
    assert grub.uses_saved_default(menu_text(STOCK))
    assert not grub.uses_saved_default(menu_text(STOCK, default="0"))


@pytest.mark.parametrize("line", ["set default=2", "set default='2'", "  set default=2 # the third"])
def test_default_may_stand_without_double_quotes(line: str) -> None:
    assert grub.default_value(f"{line}\n", {}) == "2"
    assert not grub.uses_saved_default(f"{line}\n")
    assert grub.uses_saved_default("set default=${saved_entry}\n")


@pytest.mark.parametrize(
    "line",
    ["menuentry 'Mine' --id=mine { # don't", 'menuentry "Mine" --id mine { #', "menuentry Mine --id=mine {"],
)
def test_an_entry_may_have_a_comment(line: str) -> None:
    text = f"# menuentry 'not me' {{\n{line}\n linux /vmlinuz-6.6.1 ro\n}} # ends\n"
    menu = grub.parse_menu(text + "menuentry 'Kernel # 2' {\n linux /vmlinuz-6.6.2 ro\n}\n")
    assert [(entry.title, entry.kernel) for entry in menu] == [("Mine", "6.6.1"), ("Kernel # 2", "6.6.2")]
    assert menu[0].spec == "mine"


@pytest.mark.parametrize(
    ("abstraction", "filesystem", "problem"),
    [
        ("", "ext2\n", ""),
        ("", "xfs\n", ""),
        ("lvm \n", "ext2\n", "it lies on lvm"),
        ("diskfilter mdraid1x \n", "ext2\n", "diskfilter and mdraid1x"),
        ("", "btrfs\n", "its filesystem is btrfs"),
        ("", "zfs\n", "its filesystem is zfs"),
        ("", "", "does not know"),
    ],
)
def test_where_grub_cannot_write(abstraction: str, filesystem: str, problem: str) -> None:
    said = grub.environment_problem(abstraction, filesystem)
    assert problem in said
    assert bool(said) == bool(problem)


# Choices


def test_running_needs_release_and_build_id() -> None:
    now = {"release": MINE, "build_id": BUILD_ID}
    assert kernel.runs(now, MINE, "AB12")
    assert not kernel.runs(now, MINE, "ab13")
    assert not kernel.runs(now, MINE, "")
    assert not kernel.runs(now, STOCK, "ab12")
    assert not kernel.runs({"release": MINE, "build_id": ""}, MINE, "")


@pytest.mark.parametrize(
    ("bootable", "running", "default", "remembered", "wanted"),
    [
        ([MINE, STOCK, "6.1.0-50"], "6.1.0-50", STOCK, "", "6.1.0-50"),  # the one that runs has proved itself
        ([MINE, STOCK, "6.1.0-50"], MINE, STOCK, "6.1.0-50", "6.1.0-50"),
        ([MINE, STOCK, "6.1.0-50"], MINE, "6.1.0-50", "gone", "6.1.0-50"),
        ([MINE, STOCK], OTHER, "", "", STOCK),
        ([MINE, OTHER, STOCK], OTHER, OTHER, STOCK, OTHER),  # promoted: it stays the default
        ([MINE, OTHER], OTHER, OTHER, STOCK, ""),  # nothing but the lab's own
        ([], STOCK, STOCK, "", ""),
    ],
)
def test_fallback(bootable: list[str], running: str, default: str, remembered: str, wanted: str) -> None:
    assert kernel.choose_fallback(bootable, running, default, remembered, MARK) == wanted


def test_prune_keeps_the_newest_and_whatever_is_protected() -> None:
    own = [f"6.1.{number}-zclab-0123456789" for number in (5, 4, 3, 2, 1)]
    assert kernel.choose_pruned(own, 2, set(), MARK) == own[2:]
    assert kernel.choose_pruned(own, 2, {own[3]}, MARK) == [own[2], own[4]]
    assert kernel.choose_pruned(own, 9, set(), MARK) == []
    assert kernel.choose_pruned(own, 0, {own[0]}, MARK) == own[1:]
    assert (
        kernel.choose_pruned([*own, STOCK], 0, set(), MARK) == own
    )  # never a kernel that the lab did not make


@pytest.mark.parametrize("state", ["gathered", "prepared", "settled"])
def test_a_kernel_without_the_mark_is_refused_by_name(state: str) -> None:
    """It would count as one of the host's own: chosen as the fallback, and never removed."""
    wanted = {"state": state, "release": STOCK, "build_id": BUILD_ID, "mark": MARK}
    result = run_module("kernel_boot/library/zclab_kernel.py", wanted)
    assert result["failed"]
    assert f"kernel {STOCK} does not have {MARK} in its release" in result["msg"]
    assert "\n" not in result["msg"]
    result = run_module("kernel_boot/library/zclab_kernel.py", {**wanted, "mark": ""})
    assert "kernel_boot_mark is empty" in result["msg"]


def test_another_mark_is_another_labs(fake: FakeHost) -> None:
    host = kernel.Host(fake.run, "-mine-", fake.root)
    write_tree(fake.root, {"boot/grub/grub.cfg": menu_text(MINE, "6.1.0-mine-1", STOCK)})
    for release in (MINE, "6.1.0-mine-1", STOCK):
        write_tree(fake.root, {f"var/lib/dpkg/info/linux-image-{release}.list": ""})
    assert host.own_kernels() == ["6.1.0-mine-1"]
    write_tree(fake.root, {"boot/grub/grub.cfg": menu_text("6.1.0-mine-1")})
    with pytest.raises(kernel.RefusedError, match="no known-good kernel"):
        host.fallback()


def test_room_counts_the_initrd_and_one_filesystem() -> None:
    package = {"boot_bytes": 10 << 20, "root_bytes": 1 << 20, "deb_bytes": 5 << 20, "wants_initrd": False}
    slack = kernel.SLACK_BYTES
    assert kernel.room_needed(package, 40 << 20, False) == {
        "/boot": (10 << 20) + slack,
        "/": (6 << 20) + slack,
    }
    assert kernel.room_needed(package, 40 << 20, True) == {"/boot": (16 << 20) + 2 * slack}
    package["wants_initrd"] = True
    assert kernel.room_needed(package, 40 << 20, False)["/boot"] == (50 << 20) + slack


def params(**given: Any) -> dict[str, Any]:
    package = {
        "name": f"linux-image-{MINE}",
        "image_sha256": hashlib.sha256(f"image {MINE}".encode()).hexdigest(),
        "wants_initrd": False,
        "boot_bytes": 1000,
        "root_bytes": 1000,
        "deb_bytes": 1000,
    }
    return {
        "release": MINE,
        "build_id": BUILD_ID,
        "package": package,
        "deb": "/x.deb",
        "promote": False,
        "keep": 2,
        **given,
    }


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/sbin/{name}")
    return FakeHost(tmp_path, STOCK)


def test_prepared_boots_once_and_falls_back(fake: FakeHost) -> None:
    host = fake.host
    first = host.prepare(params(deb=""), check_mode=False)
    assert first == {"changed": False, "needs_package": True, "fallback": STOCK, "changes": []}
    assert fake.changed() == []

    assert host.prepare(params(), check_mode=False)["changed"]
    assert host.default() == STOCK
    attempt = host.attempt()
    assert attempt["outcome"] == "armed"
    assert len(attempt["tag"]) == 16
    assert fake.boots() == MINE
    assert host.attempt()["outcome"] == "booted"
    assert fake.boots() == STOCK
    assert host.attempt()["outcome"] == "fell back"


def test_an_unknown_default_is_the_first_entry(fake: FakeHost) -> None:
    write_tree(fake.root, {"boot/grub/grub.cfg": menu_text(MINE, STOCK)})
    fake.host.set_environment("saved_entry", "gone>away")
    assert fake.host.default() == MINE


def test_drop_in_is_what_grub_mkconfig_reads(tmp_path: Path) -> None:
    (tmp_path / "zclab.cfg").write_text(kernel.DROP_IN_TEXT, encoding="utf-8")
    script = """set -eu; GRUB_DEFAULT=0; GRUB_CMDLINE_LINUX_DEFAULT=quiet; . ./zclab.cfg
        echo "$GRUB_DEFAULT:$GRUB_CMDLINE_LINUX_DEFAULT" """
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("saved:quiet panic=10 oops=panic\n", "")
    assert set(done.stdout.split()) >= kernel.PANIC_ARGUMENTS


def test_prepared_again_installs_nothing(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    fake.boots()
    fake.calls.clear()
    fake.host.prepare(params(deb=""), check_mode=False)
    assert "dpkg" not in fake.changed()
    assert "update-grub" not in fake.changed()
    assert fake.boots() == MINE


def test_another_file_of_the_same_release_is_installed(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    write_tree(fake.root, {f"boot/vmlinuz-{MINE}": "half"})
    assert fake.host.prepare(params(deb=""), check_mode=False)["needs_package"]


def test_check_mode_changes_nothing(fake: FakeHost) -> None:
    before = fake.state()
    assert fake.host.prepare(params(deb=""), check_mode=True)["changes"] == [
        f"kernel {MINE}: absent -> installed",
        f"next boot, once: {STOCK} -> {MINE}",
    ]
    assert fake.state() == before
    assert fake.changed() == []


@pytest.mark.parametrize(
    "fault", ["lvm", "btrfs", "no environment", "no menu", "own kernels only", "no room"]
)
def test_refused_before_anything_is_changed(
    fake: FakeHost, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fault
    if fault == "lvm":
        fake.abstraction = "lvm"
    elif fault == "btrfs":
        fake.filesystem = "btrfs"
    elif fault == "no environment":
        (fake.root / "boot/grub/grubenv").unlink()
        expected = "grubenv is missing"
    elif fault == "no menu":
        (fake.root / "boot/grub/grub.cfg").unlink()
        expected = "GRUB on the host's own disk"
    elif fault == "own kernels only":
        write_tree(fake.root, {"boot/grub/grub.cfg": menu_text(OTHER)})
        expected = "no known-good kernel"
    else:
        real = os.statvfs(fake.root)
        small = SimpleNamespace(f_bavail=3, f_frsize=1024, f_flag=real.f_flag)
        monkeypatch.setattr(os, "statvfs", lambda _path: small)
        expected = f"{3000 + 2 * kernel.SLACK_BYTES} bytes needed, 3072 free"
    before = {path: path.read_bytes() for path in fake.root.rglob("*") if path.is_file()}
    with pytest.raises(kernel.RefusedError, match=expected) as refusal:
        fake.host.prepare(params(), check_mode=False)
    assert "\n" not in str(refusal.value)
    assert fake.changed() == []
    assert {path: path.read_bytes() for path in fake.root.rglob("*") if path.is_file()} == before


def test_an_open_quote_in_the_menu_is_one_line(fake: FakeHost) -> None:
    write_tree(fake.root, {"boot/grub/grub.cfg": "set default=0\nmenuentry 'Mine {\n}\n"})
    for reading in (fake.host.default, fake.host.fallback):
        with pytest.raises(
            kernel.RefusedError, match=r"boot/grub/grub\.cfg: line 2: a quote is not closed"
        ) as refusal:
            reading()
        assert "\n" not in str(refusal.value)


def test_failed_installation_is_taken_out(fake: FakeHost) -> None:
    fake.broken_dpkg = True
    with pytest.raises(kernel.RefusedError, match="No space left on device") as refusal:
        fake.host.prepare(params(), check_mode=False)
    assert "\n" not in str(refusal.value)
    assert ["dpkg", "--purge", f"linux-image-{MINE}"] in fake.calls
    assert fake.boots() == STOCK


def test_a_foreign_default_is_refused(fake: FakeHost) -> None:
    """Something on the host that overrides GRUB_DEFAULT would boot the new kernel for good."""
    fake.ignores_drop_in = True
    with pytest.raises(kernel.RefusedError, match=f"the default kernel is {MINE} and not {STOCK}"):
        fake.host.prepare(params(), check_mode=False)
    assert "grub-reboot" not in fake.changed()


def test_settled_promotes_only_when_asked(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    assert fake.boots() == MINE
    assert not fake.host.settle(params(), check_mode=False)["changed"]
    assert fake.host.attempt()["outcome"] == "proved"
    assert fake.host.default() == STOCK
    assert fake.host.settle(params(promote=True), check_mode=True)["changed"]
    assert fake.host.default() == STOCK
    assert fake.host.settle(params(promote=True), check_mode=False)["changed"]
    assert fake.host.default() == MINE
    assert not fake.host.settle(params(promote=True), check_mode=False)["changed"]


def test_settled_records_a_fall_back_and_changes_nothing(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    fake.boots()
    fake.boots()
    fake.calls.clear()
    assert fake.host.settle(params(promote=True, keep=0), check_mode=False) == {
        "changed": False,
        "pruned": [],
        "changes": [],
    }
    assert fake.host.load(fake.host.attempt_file)["outcome"] == "fell back"
    assert fake.changed() == []


def test_settled_prunes_old_kernels_of_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/sbin/{name}")
    old = [f"6.1.{number}-zclab-0123456789" for number in (1, 2, 3)]
    fake = FakeHost(tmp_path, *reversed(old), STOCK)
    for age, release in enumerate(old):
        os.utime(tmp_path / f"var/lib/dpkg/info/linux-image-{release}.list", (1000 + age, 1000 + age))
    fake.host.prepare(params(), check_mode=False)
    assert fake.boots() == MINE
    assert fake.host.settle(params(), check_mode=False)["pruned"] == [old[1], old[0]]
    assert sorted(fake.releases) == sorted([STOCK, old[2], MINE])


def test_restored_is_what_was(fake: FakeHost) -> None:
    before = fake.state()
    fake.host.prepare(params(), check_mode=False)
    assert fake.boots() == MINE
    fake.host.settle(params(promote=True), check_mode=False)
    first = fake.host.restore(check_mode=False)
    assert first["reboot_required"]
    assert first["fallback"] == STOCK
    assert fake.boots() == STOCK
    second = fake.host.restore(check_mode=False)
    assert second["changed"]
    assert second["pruned"] == [MINE]
    after = fake.state()
    assert after["boot/grub/grubenv"].rstrip("#") == before["boot/grub/grubenv"]
    assert {**after, "boot/grub/grubenv": ""} == {**before, "boot/grub/grubenv": ""}
    assert not fake.host.state_dir.exists()
    assert not fake.host.restore(check_mode=False)["changed"]


NEWER = "6.9.0-1-amd64"


@pytest.mark.parametrize("running", [STOCK, MINE])
@pytest.mark.parametrize("removed", [False, True])
def test_restored_after_a_distribution_upgrade(fake: FakeHost, running: str, removed: bool) -> None:
    """A newer kernel came, and perhaps the known-good one went: what boots is what would without the lab."""
    fake.host.prepare(params(), check_mode=False)
    fake.boots()
    write_tree(fake.root, {f"boot/vmlinuz-{NEWER}": "image"})
    if removed:
        (fake.root / f"boot/vmlinuz-{STOCK}").unlink()
    fake.update_grub()
    kept = NEWER if removed else STOCK
    if running == MINE:
        first = fake.host.restore(check_mode=False)
        assert (first["reboot_required"], first["fallback"]) == (True, kept)
        assert fake.boots() == kept
    else:
        fake.boots()
    restored = fake.host.restore(check_mode=False)
    assert restored["changes"] == [
        f"kernel {MINE}: installed -> removed",
        "boot settings: the lab's -> as before its first change",
        f"default kernel: it was {STOCK}, now it is {NEWER}",
    ]
    assert fake.boots() == NEWER
    assert MINE not in fake.releases
    assert not fake.host.state_dir.exists()


def test_restored_refuses_before_it_removes_anything(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    fake.boots()
    (fake.root / f"boot/vmlinuz-{STOCK}").unlink()
    fake.update_grub()
    before = fake.state()
    for _ in range(2):
        with pytest.raises(kernel.RefusedError, match="no known-good kernel to go back to"):
            fake.host.restore(check_mode=False)
        assert fake.state() == before
    assert MINE in fake.releases


def test_a_failed_removal_leaves_the_default_and_the_next_restore_works(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    fake.boots()
    fake.boots()
    fake.broken_dpkg = True
    with pytest.raises(kernel.RefusedError, match="dpkg --purge linux-image"):
        fake.host.restore(check_mode=False)
    assert fake.host.text(fake.host.drop_in) == kernel.DROP_IN_TEXT
    assert fake.host.default() == STOCK
    assert fake.boots() == STOCK
    fake.broken_dpkg = False
    assert fake.host.restore(check_mode=False)["pruned"] == [MINE]
    assert fake.boots() == STOCK


def test_a_menu_that_ignores_the_saved_entry_is_not_rebooted(fake: FakeHost) -> None:
    """A restore would reboot into the lab's kernel again and again."""
    fake.host.prepare(params(), check_mode=False)
    assert fake.boots() == MINE
    fake.ignores_drop_in = True
    fake.update_grub()
    environment = fake.state()
    with pytest.raises(kernel.RefusedError, match=r"does not boot the saved entry.*GRUB_DEFAULT"):
        fake.host.restore(check_mode=False)
    assert fake.state() == environment


def test_a_dry_restore_changes_nothing(fake: FakeHost) -> None:
    fake.host.prepare(params(), check_mode=False)
    for running, planned in (
        (MINE, [f"default kernel: {STOCK} -> {STOCK}", f"reboot into {STOCK}"]),
        (
            STOCK,
            [
                f"kernel {MINE}: installed -> removed",
                "boot settings: the lab's -> as before its first change",
            ],
        ),
    ):
        assert fake.boots() == running
        before = fake.state()
        assert fake.host.restore(check_mode=True)["changes"] == planned
        assert fake.state() == before


def test_a_probe_that_says_nothing_once_is_asked_again(
    fake: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "PROBE_PAUSE_SECONDS", 0)
    fake.silent_probes = 1
    assert fake.host.prepare(params(), check_mode=False)["changed"]
    fake.silent_probes = 99
    with pytest.raises(
        kernel.RefusedError,
        match=r"grub-probe --target=fs .*/boot/grub failed 3 times: it said nothing \(status 0\)",
    ):
        fake.host.prepare(params(), check_mode=True)


def test_a_later_file_that_sets_the_default_is_refused(fake: FakeHost) -> None:
    write_tree(fake.root, {"etc/default/grub.d/zz.cfg": "GRUB_DEFAULT=0\n"})
    before = fake.state()
    for check_mode in (True, False):
        with pytest.raises(kernel.RefusedError, match=r"zz\.cfg sets GRUB_DEFAULT after zclab\.cfg does"):
            fake.host.prepare(params(), check_mode=check_mode)
    assert fake.state() == before
    write_tree(
        fake.root,
        {
            "etc/default/grub.d/zz.cfg": 'GRUB_DEFAULT="saved"\n',
            "etc/default/grub.d/a.cfg": "GRUB_DEFAULT=0\n",
        },
    )
    assert fake.host.prepare(params(), check_mode=True)["changed"]


# The package


def test_package_is_described(tmp_path: Path) -> None:
    without_modules = make_deb(tmp_path, MINE, "CONFIG_X=y\nCONFIG_BLK_DEV_INITRD=y\n")
    assert not install.describe_package(without_modules, MINE)["wants_initrd"]
    deb = make_deb(tmp_path, MINE, "CONFIG_X=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_MODULES=y\n")
    package = install.describe_package(deb, MINE)
    assert package["image_sha256"] == hashlib.sha256(f"image {MINE}".encode()).hexdigest()
    assert package["wants_initrd"]
    assert package["boot_bytes"] >= 2 * 4096
    assert package["root_bytes"] >= 2 * 4096
    assert package["deb_bytes"] == deb.stat().st_size
    with pytest.raises(ValueError, match=f"holds no boot/vmlinuz-{OTHER}"):
        install.describe_package(deb, OTHER)


def test_bad_package_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.deb"
    bad.write_bytes(b"no archive")
    for deb, said in ((bad, "bad.deb"), (tmp_path / "gone.deb", "is missing")):
        with pytest.raises(ValueError, match=said) as error:
            install.describe_package(deb, MINE)
        assert "\n" not in str(error.value)


# The console


def test_console_end_shows_the_panic_and_not_the_fallback() -> None:
    crashed = [f"line {number}" for number in range(50)] + [
        "Kernel panic - not syncing: no init",
        "Call Trace:",
    ]
    text = "\r\n".join(
        [
            "Linux version 6.1.192-zclab",
            *crashed,
            "Rebooting in 10 seconds..",
            "Linux version 6.1.0",
            "login:",
        ]
    )
    end = reboot.console_end(text)
    assert len(end) <= reboot.CONSOLE_LINES
    assert "Kernel panic - not syncing: no init" in end
    assert "Rebooting in 10 seconds.." in end
    assert "login:" not in end


def test_console_end_without_a_panic() -> None:
    assert reboot.console_end("a\n\n\x1b[1mb\x1b[0m\n") == ["a", "b"]
    two_boots = "Linux version 1\nmount failed\nLinux version 2\nlogin:\n"
    assert reboot.console_end(two_boots) == ["Linux version 1", "mount failed"]
    assert reboot.console_end("") == []


def test_console_is_read_from_the_reboot_on(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("old\n", encoding="utf-8")
    console = reboot.Console(str(log))
    with log.open("a", encoding="utf-8") as file:
        file.write("new\n")
    assert console.said() == "new\n"
    log.write_text("x\n", encoding="utf-8")  # it started over
    assert console.said() == "x\n"
    assert reboot.Console("").said() == ""
    assert reboot.Console(str(tmp_path / "none")).said() == ""


def test_saved_state_is_json(fake: FakeHost) -> None:
    fake.host.keep_original()
    assert json.loads(fake.host.original_file.read_text(encoding="utf-8"))["default_release"] == STOCK
    write_tree(fake.root, {"var/lib/zclab/kernel.json": "{"})
    with pytest.raises(kernel.RefusedError, match=r"kernel\.json is not JSON"):
        fake.host.restore(check_mode=False)
