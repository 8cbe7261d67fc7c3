# SPDX-License-Identifier: Apache-2.0
"""Too few bytes: EAGAIN as long as more may come, EIO behind the end."""

from __future__ import annotations

import socket

from ...sockets import PAGE
from ...stream import Stream
from ...table import Bench, Cases

CASES = Cases()


@CASES.add("nothing queued", "EAGAIN, 0 queued", "M6")
def nothing_queued(bench: Bench) -> str:
    """The call never waits."""
    return Stream(bench).map(PAGE)


@CASES.add("nothing queued, blocking socket", "EAGAIN, 0 queued", "M6")
def nothing_queued_blocking(bench: Bench) -> str:
    """Not on a blocking socket either."""
    stream = Stream(bench)
    stream.receiver.settimeout(None)
    return stream.map(PAGE)


@CASES.add("a page and 4095 bytes queued, blocking socket, two pages mapped", "EAGAIN, 8191 queued", "M6")
def one_byte_too_few(bench: Bench) -> str:
    """One byte too few is too few."""
    stream = Stream(bench).queue(PAGE).queue(PAGE - 1)
    stream.receiver.settimeout(None)
    return stream.map(2 * PAGE)


@CASES.add(
    "a page queued, two pages mapped, then another page comes",
    "EAGAIN, 4096 queued; mapped 8192 as sent, 0 queued",
    "M6",
)
def too_few_then_enough(bench: Bench) -> str:
    """The same call succeeds when enough has come."""
    stream = Stream(bench).queue(PAGE)
    first = stream.map(2 * PAGE)
    stream.queue(PAGE)
    return f"{first}; {stream.map(2 * PAGE)}"


@CASES.add(
    "100 bytes queued by a plain sender, one page mapped", "EAGAIN, 100 queued; read 100 as sent", "M6"
)
def too_few_and_not_mappable(bench: Bench) -> str:
    """Too few bytes are reported before whether they can be mapped."""
    return Stream(bench).queue(100, pages=False).map_then_rest(PAGE)


@CASES.add("FIN, nothing queued", "EIO, 0 queued; read 0, then the end", "M7")
def fin(bench: Bench) -> str:
    """No more can come."""
    return Stream(bench).fin().map_then_rest(PAGE)


@CASES.add(
    "FIN behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then the end",
    "M7",
    "M5",
)
def fin_behind_pages(bench: Bench) -> str:
    """What was sent before the end is mapped as long as it is enough, and read where not."""
    stream = Stream(bench).queue(3 * PAGE).fin()
    return f"{stream.map(2 * PAGE)}; {stream.map(2 * PAGE)}; {stream.rest()}"


@CASES.add("FIN behind two pages, both mapped", "mapped 8192 as sent, 0 queued; EIO, 0 queued", "M7")
def fin_behind_just_enough(bench: Bench) -> str:
    """A mapping may end with the stream."""
    stream = Stream(bench).queue(2 * PAGE).fin()
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}"


@CASES.add(
    "FIN behind 4095 bytes, one page mapped", "EIO, 4095 queued; read 4095 as sent, then the end", "M7", "M5"
)
def fin_is_no_byte(bench: Bench) -> str:
    """The end itself does not fill a page."""
    return Stream(bench).queue(PAGE - 1).fin().map_then_rest(PAGE)


@CASES.add(
    "FIN behind a page of a plain sender", "EINVAL, 4096 queued; read 4096 as sent, then the end", "M3", "M5"
)
def fin_behind_what_can_not_be_mapped(bench: Bench) -> str:
    """Enough bytes that cannot be mapped are EINVAL behind a FIN, too."""
    return Stream(bench).queue(PAGE, pages=False).fin().map_then_rest(PAGE)


@CASES.add("RST, nothing queued", "EIO, 0 queued; read 0, then ECONNRESET", "M7")
def reset(bench: Bench) -> str:
    """A reset is an end as well; ECONNRESET is left for a read to report."""
    return Stream(bench).reset().map_then_rest(PAGE)


@CASES.add(
    "RST behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then ECONNRESET",
    "M7",
)
def reset_behind_pages(bench: Bench) -> str:
    """What was queued before the reset is there to be mapped."""
    stream = Stream(bench).queue(3 * PAGE).reset()
    return f"{stream.map(2 * PAGE)}; {stream.map(2 * PAGE)}; {stream.rest()}"


@CASES.add(
    "shutdown(SHUT_RD) by the reader, a page queued, two pages mapped, one mapped",
    "EIO, 4096 queued; mapped 4096 as sent, 0 queued; EIO, 0 queued",
    "M7",
)
def reading_shut_down(bench: Bench) -> str:
    """The reader's own shutdown ends the stream behind what is queued."""
    stream = Stream(bench).queue(PAGE)
    stream.receiver.shutdown(socket.SHUT_RD)
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}; {stream.map(PAGE)}"
