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
    | :\ [0-9a-f]{4}\ \[\#\d+\] | \bBUG\ \S+\ \((?:Not\ t|T)ainted
    """,
    re.VERBOSE,
)
#: systemd and other programs write to the console as well. A kernel line starts with its time stamp, wherever
#: a program left the cursor; after it a program that writes to the kernel's log names itself and its pid.
_KERNEL_LINE = re.compile(r"(?:<\d+>)?\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])?+(?!\s*[\w.-]+\[\d+\]:\s).*")


def log_path(state_dir: Path, host: str) -> Path:
    """Return the console log that a virtual host's emulator writes."""
    return state_dir / "hosts" / host / "console.log"


def size(path: Path) -> int:
    """Return how long a console log is now, in bytes; 0 if there is none yet."""
    return path.stat().st_size if path.is_file() else 0


def since(path: Path, offset: int) -> str:
    """Return what a console log gained after `offset` bytes."""
    return read(path, offset).decode(errors="replace")


def read(path: Path, offset: int) -> bytes:
    """Return the bytes of a console log after `offset`."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read()


def reports(text: str) -> list[str]:
    """Return the kernel lines of `text` that report something wrong, in order."""
    lines = (match[0].strip() for line in text.splitlines() if (match := _KERNEL_LINE.search(line)))
    return [line for line in lines if _REPORT.search(line)]
