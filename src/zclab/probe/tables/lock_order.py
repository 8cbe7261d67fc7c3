# SPDX-License-Identifier: Apache-2.0
"""Everything that takes a TCP socket's lock and mmap_lock together, in either order.

For kernels with lockdep. Test cases that take the mapping lock with the socket locked come first.
"""

from __future__ import annotations

import socket

from ..sockets import MSG_ZEROCOPY, PAGE, inq, map_memory, outcome, pair, payload, send_pages, wait_until
from ..sysctl import consuming, standing
from ..table import Bench, Cases, Table
from ..zerocopy_receive import Reader, ask

CASES = Cases()


@CASES.add("a send and a receive, each by copying", "what was sent")
def copying(bench: Bench) -> str:
    """User memory is touched with the socket locked."""
    sender, receiver = pair(bench)
    sent = payload(3 * PAGE)
    sender.sendall(sent)
    got = receiver.recv(len(sent), socket.MSG_WAITALL)
    return "what was sent" if got == sent else "something else"


@CASES.add("a send from pages of the sender", "ok")
def pinning(bench: Bench) -> str:
    """User pages are pinned with the socket locked."""
    sender, _ = pair(bench)
    return outcome(lambda: sender.send(payload(PAGE), MSG_ZEROCOPY))


@CASES.add("two pages mapped into a standing area by TCP_ZEROCOPY_RECEIVE", "ok, 8192 mapped")
def mapping_into_an_area(bench: Bench) -> str:
    """The area is looked up with the socket locked."""
    with standing():
        reader = Reader(bench)
    reader.queue(2 * PAGE)
    request = reader.request()
    return f"{ask(reader.receiver, request)}, {request.length} mapped"


@CASES.add("two pages mapped by mmap(), which takes them", "what was sent, 0 queued", "M12 M13")
def mapping_by_mmap(bench: Bench) -> str:
    """The socket is locked for a mapping."""
    sender, receiver = pair(bench)
    sent = payload(2 * PAGE)
    send_pages(sender, receiver, sent)
    area = map_memory(bench, 2 * PAGE, receiver.fileno())
    return f"{'what was sent' if area.read() == sent else 'something else'}, {inq(receiver)} queued"


@CASES.add("mmap() with nothing queued, then with a part of a page", "EAGAIN, EINVAL", "M13")
def mapping_refused(bench: Bench) -> str:
    """The locks are released where the mapping is refused, too: the socket stays usable."""
    sender, receiver = pair(bench)
    empty = outcome(lambda: map_memory(bench, PAGE, receiver.fileno()))
    sender.sendall(payload(PAGE + 100))
    wait_until(lambda: inq(receiver) == PAGE + 100)
    plain = outcome(lambda: map_memory(bench, PAGE, receiver.fileno()))
    receiver.recv(PAGE + 100, socket.MSG_WAITALL)
    return f"{empty}, {plain}"


TABLE = Table("lock_order", CASES, consuming)
