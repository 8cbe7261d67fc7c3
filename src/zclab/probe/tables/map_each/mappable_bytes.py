# SPDX-License-Identifier: Apache-2.0
"""Bytes that cannot be mapped: not in a whole page of their own, or urgent."""

from __future__ import annotations

import os
import socket
import tempfile

from ...sockets import PAGE, inq, payload, wait_until
from ...stream import Stream
from ...table import Bench, Cases

CASES = Cases()


@CASES.add("four pages queued by a plain sender", "EINVAL, 16384 queued; read 16384 as sent", "M3", "M5")
def pages_that_can_not_be_mapped(bench: Bench) -> str:
    """Bytes in larger pages, which a plain send over loopback leaves, are never mapped."""
    return Stream(bench).queue(4 * PAGE, pages=False).map_then_rest(PAGE)


@CASES.add("100 bytes and two pages queued", "EINVAL, 8292 queued; read 8292 as sent", "M3", "M5")
def a_partial_page_first(bench: Bench) -> str:
    """A mapping begins with the first byte that is queued, or not at all."""
    return Stream(bench).queue(100, pages=False).queue(2 * PAGE).map_then_rest(PAGE)


@CASES.add(
    "100 bytes and two pages queued, the bytes read", "read 100 as sent; mapped 8192 as sent, 0 queued", "M5"
)
def behind_a_partial_page(bench: Bench) -> str:
    """What comes behind a partial page is mapped once that was read."""
    stream = Stream(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{stream.read(100)}; {stream.map(2 * PAGE)}"


def _page_part_page(bench: Bench) -> Stream:
    return Stream(bench).queue(PAGE).queue(100, pages=False).queue(PAGE)


@CASES.add(
    "a page, 100 bytes and a page queued, two pages mapped",
    "EINVAL, 8292 queued; read 8292 as sent",
    "M3",
    "M5",
)
def a_partial_page_in_the_middle(bench: Bench) -> str:
    """One partial page refuses all: nothing before it is taken either."""
    return _page_part_page(bench).map_then_rest(2 * PAGE)


@CASES.add(
    "a page, 100 bytes and a page queued, one page mapped",
    "mapped 4096 as sent, 4196 queued; EINVAL, 4196 queued; read 4196 as sent",
    "M3",
    "M5",
)
def before_a_partial_page(bench: Bench) -> str:
    """A mapping that ends before the partial page is not refused; the next one is."""
    stream = _page_part_page(bench)
    return f"{stream.map(PAGE)}; {stream.map(PAGE)}; {stream.rest()}"


@CASES.add(
    "80 pages queued of which the last is a plain sender's",
    "EINVAL, 327680 queued; read 327680 as sent",
    "M3",
    "M5",
)
def many_pages_before_what_can_not_be_mapped(bench: Bench) -> str:
    """All is looked at before anything is mapped or taken."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)
    stream.queue(79 * PAGE)
    stream.queue(PAGE, pages=False)
    return stream.map_then_rest(80 * PAGE)


@CASES.add(
    "two pages queued of which 100 bytes were read",
    "read 100 as sent; EINVAL, 8092 queued; read 3996 as sent; mapped 4096 as sent, 0 queued",
    "M3",
    "M5",
)
def a_page_read_in_part(bench: Bench) -> str:
    """The rest of a page is not a whole page; behind it mapping continues."""
    stream = Stream(bench).queue(2 * PAGE)
    result = [stream.read(100), stream.map(PAGE), stream.read(PAGE - 100), stream.map(PAGE)]
    return "; ".join(result)


@CASES.add("two half pages queued, one page mapped", "EINVAL, 4096 queued; read 4096 as sent", "M3", "M5")
def two_half_pages(bench: Bench) -> str:
    """Two fragments that add up to a page are not a page."""
    return Stream(bench).queue(PAGE // 2).queue(PAGE // 2).map_then_rest(PAGE)


@CASES.add("two pages of a file, sent with sendfile()", "EINVAL, 8192 queued; read 8192 as sent", "M3", "M5")
def pages_of_a_file(bench: Bench) -> str:
    """A page that belongs to a file is not given to a reader, although it is a whole one."""
    stream = Stream(bench)
    stream.sent = payload(2 * PAGE)
    with tempfile.TemporaryFile() as file:
        file.write(stream.sent)
        file.flush()
        os.sendfile(stream.sender.fileno(), file.fileno(), 0, 2 * PAGE)
        wait_until(lambda: inq(stream.receiver) == 2 * PAGE)
        return stream.map_then_rest(PAGE)


# Urgent data


@CASES.add("an urgent byte and two pages queued", "EINVAL, 0 queued; read 8192 as sent", "M4", "M5")
def urgent_first(bench: Bench) -> str:
    """The first byte is urgent; FIONREAD stops there, a read goes past it."""
    return Stream(bench).queue_urgent(2 * PAGE).map_then_rest(PAGE)


@CASES.add(
    "a page, an urgent byte and two pages queued, two pages mapped",
    "EINVAL, 4096 queued; read 12288 as sent",
    "M4",
    "M5",
)
def urgent_in_the_area(bench: Bench) -> str:
    """Urgent data in the area refuse all: nothing before them is taken."""
    return Stream(bench).queue(PAGE).queue_urgent(2 * PAGE).map_then_rest(2 * PAGE)


@CASES.add(
    "two pages with their last byte urgent, both mapped", "EINVAL, 8191 queued; read 8191 as sent", "M4", "M5"
)
def urgent_at_the_end_of_the_area(bench: Bench) -> str:
    """The last byte of the area belongs to it."""
    return Stream(bench).queue(PAGE).queue(PAGE - 1).queue_urgent().map_then_rest(2 * PAGE)


@CASES.add(
    "two pages, an urgent byte and a page queued, two pages mapped",
    "mapped 8192 as sent, 0 queued; EINVAL, 0 queued; read 4096 as sent",
    "M4",
    "M5",
)
def urgent_behind_the_area(bench: Bench) -> str:
    """What ends before the urgent byte is mapped; what begins with it is not."""
    stream = Stream(bench).queue(2 * PAGE).queue_urgent(PAGE)
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}; {stream.rest()}"


@CASES.add(
    "a page and an urgent byte queued, two pages mapped", "EINVAL, 4096 queued; read 4096 as sent", "M4"
)
def urgent_before_too_few(bench: Bench) -> str:
    """Urgent data are reported before too few bytes: waiting would not help."""
    return Stream(bench).queue(PAGE).queue_urgent().map_then_rest(2 * PAGE)


@CASES.add(
    "a page, an urgent byte and a page queued, the urgent byte received with MSG_OOB",
    "received !; EINVAL, 4096 queued; read 8192 as sent",
    "M4",
    "M5",
)
def urgent_received(bench: Bench) -> str:
    """The byte's place stays a hole in the stream after it was received."""
    stream = Stream(bench).queue(PAGE).queue_urgent(PAGE)
    received = stream.receiver.recv(1, socket.MSG_OOB).decode()
    return f"received {received}; {stream.map(2 * PAGE)}; {stream.rest()}"


@CASES.add(
    "SO_OOBINLINE: a page, an urgent byte and a page queued, two pages mapped",
    "EINVAL, 8193 queued; read 8193 as sent",
    "M4",
    "M5",
)
def urgent_inline(bench: Bench) -> str:
    """With SO_OOBINLINE it is still urgent, and is read as a byte like others."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    stream.queue(PAGE)
    stream.queue_urgent(PAGE)
    return stream.map_then_rest(2 * PAGE)


@CASES.add(
    "SO_OOBINLINE: an urgent byte and a page queued, the urgent byte read",
    "EINVAL, 4097 queued; read 1 as sent; mapped 4096 as sent, 0 queued",
    "M4",
)
def urgent_passed(bench: Bench) -> str:
    """Once the urgent byte was read, mapping continues."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    stream.queue_urgent()
    stream.queue(PAGE)
    return f"{stream.map(PAGE)}; {stream.read(1)}; {stream.map(PAGE)}"
