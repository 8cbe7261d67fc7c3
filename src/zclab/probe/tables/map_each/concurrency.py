# SPDX-License-Identifier: Apache-2.0
"""Several threads and processes at one socket."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time

from ...mmap_lock_waiter import kill_while_it_waits
from ...processes import SECONDS, forked
from ...sockets import PAGE, inq, map_memory
from ...stream import Stream
from ...table import Bench, Cases, NotHereError

CASES = Cases()


@CASES.add("64 pages mapped by two threads at once, one at a time", "64 pages, each once, in order", "M1")
def two_threads(bench: Bench) -> str:
    """No byte comes twice and none is lost."""
    stream = Stream(bench).rcvlowat(1 << 19).queue(64 * PAGE)
    positions = {stream.sent[at : at + PAGE]: at // PAGE for at in range(0, 64 * PAGE, PAGE)}
    begin = threading.Barrier(2)
    found: list[list[int]] = [[], []]

    def take(mine: list[int]) -> None:
        begin.wait()
        with contextlib.suppress(BlockingIOError):
            while True:
                with map_memory(bench, PAGE, stream.receiver.fileno()) as area:
                    mine.append(positions.get(area.read(0, PAGE), -1))

    threads = [threading.Thread(target=take, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages = sorted(found[0] + found[1])
    each = "each once" if pages == list(range(64)) else f"not each once: {pages}"
    order = "in order" if all(mine == sorted(mine) for mine in found) else "out of order"
    return f"{len(pages)} pages, {each}, {order}"


@CASES.add(
    "a thread killed while it waits for its program's mapping lock in mmap(), two pages queued",
    "8192 queued, read 8192 as sent",
    "M13",
)
def killed_waiter(bench: Bench) -> str:
    """A thread killed there consumes nothing, and leaves the socket usable by others that share it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.ExitStack() as closing:  # there may be hundreds of tries
            stream = Stream(dataclasses.replace(bench, closing=closing)).queue(2 * PAGE)
            if kill_while_it_waits(stream.receiver.fileno()):
                result = _all_of_it(stream)
                if not result.startswith("4096 queued"):  # else it had its page before it died
                    return result
    raise NotHereError(f"within {SECONDS:.0f} s no thread was killed while it waited for its mapping lock")


def _all_of_it(stream: Stream) -> str:
    """Return what a process that shares the socket reads.

    It is a child: with the socket left locked, a reader waits for ever and cannot be killed.
    """
    return forked(lambda: f"{inq(stream.receiver)} queued, {stream.rest()}") or "the socket stays locked"
