# SPDX-License-Identifier: Apache-2.0
"""The state of the connection, and urgent data."""

from __future__ import annotations

import errno
import socket

from ...sockets import PAGE, listener
from ...table import Bench, Cases
from ...zerocopy_receive import Reader, Request, ask, end_of

CASES = Cases()


@CASES.add("a listening socket", "ENOTCONN")
def listening(bench: Bench) -> str:
    """A listening socket has no bytes."""
    return ask(listener(bench), Request())


@CASES.add("a listening socket, an address 8 bytes into a page", "EINVAL")
def listening_with_address_unaligned(bench: Bench) -> str:
    """The address is looked at first here, too."""
    return ask(listener(bench), Request(address=8))


@CASES.add("a socket that was never connected", "ok, mapped 0, hint 0")
def unconnected(bench: Bench) -> str:
    """It looks like a connection with nothing queued, whereas recv() fails with ENOTCONN."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    request = Request(length=PAGE)
    return f"{ask(sock, request)}, mapped {request.length}, hint {request.recv_skip_hint}"


@CASES.add("FIN, nothing queued", "EIO, 0 queued")
def fin(bench: Bench) -> str:
    """The end of the stream is EIO."""
    return Reader(bench).fin().take()


@CASES.add("FIN, two pages queued", "mapped 8192, hint 0, as sent, 0 queued; EIO, 0 queued")
def fin_behind_pages(bench: Bench) -> str:
    """The end comes after what was sent before it."""
    reader = Reader(bench).queue(2 * PAGE).fin()
    return f"{reader.take()}; {reader.take()}"


@CASES.add(
    "FIN, 100 bytes queued, no copy buffer", "mapped 0, hint 100, 100 queued; read 100 as sent; EIO, 0 queued"
)
def fin_behind_less_than_a_page(bench: Bench) -> str:
    """recv_skip_hint counts what cannot be mapped before the end of the stream, too."""
    reader = Reader(bench).queue(100, pages=False).fin()
    return f"{reader.take()}; {reader.read(PAGE)}; {reader.take()}"


@CASES.add(
    "FIN, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; EIO, 0 queued",
    "S2",
)
def fin_behind_what_is_copied(bench: Bench) -> str:
    """Nor does the end keep bytes from being copied."""
    reader = Reader(bench).queue(100, pages=False).fin()
    return f"{reader.take(PAGE)}; {reader.take(PAGE)}"


@CASES.add("FIN, two pages queued, length 0", "EIO, 8192 queued")
def fin_with_length_zero(bench: Bench) -> str:
    """Nothing asked for looks like the end, although bytes are queued."""
    return Reader(bench).queue(2 * PAGE).fin().take(length=0)


@CASES.add("FIN, a page and 100 bytes queued", "mapped 4096, inq 101")
def fin_counts_as_queued(bench: Bench) -> str:
    """The FIN counts as a byte in inq, so that a reader continues up to it."""
    reader = Reader(bench).queue(PAGE + 100).fin()
    request = reader.request()
    ask(reader.receiver, request)
    return f"mapped {request.length}, inq {request.inq}"


@CASES.add("RST, nothing queued", "mapped 0, hint 0, err ECONNRESET, 0 queued; mapped 0, hint 0, 0 queued")
def reset(bench: Bench) -> str:
    """The reset is reported once, in err and not by the call; then the socket looks open and empty."""
    reader = Reader(bench).reset()
    return f"{reader.take()}; {reader.take()}"


@CASES.add("RST, two pages queued", "mapped 8192, hint 0, err ECONNRESET, as sent, 0 queued")
def reset_behind_pages(bench: Bench) -> str:
    """What was queued is mapped, and the same call reports the reset."""
    return Reader(bench).queue(2 * PAGE).reset().take()


@CASES.add(
    "RST, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, err ECONNRESET, as sent, 0 queued",
    "S2",
)
def reset_behind_what_is_copied(bench: Bench) -> str:
    """What was queued is copied, and the same call reports the reset."""
    return Reader(bench).queue(100, pages=False).reset().take(PAGE)


@CASES.add("RST, nothing queued, optlen 20", "ok, then SO_ERROR ECONNRESET")
def reset_without_room_for_it(bench: Bench) -> str:
    """A structure without err leaves the error pending on the socket."""
    reader = Reader(bench).reset()
    result = ask(reader.receiver, reader.request(), end_of("inq"))
    error = reader.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return f"{result}, then SO_ERROR {errno.errorcode.get(error, error)}"


@CASES.add("shutdown(SHUT_RD) by the reader, nothing queued", "mapped 0, hint 0, 0 queued")
def reading_shut_down(bench: Bench) -> str:
    """The reader's own shutdown is not an end: recv() returns 0, this call reports an empty queue."""
    reader = Reader(bench)
    reader.receiver.shutdown(socket.SHUT_RD)
    return reader.take()


# Urgent data


def _urgent(bench: Bench, before: int) -> Reader:
    """Return a reader with some bytes, an urgent byte and a page queued."""
    return Reader(bench).queue(before).queue_urgent(PAGE)


def _all_queued(reader: Reader) -> int:
    """Return the inq field: all that is queued, including urgent data and what follows it."""
    request = reader.request(length=0)
    ask(reader.receiver, request)
    return int(request.inq)


@CASES.add(
    "two pages, an urgent byte and a page queued",
    "mapped 8192, hint 0, as sent, 0 queued; mapped 0, hint 0, 0 queued, inq 4097",
)
def urgent_behind_pages(bench: Bench) -> str:
    """Mapping stops at the urgent byte; from there on only inq shows that something is queued."""
    reader = _urgent(bench, 2 * PAGE)
    return f"{reader.take()}; {reader.take()}, inq {_all_queued(reader)}"


@CASES.add("two pages, an urgent byte and a page queued, the pages mapped, then recv()", "read 4096 as sent")
def urgent_is_passed_by_recv(bench: Bench) -> str:
    """A read goes past the urgent byte."""
    reader = _urgent(bench, 2 * PAGE)
    reader.take()
    return reader.rest()


@CASES.add("100 bytes, an urgent byte and a page queued", "mapped 0, hint 100, 100 queued")
def urgent_behind_less_than_a_page(bench: Bench) -> str:
    """The hint stops at the urgent byte, too."""
    return _urgent(bench, 100).take()


@CASES.add(
    "two pages, an urgent byte and a page queued, a copy buffer of 8192",
    "mapped 0, hint 4097, copied 8192, as sent, 0 queued",
)
def urgent_behind_what_is_copied(bench: Bench) -> str:
    """A copy stops at the urgent byte, too; recv_skip_hint counts from there on."""
    return _urgent(bench, 2 * PAGE).take(2 * PAGE)


@CASES.add(
    "an urgent byte within a page of SO_OOBINLINE, two pages before it",
    "mapped 8192, hint 1, as sent, 4097 queued",
)
def urgent_inline(bench: Bench) -> str:
    """With SO_OOBINLINE it is a byte like others, but not in a page of its own."""
    reader = Reader(bench)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return reader.queue(2 * PAGE).queue_urgent().queue(PAGE).take()
