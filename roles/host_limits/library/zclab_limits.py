#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""The limits of one host that zero-copy needs: sysctls and locked memory.

Its options are the variables of the role. `set` compares, writes what differs, and reads it back. Sysctls are
set live and written to no file: a reboot loses them and the next run of the playbook sets them again, so that
restoring leaves nothing. The locked-memory limit is a file that pam_limits reads at each login. Before the
first change the state is saved in /var/lib/zclab/limits.json. A value that is in it is never saved again in
the same boot; sysctls of an earlier boot are dropped, for the reboot has put them back. What is in it and is
no longer declared goes back to what it was. `restored` puts exactly the saved state back, removes the file
that was made, and then the saved state.

Returns `changes`, one line each, and `state_file`, the path of the saved state ("" if there is none).
"""

from __future__ import annotations

import errno
import os
import platform
from pathlib import Path
from typing import Any

from ansible.module_utils import zclab_host
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.zclab_host import RefusedError

TCP_RMEM = "net.ipv4.tcp_rmem"


def normal(value: Any) -> str:
    """Return a sysctl's value as it is compared: the kernel separates numbers by tabs, people by blanks."""
    if isinstance(value, bool):
        return str(int(value))
    return " ".join(str(value).split())


def limits_text(kib: str) -> str:
    """Return the file for pam_limits. A wildcard does not hold for root, so that root is named."""
    return (
        "# SPDX-License-Identifier: Apache-2.0\n"
        "# Made by zclab; its restore removes it. Zero-copy pins the memory that it sends from.\n"
        f"* - memlock {kib}\n"
        f"root - memlock {kib}\n"
    )


def locked_memory_words(kib: str) -> str:
    """Return a limit as people read it."""
    return f"{kib} KiB" if kib.isdigit() else kib


