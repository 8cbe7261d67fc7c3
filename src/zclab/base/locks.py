# SPDX-License-Identifier: Apache-2.0
"""The lock of a lab: one zclab at a time makes or ends its hosts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout


@contextlib.contextmanager
def lab_lock(state_dir: Path, progress: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the lab's lock, after waiting for whoever holds it. It is dropped by the kernel if we die."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(state_dir / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"waiting for another zclab that works on {state_dir}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
