#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""The lab's kernel on one host: which one runs, boot one once, keep it or give the old default back.

`gathered` reads which kernel runs and which is the default, and changes nothing. `prepared` refuses a host
where booting once is not safe; else it installs the package, makes the fallback kernel the default, and asks
GRUB to boot the wanted kernel once. It does not reboot. In a dry run the kernel may be unknown (release "").
`settled` records how that ended; on a host that runs the wanted kernel it promotes it when asked, and removes
older kernels of the lab. `restored` puts back the boot settings that were before the lab's first change and
removes the lab's kernels; on a host that runs one of these it makes the old kernel the default and returns
`reboot_required`: it has to be called again after a reboot into `fallback`.

Every state returns `kernel` (release, build_id, boot_id of the kernel that runs), `running` (whether it is
the wanted one), `default` (the release that boots when nothing is asked for once), `promoted` (whether that
is the wanted one), and `attempt` (the last boot that was asked for; its outcome is armed, proved or fell
back).
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from ansible.module_utils import zclab_grub as grub
from ansible.module_utils import zclab_host
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zclab_host import RefusedError

SLACK_BYTES = 4 << 20
PROBE_ATTEMPTS = 3
PROBE_PAUSE_SECONDS = 1.0
DROP_IN_TEXT = """\
# SPDX-License-Identifier: Apache-2.0
# Made by zclab; its restore removes it. The default is the saved entry, so that a kernel can be booted once.
# A kernel that crashes restarts the host after 10 seconds, and the host comes back on the default.
GRUB_DEFAULT=saved
GRUB_SAVEDEFAULT=false
GRUB_CMDLINE_LINUX_DEFAULT="${GRUB_CMDLINE_LINUX_DEFAULT} panic=10 oops=panic"
"""
PANIC_ARGUMENTS = frozenset({"panic=10", "oops=panic"})


def choose_fallback(bootable: list[str], running: str, default: str, remembered: str, mark: str) -> str:
    """Return the release to fall back to, "" if there is none that the lab did not make.

    A default that somebody promoted stays the default. Else it is the kernel that runs now, for it has proved
    itself; else the one that the last attempt remembered; else the first of the menu. None of these is the
    lab's own, which have the mark in their release. bootable: releases with a menu entry, in menu order.
    """
    foreign = [release for release in bootable if mark not in release]
    if not foreign:
        return ""
    if mark in default and default in bootable:
        return default
    for release in (running, remembered, default):
        if release in foreign:
            return release
    return foreign[0]


def choose_pruned(own: list[str], keep: int, protected: set[str], mark: str) -> list[str]:
    """Return the releases to remove: all but the newest `keep`, and never a protected one.

    own: the lab's own installed kernels, newest first.
    """
    return [release for release in own[max(keep, 0) :] if release not in protected and mark in release]


def room_needed(package: dict[str, Any], known_initrd_bytes: int, one_filesystem: bool) -> dict[str, int]:
    """Return the bytes that installing needs, by directory ("/boot", "/")."""
    boot = int(package["boot_bytes"]) + SLACK_BYTES
    if package["wants_initrd"]:
        boot += known_initrd_bytes
    root = int(package["root_bytes"]) + int(package["deb_bytes"]) + SLACK_BYTES
    return {"/boot": boot + root} if one_filesystem else {"/boot": boot, "/": root}


