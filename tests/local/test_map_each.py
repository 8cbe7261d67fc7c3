# SPDX-License-Identifier: Apache-2.0
"""The table of map_each on a kernel that does not have it, and what its rows see by."""

from __future__ import annotations

import dataclasses
import faulthandler
import os
import signal
import socket
import threading
import time

import pytest

from zclab.plan import claims
from zclab.probe import mmap_lock_waiter, processes
from zclab.probe import table as probe_table
from zclab.probe.processes import forked
from zclab.probe.sockets import PAGE, map_memory
from zclab.probe.stream import Stream
from zclab.probe.sysctl import CONSUME
from zclab.probe.table import Bench, NotHereError, attempt
from zclab.probe.tables import map_each
from zclab.probe.tables.map_each import concurrency
from zclab.probe.zerocopy_receive import Request, ask

#: Rows that come out the same where mmap() of a socket gives an empty area and takes nothing.
SAME_WITHOUT = {
    "asking-to-write",
    "asking-to-write-only",
    "asking-to-write-privately",
    "asking-to-execute",
    "offset-within-a-page",
    "no-length",
    "fixed-address-unaligned",
    "address-in-use",
    "datagrams",
    "killed-waiter",
    "switched-off",
}
plain_kernel = pytest.mark.skipif(CONSUME.exists(), reason="this kernel's mmap() of a TCP socket consumes")


@pytest.fixture
def bench() -> Bench:
    return Bench(6 if socket.has_ipv6 else 4)


def test_each_claim_has_a_row() -> None:
    """The order of locks and the comparison of designs have checks of their own."""
    served = {claim for row in map_each.TABLE.cases for claim in row.claims}
    assert {f"M{number}" for number in (*range(1, 12), 13)} <= served <= set(claims.load())


@plain_kernel
def test_the_table_is_skipped_where_mmap_does_not_consume() -> None:
    with pytest.raises(NotHereError, match="tcp_mmap_consume"), map_each.TABLE.around():
        pass


@plain_kernel
@pytest.mark.parametrize("row", map_each.TABLE.cases, ids=lambda row: row.name)
def test_a_row_fails_where_mmap_only_makes_an_area(row: probe_table.TestCase) -> None:
    """The planted fault is this machine's kernel: what does not consume must be seen by every other row."""

    def quietly(bench: Bench) -> str:
        faulthandler.disable()  # to be killed is an outcome
        return row.attempt(bench)

    got = attempt(dataclasses.replace(row, attempt=quietly), 4)
    assert got["outcome"] is not None or got["reason"]
    if row.name in SAME_WITHOUT:
        assert got["outcome"] in (None, row.rule("6.1")[1])
    else:
        assert got["outcome"] != row.rule("6.1")[1]


def test_what_is_not_as_sent_is_told(bench: Bench) -> None:
    with bench.closing:
        one = Stream(bench)
        one.queue(PAGE)
        one.queue(100, pages=False)
        assert one.read(PAGE) == "read 4096 as sent"
        one.sent = one.sent[:-1] + b"?"
        assert one.rest() == "read 100 not as sent"
        assert one.rest() == "read 0"
        one.fin()
        assert one.rest() == "read 0, then the end"
        assert one.as_sent(b"", 0) == "not as sent"


def test_a_child_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "SECONDS", 0.2)

    def killed() -> str:
        signal.raise_signal(signal.SIGKILL)
        return "alive"

    waiting, told = os.pipe()
    assert forked(lambda: str(os.read(waiting, 1))) is None
    os.write(told, b"1")
    os.wait()
    assert forked(lambda: "said") == "said"
    assert forked(killed) == "ended with wait status 9"


def test_a_thread_is_seen_waiting_for_the_mapping_lock(bench: Bench) -> None:
    with bench.closing:
        one = Stream(bench)
        deadline = time.monotonic() + 60
        while not mmap_lock_waiter.kill_while_it_waits(one.receiver.fileno()):
            assert time.monotonic() < deadline, "never seen waiting"
        one.queue(PAGE, pages=False)
        assert one.rest() == "read 4096 as sent"  # nobody holds the socket


def test_a_thread_that_does_not_wait_is_not_seen_waiting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmap_lock_waiter, "_hold_the_lock", lambda ready: os.write(ready, b"1"))
    with bench.closing:
        assert not mmap_lock_waiter.kill_while_it_waits(Stream(bench).receiver.fileno())


def test_a_socket_that_stays_locked_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that never comes back stands for one that waits for the lock."""
    monkeypatch.setattr(processes, "SECONDS", 0.2)
    monkeypatch.setattr(Stream, "rest", lambda self: str(threading.Event().wait(1)))
    with bench.closing:
        assert concurrency._all_of_it(Stream(bench)) == "the socket stays locked"
    os.wait()


def test_pages_of_a_plain_sender_are_told_from_those_that_can_be_mapped(bench: Bench) -> None:
    """What the rows' streams rest on: on loopback only MSG_ZEROCOPY leaves pages that can be mapped."""
    with bench.closing:
        one = Stream(bench)
        one.queue_corked(100, socket.MSG_EOR, 2 * PAGE)
        assert one.read(100) == "read 100 as sent"
        request = Request(address=map_memory(bench, 2 * PAGE, one.receiver.fileno()).address, length=2 * PAGE)
        assert (ask(one.receiver, request), request.length) == ("ok", 2 * PAGE)
