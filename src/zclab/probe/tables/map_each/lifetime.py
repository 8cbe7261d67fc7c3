# SPDX-License-Identifier: Apache-2.0
"""What may be done with a mapping, and how long it stays."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket

from ...libc import MAP_FIXED, MREMAP_FIXED, MREMAP_MAYMOVE, check, libc
from ...processes import forked
from ...sockets import PAGE, Mapping, inq, map_memory, outcome, pair
from ...stream import Step, Stream, with_area
from ...table import Bench, Cases, NotHereError
from ...zerocopy_receive import Request, ask

CASES = Cases()


@CASES.add("four pages mapped, the second unmapped", "ok: as sent, gone, as sent, as sent; 0 queued")
def unmapped_in_part(bench: Bench) -> str:
    """Any part may be unmapped; the rest stays."""
    stream, area = with_area(bench, 4 * PAGE)
    result = outcome(lambda: area.unmap(PAGE, PAGE))
    pages = [
        stream.as_sent(area.read(at, PAGE), at) if area.there(at) else "gone"
        for at in range(0, 4 * PAGE, PAGE)
    ]
    return f"{result}: {', '.join(pages)}; {inq(stream.receiver)} queued"


def _under_a_mapping(bench: Bench, end: Step) -> str:
    stream, area = with_area(bench, 2 * PAGE)
    end(stream)
    return stream.as_sent(area.read(), 0)


CASES.why("The bytes belong to the mapping, not to the socket.")
CASES.call(_under_a_mapping, "closed-under-a-mapping", Stream.close)(
    "both sockets closed under a mapping of two pages", "as sent"
)
CASES.why("Nor does a reset take them back.")
CASES.call(_under_a_mapping, "reset-under-a-mapping", Stream.reset)(
    "the connection reset under a mapping of two pages", "as sent"
)


@CASES.add("more pages sent and mapped with an older mapping kept", "as sent, as sent")
def kept_mapping(bench: Bench) -> str:
    """Pages that somebody has mapped are not used for what comes later."""
    stream, older = with_area(bench, 4 * PAGE)
    for _ in range(32):
        stream.queue(4 * PAGE)
        with stream.area(4 * PAGE) as newer:
            last = stream.as_sent(newer.read(), stream.taken - 4 * PAGE)
    return f"{stream.as_sent(older.read(), 0)}, {last}"


@CASES.add("fork() with a mapping of two pages, read by the child", "as sent")
def forked_with_a_mapping(bench: Bench) -> str:
    """A child has the mapping, too."""
    stream, area = with_area(bench, 2 * PAGE)
    return str(forked(lambda: stream.as_sent(area.read(), 0)))


@CASES.add("fork() with a mapping, unmapped and closed by the parent, then read by the child", "as sent")
def outlived_by_a_child(bench: Bench) -> str:
    """The child's mapping is its own."""
    stream, area = with_area(bench, 2 * PAGE)
    waiting, unmapped = os.pipe()

    def read() -> str:
        os.read(waiting, 1)
        return stream.as_sent(area.read(0, 2 * PAGE), 0)

    def unmap() -> None:
        area.unmap()
        stream.receiver.close()
        os.write(unmapped, b"1")

    return str(forked(read, unmap))


@CASES.add(
    "fork(), a page mapped by the child, then one by the parent",
    "mapped 4096 as sent, 4096 queued; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapped_by_a_child(bench: Bench) -> str:
    """Processes that share a socket share its stream: no byte comes twice."""
    stream = Stream(bench).queue(2 * PAGE)
    first = forked(lambda: stream.map(PAGE))
    stream.taken = PAGE
    return f"{first}; {stream.map(PAGE)}"


@CASES.add(
    "a page mapped over an older mapping with MAP_FIXED",
    "mapped 4096 as sent, 0 queued, at the same address",
    "M1",
)
def fixed_over_an_older_mapping(bench: Bench) -> str:
    """The newer page takes the older one's place."""
    stream, older = with_area(bench, PAGE, behind=PAGE)
    result = stream.map(PAGE, flags=mmap.MAP_SHARED | MAP_FIXED, address=older.address)
    same = "at the same address" if stream.as_sent(older.read(), PAGE) == "as sent" else "elsewhere"
    return f"{result}, {same}"


def _mremap(area: Mapping, old: int, new: int, flags: int = MREMAP_MAYMOVE, to: int = 0) -> int:
    """mremap() a mapping from its start; return its new address; raise OSError."""
    return check(libc.mremap(area.address, old, new, flags, to))


def _resized(bench: Bench, old: int, new: int) -> str:
    stream, area = with_area(bench, PAGE, behind=PAGE)
    result = outcome(lambda: _mremap(area, old, new))
    return f"{result}, {inq(stream.receiver)} queued, {stream.as_sent(area.read(), 0)}"


CASES.why("There is nothing behind a mapping to grow into: more bytes are mapped by mmap().")
CASES.call(_resized, "grown", PAGE, 2 * PAGE)(
    "a mapped page, grown with mremap()", "EFAULT, 4096 queued, as sent"
)
CASES.why("Nor is there a second mapping of the same bytes.")
CASES.call(_resized, "doubled", 0, PAGE)(
    "a mapped page, doubled with mremap() from length 0", "EFAULT, 4096 queued, as sent"
)


@CASES.add("two mapped pages, moved with mremap()", "as sent, gone from where they were")
def moved(bench: Bench) -> str:
    """A mapping may move."""
    stream, area = with_area(bench, 2 * PAGE)
    place = map_memory(bench, 2 * PAGE)
    to = _mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place.address)
    gone = "still" if area.there() else "gone from"
    return f"{stream.as_sent(ctypes.string_at(to, 2 * PAGE), 0)}, {gone} where they were"


def _remapped(bench: Bench, offset: int, behind: int) -> str:
    """Have a mapping show another part of its file, `offset` in pages, with remap_file_pages()."""
    stream, area = with_area(bench, PAGE, behind)
    result = outcome(lambda: check(libc.remap_file_pages(area.address, area.length, 0, offset, 0)))
    if result == "ENOSYS":
        raise NotHereError("this kernel has no remap_file_pages()")
    return f"{result}, {inq(stream.receiver)} queued"


CASES.why("A stream has no offsets there either.")
CASES.call(_remapped, "remapped-to-an-offset", offset=1, behind=PAGE)(
    "a mapped page, remap_file_pages() to another offset, a page queued", "EINVAL, 4096 queued"
)
CASES.why("It is mmap() by another name, with the same rules.")
CASES.call(_remapped, "remapped-with-nothing-queued", offset=0, behind=0)(
    "a mapped page, remap_file_pages() with nothing queued", "EAGAIN, 0 queued"
)


@CASES.add("a mapped page, TCP_ZEROCOPY_RECEIVE into it", "EINVAL, 4096 queued, as sent")
def not_an_area_for_zerocopy_receive(bench: Bench) -> str:
    """What holds bytes that were taken is not an area to move others into."""
    stream, area = with_area(bench, PAGE, behind=PAGE)
    result = ask(stream.receiver, Request(address=area.address, length=PAGE))
    return f"{result}, {inq(stream.receiver)} queued, {stream.as_sent(area.read(), 0)}"


@CASES.add("a mapped page given to send()", "as sent")
def sent_on(bench: Bench) -> str:
    """The bytes can be handed to any call that reads memory."""
    stream, area = with_area(bench, PAGE)
    onward, receiver = pair(bench)
    onward.sendall(area.view())
    return stream.as_sent(receiver.recv(PAGE, socket.MSG_WAITALL), 0)
