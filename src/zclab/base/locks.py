# SPDX-License-Identifier: Apache-2.0
"""Locks between processes, each a file. The kernel releases a lock when its holder dies in any way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zclab.base.progress import Progress, quiet


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock `path` within the block if nobody else does; yield whether that is so."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def locked(path: Path, what: str, on_progress: Progress = quiet) -> Iterator[None]:
    """Hold the lock `path` within the block; wait for it if another zclab works on `what`, and say so."""
    from filelock import FileLock

    with locked_if_free(path) as free:
        if free:
            yield
            return
    on_progress(f"waiting for another zclab that works on {what}")
    with FileLock(path):
        yield


@contextmanager
def lab_lock(state_dir: Path, on_progress: Progress = quiet) -> Iterator[None]:
    """Hold the lock of a lab: one zclab at a time brings its hosts up or down."""
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(state_dir / "lock", str(state_dir), on_progress):
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Keep the lock `path` from being free; any number of processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)
