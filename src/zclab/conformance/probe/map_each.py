# SPDX-License-Identifier: Apache-2.0
"""map_each: mmap() of a TCP socket takes what it maps off the receive queue."""

from __future__ import annotations

from .settings import consuming
from .sockets import PAGE, inq, map_memory, pair, payload, send_pages
from .table import Bench, Table

TABLE = Table("map_each", consuming)


@TABLE.row("two pages queued, one page mapped", "mapped what was sent, then 4096 queued", "M1")
def mapping_consumes(bench: Bench) -> str:
    """Mapping takes as many bytes off the queue as it maps."""
    sender, receiver = pair(bench)
    sent = payload(2 * PAGE)
    send_pages(sender, receiver, sent)
    area = map_memory(bench, PAGE, receiver.fileno())
    same = "mapped what was sent" if area.read() == sent[:PAGE] else "mapped something else"
    return f"{same}, then {inq(receiver)} queued"
