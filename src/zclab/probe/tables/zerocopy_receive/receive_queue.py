# SPDX-License-Identifier: Apache-2.0
"""What is queued, and how much of it a call takes."""

from __future__ import annotations

import socket

from ...sockets import PAGE
from ...table import Bench, Cases
from ...zerocopy_receive import Reader

CASES = Cases()


@CASES.add("nothing queued, blocking socket", "mapped 0, hint 0, 0 queued", "S1")
def nothing_queued(bench: Bench) -> str:
    """The call never waits."""
    reader = Reader(bench)
    reader.receiver.settimeout(None)
    return reader.take()


@CASES.add("nothing queued, a copy buffer of 4096", "mapped 0, hint 0, 0 queued", "S1")
def nothing_queued_for_a_copy_buffer(bench: Bench) -> str:
    """Nor does it wait for bytes to copy."""
    reader = Reader(bench)
    reader.receiver.settimeout(None)
    return reader.take(PAGE)


@CASES.add("two pages queued, an area of eight", "mapped 8192, hint 0, as sent, 0 queued")
def whole_pages(bench: Bench) -> str:
    """An area that is longer than the queue takes all of it."""
    return Reader(bench).queue(2 * PAGE).take()


@CASES.add(
    "40 pages queued, an area of 40: more than the kernel maps at a time",
    "mapped 163840, hint 0, as sent, 0 queued",
)
def many_pages(bench: Bench) -> str:
    """Pages of several segments are mapped by one call."""
    reader = Reader(bench, 40)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 19)  # makes room for them
    reader.queue(40 * PAGE)
    return reader.take()


@CASES.add(
    "four pages queued, an area of two",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def queue_longer_than_the_area(bench: Bench) -> str:
    """What is beyond the area stays queued, for the next call."""
    reader = Reader(bench, 2).queue(4 * PAGE)
    return f"{reader.take()}; {reader.take()}"


@CASES.add("two pages queued, SO_RCVLOWAT 64 KiB", "mapped 8192, hint 0, as sent, 0 queued")
def below_the_low_water_mark(bench: Bench) -> str:
    """The low-water mark is for poll(), not for this call."""
    reader = Reader(bench)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
    reader.queue(2 * PAGE)
    return reader.take()


@CASES.add("1000 bytes queued, no copy buffer", "mapped 0, hint 1000, 1000 queued", "S3")
def less_than_a_page(bench: Bench) -> str:
    """Less than a page is only counted in recv_skip_hint."""
    return Reader(bench).queue(1000, pages=False).take()


@CASES.add("1000 bytes queued, no copy buffer, then recv()", "read 1000 as sent", "S3")
def less_than_a_page_is_left_to_recv(bench: Bench) -> str:
    """What recv_skip_hint counts can be read with recv()."""
    reader = Reader(bench).queue(1000, pages=False)
    reader.take()
    return reader.rest()


@CASES.add(
    "a page and 100 bytes queued, no copy buffer",
    "mapped 4096, hint 0, as sent, 100 queued; mapped 0, hint 100, 100 queued",
)
def a_partial_page_behind(bench: Bench) -> str:
    """The first call returns recv_skip_hint 0; the second counts the rest there."""
    reader = Reader(bench).queue(PAGE + 100)
    return f"{reader.take()}; {reader.take()}"


@CASES.add(
    "100 bytes and two pages queued, no copy buffer",
    "mapped 0, hint 100, 8292 queued; read 100 as sent; mapped 8192, hint 0, as sent, 0 queued",
)
def a_partial_page_before(bench: Bench) -> str:
    """Pages behind what cannot be mapped stay queued until that was read."""
    reader = Reader(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{reader.take()}; {reader.read(100)}; {reader.take()}"


@CASES.add("two pages queued of which 100 bytes were read", "mapped 0, hint 8092, 8092 queued")
def a_page_read_in_part(bench: Bench) -> str:
    """A page that was read in part is not mapped; recv_skip_hint extends to the end of its segment."""
    reader = Reader(bench).queue(2 * PAGE)
    reader.read(100)
    return reader.take()


@CASES.add(
    "a page, 100 bytes and a page queued, no copy buffer", "mapped 4096, hint 100, as sent, 4196 queued"
)
def a_partial_page_between(bench: Bench) -> str:
    """recv_skip_hint is the number of bytes to read before the next page."""
    return Reader(bench).queue(PAGE).queue(100, pages=False).queue(PAGE).take()


@CASES.add("four pages queued by a plain sender", "mapped 0, hint 16384, 16384 queued")
def pages_that_can_not_be_mapped(bench: Bench) -> str:
    """Bytes in larger pages, which a plain send over loopback leaves, are never mapped."""
    return Reader(bench).queue(4 * PAGE, pages=False).take()