class Host(zclab_host.Host):
    """The parts of a host that decide what boots. `root` is another directory than / in tests only.

    mark: what the release of each of the lab's own kernels contains.
    """

    def __init__(self, run: zclab_host.Run, mark: str, root: Path = Path("/")) -> None:
        super().__init__(run, root)
        self.mark = mark
        self.grub = root / "boot/grub"
        self.menu_file = self.grub / "grub.cfg"
        self.environment_file = self.grub / "grubenv"
        self.drop_in = root / "etc/default/grub.d/zclab.cfg"
        self.original_file = self.state_dir / "kernel.json"
        self.attempt_file = self.state_dir / "attempt.json"

    # What is

    def kernel(self) -> dict[str, str]:
        """Return release, build id and boot id of the kernel that runs."""
        notes = self.root / "sys/kernel/notes"
        return {
            "release": self.text(self.root / "proc/sys/kernel/osrelease").strip(),
            "build_id": zclab_host.build_id(notes.read_bytes()) if notes.exists() else "",
            "boot_id": self.boot_id(),
        }

    def menu(self) -> list[grub.Entry]:
        """Return the boot menu.

        Raises:
            RefusedError: it cannot be read.
        """
        try:
            return grub.parse_menu(self.text(self.menu_file))
        except ValueError as error:
            raise RefusedError(
                f"{self.name}: {self.menu_file}: {error}: correct the file under /etc/grub.d or /etc/default "
                "that it comes from, then run update-grub"
            ) from None

    def environment(self) -> dict[str, str]:
        """Return GRUB's environment."""
        return grub.parse_environment(self.text(self.environment_file))

    def default(self) -> str:
        """Return the release that boots when nothing is asked for once, "" if that cannot be told.

        GRUB boots the first entry when the one it is told of is not in the menu.
        """
        text = self.text(self.menu_file)
        menu = self.menu()
        entry = grub.resolve(menu, grub.default_value(text, self.environment())) or grub.resolve(menu, "0")
        return entry.kernel if entry else ""

    def bootable(self) -> list[str]:
        """Return the releases that have an entry in the menu, in its order."""
        return [entry.kernel for entry in grub.entries(self.menu()) if not entry.recovery]

    def own_kernels(self) -> list[str]:
        """Return the lab's own installed kernels, newest installation first."""
        lists = (self.root / "var/lib/dpkg/info").glob("linux-image-*.list")
        newest_first = sorted(lists, key=lambda path: path.stat().st_mtime_ns, reverse=True)
        releases = [path.name[len("linux-image-") : -len(".list")] for path in newest_first]
        return [release for release in releases if self.mark in release]

    def installed(self, release: str, package: dict[str, Any]) -> bool:
        """Whether exactly this kernel's package is installed whole."""
        image = self.root / f"boot/vmlinuz-{release}"
        if not image.exists() or hashlib.sha256(image.read_bytes()).hexdigest() != package["image_sha256"]:
            return False
        status, out, _ = self.run(["dpkg-query", "-W", "-f", "${Status}", str(package["name"])])
        return status == 0 and out.strip() == "install ok installed"

    def attempt(self) -> dict[str, Any]:
        """Return the last attempt. One that was armed and never concluded tells by the boot that followed."""
        attempt = self.load(self.attempt_file)
        if attempt.get("outcome") == "armed":
            now = self.kernel()
            if now["boot_id"] != attempt["boot_id"]:
                attempt["outcome"] = "booted" if now["release"] == attempt["release"] else "fell back"
        return attempt

    # Refusals, all before anything is changed

    def check_mark(self, release: str) -> None:
        """Refuse a kernel that could not be told from the host's own ones."""
        if self.mark not in release:
            raise RefusedError(
                f"{self.name}: kernel {release} does not have {self.mark} in its release, so it would count "
                "as the host's own and never be removed: build it with that in CONFIG_LOCALVERSION, or set "
                "kernel_boot_mark to what it has"
            )

    def check_boot_loader(self) -> None:
        """Refuse a host where a kernel cannot be booted once."""
        efi = self.root / "sys/firmware/efi/efivars"
        for loader in efi.glob("LoaderInfo-*") if efi.exists() else ():
            name = loader.read_bytes()[4:].decode("utf-16-le", "replace").rstrip("\0")
            if "GRUB" not in name:
                raise RefusedError(
                    f"{self.name}: it boots through {name}, not GRUB: install GRUB and try again"
                )
        for switch in efi.glob("SecureBoot-*") if efi.exists() else ():
            if switch.read_bytes()[-1:] == b"\1":
                raise RefusedError(
                    f"{self.name}: Secure Boot is on and the lab's kernels are not signed: turn it off in "
                    "the firmware"
                )
        commands = ("dpkg", "grub-probe", "grub-editenv", "grub-reboot", "update-grub")
        missing = [name for name in commands if not shutil.which(name, path=zclab_host.SEARCH_PATH)]
        if missing or not self.menu_file.exists():
            what = f"no command {missing[0]}" if missing else f"no {self.menu_file}"
            raise RefusedError(
                f"{self.name}: {what}: one-shot boot needs Debian with GRUB on the host's own disk"
            )
        if not self.environment_file.exists():
            raise RefusedError(
                f"{self.name}: {self.environment_file} is missing, so a one-shot boot would not be one: "
                f"run grub-editenv {self.environment_file} create"
            )
        self.check_later_default()
        filesystem = self.probe("fs", self.grub)
        # What lies on a plain partition has no abstraction, so that this answer may be empty.
        abstraction = self.must("grub-probe", "--target=abstraction", str(self.grub))
        problem = grub.environment_problem(abstraction, filesystem)
        if not problem and (
            os.statvfs(self.grub).f_flag & os.ST_RDONLY or not os.access(self.environment_file, os.W_OK)
        ):
            problem = "it is mounted read-only"
        if problem:
            raise RefusedError(
                f"{self.name}: GRUB cannot write {self.environment_file}: {problem}; a one-shot boot would "
                "repeat itself: put /boot on a plain ext4 partition"
            )

    def probe(self, target: str, path: Path) -> str:
        """Return what grub-probe says of a path.

        It reads the disk below the file system, where what was just written may not have arrived.

        Raises:
            RefusedError: it says nothing, several times.
        """
        command = ["grub-probe", f"--target={target}", str(path)]
        for attempt in range(PROBE_ATTEMPTS):
            if attempt:
                os.sync()
                time.sleep(PROBE_PAUSE_SECONDS)
            status, out, err = self.run(command)
            if status == 0 and out.strip():
                return str(out)
        reason = " ".join(err.split()) or f"it said nothing (status {status})"
        raise RefusedError(
            f"{self.name}: {' '.join(command)} failed {PROBE_ATTEMPTS} times: {reason}: run it there "
            "until it answers, then try again"
        )

    def check_later_default(self) -> None:
        """Refuse a host where a later file than the lab's sets the default."""
        for path in sorted(self.drop_in.parent.glob("*.cfg")):
            found = re.findall(r"^\s*(?:export\s+)?GRUB_DEFAULT=(\S*)", self.text(path), re.MULTILINE)
            if path.name > self.drop_in.name and found and found[-1].strip("\"'") != "saved":
                raise RefusedError(
                    f"{self.name}: {path} sets GRUB_DEFAULT after {self.drop_in.name} does, so that a kernel "
                    f"could not be booted once: give it a name that sorts before {self.drop_in.name}"
                )

    def check_room(self, package: dict[str, Any]) -> None:
        """Refuse a host without room for the package."""
        boot, root = self.root / "boot", self.root
        one = boot.stat().st_dev == root.stat().st_dev
        initrds = [path.stat().st_size for path in boot.glob("initrd.img-*")]
        for where, needed in room_needed(package, max(initrds, default=0), one).items():
            status = os.statvfs(boot if where == "/boot" else root)
            free = status.f_bavail * status.f_frsize
            if free < needed:
                raise RefusedError(
                    f"{self.name}: {where} has no room for {package['name']}: {needed} bytes needed, {free} "
                    "free: remove what is not needed there"
                )

    def fallback(self) -> str:
        """Return the release to fall back to.

        Raises:
            RefusedError: there is none that this lab did not make.
        """
        remembered = self.load(self.attempt_file).get("fallback", "")
        running = self.kernel()["release"]
        release = choose_fallback(self.bootable(), running, self.default(), remembered, self.mark)
        if not release:
            raise RefusedError(
                f"{self.name}: no known-good kernel: every kernel in {self.menu_file} is the lab's own: "
                "install the distribution's kernel first"
            )
        return release

    # Changes

    def set_environment(self, name: str, value: str | None) -> bool:
        """Set or unset a variable of GRUB's environment and return whether that changed it."""
        if self.environment().get(name) == value:
            return False
        words = ("unset", name) if value is None else ("set", f"{name}={value}")
        self.must("grub-editenv", str(self.environment_file), *words)
        if self.environment().get(name) != value:
            raise RefusedError(
                f"{self.name}: {self.environment_file} did not take {name}={value or ''}: look at it"
            )
        return True

    def spec(self, release: str) -> str:
        """Return the exact menu entry of a release."""
        entry = grub.find_entry(self.menu(), release)
        if entry is None:
            raise RefusedError(
                f"{self.name}: {self.menu_file} has no entry for kernel {release}: run update-grub there and "
                "see why it is left out"
            )
        return entry.spec

    def spec_to_be(self, release: str) -> str:
        """Return the exact menu entry of a release, or the one that update-grub will give it.

        A menu that update-grub did not make may name its kernels otherwise. An entry that is not in the menu
        makes GRUB boot the first one, which is what such a menu did before.
        """
        entry = grub.find_entry(self.menu(), release)
        if entry is not None:
            return entry.spec
        device = self.probe("fs_uuid", self.root).strip()
        return f"gnulinux-advanced-{device}>gnulinux-{release}-advanced-{device}"

    def keep_original(self) -> None:
        """Save what boots by default, once, before the first change."""
        if self.original_file.exists():
            return
        environment = self.environment()
        self.save(
            self.original_file,
            {
                "default_release": self.default(),
                "drop_in": self.text(self.drop_in) if self.drop_in.exists() else None,
                "saved_entry": environment.get("saved_entry"),
                "next_entry": environment.get("next_entry"),
                "running_release": self.kernel()["release"],
            },
        )

    def menu_is_current(self, release: str) -> bool:
        """Whether the menu has the release, obeys the saved default, and restarts after a crash."""
        text = self.text(self.menu_file)
        entry = grub.find_entry(self.menu(), release)
        return entry is not None and set(entry.arguments) >= PANIC_ARGUMENTS and grub.uses_saved_default(text)

    def install(self, release: str, package: dict[str, Any], deb: str) -> None:
        """Install the package; a failed installation is taken out again."""
        try:
            self.must("dpkg", "-i", deb)
        except RefusedError:
            self.run(["dpkg", "--purge", str(package["name"])])
            raise
        finally:
            os.sync()
        if not self.installed(release, package):
            raise RefusedError(
                f"{self.name}: {package['name']} is not what was built: build the kernel again"
            )

    def prepare(self, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        """Install the wanted kernel and ask for one boot of it; returns needs_package, fallback, changed."""
        release, package, deb = params["release"], params["package"], params["deb"]
        self.check_boot_loader()
        fallback = self.fallback()
        if not release:
            if not check_mode:
                raise RefusedError(f"{self.name}: no kernel is named: set kernel_boot_release")
            changes = [f"next boot, once: {self.default() or 'unknown'} -> the kernel that is not built yet"]
            return {"changed": True, "needs_package": True, "fallback": fallback, "changes": changes}
        installed = self.installed(release, package)
        if not installed:
            self.check_room(package)
        if check_mode or (not installed and not deb):
            steps = [] if installed else [f"kernel {release}: absent -> installed"]
            steps.append(f"next boot, once: {self.default() or 'unknown'} -> {release}")
            steps.append(f"default kernel: {self.default() or 'unknown'} -> {fallback}")
            changes = steps[:-1] if self.default() == fallback else steps
            return {
                "changed": check_mode,
                "needs_package": not installed,
                "fallback": fallback,
                "changes": changes if check_mode else [],
            }

        self.keep_original()
        if self.text(self.drop_in) != DROP_IN_TEXT:
            self.write(self.drop_in, DROP_IN_TEXT)
        # The default first: from the moment that the new kernel is in the menu it may sort to the top of it.
        self.set_environment("saved_entry", self.spec_to_be(fallback))
        if not installed:
            self.install(release, package, deb)
        if not self.menu_is_current(release):
            self.must("update-grub")
        target = self.spec(release)
        self.set_environment("saved_entry", self.spec(fallback))
        if self.default() != fallback:
            raise RefusedError(
                f"{self.name}: the default kernel is {self.default() or 'unknown'} and not {fallback}: see "
                f"what sets GRUB_DEFAULT under {self.root / 'etc/default'}"
            )
        self.save(
            self.attempt_file,
            {
                "tag": secrets.token_hex(8),
                "release": release,
                "build_id": params["build_id"],
                "fallback": fallback,
                "boot_id": self.kernel()["boot_id"],
                "asked_at": int(time.time()),
                "outcome": "armed",
            },
        )
        self.must("grub-reboot", target)
        if self.environment().get("next_entry") != target:
            raise RefusedError(
                f"{self.name}: {self.environment_file} did not take next_entry={target}: look at it"
            )
        return {"changed": True, "needs_package": False, "fallback": fallback}

    def settle(self, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
        """Record how the attempt ended; if well, promote and prune as asked."""
        release = params["release"]
        running = runs(self.kernel(), release, params["build_id"])
        attempt = self.attempt()
        if attempt.get("release") == release and not check_mode:
            attempt["outcome"] = "proved" if running else "fell back"
            if attempt != self.load(self.attempt_file):
                self.save(self.attempt_file, attempt)
        if not running:
            return {"changed": False, "pruned": [], "changes": []}
        changes = []
        if params["promote"] and self.default() != release:
            changes.append(f"default kernel: {self.default() or 'unknown'} -> {release}")
            if not check_mode:
                self.set_environment("saved_entry", self.spec(release))
        protected = {release, self.default(), attempt.get("fallback", "")}
        pruned = choose_pruned(self.own_kernels(), params["keep"], protected, self.mark)
        if pruned and not check_mode:
            self.must("dpkg", "--purge", *(f"linux-image-{old}" for old in pruned))
        changes += [f"kernel {old}: installed -> removed" for old in pruned]
        return {"changed": bool(changes), "pruned": pruned, "changes": changes}

    def restore(self, check_mode: bool) -> dict[str, Any]:
        """Put the default back that was, and remove the lab's kernels and files."""
        original = self.load(self.original_file)
        if not original:
            if not check_mode:
                self.forget()
            return {"changed": False, "reboot_required": False, "fallback": "", "pruned": [], "changes": []}
        running = self.kernel()["release"]
        foreign = [release for release in self.bootable() if self.mark not in release]
        if not foreign:
            raise RefusedError(f"{self.name}: no known-good kernel to go back to: install the distribution's")
        if self.mark in running:
            wanted = original["default_release"]
            # The default that was may be gone, or may have been a kernel of the lab that another state left.
            if wanted not in foreign:
                remembered = self.load(self.attempt_file).get("fallback", "")
                wanted = choose_fallback(self.bootable(), running, "", remembered, self.mark)
            target = self.spec(wanted)
            if not grub.uses_saved_default(self.text(self.menu_file)):
                raise RefusedError(
                    f"{self.name}: {self.menu_file} does not boot the saved entry, so {wanted} cannot be "
                    f"booted: see what sets GRUB_DEFAULT under {self.root / 'etc/default'}, then run "
                    "update-grub"
                )
            changes = [f"default kernel: {self.default()} -> {wanted}", f"reboot into {wanted}"]
            if not check_mode:
                self.set_environment("saved_entry", target)
                self.set_environment("next_entry", None)
            return {
                "changed": True,
                "reboot_required": True,
                "fallback": wanted,
                "pruned": [],
                "changes": changes,
            }

        own = self.own_kernels()
        changes = [f"kernel {release}: installed -> removed" for release in own]
        changes.append("boot settings: the lab's -> as before its first change")
        if not check_mode:
            # The host's own settings first: removing a kernel makes the menu anew, which takes seconds.
            lab_drop_in = self.text(self.drop_in)
            menu_before = self.text(self.menu_file)
            self._write_drop_in(original["drop_in"])
            try:
                if own:
                    self.must("dpkg", "--purge", *(f"linux-image-{release}" for release in own))
            except RefusedError:
                # The lab's kernels stay, and with them what keeps them from becoming the default.
                self._write_drop_in(lab_drop_in or None)
                if self.text(self.menu_file) != menu_before:
                    self.must("update-grub")
                raise
            self.set_environment("saved_entry", original["saved_entry"])
            self.set_environment("next_entry", original["next_entry"])
            # Not where the hook that makes the menu anew is missing.
            if self.text(self.menu_file) == menu_before:
                self.must("update-grub")
            default = self.default()
            no_kernel = default not in self.bootable() and default != original["default_release"]
            if no_kernel or self.mark in default:
                raise RefusedError(
                    f"{self.name}: the default kernel is {default or 'unknown'} with the host's own boot "
                    f"settings: see {self.menu_file} and GRUB_DEFAULT under {self.root / 'etc/default'}, "
                    "then run update-grub and restore again"
                )
            if default != original["default_release"]:
                # Packages came or went meanwhile; the host's own settings say what boots, as without the lab.
                changes.append(f"default kernel: it was {original['default_release']}, now it is {default}")
            self.forget(self.attempt_file, self.original_file)
        return {
            "changed": True,
            "reboot_required": False,
            "fallback": running,
            "pruned": own,
            "changes": changes,
        }

    def _write_drop_in(self, text: str | None) -> None:
        if text is None:
            self.drop_in.unlink(missing_ok=True)
        else:
            self.write(self.drop_in, text)


def runs(kernel: dict[str, str], release: str, wanted_build_id: str) -> bool:
    """Whether the kernel that runs is the wanted one, by release and by build id (both must be known)."""
    return bool(
        release
        and wanted_build_id
        and kernel["release"] == release
        and re.fullmatch("[0-9a-f]+", kernel["build_id"])
        and kernel["build_id"] == wanted_build_id.lower()
    )


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "default": "gathered",
                "choices": ["gathered", "prepared", "settled", "restored"],
            },
            "release": {"type": "str", "default": ""},
            "build_id": {"type": "str", "default": ""},
            "mark": {"type": "str", "required": True},
            # The wanted kernel's package, as zclab_kernel_install describes it; the file on this host, "" if
            # it is not there yet.
            "package": {"type": "dict", "default": {}},
            "deb": {"type": "path", "default": ""},
            "promote": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    os.environ["PATH"] = zclab_host.SEARCH_PATH
    module.run_command_environ_update = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    params = module.params
    host = Host(module.run_command, params["mark"])
    result: dict[str, Any] = {"changed": False}
    with zclab_host.one_line(module, host.where):
        if not params["mark"].strip():
            raise RefusedError(
                f"{host.name}: kernel_boot_mark is empty, so every kernel would be the lab's own"
            )
        if params["build_id"]:  # what only goes back to the host's own kernel has none
            host.check_mark(params["release"])
        if params["state"] == "prepared":
            result = host.prepare(params, module.check_mode)
        elif params["state"] == "settled":
            result = host.settle(params, module.check_mode)
        elif params["state"] == "restored":
            result = host.restore(module.check_mode)
        kernel = host.kernel()
        default = host.default()
        module.exit_json(
            **{**result, **zclab_host.shown(result.get("changes", []))},
            kernel=kernel,
            running=runs(kernel, params["release"], params["build_id"]),
            default=default,
            promoted=bool(params["release"]) and default == params["release"],
            attempt=host.attempt(),
        )


if __name__ == "__main__":
    main()
