# SPDX-License-Identifier: Apache-2.0
"""Kernel reports on a host's console: any BUG, WARNING, Oops, lockdep report, stall or hung task."""

from __future__ import annotations

import re
from pathlib import Path

_REPORT = re.compile(
    r"""
    \bBUG:\s | \bWARNING:\s | \bOops\b | \bKernel\ panic\b | \bgeneral\ protection\ fault\b
    | \bINFO:\ (?:task\ .+\ blocked\ for\ more | possible\ recursive\ locking)
    | \bINFO:\ (?:rcu\w*\ .*stall | suspicious\ RCU)
    | \bpossible\ (?:circular\ locking|irq\ lock\ inversion|deadlock) | \binconsistent\ lock\ state\b
    | \bsoft\ lockup\b | \bhard\ LOCKUP\b | \brcu:?.*\bdetected\b.*\bstalls?\b | \bunreferenced\ object\b
    | \bbad:\ scheduling\ from\b | \bkernel\ BUG\ at\b | \bUBSAN:\ | \bpage\ allocation\ failure\b
    """,
    re.VERBOSE,
)
#: systemd and other programs write to the console as well; a kernel line starts with its time stamp.
_KERNEL_LINE = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\]")


def log_path(state_dir: Path, host: str) -> Path:
    """Return the console log that a virtual host's emulator writes."""
    return state_dir / "hosts" / host / "console.log"


def size(path: Path) -> int:
    """Return how long a console log is now, in bytes; 0 if there is none yet."""
    return path.stat().st_size if path.is_file() else 0


def since(path: Path, offset: int) -> str:
    """Return what a console log gained after `offset` bytes."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")


def reports(text: str) -> list[str]:
    """Return the kernel lines of `text` that report something wrong, in order."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if _KERNEL_LINE.match(line) and _REPORT.search(line)]


def tail(path: Path, lines: int = 20) -> str:
    """Return the last lines of a console log."""
    return "\n".join(since(path, max(0, size(path) - 16384)).splitlines()[-lines:])
