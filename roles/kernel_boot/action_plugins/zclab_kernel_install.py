# SPDX-License-Identifier: Apache-2.0
"""Action: bring a kernel package to a host and ask for one boot of it. It does not reboot."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

REMOTE_DEB = "/var/lib/zclab/kernel.deb"
BLOCK_BYTES = 4096


def describe_package(deb: Path, release: str) -> dict[str, Any]:
    """Return what the host must know of a package before it is copied: sizes (bytes), sha256 of the image.

    Raises:
        ValueError: the file is missing, is no package, or holds no such kernel; one line.
    """
    if not deb.is_file():
        raise ValueError(f"{deb} is missing: build the kernel again")
    package: dict[str, Any] = {
        "name": f"linux-image-{release}",
        "image_sha256": "",
        "wants_initrd": False,
        "boot_bytes": 0,
        "root_bytes": 0,
        "deb_bytes": deb.stat().st_size,
    }
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as unpack:
        assert unpack.stdout is not None and unpack.stderr is not None
        try:
            with tarfile.open(fileobj=unpack.stdout, mode="r|") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    blocks = -(-member.size // BLOCK_BYTES) + 1  # its own blocks, and one for the inode
                    package["boot_bytes" if name.startswith("boot/") else "root_bytes"] += (
                        blocks * BLOCK_BYTES
                    )
                    if name not in (f"boot/vmlinuz-{release}", f"boot/config-{release}"):
                        continue
                    content = archive.extractfile(member)
                    data = content.read() if content else b""
                    if name.startswith("boot/vmlinuz-"):
                        package["image_sha256"] = hashlib.sha256(data).hexdigest()
                    else:
                        # As zclab.kernel.drivers says it: an initrd is there to load modules.
                        options = (b"\nCONFIG_BLK_DEV_INITRD=y\n", b"\nCONFIG_MODULES=y\n")
                        package["wants_initrd"] = all(option in data for option in options)
        except tarfile.TarError:
            unpack.kill()
            reason = unpack.stderr.read().decode(errors="replace").strip().splitlines()
            raise ValueError(
                f"{deb}: {reason[0] if reason else 'no Debian package'}: build it again"
            ) from None
    if not package["image_sha256"]:
        raise ValueError(f"{deb} holds no boot/vmlinuz-{release}: build the kernel again")
    return package


class ActionModule(ActionBase):
    """Arguments: release, build_id, mark (those of zclab_kernel), package (path on the controller).

    It lets zclab_kernel refuse the host before anything is changed, and copies the package if need be.
    """

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        deb = Path(args["package"])
        try:
            package = describe_package(deb, args["release"])
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
        arguments = {
            "state": "prepared",
            "release": args["release"],
            "build_id": args["build_id"],
            "mark": args["mark"],
            "package": package,
        }
        prepared = self._module(arguments, task_vars)
        if prepared.get("failed") or not prepared["needs_package"] or self._task.check_mode:
            return {**result, **prepared}
        try:
            self._copy(deb)
            return {**result, **self._module({**arguments, "deb": REMOTE_DEB}, task_vars)}
        except AnsibleError as error:
            return {
                **result,
                "failed": True,
                "msg": f"{REMOTE_DEB}: copying the kernel package failed: {error}",
            }
        finally:
            self._low_level_execute_command(f"rm -f {REMOTE_DEB}", sudoable=True)

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        done: dict[str, Any] = self._execute_module(
            module_name="zclab_kernel", module_args=arguments, task_vars=task_vars
        )
        done.pop("invocation", None)
        return done

    def _copy(self, deb: Path) -> None:
        """Copy the package through a name that the login user may write."""
        made = self._low_level_execute_command(
            "umask 077 && mktemp /var/tmp/zclab-kernel.XXXXXXXX", sudoable=False
        )
        name = str(made["stdout"]).strip()
        if made["rc"] != 0 or not name:
            raise AnsibleError(str(made["stderr"]).strip() or "mktemp failed")
        try:
            self._transfer_file(str(deb), name)
            self._must(f"install -D -m 0600 {name} {REMOTE_DEB}")
        finally:
            self._low_level_execute_command(f"rm -f {name}", sudoable=False)

    def _must(self, command: str) -> None:
        done = self._low_level_execute_command(command, sudoable=True)
        if done["rc"] != 0:
            raise AnsibleError(str(done["stderr"]).strip() or f"{command} failed")