def rcvlowat_problem(tcp_rmem: str, wanted: int) -> str:
    """Say why a low-water mark of `wanted` bytes cannot be had, "" if it can."""
    largest = tcp_rmem.split()[-1] if tcp_rmem.split() else ""
    if wanted <= 0 or (largest.isdigit() and int(largest) // 2 >= wanted):
        return ""
    return (
        f"rcvlowat_bytes {wanted} is more than half of the largest {TCP_RMEM} ({largest}), "
        f"where the kernel caps it: raise the third value of {TCP_RMEM} to {2 * wanted} at least"
    )


class Host(zclab_host.Host):
    """The limits of a host."""

    def __init__(self, run: zclab_host.Run, root: Path = Path("/")) -> None:
        super().__init__(run, root)
        self.limits_file = root / "etc/security/limits.d/zclab.conf"
        self.state_file = self.state_dir / "limits.json"

    # What is

    def sysctl_file(self, name: str) -> Path:
        """Return the file of a sysctl."""
        parts = name.split("/") if "/" in name else name.split(".")
        if not all(parts) or ".." in parts:
            raise RefusedError(
                f"{self.name}: {name!r} is no name of a sysctl: correct it in the lab's limits.sysctls"
            )
        return self.root.joinpath("proc/sys", *parts)

    def read_sysctl(self, name: str) -> str:
        """Return a sysctl's value.

        Raises:
            RefusedError: the kernel has none of this name.
        """
        path = self.sysctl_file(name)
        if not path.is_file():
            raise RefusedError(
                f"{self.name}: kernel {platform.release()} has no sysctl {name}: correct its name in the "
                "lab's limits.sysctls, or remove it"
            )
        try:
            return normal(path.read_text(encoding="ascii"))
        except OSError as error:
            raise RefusedError(
                f"{self.name}: sysctl {name} cannot be read ({error.strerror}): remove it from the lab's "
                "limits.sysctls"
            ) from None

    def write_sysctl(self, name: str, value: str) -> None:
        """Write a sysctl and see that it holds.

        Raises:
            RefusedError: it is read-only, or the kernel does not take the value.
        """
        try:
            self.sysctl_file(name).write_text(f"{value}\n", encoding="ascii")
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise self._read_only(name, value) from None
            raise RefusedError(
                f"{self.name}: sysctl {name} does not take {value!r} ({error.strerror}): correct it "
                "in the lab's limits.sysctls"
            ) from None
        now = self.read_sysctl(name)
        if now != value:
            raise RefusedError(
                f"{self.name}: sysctl {name} is {now} after {value} was written: correct it in the lab's "
                "limits.sysctls"
            )

    def _read_only(self, name: str, value: str) -> RefusedError:
        return RefusedError(
            f"{self.name}: sysctl {name} is read-only here: set it to {value} where it belongs to (the "
            "machine, if this is a container or a namespace), or remove it from the lab's limits.sysctls"
        )

    def _refuse_read_only(self, name: str, value: str) -> None:
        """Refuse a sysctl that cannot be written; the kernel says so of /proc/sys to root, too."""
        if not os.access(self.sysctl_file(name), os.W_OK):
            raise self._read_only(name, value)

    def limits(self) -> str | None:
        """Return the text of the file with the locked-memory limit, None if there is none."""
        try:
            return self.limits_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def logins_read_limits(self) -> bool:
        """Whether logins through ssh run pam_limits (where there is no such file, nothing can be told)."""
        service = self.root / "etc/pam.d/sshd"
        if not service.exists():
            return True
        texts = [service.read_text(encoding="utf-8", errors="replace")]
        for line in texts[0].splitlines():
            included = self.root / "etc/pam.d" / (line.split() or [""])[-1]
            if line.startswith("@include") and included.is_file():
                texts.append(included.read_text(encoding="utf-8", errors="replace"))
        lines = [line.strip() for text in texts for line in text.splitlines()]
        return any("pam_limits.so" in line and not line.startswith("#") for line in lines)

    # The saved state

    def saved(self) -> dict[str, Any]:
        """Return the saved state, {} if there is none; sysctls of an earlier boot are left out."""
        document = self.load(self.state_file)
        if document and document["boot_id"] != self.boot_id():
            document["sysctls"] = {}
        return document

    def save_once(self, sysctls: dict[str, str]) -> None:
        """Save the values of all declared sysctls, those that need no change too, unless they are saved."""
        document = self.saved()
        if not document:
            document = {"sysctls": {}, "limits_file": self.limits()}
        document["boot_id"] = self.boot_id()
        document["sysctls"] = {**sysctls, **document["sysctls"]}
        self.save(self.state_file, document)

    # What is wanted against what is

    def set(self, params: dict[str, Any], check_mode: bool) -> list[tuple[str, str, str]]:
        """Make the limits as declared and return the changes as (what, before, after).

        Raises:
            RefusedError: this host cannot. Names and the low-water mark are checked before anything is
            changed.
        """
        machine = params["machine_sysctls"]
        wanted = {
            name: normal(value)
            for name, value in params["sysctls"].items()
            if name not in machine or self.sysctl_file(name).exists()
        }
        before = {name: self.read_sysctl(name) for name in wanted}
        for name, least in machine.items():
            if name not in wanted and not self.sysctl_file(name).exists():
                continue  # not to be seen from here
            found = wanted.get(name) or self.read_sysctl(name)
            if int(found) < int(least):
                raise RefusedError(
                    f"{self.name}: sysctl {name} is {found}, the lab needs {least}; it belongs to "
                    f"the machine: run `sysctl -w {name}={least}` on it as root"
                )
        rcvlowat = params["rcvlowat_bytes"]
        if rcvlowat:
            problem = rcvlowat_problem(wanted.get(TCP_RMEM) or self.read_sysctl(TCP_RMEM), rcvlowat)
            if problem:
                raise RefusedError(f"{self.name}: {problem}")
        saved = self.saved()
        undeclared = [name for name in saved.get("sysctls", {}) if name not in wanted]
        for name in undeclared:
            if self.sysctl_file(name).exists():
                before[name] = self.read_sysctl(name)
        target = {**wanted, **{name: saved["sysctls"][name] for name in undeclared if name in before}}
        differing = {name: was for name, was in before.items() if was != target[name]}
        changes = [(name, was, target[name]) for name, was in differing.items()]
        kib = params["locked_memory_kib"]
        if kib and not (kib.isdigit() or kib == "unlimited"):
            raise RefusedError(f"{self.name}: locked_memory_kib {kib!r}: write a number of KiB, or unlimited")
        text = limits_text(kib) if kib else saved.get("limits_file", self.limits())
        if self.limits() != text:
            changes.append(("locked memory", self._locked_memory(self.limits()), self._locked_memory(text)))
        for name in differing:
            self._refuse_read_only(name, target[name])
        if changes and not check_mode:
            self.save_once({name: was for name, was in before.items() if name in wanted})
            for name in differing:
                self.write_sysctl(name, target[name])
            self._write_limits(text)
        if undeclared and not check_mode:
            document = self.saved()
            document["sysctls"] = {
                name: was for name, was in document["sysctls"].items() if name not in undeclared
            }
            self.save(self.state_file, document)
        return changes

    def _write_limits(self, text: str | None) -> None:
        """Make the file with the locked-memory limit what it is to be, None: no file."""
        if text is None:
            self.limits_file.unlink(missing_ok=True)
        elif self.limits() != text:
            self.write(self.limits_file, text)

    @staticmethod
    def _locked_memory(text: str | None) -> str:
        if text is None:
            return "the host's own"
        last = [line.split()[-1] for line in text.splitlines() if "memlock" in line]
        return locked_memory_words(last[-1]) if last else "the host's own"

    def restore(self, check_mode: bool) -> list[tuple[str, str, str]]:
        """Put the saved state back and return the changes as (what, before, after).

        Raises:
            RefusedError: something did not go back; the rest did, and the saved state is kept.
        """
        saved = self.saved()
        if not saved:
            if not check_mode:
                self.forget()
            return []
        changes, refused = [], []
        for name, was in saved["sysctls"].items():
            try:
                if (now := self.read_sysctl(name)) == was:
                    continue
                changes.append((name, now, was))
                if not check_mode:
                    self.write_sysctl(name, was)
            except RefusedError as error:
                refused.append(str(error))
        if self.limits() != saved["limits_file"]:
            before, after = self._locked_memory(self.limits()), self._locked_memory(saved["limits_file"])
            changes.append(("locked memory", before, after))
        if check_mode:
            return changes
        self._write_limits(saved["limits_file"])
        if refused:
            raise RefusedError(f"{'; '.join(refused)}: set it by hand, then remove {self.state_file}")
        self.forget(self.state_file)
        return changes


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "set", "choices": ["set", "restored"]},
            "sysctls": {"type": "dict", "default": {}},
            "machine_sysctls": {"type": "dict", "default": {}},
            "locked_memory_kib": {"type": "str", "default": ""},
            "rcvlowat_bytes": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    host = Host(module.run_command)
    with zclab_host.one_line(module, host.where):
        if module.params["state"] == "restored":
            changes = host.restore(module.check_mode)
        else:
            changes = host.set(module.params, module.check_mode)
            if module.params["locked_memory_kib"] and not host.logins_read_limits():
                module.warn(
                    f"{host.name}: /etc/pam.d/sshd does not run pam_limits, so that the locked-memory limit "
                    "holds for no ssh login (root needs none): add `session required pam_limits.so` to it"
                )
        zclab_host.exit_changed(module, changes, host.state_file)


if __name__ == "__main__":
    main()
