# SPDX-License-Identifier: Apache-2.0
"""A host made of files that boots through GRUB, for the role kernel_boot; as a program, its commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.role_modules import load, write_tree

grub = load("kernel_boot/module_utils/zclab_grub.py")
kernel = load("kernel_boot/library/zclab_kernel.py")

DISK = "0f0f"
STOCK = "6.1.0-56-amd64"
MARK = "-zclab-"
MINE = "6.1.192-zclab-0123456789"
OTHER = "6.1.192-zclab-9876543210"
BUILD_ID = "ab12"


def menu_text(*releases: str, default: str = "${saved_entry}", arguments: str = "panic=10 oops=panic") -> str:
    """Return a grub.cfg like those that update-grub makes, newest release first."""

    def entry(title: str, name: str, release: str, extra: str = "") -> str:
        return (
            f"menuentry '{title}' --class debian --class os $menuentry_id_option '{name}' {{\n"
            "\tload_video\n"
            "\tif [ x$grub_platform = xxen ]; then insmod xzio; fi\n"
            f"\techo\t'Loading Linux {release} ...'\n"
            f"\tlinux\t/boot/vmlinuz-{release} root=/dev/vda1 ro {extra}{arguments}\n"
            f"\tinitrd\t/boot/initrd.img-{release}\n"
            "}\n"
        )

    text = (
        "# made by a test\n"
        'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\n   set next_entry=\n'
        f'else\n   set default="{default}"\nfi\n'
        "function load_video {\n  insmod all_video\n}\n"
    )
    text += entry("Debian GNU/Linux", f"gnulinux-simple-{DISK}", releases[0])
    text += f"submenu 'Advanced options for Debian' $menuentry_id_option 'gnulinux-advanced-{DISK}' {{\n"
    for release in releases:
        text += entry(f"Debian, with Linux {release}", f"gnulinux-{release}-advanced-{DISK}", release)
        title = f"Debian, with Linux {release} (recovery mode)"
        text += entry(title, f"gnulinux-{release}-recovery-{DISK}", release, "single ")
    return text + "}\n"


class FakeHost:
    """A directory that looks like a host, and the programs that zclab_kernel calls on it.

    releases: the kernels that are installed; none: the directory is such a host already.
    """

    def __init__(self, root: Path, *releases: str, running: str = STOCK) -> None:
        self.root = root
        self.calls: list[list[str]] = []
        self.abstraction, self.filesystem = "", "ext2"
        self.broken_dpkg = False
        self.silent_probes = 0
        self.ignores_drop_in = False
        self.arguments = "panic=10 oops=panic"
        self.host = kernel.Host(self.run, MARK, root)
        if not releases:
            return
        write_tree(
            root,
            {
                "boot/grub/grub.cfg": menu_text(*releases, default="0", arguments="quiet"),
                "boot/grub/grubenv": "# GRUB Environment Block\n",
                "proc/sys/kernel/osrelease": f"{running}\n",
                "proc/sys/kernel/random/boot_id": "boot-1\n",
                **{f"boot/vmlinuz-{release}": f"image {release}" for release in releases},
            },
        )
        for release in releases:
            if "-zclab-" in release:
                self._listed(release)

    @property
    def releases(self) -> list[str]:
        """The installed kernels."""
        return [path.name.removeprefix("vmlinuz-") for path in (self.root / "boot").glob("vmlinuz-*")]

    def _listed(self, release: str) -> None:
        write_tree(self.root, {f"var/lib/dpkg/info/linux-image-{release}.list": ""})

    def update_grub(self) -> None:
        drop_in = self.root / "etc/default/grub.d/zclab.cfg"
        default = "${saved_entry}" if drop_in.exists() and not self.ignores_drop_in else "0"
        arguments = self.arguments if drop_in.exists() else "quiet"
        text = menu_text(*sorted(self.releases, reverse=True), default=default, arguments=arguments)
        write_tree(self.root, {"boot/grub/grub.cfg": text})

    def run(self, command: list[str]) -> tuple[int, str, str]:
        self.calls.append(command)
        program, *words = command
        environment = self.root / "boot/grub/grubenv"
        variables = grub.parse_environment(environment.read_text(encoding="utf-8"))
        if program == "grub-probe" and self.silent_probes:
            self.silent_probes -= 1
            return 0, "", ""
        if program == "grub-probe":
            return 0, {"abstraction": self.abstraction, "fs": self.filesystem}.get(words[0][9:], DISK), ""
        if program == "grub-editenv" and words[1] == "set":
            name, _, value = words[2].partition("=")
            variables[name] = value
        elif program == "grub-editenv":
            variables.pop(words[2], None)
        elif program == "grub-reboot":
            variables["next_entry"] = words[0]
        elif program == "shutdown" and (self.root / "hangs").exists():
            variables["next_entry"] = ""  # the boot loader took it, and what it booted never comes up
        elif program in ("shutdown", "reset"):
            self.boots()
            return 0, "", ""
        elif program == "update-grub":
            self.update_grub()
        elif program == "dpkg-query":
            known = self.root / f"var/lib/dpkg/info/{words[-1]}.list"
            return (0, "install ok installed", "") if known.exists() else (1, "", "no packages found")
        elif program == "dpkg" and words[0] == "-i":
            if self.broken_dpkg:
                return 1, "", "dpkg: error processing archive: cannot copy: No space left on device"
            release = MINE
            self._listed(release)
            write_tree(self.root, {f"boot/vmlinuz-{release}": f"image {release}"})
            # Before a kernel is in the menu, the default must be another one by name.
            assert "saved_entry" in variables
            self.update_grub()
        elif program == "dpkg" and self.broken_dpkg:
            return 2, "", "dpkg: error: dpkg frontend lock is locked by another process"
        elif program == "dpkg":
            for package in words[1:]:
                release = package.removeprefix("linux-image-")
                (self.root / f"boot/vmlinuz-{release}").unlink(missing_ok=True)
                (self.root / f"var/lib/dpkg/info/{package}.list").unlink(missing_ok=True)
            self.update_grub()
        lines = "".join(f"{name}={value}\n" for name, value in variables.items())
        environment.write_text(f"# GRUB Environment Block\n{lines}####", encoding="utf-8")
        return 0, "", ""

    def boots(self) -> str:
        """Restart as GRUB would and return the release that runs then."""
        environment = self.host.environment()
        text = self.host.text(self.host.menu_file)
        value = environment.get("next_entry") or grub.default_value(text, environment)
        if environment.get("next_entry"):
            self.run(["grub-editenv", "-", "set", "next_entry="])
        menu = grub.parse_menu(text)
        entry = grub.resolve(menu, value) or grub.resolve(menu, "0")
        assert entry is not None
        boot = (self.root / "proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        write_tree(
            self.root,
            {
                "proc/sys/kernel/osrelease": f"{entry.kernel}\n",
                "proc/sys/kernel/random/boot_id": f"{boot.strip()}+\n",
            },
        )
        identity = bytes.fromhex(BUILD_ID if MARK in entry.kernel else "00")
        note = (
            b"".join(number.to_bytes(4, "little") for number in (4, len(identity), 3)) + b"GNU\0" + identity
        )
        (self.root / "sys/kernel").mkdir(parents=True, exist_ok=True)
        (self.root / "sys/kernel/notes").write_bytes(note)
        return str(entry.kernel)

    def changed(self) -> list[str]:
        """Return the programs that were called to change something."""
        reading = {"grub-probe", "dpkg-query"}
        return [command[0] for command in self.calls if command[0] not in reading]

    def state(self) -> dict[str, str]:
        """Return every file of the host that decides what boots."""
        kept = ("boot/grub/grub.cfg", "boot/grub/grubenv", "etc/default/grub.d/zclab.cfg")
        files = {name: self.host.text(self.root / name) for name in kept}
        files["state"] = " ".join(sorted(path.name for path in (self.root / "var/lib/zclab").glob("*")))
        return files


def make_deb(directory: Path, release: str, config: str) -> Path:
    tree = write_tree(
        directory / "tree",
        {
            "DEBIAN/control": f"Package: linux-image-{release}\nVersion: 1\nArchitecture: amd64\n"
            "Maintainer: a test <test@example.invalid>\nDescription: a test\n",
            f"boot/vmlinuz-{release}": f"image {release}",
            f"boot/config-{release}": config,
            f"lib/modules/{release}/modules.order": "x" * 5000,
        },
    )
    deb = directory / "kernel.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(deb)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return deb


def main() -> int:
    """Be one of the host's programs: python -m tests.kernel_boot_fake ROOT PROGRAM [WORD...]."""
    status, out, err = FakeHost(Path(sys.argv[1])).run(sys.argv[2:])
    sys.stdout.write(out)
    sys.stderr.write(err)
    return status


if __name__ == "__main__":
    sys.exit(main())
