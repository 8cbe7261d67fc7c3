# SPDX-License-Identifier: Apache-2.0
"""The cache's directories: made once, whole or not there; and files that are written whole."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zclab.base.errors import LabError
from zclab.base.files import write_whole
from zclab.base.locks import locked_if_free
from zclab.base.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "things", "thing")


def fill(directory: Path) -> None:
    (directory / "content").write_text("x")


def test_an_entry_is_made_once_and_removed_when_nobody_uses_it(store: Store) -> None:
    assert store.ensure("a", fill) and not store.ensure("a", fill)
    assert store.entries() == [store.path("a")]
    assert store.path("a").stat().st_mode & 0o777 == 0o755
    with store.using("a"), store.using("a"):
        assert not store.remove("a")
    assert store.remove("a") and store.entries() == []


def test_what_is_not_whole_is_made_anew(store: Store) -> None:
    store.path("a").mkdir(parents=True)
    (store.path("a") / "left").touch()
    assert store.ensure("a", fill, is_whole=lambda path: (path / "content").is_file())
    assert [path.name for path in store.path("a").iterdir()] == ["content"]


def test_a_failure_leaves_nothing(store: Store) -> None:
    def fail(directory: Path) -> None:
        fill(directory)
        raise OSError(28, "No space left on device")

    with pytest.raises(LabError, match="things: the disk ran full"):
        store.ensure("a", fail)
    assert list(store.directory.iterdir()) == []


def test_what_a_power_cut_left_is_removed_but_not_what_is_being_made(store: Store) -> None:
    for name in (".making-old-12345678", ".making-a-12345678", ".gone-old-12345678"):
        fill_in = store.directory / name
        fill_in.mkdir(parents=True)
        fill(fill_in)
    begun, go_on = threading.Event(), threading.Event()

    def slow(directory: Path) -> None:
        begun.set()
        assert go_on.wait(30)
        fill(directory)

    maker = threading.Thread(target=lambda: store.ensure("slow", slow))
    maker.start()
    assert begun.wait(30)
    assert store.ensure("a", fill)
    (left,) = store.directory.glob(".*")
    assert left.name.startswith(".making-slow-")
    assert not store.remove("slow"), "it is being made"
    go_on.set()
    maker.join()
    assert [path.name for path in store.entries()] == ["a", "slow"]


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from zclab.base.locks import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), 'it'): print(flush=True); time.sleep(600)"
    )
    path = tmp_path / "deep" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline()
    with locked_if_free(path) as free:
        assert not free
    holder.kill()
    holder.communicate()
    with locked_if_free(path) as free:
        assert free


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    """The fault is real: this process may write files of 100 bytes at most."""
    path = tmp_path / "file"
    write_whole(path, "before", mode=0o600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_text() == "before" and path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
