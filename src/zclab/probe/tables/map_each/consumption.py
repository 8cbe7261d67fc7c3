# SPDX-License-Identifier: Apache-2.0
"""What mmap() takes off the receive queue."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from ...processes import SECONDS
from ...sockets import MSG_ZEROCOPY, PAGE, SO_ZEROCOPY, inq, payload
from ...stream import Stream
from ...table import Bench, Cases, NotHereError

CASES = Cases()


@CASES.add("two pages queued, one page mapped", "mapped 4096 as sent, 4096 queued", "M1", "M9")
def mapping_consumes(bench: Bench) -> str:
    """Mapping takes as many bytes off the queue as it maps."""
    return Stream(bench).queue(2 * PAGE).map(PAGE)


@CASES.add(
    "three pages queued, mapped one after the other",
    "mapped 4096 as sent, 8192 queued; mapped 4096 as sent, 4096 queued; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapping_goes_on(bench: Bench) -> str:
    """Each mapping begins where the last ended."""
    stream = Stream(bench).queue(3 * PAGE)
    return "; ".join(stream.map(PAGE) for _ in range(3))


@CASES.add(
    "three pages queued: mapped, read, mapped",
    "mapped 4096 as sent, 8192 queued; read 4096 as sent; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapping_and_reading(bench: Bench) -> str:
    """A read continues where a mapping ended, and the other way round."""
    stream = Stream(bench).queue(3 * PAGE)
    return f"{stream.map(PAGE)}; {stream.read(PAGE)}; {stream.map(PAGE)}"


@CASES.add("a page queued, looked at with MSG_PEEK, then mapped", "mapped 4096 as sent, 0 queued", "M1")
def mapping_what_was_peeked_at(bench: Bench) -> str:
    """A look at the queue takes nothing, and changes nothing for a mapping."""
    stream = Stream(bench).queue(PAGE)
    stream.receiver.recv(PAGE, socket.MSG_PEEK)
    return stream.map(PAGE)


@CASES.add("80 pages of many segments queued, mapped at once", "mapped 327680 as sent, 0 queued", "M1")
def many_pages(bench: Bench) -> str:
    """One call maps pages of several segments, more than the kernel inserts at a time."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)  # makes room for them
    stream.queue(80 * PAGE)
    return stream.map(80 * PAGE)


@CASES.add("two pages queued, length 5000", "mapped 8192 as sent, 0 queued", "M1")
def length_within_a_page(bench: Bench) -> str:
    """A length is rounded up to whole pages, as mmap() always does, and so many are taken."""
    return Stream(bench).queue(2 * PAGE).map(5000)


@CASES.add("two pages queued, SO_RCVLOWAT of 64 KiB", "mapped 8192 as sent, 0 queued", "M1")
def below_the_low_water_mark(bench: Bench) -> str:
    """The low-water mark is for poll(), not for this call."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
    stream.queue(2 * PAGE)
    return stream.map(2 * PAGE)


@CASES.add("4 MiB through a small receive buffer to a reader that maps", "4194304 bytes came as sent", "M1")
def mapping_opens_the_window(bench: Bench) -> str:
    """What was mapped opens the window again."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    stream.sent = payload(4 << 20)
    threading.Thread(target=_send, args=(stream,), daemon=True).start()
    most = 8 * PAGE
    while stream.taken < len(stream.sent):
        if not select.select([stream.receiver], [], [], SECONDS)[0]:
            return f"nothing came after {stream.taken} bytes"
        start, length = stream.taken, min(most, max(PAGE, inq(stream.receiver) // PAGE * PAGE))
        try:
            with stream.area(length) as area:
                got = area.read()
            most = 8 * PAGE
        except OSError:  # segments are cut where the window ends: what is no page is read
            if length > PAGE:
                most = PAGE
                continue
            got = stream.receiver.recv(PAGE)
            stream.taken += len(got)
        if stream.as_sent(got, start) != "as sent":
            return f"not as sent from byte {start} on"
    return f"{stream.taken} bytes came as sent"


def _send(stream: Stream) -> None:
    """Send all that a stream is to hold, unless the test case ends before."""
    with contextlib.suppress(OSError):
        stream.sender.sendall(stream.sent, MSG_ZEROCOPY)


@CASES.add("a connection of IPv4 on a socket of IPv6, a page queued", "mapped 4096 as sent, 0 queued", "M9")
def ipv4_on_ipv6(bench: Bench) -> str:
    """A socket of IPv6 that speaks IPv4 maps as well."""
    try:
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError) as error:
        raise NotHereError(f"no socket for both families: {error}") from None
    with listener:
        sender = bench.keep(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
        receiver = bench.keep(listener.accept()[0])
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    return Stream(bench, (sender, receiver)).queue(PAGE).map(PAGE)
