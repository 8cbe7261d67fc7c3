# SPDX-License-Identifier: Apache-2.0
"""What all tiers of the tests share: tests/unit, tests/local and tests/lab."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

from zclab.runs import folder

HERE = Path(__file__).parent
#: Files whose tests look for what is new in runs/, and remove it.
SHARE_RUNS = {
    "test_conformance_real",
    "test_crosscheck_real",
    "test_method_real",
    "test_namespaces_faults",
    "test_namespaces_lab",
}


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


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    """Keep the tests of a file on one worker, where they run in order, and those of SHARE_RUNS, too."""
    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = scope
    return scheduler


def scope(nodeid: str) -> str:
    """Return what a test shares a worker with. (xdist's own groups are lost with pytest 9.2.)"""
    path = nodeid.partition("::")[0]
    return "runs" if Path(path).stem in SHARE_RUNS else path


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
