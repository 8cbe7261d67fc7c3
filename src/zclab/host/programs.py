# SPDX-License-Identifier: Apache-2.0
"""Which programs a host has: the sha256 of each file, read by one command."""

from __future__ import annotations

import shlex
from collections.abc import Iterable


def command(paths: Iterable[str]) -> str:
    """Return the command that prints "sha256  path" of each file that is there; `:` for no file."""
    files = [*paths]
    return f"sha256sum -- {shlex.join(files)} 2>/dev/null" if files else ":"


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Return the sha256 in hex by path, from what `command` printed."""
    words = (line.split(maxsplit=1) for line in lines)
    return {found[1]: found[0] for found in words if len(found) == 2}
