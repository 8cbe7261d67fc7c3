# SPDX-License-Identifier: Apache-2.0
"""The lock of a lab: one zclab at a time makes or ends its hosts."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zclab.base.paths import kernel_cache
from zclab.base.progress import Report


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


def _lock_path(name: str) -> Path:
    path = kernel_cache() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str, report: Report) -> Iterator[None]:
    """Hold the lock of this name; say so if another process has it and then wait for that one to end.

    The operating system drops the lock when its holder dies, however it dies.
    """
    lock = FileLock(_lock_path(name))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another zclab process that works on the same thing ({name})")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(name: str) -> Iterator[bool]:
    """Hold the lock of this name if nobody else does; yield whether that is so."""
    lock = FileLock(_lock_path(name))
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
def in_use(name: str) -> Iterator[None]:
    """Keep what this name stands for from being pruned; any number of processes may do so at once."""
    handle = os.open(_lock_path(f"use-{name}"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def unused(name: str) -> AbstractContextManager[bool]:
    """Return a context that yields whether nobody uses what this name stands for, and keeps it so."""
    return locked_if_free(f"use-{name}")
