# SPDX-License-Identifier: Apache-2.0
"""What a host does under stress: operations, and what it finds wrong."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from pathlib import Path

import pytest

from zclab.base.errors import LabError, UsageError
from zclab.base.paths import project_root
from zclab.deploy import playbooks
from zclab.probe.sockets import mapped
from zclab.probe.stress import memory
from zclab.probe.stress import worker as stress_worker
from zclab.probe.stress.worker import OPERATIONS, Connection, MismatchError, Worker
from zclab.suites.stress import run

SEED = 4168


class EnoughError(Exception):
    """As many operations as a test wants were done."""


def worked(operations: int, seed: int = SEED, kinds: list[str] | None = None) -> tuple[Worker, list[str]]:
    """Return a worker of this process after some operations, and their kinds."""
    done: list[str] = []

    def at(number: int, kind: str) -> None:
        if number > operations:
            raise EnoughError
        done.append(kind)

    worker = Worker(seed, [4], kinds, at)
    with contextlib.suppress(EnoughError):
        worker.run(time.monotonic() + 3600)
    worker.end()
    return worker, done


def test_operations_follow_from_the_seed() -> None:
    assert worked(300)[1] == worked(300)[1]
    assert worked(300)[1] != worked(300, seed=SEED + 1)[1]
    assert set(worked(3000)[1]) == set(OPERATIONS)
    assert set(worked(30, kinds=["read", "peek"])[1]) == {"read", "peek"}


def test_nothing_is_wrong_on_this_kernel() -> None:
    worker, _ = worked(3000)
    assert worker.tally.mismatches == []
    assert worker.tally.transferred["copied"] and worker.tally.transferred["moved"]
    assert worker.consumes or worker.tally.unsupported["map"]


def test_a_wrong_byte_is_seen_wherever_it_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that is changed on its way to the check stands for a kernel that mixes up bytes."""
    real = Connection.check
    seen: set[str] = set()

    def spoilt(self: Connection, got: bytes, position: int) -> None:
        caller = sys._getframe(1).f_code.co_name
        if got and caller not in seen:
            seen.add(caller)
            got = got[:-1] + bytes([got[-1] ^ 1])
        real(self, got, position)

    monkeypatch.setattr(Connection, "check", spoilt)
    worker, _ = worked(2000)
    assert {"_receive", "_move"} <= seen
    assert len(worker.tally.mismatches) == len(seen)
    assert all(one["operation"] and "are not those at" in one["what"] for one in worker.tally.mismatches)


def test_a_lost_byte_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Worker._send

    def lossy(self: Worker, length: int, flags: int) -> None:
        real(self, length, flags)
        self.connection.sent += 1  # as if one more had been taken

    monkeypatch.setattr(Worker, "_send", lossy)
    worker, _ = worked(300)
    assert worker.tally.mismatches


def test_pieces_of_several_threads_have_to_go_on_at_each_other() -> None:
    worker, _ = worked(0)
    worker.connection = one = worker._connect()
    one.sent = 3000
    pieces = [bytes(one.pattern.at(at, 1000)) for at in (2000, 0, 1000)]
    worker._assemble(list(pieces))
    assert one.taken == 3000
    for wrong in (pieces[:1] + pieces[2:], pieces + pieces[1:2]):  # one is missing, one came twice
        one.taken = 0
        with pytest.raises(MismatchError, match="do not go on"):
            worker._assemble(wrong)
    worker.end()


def test_a_kept_mapping_that_changes_is_seen() -> None:
    worker, _ = worked(0)
    area = mapped(8192, protection=3)
    kept = stress_worker.Kept(area, memoryview(bytes(8192)))
    kept.check(0, 8192)
    area.view()[5000] = 1
    kept.check(0, 4096)
    with pytest.raises(MismatchError, match="has changed"):
        kept.check(0, 8192)
    area.unmap()
    worker.connection.close()


