# SPDX-License-Identifier: Apache-2.0
"""The state of the connection, and urgent data."""

from __future__ import annotations

import errno
import socket

from ...sockets import PAGE, listener
from ...stream import fin, inline, plain, queue, reads, reset, rest, shut, unsaid, urgent
from ...table import Bench, Cases
from ...zerocopy_receive import Reader, Request, ask, end_of, takes

CASES = Cases(Reader.does)


def _listening(bench: Bench, address: int) -> str:
    return ask(listener(bench), Request(address=address))


CASES.why("A listening socket has no bytes.")
CASES.call(_listening, "listening", 0)("a listening socket", "ENOTCONN")
CASES.why("The address is looked at first here, too.")
CASES.call(_listening, "listening-with-address-unaligned", 8)(
    "a listening socket, an address 8 bytes into a page", "EINVAL"
)


@CASES.add("a socket that was never connected", "ok, mapped 0, hint 0", link="none")
def unconnected(bench: Bench) -> str:
    """It looks like a connection with nothing queued, whereas recv() fails with ENOTCONN."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    request = Request(length=PAGE)
    return f"{ask(sock, request)}, mapped {request.length}, hint {request.recv_skip_hint}"


CASES.why("The end of the stream is EIO.")
CASES.steps("fin", fin(), takes())("FIN, nothing queued", "EIO, 0 queued")
CASES.why("The end comes after what was sent before it.")
CASES.steps("fin-behind-pages", queue(2 * PAGE), fin(), takes(), takes())(
    "FIN, two pages queued", "mapped 8192, hint 0, as sent, 0 queued; EIO, 0 queued"
)
CASES.why("recv_skip_hint counts what cannot be mapped before the end of the stream, too.")
CASES.steps("fin-behind-less-than-a-page", plain(100), fin(), takes(), reads(PAGE), takes())(
    "FIN, 100 bytes queued, no copy buffer", "mapped 0, hint 100, 100 queued; read 100 as sent; EIO, 0 queued"
)
CASES.why("Nor does the end keep bytes from being copied.")
CASES.steps("fin-behind-what-is-copied", plain(100), fin(), takes(PAGE), takes(PAGE))(
    "FIN, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; EIO, 0 queued",
    "S2",
)
CASES.why("Nothing asked for looks like the end, although bytes are queued.")
CASES.steps("fin-with-length-zero", queue(2 * PAGE), fin(), takes(length=0))(
    "FIN, two pages queued, length 0", "EIO, 8192 queued"
)


@CASES.add("FIN, a page and 100 bytes queued", "mapped 4096, inq 101")
def fin_counts_as_queued(bench: Bench) -> str:
    """The FIN counts as a byte in inq, so that a reader continues up to it."""
    reader = Reader(bench).queue(PAGE + 100).fin()
    request = reader.request()
    ask(reader.receiver, request)
    return f"mapped {request.length}, inq {request.inq}"


CASES.why("The reset is reported once, in err and not by the call; then the socket looks open and empty.")
CASES.steps("reset", reset(), takes(), takes())(
    "RST, nothing queued", "mapped 0, hint 0, err ECONNRESET, 0 queued; mapped 0, hint 0, 0 queued"
)
CASES.why("What was queued is mapped, and the same call reports the reset.")
CASES.steps("reset-behind-pages", queue(2 * PAGE), reset(), takes())(
    "RST, two pages queued", "mapped 8192, hint 0, err ECONNRESET, as sent, 0 queued"
)
CASES.why("What was queued is copied, and the same call reports the reset.")
CASES.steps("reset-behind-what-is-copied", plain(100), reset(), takes(PAGE))(
    "RST, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, err ECONNRESET, as sent, 0 queued",
    "S2",
)


@CASES.add("RST, nothing queued, optlen 20", "ok, then SO_ERROR ECONNRESET")
def reset_without_room_for_it(bench: Bench) -> str:
    """A structure without err leaves the error pending on the socket."""
    reader = Reader(bench).reset()
    result = ask(reader.receiver, reader.request(), end_of("inq"))
    error = reader.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return f"{result}, then SO_ERROR {errno.errorcode.get(error, error)}"


CASES.why("The reader's own shutdown is not an end: recv() returns 0, this call reports an empty queue.")
CASES.steps("reading-shut-down", shut(), takes())(
    "shutdown(SHUT_RD) by the reader, nothing queued", "mapped 0, hint 0, 0 queued"
)


# Urgent data


@CASES.add(
    "two pages, an urgent byte and a page queued",
    "mapped 8192, hint 0, as sent, 0 queued; mapped 0, hint 0, 0 queued, inq 4097",
)
def urgent_behind_pages(bench: Bench) -> str:
    """Mapping stops at the urgent byte; from there on only inq shows that something is queued."""
    reader = Reader(bench).queue(2 * PAGE).queue_urgent(PAGE)
    taken = f"{reader.take()}; {reader.take()}"
    request = reader.request(length=0)
    ask(reader.receiver, request)
    return f"{taken}, inq {request.inq}"


CASES.why("A read goes past the urgent byte.")
CASES.steps("urgent-is-passed-by-recv", queue(2 * PAGE), urgent(PAGE), unsaid(takes()), rest())(
    "two pages, an urgent byte and a page queued, the pages mapped, then recv()", "read 4096 as sent"
)
CASES.why("The hint stops at the urgent byte, too.")
CASES.steps("urgent-behind-less-than-a-page", queue(100), urgent(PAGE), takes())(
    "100 bytes, an urgent byte and a page queued", "mapped 0, hint 100, 100 queued"
)
CASES.why("A copy stops at the urgent byte, too; recv_skip_hint counts from there on.")
CASES.steps("urgent-behind-what-is-copied", queue(2 * PAGE), urgent(PAGE), takes(2 * PAGE))(
    "two pages, an urgent byte and a page queued, a copy buffer of 8192",
    "mapped 0, hint 4097, copied 8192, as sent, 0 queued",
)
CASES.why("With SO_OOBINLINE it is a byte like others, but not in a page of its own.")
CASES.steps("urgent-inline", inline(), queue(2 * PAGE), urgent(), queue(PAGE), takes())(
    "an urgent byte within a page of SO_OOBINLINE, two pages before it",
    "mapped 8192, hint 1, as sent, 4097 queued",
)
