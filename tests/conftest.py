# SPDX-License-Identifier: Apache-2.0
"""What all tiers of the tests share: tests/unit, tests/local and tests/lab."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadGroupScheduling

from zclab.runs import folder

HERE = Path(__file__).parent


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runs directory in place of the project's own."""
    directory = tmp_path / "runs"
    monkeypatch.setattr(folder, "runs_dir", lambda: directory)
    return directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in place of the user's own."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("ZCLAB_CACHE", str(directory))
    return directory


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadGroupScheduling:
    """Keep the tests of a group, else of a file, on one worker, where they run in order."""
    scheduler = LoadGroupScheduling(config, log)
    group = scheduler._split_scope
    scheduler._split_scope = lambda nodeid: group(nodeid).partition("::")[0]
    return scheduler


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock of a file or directory of this checkout; the kernel drops it when the holder dies."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        try:
            yield
        finally:
            # A child that a test has left behind may have the descriptor too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test that is marked `alone` wait for the tests of the other workers, and these for it."""
    alone = item.get_closest_marker("alone") is not None
    with contextlib.ExitStack() as stack:
        # Who waits for all others holds the door, so that no new test goes before it.
        with _locked(HERE / "conftest.py", fcntl.LOCK_EX):
            stack.enter_context(_locked(HERE, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)
