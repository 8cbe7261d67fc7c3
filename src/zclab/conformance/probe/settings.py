# SPDX-License-Identifier: Apache-2.0
"""Settings of a host that are other than usual while rows are tried."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .table import NotHereError


@contextlib.contextmanager
def sysctl(name: str, value: str, missing: str) -> Iterator[None]:
    """Set a sysctl and put it back to what it was at the end.

    Raises:
        NotHereError: this kernel has no such sysctl; `missing` says what that means.
    """
    file = Path("/proc/sys", name.replace(".", "/"))
    if not file.exists():
        raise NotHereError(f"this kernel has no sysctl {name}: {missing}")
    before = file.read_text(encoding="ascii").strip()
    file.write_text(value, encoding="ascii")
    try:
        yield
    finally:
        file.write_text(before, encoding="ascii")
