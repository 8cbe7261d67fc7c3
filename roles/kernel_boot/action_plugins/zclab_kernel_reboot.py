# SPDX-License-Identifier: Apache-2.0
"""Action: reboot a host, wait for it, and prove which kernel came up."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

CONSOLE_LINES = 20
CONSOLE_BYTES = 1 << 18
CONNECT_SECONDS = 5
RESET_SECONDS = 120
POLL_SECONDS = 1.0
BOOT_START = re.compile(r"Linux version \S+")


def console_end(text: str, lines: int = CONSOLE_LINES) -> list[str]:
    """Return the lines of a console log that tell most about a boot that went wrong.

    text: what the console said since the reboot was asked for. After a panic the fallback kernel has already
    written more, so the lines around the last panic count; else those before the last boot began; else the
    last.
    """
    clean = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.replace("\r", ""))
    said = [line for line in clean.split("\n") if line.strip()]
    panics = [
        number for number, line in enumerate(said) if "Kernel panic" in line and "end Kernel" not in line
    ]
    if panics:
        until = min(panics[-1] + lines // 2, len(said))
        starts = [number for number in range(panics[-1], until) if BOOT_START.search(said[number])]
        until = min([until, *starts])
        return said[max(0, until - lines) : until]
    boots = [number for number, line in enumerate(said) if BOOT_START.search(line)]
    if len(boots) > 1:
        return said[max(0, boots[-1] - lines) : boots[-1]]
    return said[-lines:]


class Console:
    """The console log of one host, from now on. The path may be empty, and the file may start over."""

    def __init__(self, path: str) -> None:
        self.path = Path(path) if path else None
        self.start = self._size()

    def _size(self) -> int:
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0

    def said(self) -> str:
        """Return what was written since, at most the last 256 KiB."""
        if self.path is None or not self.path.is_file():
            return ""
        size = self._size()
        start = self.start if self.start <= size else 0
        with self.path.open("rb") as file:
            file.seek(max(start, size - CONSOLE_BYTES))
            return file.read().decode("utf-8", errors="replace")


class ActionModule(ActionBase):
    """The task's arguments are described in library/zclab_kernel_reboot.py."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result for the kernel that came up; failed if it is not the wanted one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        release = args["release"]
        if self._task.check_mode:
            return {**result, "changed": True, "msg": f"would reboot into {release}"}
        self._host = (task_vars or {}).get("inventory_hostname", "the host")
        self._trouble = ""
        console = Console(args.get("console_log") or "")
        timeout = float(args["timeout"])

        old_timeout = self._connection.get_option("timeout")
        self._connection.set_option("timeout", CONNECT_SECONDS)
        try:
            before = self._boot_id()
            if not before:
                raise AnsibleError(f"{self._host}: cannot read its boot id: {self._trouble}")
            Display().display(f"{self._host}: rebooting into {release}")
            began = time.monotonic()
            self._reboot()
            came_back = self._wait(before, timeout)
            seconds = round(time.monotonic() - began, 1)
            if not came_back:
                end = console_end(console.said())  # before a reset lets the fallback kernel write more
                return self._failed(result, self._rescue(before, release, timeout), console, end)
        finally:
            self._connection.set_option("timeout", old_timeout)

        Display().display(f"{self._host}: answers again after {seconds:.0f} s")
        timing = {"part": f"boot of {self._host}", "seconds": seconds}
        state = "settled" if args.get("build_id") else "gathered"
        arguments = {
            "state": state,
            "release": release,
            "build_id": args.get("build_id") or "",
            "mark": args["mark"],
            "promote": args.get("promote", False),
            "keep": args.get("keep", 2),
        }
        done: dict[str, Any] = self._execute_module(
            module_name="zclab_kernel", module_args=arguments, task_vars=task_vars
        )
        done.pop("invocation", None)
        if done.get("failed"):
            return {**result, **done, "changed": True}
        now = done["kernel"]
        if done["running"] or (state == "gathered" and now["release"] == release):
            return {**result, **done, "changed": True, "zclab_timing": timing}
        if now["release"] == release:
            problem = (
                f"{self._host}: kernel {release} runs, but its build id is {now['build_id'] or 'unknown'}, "
                f"not the artifact's {args['build_id']}: build the kernel again"
            )
        else:
            problem = (
                f"{self._host}: kernel {release} did not come up; {now['release']} runs now: mend the kernel "
                "and try again; the end of its console:"
            )
        return self._failed(result, problem, console, console_end(console.said()))

    def _failed(
        self, result: dict[str, Any], problem: str, console: Console, end: list[str]
    ) -> dict[str, Any]:
        """Return a failure: the problem in the first line, the end of the console below it."""
        where = f"{console.path} says nothing" if console.path else "no console log is known for this host"
        return {
            **result,
            "failed": True,
            "changed": True,
            "msg": "\n".join([problem, *(end or [f"({where})"])]),
        }

    def _boot_id(self) -> str:
        """Return the boot id of the host, "" if it does not answer now."""
        try:
            done = self._low_level_execute_command("cat /proc/sys/kernel/random/boot_id", sudoable=False)
        except AnsibleConnectionFailure as error:
            self._trouble = " ".join(str(error).split())
            return ""
        if done["rc"] != 0:
            self._trouble = " ".join(str(done["stderr"]).split())
            return ""
        return str(done["stdout"]).strip()

    def _reboot(self) -> None:
        """Ask for the reboot; the connection may break before it answers."""
        try:
            done = self._low_level_execute_command("systemctl reboot || shutdown -r now", sudoable=True)
        except AnsibleConnectionFailure:
            return
        if done["rc"] not in (0, 255) and "closed" not in str(done["stderr"]):
            reason = " ".join(str(done["stderr"]).split())
            raise AnsibleError(f"{self._host}: systemctl reboot failed: {reason}")

    def _wait(self, before: str, timeout: float) -> bool:
        """Wait until the host answers with another boot id; False if it does not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._disconnect()
            now = self._boot_id()
            if now and now != before:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _disconnect(self) -> None:
        """Drop the persistent connection, which may lead to a host that is gone."""
        try:
            self._connection.reset()
        except (AnsibleError, AttributeError):
            self._connection.close()

    def _rescue(self, before: str, release: str, timeout: float) -> str:
        """Power-cycle the host once, if that is possible, and say how it ended."""
        problem = f"{self._host}: kernel {release} did not come up within {timeout:.0f} s"
        command = self._task.args.get("reset_command") or ""
        if not command:
            return (
                f"{problem}, and no reset command is known ({self._trouble}): power-cycle the host by hand; "
                "it then boots its default kernel"
            )
        Display().display(f"{self._host}: did not come back, so it is reset: {command}")
        try:
            done = subprocess.run(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=RESET_SECONDS,
            )
            reason = " ".join(done.stderr.split()) if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if reason:
            return f"{problem}, and the reset command `{command}` failed: {reason}: power-cycle it by hand"
        if not self._wait(before, timeout):
            return f"{problem}, nor after a reset ({self._trouble}): look at the host's console"
        try:
            done = self._low_level_execute_command("uname -r", sudoable=False)
            return f"{problem}; it was reset and {str(done['stdout']).strip()} runs now"
        except AnsibleConnectionFailure as error:
            return f"{problem}; it was reset and came back, then was lost again: {error}"
