# SPDX-License-Identifier: Apache-2.0
"""Bytes that cannot be mapped: not in a whole page of their own, or urgent."""

from __future__ import annotations

import os
import socket
import tempfile

from ...sockets import PAGE, inq, payload, wait_until
from ...stream import Stream, inline, maps, plain, queue, rcvlowat, reads, rest, urgent
from ...table import Bench, Cases

CASES = Cases(Stream.does)


CASES.why("Bytes in larger pages, which a plain send over loopback leaves, are never mapped.")
CASES.steps("pages-that-can-not-be-mapped", plain(4 * PAGE), maps(PAGE), rest())(
    "four pages queued by a plain sender", "EINVAL, 16384 queued; read 16384 as sent", "M3 M5"
)
CASES.why("A mapping begins with the first byte that is queued, or not at all.")
CASES.steps("a-partial-page-first", plain(100), queue(2 * PAGE), maps(PAGE), rest())(
    "100 bytes and two pages queued", "EINVAL, 8292 queued; read 8292 as sent", "M3 M5"
)
CASES.why("What comes behind a partial page is mapped once that was read.")
CASES.steps("behind-a-partial-page", plain(100), queue(2 * PAGE), reads(100), maps(2 * PAGE))(
    "100 bytes and two pages queued, the bytes read", "read 100 as sent; mapped 8192 as sent, 0 queued", "M5"
)
CASES.why("One partial page refuses all: nothing before it is taken either.")
CASES.steps("a-partial-page-in-the-middle", queue(PAGE), plain(100), queue(PAGE), maps(2 * PAGE), rest())(
    "a page, 100 bytes and a page queued, two pages mapped", "EINVAL, 8292 queued; read 8292 as sent", "M3 M5"
)
CASES.why("A mapping that ends before the partial page is not refused; the next one is.")
CASES.steps("before-a-partial-page", queue(PAGE), plain(100), queue(PAGE), maps(PAGE), maps(PAGE), rest())(
    "a page, 100 bytes and a page queued, one page mapped",
    "mapped 4096 as sent, 4196 queued; EINVAL, 4196 queued; read 4196 as sent",
    "M3 M5",
)
CASES.why("All is looked at before anything is mapped or taken.")
CASES.steps(
    "many-pages-before-what-can-not-be-mapped",
    rcvlowat(1 << 20),
    queue(79 * PAGE),
    plain(PAGE),
    maps(80 * PAGE),
    rest(),
)(
    "80 pages queued of which the last is a plain sender's",
    "EINVAL, 327680 queued; read 327680 as sent",
    "M3 M5",
)
CASES.why("The rest of a page is not a whole page; behind it mapping continues.")
CASES.steps("a-page-read-in-part", queue(2 * PAGE), reads(100), maps(PAGE), reads(PAGE - 100), maps(PAGE))(
    "two pages queued of which 100 bytes were read",
    "read 100 as sent; EINVAL, 8092 queued; read 3996 as sent; mapped 4096 as sent, 0 queued",
    "M3 M5",
)
CASES.why("Two fragments that add up to a page are not a page.")
CASES.steps("two-half-pages", queue(PAGE // 2), queue(PAGE // 2), maps(PAGE), rest())(
    "two half pages queued, one page mapped", "EINVAL, 4096 queued; read 4096 as sent", "M3 M5"
)


@CASES.add("two pages of a file, sent with sendfile()", "EINVAL, 8192 queued; read 8192 as sent", "M3 M5")
def pages_of_a_file(bench: Bench) -> str:
    """A page that belongs to a file is not given to a reader, although it is a whole one."""
    stream = Stream(bench)
    stream.sent = payload(2 * PAGE)
    with tempfile.TemporaryFile() as file:
        file.write(stream.sent)
        file.flush()
        os.sendfile(stream.sender.fileno(), file.fileno(), 0, 2 * PAGE)
        wait_until(lambda: inq(stream.receiver) == 2 * PAGE)
        return f"{stream.map(PAGE)}; {stream.rest()}"


# Urgent data


CASES.why("The first byte is urgent; FIONREAD stops there, a read goes past it.")
CASES.steps("urgent-first", urgent(2 * PAGE), maps(PAGE), rest())(
    "an urgent byte and two pages queued", "EINVAL, 0 queued; read 8192 as sent", "M4 M5"
)
CASES.why("Urgent data in the area refuse all: nothing before them is taken.")
CASES.steps("urgent-in-the-area", queue(PAGE), urgent(2 * PAGE), maps(2 * PAGE), rest())(
    "a page, an urgent byte and two pages queued, two pages mapped",
    "EINVAL, 4096 queued; read 12288 as sent",
    "M4 M5",
)
CASES.why("The last byte of the area belongs to it.")
CASES.steps("urgent-at-the-end-of-the-area", queue(PAGE), queue(PAGE - 1), urgent(), maps(2 * PAGE), rest())(
    "two pages with their last byte urgent, both mapped", "EINVAL, 8191 queued; read 8191 as sent", "M4 M5"
)
CASES.why("What ends before the urgent byte is mapped; what begins with it is not.")
CASES.steps("urgent-behind-the-area", queue(2 * PAGE), urgent(PAGE), maps(2 * PAGE), maps(PAGE), rest())(
    "two pages, an urgent byte and a page queued, two pages mapped",
    "mapped 8192 as sent, 0 queued; EINVAL, 0 queued; read 4096 as sent",
    "M4 M5",
)
CASES.why("Urgent data are reported before too few bytes: waiting would not help.")
CASES.steps("urgent-before-too-few", queue(PAGE), urgent(), maps(2 * PAGE), rest())(
    "a page and an urgent byte queued, two pages mapped", "EINVAL, 4096 queued; read 4096 as sent", "M4"
)
CASES.why("The byte's place stays a hole in the stream after it was received.")
CASES.steps(
    "urgent-received",
    queue(PAGE),
    urgent(PAGE),
    lambda stream: f"received {stream.receiver.recv(1, socket.MSG_OOB).decode()}",
    maps(2 * PAGE),
    rest(),
)(
    "a page, an urgent byte and a page queued, the urgent byte received with MSG_OOB",
    "received !; EINVAL, 4096 queued; read 8192 as sent",
    "M4 M5",
)
CASES.why("With SO_OOBINLINE it is still urgent, and is read as a byte like others.")
CASES.steps("urgent-inline", inline(), queue(PAGE), urgent(PAGE), maps(2 * PAGE), rest())(
    "SO_OOBINLINE: a page, an urgent byte and a page queued, two pages mapped",
    "EINVAL, 8193 queued; read 8193 as sent",
    "M4 M5",
)
CASES.why("Once the urgent byte was read, mapping continues.")
CASES.steps("urgent-passed", inline(), urgent(), queue(PAGE), maps(PAGE), reads(1), maps(PAGE))(
    "SO_OOBINLINE: an urgent byte and a page queued, the urgent byte read",
    "EINVAL, 4097 queued; read 1 as sent; mapped 4096 as sent, 0 queued",
    "M4",
)
