# SPDX-License-Identifier: Apache-2.0
"""Action: reboot a host through ansible.builtin.reboot, and prove which kernel came up.

The builtin asks for the reboot and waits for another boot id. What it cannot do is here: the kernel's release
and build id are compared, the end of the console is shown, and a host that hangs is power-cycled.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

CONSOLE_LINES = 20
CONSOLE_BYTES = 1 << 18
CONNECT_SECONDS = 5
RESET_SECONDS = 120
REBOOT_COMMAND = "/sbin/shutdown -r now"
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
    """Arguments: release, build_id, mark, promote, keep, console_log, reset_command, timeout (seconds).

    build_id: in hexadecimal; "" compares the release only, and neither promotes nor prunes. console_log and
    reset_command belong to the controller, "" if there is none; the others are those of zclab_kernel.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result for the kernel that came up; failed if it is not the wanted one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        release = args["release"]
        if self._task.check_mode:
            lines = [f"reboot: into {release}; runtime settings such as those of the link are lost"]
            if args.get("promote"):
                lines.append(f"default kernel: {release}, once it has proved itself")
            return {**result, "changed": True, "diff": {"prepared": "".join(f"{line}\n" for line in lines)}}
        self._host = (task_vars or {}).get("inventory_hostname", "the host")
        console = Console(args.get("console_log") or "")
        timeout = int(args["timeout"])

        old_timeout = self._connection.get_option("timeout")
        try:
            Display().display(f"{self._host}: rebooting into {release}")
            began = time.monotonic()
            reboot = {"reboot_timeout": timeout, "reboot_command": REBOOT_COMMAND}
            rebooted = self._builtin("reboot", reboot, task_vars)
            seconds = round(time.monotonic() - began, 1)
            if rebooted.get("failed"):
                end = console_end(console.said())  # before a reset lets the fallback kernel write more
                if rebooted.get("rebooted"):
                    problem = self._rescue(release, timeout, str(rebooted["msg"]), task_vars)
                else:
                    problem = (
                        f"{self._host}: it could not be rebooted: {' '.join(str(rebooted['msg']).split())}"
                    )
                return self._failed(result, problem, console, end)
        finally:
            self._connection.set_option("timeout", old_timeout)  # the builtin leaves its own

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
                f"{self._host}: kernel {release} did not come up; {now['release']} runs now: fix the kernel "
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

    def _builtin(
        self, name: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Run one of Ansible's own actions on this host and return its result."""
        task = self._task.copy()
        task.args = {"connect_timeout": CONNECT_SECONDS, **arguments}
        action = self._shared_loader_obj.action_loader.get(
            f"ansible.builtin.{name}",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        done: dict[str, Any] = action.run(task_vars=task_vars)
        return done

    def _rescue(self, release: str, timeout: int, trouble: str, task_vars: dict[str, Any] | None) -> str:
        """Power-cycle the host once, if that is possible, and say how it ended."""
        problem = f"{self._host}: kernel {release} did not come up within {timeout} s"
        command = self._task.args.get("reset_command") or ""
        if not command:
            return (
                f"{problem}, and no reset command is known ({trouble}): power-cycle the host by hand; "
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
        waited = self._builtin(
            "wait_for_connection", {"delay": CONNECT_SECONDS, "timeout": timeout}, task_vars
        )
        if waited.get("failed"):
            trouble = " ".join(str(waited["msg"]).split())
            return f"{problem}, nor after a reset ({trouble}): look at the host's console"
        try:
            done = self._low_level_execute_command("cat /proc/sys/kernel/osrelease")
            return f"{problem}; it was reset and {str(done['stdout']).strip()} runs now"
        except AnsibleConnectionFailure as error:
            return f"{problem}; it was reset and came back, then was lost again: {error}"
