# SPDX-License-Identifier: Apache-2.0
"""What mmap() of a TCP socket does on this host, set for the test cases that need it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .table import NotHereError

CONSUME = Path("/proc/sys/net/ipv4/tcp_mmap_consume")


@contextlib.contextmanager
def consuming() -> Iterator[None]:
    """Have mmap() consume what it maps from the receive queue.

    Raises:
        NotHereError: this kernel's mmap() cannot.
    """
    if not CONSUME.exists():
        raise NotHereError(
            "no sysctl net.ipv4.tcp_mmap_consume: mmap() never consumes on this kernel, as on no released one"
        )
    with _set("1"):
        yield


@contextlib.contextmanager
def standing() -> Iterator[None]:
    """Have mmap() give a standing mapping, as every released kernel's does."""
    with _set("0") if CONSUME.exists() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _set(value: str) -> Iterator[None]:
    before = CONSUME.read_text(encoding="ascii")
    CONSUME.write_text(value, encoding="ascii")
    try:
        yield
    finally:
        CONSUME.write_text(before, encoding="ascii")