def test_what_may_grow_follows_from_what_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(memory, "_objects_a_slab", lambda: {"TCP": 13})
    rounds = [
        {"slab TCP": 100, "tcp orphan": 0, "tcp mem": 10, "kernel pages": 5000},
        {"slab TCP": 110, "tcp orphan": 0, "tcp mem": 20, "kernel pages": 5900},
    ]
    allowed = memory.tolerances(rounds)
    assert allowed == {"slab TCP": 40, "tcp orphan": 0, "tcp mem": 512, "kernel pages": 3600}
    after = {"slab TCP": 150, "tcp orphan": 0, "tcp mem": 532, "kernel pages": 2000}
    assert memory.grown(rounds[-1], after, allowed) == []
    leaked = {"slab TCP": 151, "tcp orphan": 1, "tcp mem": 533, "kernel pages": 9501}
    found = memory.grown(rounds[-1], leaked, allowed)
    assert [line.partition(":")[0] for line in found] == list(leaked)
    assert found[0] == "slab TCP: 110 before, 151 after, may grow by 40"


@pytest.mark.alone  # the figures are the whole machine's
def test_sockets_and_their_bytes_are_seen_in_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given back stands for a leak: connections that stay open, with bytes that nobody reads."""
    monkeypatch.setattr(memory, "_drop_caches", lambda: None)
    before = memory._figures()
    worker, _ = worked(0)
    leaked = [worker._connect() for _ in range(200)]
    for one in leaked:
        one.sender.send(bytes(32768))
    after = memory._figures()
    for one in leaked:
        one.close()
    assert after["tcp alloc"] - before["tcp alloc"] > 300
    assert after["kernel pages"] - before["kernel pages"] > 200 * 16  # half of what was sent, in KiB
    assert memory.grown(before, after, dict.fromkeys(after, 300))


def test_a_figure_is_read_until_it_does_not_fall_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([9, 7, 8, 6, 6, 1])
    monkeypatch.setattr(memory, "_drop_caches", lambda: None)
    monkeypatch.setattr(memory, "_figures", lambda: {"x": next(readings)})
    assert memory.settled(lambda seconds: None) == {"x": 7}
    endless = itertools.count(0, -1)
    monkeypatch.setattr(memory, "_figures", lambda: {"x": next(endless)})
    assert memory.settled(lambda seconds: None) == {"x": 1 - memory._READS}


class FakeKmemleak:
    """The file, in a kernel that has lost two objects."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def exists(self) -> bool:
        return True

    def write_text(self, text: str, encoding: str) -> None:
        self.told.append(text)

    def read_text(self, encoding: str, errors: str) -> str:
        return "unreferenced object 0xffff888 (size 64):\n  comm\nunreferenced object 0xffff889 (size 8):\n"


def test_what_kmemleak_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeKmemleak()
    monkeypatch.setattr(memory, "_KMEMLEAK", fake)
    assert memory.kmemleak_begin()
    found = memory.kmemleak_found(lambda seconds: None)
    assert fake.told == ["scan", "clear", "scan", "scan"]
    assert found.unreferenced == 2 and "0xffff889" in found.text


def test_options_that_make_no_sense() -> None:
    assert run.options_of(3, "map,read") == ["--workers", "3", "--ops", "map,read"]
    assert run.options_of(None, None) == []
    with pytest.raises(UsageError, match="--ops: no operation is called 'sing'"):
        run.options_of(None, "map,sing")


def test_a_reset_wants_a_host_of_the_lab(tmp_path: Path) -> None:
    lab_dir = project_root() / "inventory" / "namespaces"
    with pytest.raises(LabError, match="namespaces: has no host receiver9: name one"):
        playbooks.run("reset", lab_dir, tmp_path, lambda line: None, {"zclab_host": "receiver9"})


def test_a_host_without_a_reset_command_is_named(tmp_path: Path) -> None:
    lab_dir = project_root() / "inventory" / "namespaces"
    with pytest.raises(
        LabError, match="receiver1: no command is known that resets it: power-cycle it by hand"
    ):
        playbooks.run("reset", lab_dir, tmp_path, lambda line: None, {"zclab_host": "receiver1"})
