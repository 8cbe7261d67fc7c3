# SPDX-License-Identifier: Apache-2.0
"""Waiting for a whole chunk, and keeping the payload in pages of its own."""

from __future__ import annotations

import select
import socket
import threading

from ...processes import SECONDS
from ...sockets import PAGE, inq
from ...stream import Stream, corked, maps, reads, rest
from ...table import Bench, Cases

CASES = Cases(Stream.does)


@CASES.add(
    "SO_RCVLOWAT of four pages, a page sent at a time: poll(), FIONREAD, then four pages mapped, three times",
    "; ".join(["not ready, not ready, not ready, ready with 16384: mapped 16384 as sent, 0 queued"] * 3),
    "M10",
)
def low_water_mark(bench: Bench) -> str:
    """The low-water mark wakes the reader when exactly one chunk can be mapped."""
    stream = Stream(bench).rcvlowat(4 * PAGE)
    poll = select.poll()
    poll.register(stream.receiver, select.POLLIN)
    rounds = []
    for _ in range(3):
        states = []
        for _ in range(4):
            stream.queue(PAGE)
            states.append(f"ready with {inq(stream.receiver)}" if poll.poll(0) else "not ready")
        rounds.append(f"{', '.join(states)}: {stream.map(4 * PAGE)}")
    return "; ".join(rounds)


@CASES.add(
    "SO_RCVLOWAT of four pages, a thread in poll() while they are sent",
    "woken, mapped 16384 as sent, 0 queued",
    "M10",
)
def woken_for_a_chunk(bench: Bench) -> str:
    """A thread in poll() is woken when the chunk is complete."""
    stream = Stream(bench).rcvlowat(4 * PAGE)

    def send() -> None:
        for _ in range(4):
            stream.queue(PAGE)

    sending = threading.Thread(target=send)
    sending.start()
    woken = select.select([stream.receiver], [], [], SECONDS)[0]
    sending.join()
    return f"{'woken' if woken else 'not woken'}, {stream.map(4 * PAGE)}"


CASES.why("MSG_EOR keeps the payload out of the header's segment, so that its pages stay whole.")
CASES.steps("end-of-record", corked(100, socket.MSG_EOR, 2 * PAGE), reads(100), maps(2 * PAGE))(
    "a header of 100 bytes sent with MSG_EOR and two pages, both held back by TCP_CORK",
    "read 100 as sent; mapped 8192 as sent, 0 queued",
    "M11",
)
CASES.why("Without it both share a segment, and no page of the payload begins where one begins in memory.")
CASES.steps("no-end-of-record", corked(100, 0, 2 * PAGE), reads(100), maps(2 * PAGE), rest())(
    "a header of 100 bytes sent without MSG_EOR and two pages, both held back by TCP_CORK",
    "read 100 as sent; EINVAL, 8192 queued; read 8192 as sent",
    "M11 M5",
)
