# SPDX-License-Identifier: Apache-2.0
"""What mmap() takes off the receive queue."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from ...processes import SECONDS
from ...sockets import MSG_ZEROCOPY, PAGE, SO_ZEROCOPY, inq, payload
from ...stream import Stream, maps, queue, rcvlowat, reads
from ...table import Bench, Cases, NotHereError

CASES = Cases(Stream.does)


CASES.why("Mapping takes as many bytes off the queue as it maps.")
CASES.steps("mapping-consumes", queue(2 * PAGE), maps(PAGE))(
    "two pages queued, one page mapped", "mapped 4096 as sent, 4096 queued", "M1 M9"
)
CASES.why("Each mapping begins where the last ended.")
CASES.steps("mapping-goes-on", queue(3 * PAGE), maps(PAGE), maps(PAGE), maps(PAGE))(
    "three pages queued, mapped one after the other",
    "mapped 4096 as sent, 8192 queued; mapped 4096 as sent, 4096 queued; mapped 4096 as sent, 0 queued",
    "M1",
)
CASES.why("A read continues where a mapping ended, and the other way round.")
CASES.steps("mapping-and-reading", queue(3 * PAGE), maps(PAGE), reads(PAGE), maps(PAGE))(
    "three pages queued: mapped, read, mapped",
    "mapped 4096 as sent, 8192 queued; read 4096 as sent; mapped 4096 as sent, 0 queued",
    "M1",
)
CASES.why("A look at the queue takes nothing, and changes nothing for a mapping.")
CASES.steps(
    "mapping-what-was-peeked-at",
    queue(PAGE),
    lambda stream: stream.receiver.recv(PAGE, socket.MSG_PEEK),
    maps(PAGE),
)("a page queued, looked at with MSG_PEEK, then mapped", "mapped 4096 as sent, 0 queued", "M1")
CASES.why("One call maps pages of several segments, more than the kernel inserts at a time.")
CASES.steps("many-pages", rcvlowat(1 << 20), queue(80 * PAGE), maps(80 * PAGE))(
    "80 pages of many segments queued, mapped at once", "mapped 327680 as sent, 0 queued", "M1"
)
CASES.why("A length is rounded up to whole pages, as mmap() always does, and so many are taken.")
CASES.steps("length-within-a-page", queue(2 * PAGE), maps(5000))(
    "two pages queued, length 5000", "mapped 8192 as sent, 0 queued", "M1"
)
CASES.why("The low-water mark is for poll(), not for this call.")
CASES.steps("below-the-low-water-mark", rcvlowat(65536), queue(2 * PAGE), maps(2 * PAGE))(
    "two pages queued, SO_RCVLOWAT of 64 KiB", "mapped 8192 as sent, 0 queued", "M1"
)


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
    bench.links.add("loopback")
    with listener:
        sender = bench.keep(socket.create_connection(("127.0.0.1", listener.getsockname()[1])))
        receiver = bench.keep(listener.accept()[0])
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    return Stream(bench, (sender, receiver)).queue(PAGE).map(PAGE)
