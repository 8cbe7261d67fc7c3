# SPDX-License-Identifier: Apache-2.0
"""map_each: mmap() of a TCP socket takes what it maps off the receive queue."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import mmap
import os
import platform
import resource
import select
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path

from ..libc import check, libc
from ..mmap_lock_waiter import kill_while_it_waits
from ..netns import own_network
from ..processes import SECONDS, forked
from ..sockets import (
    MSG_ZEROCOPY,
    PAGE,
    SO_ZEROCOPY,
    Mapping,
    error_name,
    inq,
    listener,
    map_memory,
    outcome,
    pair,
    payload,
    wait_until,
)
from ..stream import Stream
from ..sysctl import CONSUME, consuming, standing
from ..table import Bench, NotHereError, Table
from ..zerocopy_receive import Request, ask

TABLE = Table("map_each", consuming)

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PROT_NONE = 0
MAP_FIXED, MAP_FIXED_NOREPLACE = 0x10, 0x100000
MAP_LOCKED, MAP_POPULATE = 0x2000, 0x8000
MAP_SHARED_VALIDATE = 0x3
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
TCP_REPAIR, TCP_ULP = 19, 31
SOL_TLS, TLS_RX = 282, 2


def _mremap(area: Mapping, old: int, new: int, flags: int, to: int = 0) -> int:
    """mremap() a mapping from its start; return its new address; raise OSError."""
    return check(libc.mremap(area.address, old, new, flags, to))


def _remap_file_pages(area: Mapping, offset: int) -> None:
    """Have the mapping show another part of its file, counted in pages; raise OSError."""
    result = libc.remap_file_pages(area.address, area.length, 0, offset, 0)
    if result and ctypes.get_errno() == errno.ENOSYS:
        raise NotHereError("this kernel has no remap_file_pages()")
    check(result)


# What a mapping takes


@TABLE.add("two pages queued, one page mapped", "mapped 4096 as sent, 4096 queued", "M1", "M9")
def mapping_consumes(bench: Bench) -> str:
    """Mapping takes as many bytes off the queue as it maps."""
    return Stream(bench).queue(2 * PAGE).map(PAGE)


@TABLE.add(
    "three pages queued, mapped one after the other",
    "mapped 4096 as sent, 8192 queued; mapped 4096 as sent, 4096 queued; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapping_goes_on(bench: Bench) -> str:
    """Each mapping begins where the last ended."""
    stream = Stream(bench).queue(3 * PAGE)
    return "; ".join(stream.map(PAGE) for _ in range(3))


@TABLE.add(
    "three pages queued: mapped, read, mapped",
    "mapped 4096 as sent, 8192 queued; read 4096 as sent; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapping_and_reading(bench: Bench) -> str:
    """A read goes on where a mapping ended, and the other way round."""
    stream = Stream(bench).queue(3 * PAGE)
    return f"{stream.map(PAGE)}; {stream.read(PAGE)}; {stream.map(PAGE)}"


@TABLE.add("a page queued, looked at with MSG_PEEK, then mapped", "mapped 4096 as sent, 0 queued", "M1")
def mapping_what_was_peeked_at(bench: Bench) -> str:
    """A look at the queue takes nothing, and changes nothing for a mapping."""
    stream = Stream(bench).queue(PAGE)
    stream.receiver.recv(PAGE, socket.MSG_PEEK)
    return stream.map(PAGE)


@TABLE.add("80 pages of many segments queued, mapped at once", "mapped 327680 as sent, 0 queued", "M1")
def many_pages(bench: Bench) -> str:
    """One call maps pages of several segments, more than the kernel inserts at a time."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20)  # makes room for them
    stream.queue(80 * PAGE)
    return stream.map(80 * PAGE)


@TABLE.add("two pages queued, length 5000", "mapped 8192 as sent, 0 queued", "M1")
def length_within_a_page(bench: Bench) -> str:
    """A length is rounded up to whole pages, as mmap() always does, and so many are taken."""
    return Stream(bench).queue(2 * PAGE).map(5000)


@TABLE.add("two pages queued, SO_RCVLOWAT of 64 KiB", "mapped 8192 as sent, 0 queued", "M1")
def below_the_low_water_mark(bench: Bench) -> str:
    """The low-water mark is for poll(), not for this call."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
    stream.queue(2 * PAGE)
    return stream.map(2 * PAGE)


@TABLE.add("4 MiB through a small receive buffer to a reader that maps", "4194304 bytes came as sent", "M1")
def mapping_opens_the_window(bench: Bench) -> str:
    """What was mapped makes room for more, and the sender is told."""
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
    """Send all that a stream is to hold, unless the row ends before."""
    with contextlib.suppress(OSError):
        stream.sender.sendall(stream.sent, MSG_ZEROCOPY)


@TABLE.add("a connection of IPv4 on a socket of IPv6, a page queued", "mapped 4096 as sent, 0 queued", "M9")
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


# Read only, for ever


@TABLE.add("a page queued, PROT_READ | PROT_WRITE", "EPERM, 4096 queued", "M2")
def asking_to_write(bench: Bench) -> str:
    """Nobody gets to write to what others may share."""
    return Stream(bench).queue(PAGE).map(PAGE, READ_WRITE)


@TABLE.add("a page queued, PROT_WRITE", "EPERM, 4096 queued", "M2")
def asking_to_write_only(bench: Bench) -> str:
    """Nor does one who does not want to read."""
    return Stream(bench).queue(PAGE).map(PAGE, mmap.PROT_WRITE)


@TABLE.add("a page queued, PROT_READ | PROT_WRITE, MAP_PRIVATE", "EPERM, 4096 queued", "M2")
def asking_to_write_privately(bench: Bench) -> str:
    """Not even for writes that would make a copy."""
    return Stream(bench).queue(PAGE).map(PAGE, READ_WRITE, mmap.MAP_PRIVATE)


@TABLE.add("a page queued, PROT_READ | PROT_EXEC", "EPERM, 4096 queued", "M2")
def asking_to_execute(bench: Bench) -> str:
    """What came over a network is not run."""
    return Stream(bench).queue(PAGE).map(PAGE, mmap.PROT_READ | mmap.PROT_EXEC)


@TABLE.add("a page queued, PROT_NONE", "EPERM, 4096 queued", "M2")
def asking_for_nothing(bench: Bench) -> str:
    """A mapping that can not be read would only lose the bytes."""
    return Stream(bench).queue(PAGE).map(PAGE, PROT_NONE)


@TABLE.add("a mapped page, mprotect() to write", "EACCES, the page is as sent", "M2")
def made_writable(bench: Bench) -> str:
    """Nor can it be made writable afterwards."""
    return _protected(bench, READ_WRITE, mmap.MAP_SHARED)


@TABLE.add("a page mapped with MAP_PRIVATE, mprotect() to write", "EACCES, the page is as sent", "M2")
def made_writable_privately(bench: Bench) -> str:
    """Nor where writes would make a copy."""
    return _protected(bench, READ_WRITE, mmap.MAP_PRIVATE)


@TABLE.add("a mapped page, mprotect() to execute", "EACCES, the page is as sent", "M2")
def made_executable(bench: Bench) -> str:
    """Nor executable."""
    return _protected(bench, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_SHARED)


def _protected(bench: Bench, protection: int, flags: int) -> str:
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE, flags=flags)
    said = outcome(lambda: area.protect(protection))
    return f"{said}, the page is {stream.as_sent(area.read(), 0)}"


@TABLE.add("a mapped page, written through /proc/self/mem", "EIO, the page is as sent", "M2")
def written_as_a_debugger_does(bench: Bench) -> str:
    """The way of debuggers, which may write to read-only memory, leads nowhere either."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(area.address)
        said = outcome(lambda: memory.write(b"changed"))
    return f"{said}, the page is {stream.as_sent(area.read(), 0)}"


@TABLE.add(
    "a mapped page, mprotect() to PROT_NONE and back to PROT_READ", "ok, gone, ok, the page is as sent"
)
def hidden_and_shown(bench: Bench) -> str:
    """The right to read may be given up and taken again."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    hidden = outcome(lambda: area.protect(PROT_NONE))
    gone = "there" if area.there() else "gone"
    shown = outcome(lambda: area.protect(mmap.PROT_READ))
    return f"{hidden}, {gone}, {shown}, the page is {stream.as_sent(area.read(), 0)}"


# What is not a page of its own


@TABLE.add("four pages queued by a plain sender", "EINVAL, 16384 queued; read 16384 as sent", "M3", "M5")
def pages_that_can_not_be_mapped(bench: Bench) -> str:
    """Bytes in larger pages, which a plain send over loopback leaves, are never mapped."""
    stream = Stream(bench).queue(4 * PAGE, pages=False)
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add("100 bytes and two pages queued", "EINVAL, 8292 queued; read 8292 as sent", "M3", "M5")
def a_partial_page_first(bench: Bench) -> str:
    """A mapping begins with the first byte that is queued, or not at all."""
    stream = Stream(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "100 bytes and two pages queued, the bytes read",
    "read 100 as sent; mapped 8192 as sent, 0 queued",
    "M5",
)
def behind_a_partial_page(bench: Bench) -> str:
    """What comes behind a partial page is mapped once that was read."""
    stream = Stream(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{stream.read(100)}; {stream.map(2 * PAGE)}"


def _page_part_page(bench: Bench) -> Stream:
    return Stream(bench).queue(PAGE).queue(100, pages=False).queue(PAGE)


@TABLE.add(
    "a page, 100 bytes and a page queued, two pages mapped",
    "EINVAL, 8292 queued; read 8292 as sent",
    "M3",
    "M5",
)
def a_partial_page_in_the_middle(bench: Bench) -> str:
    """One partial page refuses all: nothing before it is taken either."""
    stream = _page_part_page(bench)
    return f"{stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "a page, 100 bytes and a page queued, one page mapped",
    "mapped 4096 as sent, 4196 queued; EINVAL, 4196 queued; read 4196 as sent",
    "M3",
    "M5",
)
def before_a_partial_page(bench: Bench) -> str:
    """A mapping that ends before the partial page is not refused; the next one is."""
    stream = _page_part_page(bench)
    return f"{stream.map(PAGE)}; {stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
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
    return f"{stream.map(80 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "two pages queued of which 100 bytes were read",
    "read 100 as sent; EINVAL, 8092 queued; read 3996 as sent; mapped 4096 as sent, 0 queued",
    "M3",
    "M5",
)
def a_page_read_in_part(bench: Bench) -> str:
    """What is left of a page is no whole page; behind it mapping goes on."""
    stream = Stream(bench).queue(2 * PAGE)
    said = [stream.read(100), stream.map(PAGE), stream.read(PAGE - 100), stream.map(PAGE)]
    return "; ".join(said)


@TABLE.add("two half pages queued, one page mapped", "EINVAL, 4096 queued; read 4096 as sent", "M3", "M5")
def two_half_pages(bench: Bench) -> str:
    """Two fragments that make a page are no page."""
    stream = Stream(bench).queue(PAGE // 2).queue(PAGE // 2)
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add("two pages of a file, sent with sendfile()", "EINVAL, 8192 queued; read 8192 as sent", "M3", "M5")
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


@TABLE.add("an urgent byte and two pages queued", "EINVAL, 0 queued; read 8192 as sent", "M4", "M5")
def urgent_first(bench: Bench) -> str:
    """The first byte is urgent; FIONREAD stops there, a read goes past it."""
    stream = Stream(bench).queue_urgent(2 * PAGE)
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "a page, an urgent byte and two pages queued, two pages mapped",
    "EINVAL, 4096 queued; read 12288 as sent",
    "M4",
    "M5",
)
def urgent_in_the_area(bench: Bench) -> str:
    """Urgent data in the area refuse all: nothing before them is taken."""
    stream = Stream(bench).queue(PAGE).queue_urgent(2 * PAGE)
    return f"{stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "two pages with their last byte urgent, both mapped", "EINVAL, 8191 queued; read 8191 as sent", "M4", "M5"
)
def urgent_at_the_end_of_the_area(bench: Bench) -> str:
    """The last byte of the area belongs to it."""
    stream = Stream(bench).queue(PAGE).queue(PAGE - 1).queue_urgent()
    return f"{stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "two pages, an urgent byte and a page queued, two pages mapped",
    "mapped 8192 as sent, 0 queued; EINVAL, 0 queued; read 4096 as sent",
    "M4",
    "M5",
)
def urgent_behind_the_area(bench: Bench) -> str:
    """What ends before the urgent byte is mapped; what begins with it is not."""
    stream = Stream(bench).queue(2 * PAGE).queue_urgent(PAGE)
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "a page and an urgent byte queued, two pages mapped", "EINVAL, 4096 queued; read 4096 as sent", "M4"
)
def urgent_before_too_few(bench: Bench) -> str:
    """Urgent data in the area are told before too few bytes are: to wait would not help."""
    stream = Stream(bench).queue(PAGE).queue_urgent()
    return f"{stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
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


@TABLE.add(
    "SO_OOBINLINE: a page, an urgent byte and a page queued, two pages mapped",
    "EINVAL, 8193 queued; read 8193 as sent",
    "M4",
    "M5",
)
def urgent_inline(bench: Bench) -> str:
    """In line it is urgent all the same, and is read as a byte like others."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    stream.queue(PAGE)
    stream.queue_urgent(PAGE)
    return f"{stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "SO_OOBINLINE: an urgent byte and a page queued, the urgent byte read",
    "EINVAL, 4097 queued; read 1 as sent; mapped 4096 as sent, 0 queued",
    "M4",
)
def urgent_passed(bench: Bench) -> str:
    """Once the urgent byte was read, mapping goes on."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    stream.queue_urgent()
    stream.queue(PAGE)
    return f"{stream.map(PAGE)}; {stream.read(1)}; {stream.map(PAGE)}"


# Too few bytes, now or for ever


@TABLE.add("nothing queued", "EAGAIN, 0 queued", "M6")
def nothing_queued(bench: Bench) -> str:
    """The call never waits."""
    return Stream(bench).map(PAGE)


@TABLE.add("nothing queued, blocking socket", "EAGAIN, 0 queued", "M6")
def nothing_queued_blocking(bench: Bench) -> str:
    """Not on a blocking socket either."""
    stream = Stream(bench)
    stream.receiver.settimeout(None)
    return stream.map(PAGE)


@TABLE.add("a page and 4095 bytes queued, blocking socket, two pages mapped", "EAGAIN, 8191 queued", "M6")
def one_byte_too_few(bench: Bench) -> str:
    """One byte too few is too few."""
    stream = Stream(bench).queue(PAGE).queue(PAGE - 1)
    stream.receiver.settimeout(None)
    return stream.map(2 * PAGE)


@TABLE.add(
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


@TABLE.add(
    "100 bytes queued by a plain sender, one page mapped", "EAGAIN, 100 queued; read 100 as sent", "M6"
)
def too_few_and_not_mappable(bench: Bench) -> str:
    """Too few bytes are told before it is looked whether they can be mapped."""
    stream = Stream(bench).queue(100, pages=False)
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add("FIN, nothing queued", "EIO, 0 queued; read 0, then the end", "M7")
def fin(bench: Bench) -> str:
    """No more can come."""
    stream = Stream(bench).fin()
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "FIN behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then the end",
    "M7",
    "M5",
)
def fin_behind_pages(bench: Bench) -> str:
    """What was sent before the end is mapped as long as it is enough, and read where not."""
    stream = Stream(bench).queue(3 * PAGE).fin()
    return f"{stream.map(2 * PAGE)}; {stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add("FIN behind two pages, both mapped", "mapped 8192 as sent, 0 queued; EIO, 0 queued", "M7")
def fin_behind_just_enough(bench: Bench) -> str:
    """A mapping may end with the stream."""
    stream = Stream(bench).queue(2 * PAGE).fin()
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}"


@TABLE.add(
    "FIN behind 4095 bytes, one page mapped", "EIO, 4095 queued; read 4095 as sent, then the end", "M7", "M5"
)
def fin_is_no_byte(bench: Bench) -> str:
    """The end itself does not fill a page."""
    stream = Stream(bench).queue(PAGE - 1).fin()
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "FIN behind a page of a plain sender",
    "EINVAL, 4096 queued; read 4096 as sent, then the end",
    "M3",
    "M5",
)
def fin_behind_what_can_not_be_mapped(bench: Bench) -> str:
    """Enough bytes that can not be mapped are EINVAL after the end, too."""
    stream = Stream(bench).queue(PAGE, pages=False).fin()
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add("RST, nothing queued", "EIO, 0 queued; read 0, then ECONNRESET", "M7")
def reset(bench: Bench) -> str:
    """A reset is an end as well; that it was one is left to be told by a read."""
    stream = Stream(bench).reset()
    return f"{stream.map(PAGE)}; {stream.rest()}"


@TABLE.add(
    "RST behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then ECONNRESET",
    "M7",
)
def reset_behind_pages(bench: Bench) -> str:
    """What was queued before the reset is there to be mapped."""
    stream = Stream(bench).queue(3 * PAGE).reset()
    return f"{stream.map(2 * PAGE)}; {stream.map(2 * PAGE)}; {stream.rest()}"


@TABLE.add(
    "shutdown(SHUT_RD) by the reader, a page queued, two pages mapped, one mapped",
    "EIO, 4096 queued; mapped 4096 as sent, 0 queued; EIO, 0 queued",
    "M7",
)
def reading_shut_down(bench: Bench) -> str:
    """The reader's own shutdown ends the stream behind what is queued."""
    stream = Stream(bench).queue(PAGE)
    stream.receiver.shutdown(socket.SHUT_RD)
    return f"{stream.map(2 * PAGE)}; {stream.map(PAGE)}; {stream.map(PAGE)}"


# The arguments


@TABLE.add("a page queued, offset 4096", "EINVAL, 4096 queued", "M8")
def offset(bench: Bench) -> str:
    """A stream is mapped from where it stands."""
    return Stream(bench).queue(PAGE).map(PAGE, offset=PAGE)


@TABLE.add("a page queued, offset 1", "EINVAL, 4096 queued", "M8")
def offset_within_a_page(bench: Bench) -> str:
    """No offset is possible, a whole page or not."""
    return Stream(bench).queue(PAGE).map(PAGE, offset=1)


@TABLE.add("a page queued, length 0", "EINVAL, 4096 queued", "M8")
def no_length(bench: Bench) -> str:
    """Nothing is mapped by nothing."""
    return Stream(bench).queue(PAGE).map(0)


@TABLE.add("a page queued, a length of 1 TiB", "EAGAIN, 4096 queued; mapped 4096 as sent, 0 queued", "M6")
def huge_length(bench: Bench) -> str:
    """So much is never queued."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map(1 << 40)}; {stream.map(PAGE)}"


@TABLE.add(
    "a page queued, lengths of 2 GiB, 4 GiB, and both with a page more",
    "EAGAIN, 4096 queued; EAGAIN, 4096 queued; EAGAIN, 4096 queued; EAGAIN, 4096 queued; "
    "mapped 4096 as sent, 0 queued",
    "M6",
)
def length_beyond_32_bits(bench: Bench) -> str:
    """No length is cut down to one that fits 32 bits."""
    stream = Stream(bench).queue(PAGE)
    lengths = (1 << 31, 1 << 32, (1 << 31) + PAGE, (1 << 32) + PAGE, PAGE)
    return "; ".join(stream.map(length) for length in lengths)


@TABLE.add("a page queued, a length of 2**64 - 1", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued")
def length_that_wraps(bench: Bench) -> str:
    """Rounded up to whole pages the length is 0; mmap() itself refuses that, and the socket goes on."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map((1 << 64) - 1)}; {stream.map(PAGE)}"


@TABLE.add("a page queued, a length of 2**64 - 4096", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued")
def length_beyond_all_addresses(bench: Bench) -> str:
    """There is no room for it; the socket goes on."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map((1 << 64) - PAGE)}; {stream.map(PAGE)}"


@TABLE.add(
    "a page queued, no address space left (RLIMIT_AS)", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued"
)
def no_address_space(bench: Bench) -> str:
    """What the memory management refuses takes nothing."""
    stream = Stream(bench).queue(PAGE)
    resource.setrlimit(resource.RLIMIT_AS, (PAGE, resource.RLIM_INFINITY))
    refused = outcome(lambda: stream.area(PAGE))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return f"{refused}, {inq(stream.receiver)} queued; {stream.map(PAGE)}"


@TABLE.add("a page queued, MAP_PRIVATE", "mapped 4096 as sent, 0 queued", "M1")
def private(bench: Bench) -> str:
    """It makes no difference whether the mapping is shared."""
    return Stream(bench).queue(PAGE).map(PAGE, flags=mmap.MAP_PRIVATE)


@TABLE.add("a page queued, MAP_SHARED_VALIDATE", "mapped 4096 as sent, 0 queued", "M1")
def shared_validate(bench: Bench) -> str:
    """The newer way to ask for a shared mapping is one, too."""
    return Stream(bench).queue(PAGE).map(PAGE, flags=MAP_SHARED_VALIDATE)


@TABLE.add("two pages queued, MAP_SHARED | MAP_POPULATE | MAP_LOCKED", "mapped 8192 as sent, 0 queued", "M1")
def populated_and_locked(bench: Bench) -> str:
    """The pages are there and stay there anyway."""
    return Stream(bench).queue(2 * PAGE).map(2 * PAGE, flags=mmap.MAP_SHARED | MAP_POPULATE | MAP_LOCKED)


@TABLE.add("a page queued, MAP_FIXED at an address within a page", "EINVAL, 4096 queued")
def fixed_address_unaligned(bench: Bench) -> str:
    """What mmap() itself refuses takes nothing."""
    area = map_memory(bench, 2 * PAGE)
    return Stream(bench).queue(PAGE).map(PAGE, flags=mmap.MAP_SHARED | MAP_FIXED, address=area.address + 100)


@TABLE.add("a page queued, MAP_FIXED_NOREPLACE over other memory", "EEXIST, 4096 queued")
def address_in_use(bench: Bench) -> str:
    """Nor does this."""
    area = map_memory(bench, PAGE)
    flags = mmap.MAP_SHARED | MAP_FIXED_NOREPLACE
    return Stream(bench).queue(PAGE).map(PAGE, flags=flags, address=area.address)


@TABLE.add("a listening socket", "ENOTCONN", "M8")
def listening(bench: Bench) -> str:
    """A listening socket has no bytes."""
    return outcome(lambda: map_memory(bench, PAGE, listener(bench, backlog=0).fileno()))


@TABLE.add("a socket that was never connected", "ENOTCONN", "M8")
def unconnected(bench: Bench) -> str:
    """Nor has one that nobody speaks to."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    return outcome(lambda: map_memory(bench, PAGE, sock.fileno()))


@TABLE.add("a socket that was disconnected with a page queued", "ENOTCONN, 0 queued", "M8")
def disconnected(bench: Bench) -> str:
    """connect() to no address gives up the connection, and what was queued."""
    stream = Stream(bench).queue(PAGE)
    nowhere = struct.pack("H26x", socket.AF_UNSPEC)
    check(libc.connect(stream.receiver.fileno(), nowhere, len(nowhere)))
    return stream.map(PAGE)


@TABLE.add("a socket that is being connected", "EAGAIN", "M6")
def connecting(bench: Bench) -> str:
    """Nothing came yet, but it may."""
    listening = listener(bench, backlog=0)
    for _ in range(8):  # the listener's queue is full after a few, and the next waits
        sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.connect_ex(listening.getsockname())
        if not select.select([], [sock], [], 0.2)[1]:
            break
    else:
        raise NotHereError("every connection to a full listener was made at once")
    return outcome(lambda: map_memory(bench, PAGE, sock.fileno()))


@TABLE.add(
    "a listening socket: offset 4096, then PROT_WRITE, with and without offset", "EINVAL, EPERM, EINVAL", "M8"
)
def arguments_come_first(bench: Bench) -> str:
    """The offset is looked at first, then the protection, then the socket."""
    fd = listener(bench, backlog=0).fileno()

    def said(protection: int, offset: int) -> str:
        return outcome(lambda: map_memory(bench, PAGE, fd, protection, offset=offset))

    return ", ".join([said(mmap.PROT_READ, PAGE), said(READ_WRITE, 0), said(READ_WRITE, PAGE)])


@TABLE.add("a socket of UDP", "ENODEV")
def datagrams(bench: Bench) -> str:
    """Only streams are mapped."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_DGRAM))
    return outcome(lambda: map_memory(bench, PAGE, sock.fileno()))


@TABLE.add(
    "TCP_REPAIR, a page queued; then no longer TCP_REPAIR",
    "EPERM, 4096 queued; mapped 4096 as sent, 0 queued",
)
def under_repair(bench: Bench) -> str:
    """As a read, which a connection that is being moved refuses, too."""
    stream = Stream(bench).queue(PAGE)
    stream.receiver.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    refused = stream.map(PAGE)
    stream.receiver.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 0)
    return f"{refused}; {stream.map(PAGE)}"


@TABLE.add("TLS receives on the socket", "EOPNOTSUPP")
def under_tls(bench: Bench) -> str:
    """The bytes that are queued are not those that the program is to read."""
    _, receiver = pair(bench)
    try:
        receiver.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        version, aes_gcm_128 = 0x0303, 51
        key = struct.pack("HH", version, aes_gcm_128) + bytes(8 + 16 + 4 + 8)
        receiver.setsockopt(SOL_TLS, TLS_RX, key)
    except OSError as error:
        raise NotHereError(f"this kernel has no TLS: {error_name(error)}") from None
    return outcome(lambda: map_memory(bench, PAGE, receiver.fileno()))


@TABLE.add("a page queued, the socket in a BPF sockmap", "EOPNOTSUPP; read 4096 as sent", "M5")
def in_a_sockmap(bench: Bench) -> str:
    """A program may redirect what is queued; a read asks it, a mapping does not."""
    stream = Stream(bench).queue(PAGE)
    bench.closing.callback(os.close, _sockmap_with(stream.receiver))
    refused = outcome(lambda: stream.area(PAGE))  # FIONREAD may ask the program, too
    return f"{refused}; {stream.rest()}"


def _sockmap_with(sock: socket.socket) -> int:
    """Return the descriptor of a new sockmap of one entry, this socket."""
    numbers = {"x86_64": 321, "aarch64": 280}
    create, update, kind = 0, 2, 15
    if platform.machine() not in numbers:
        raise NotHereError(f"the number of bpf() is not known for {platform.machine()}")

    def bpf(command: int, *fields: int, packing: str) -> int:
        attributes = ctypes.create_string_buffer(struct.pack(packing, *fields), 128)
        got = libc.syscall(numbers[platform.machine()], command, attributes, 128)
        if got < 0:
            raise NotHereError(f"this kernel has no sockmap: {errno.errorcode[ctypes.get_errno()]}")
        return int(got)

    made = bpf(create, kind, 4, 4, 1, packing="IIII")
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(sock.fileno())
    bpf(update, made, ctypes.addressof(key), ctypes.addressof(value), packing="I4xQQ")
    return made


# What may be done with a mapping


@TABLE.add("four pages mapped, the second unmapped", "ok: as sent, gone, as sent, as sent; 0 queued")
def unmapped_in_part(bench: Bench) -> str:
    """Any part may be unmapped; the rest stays."""
    stream = Stream(bench).queue(4 * PAGE)
    area = stream.area(4 * PAGE)
    said = outcome(lambda: area.unmap(PAGE, PAGE))
    pages = [
        stream.as_sent(area.read(at, PAGE), at) if area.there(at) else "gone"
        for at in range(0, 4 * PAGE, PAGE)
    ]
    return f"{said}: {', '.join(pages)}; {inq(stream.receiver)} queued"


@TABLE.add("both sockets closed under a mapping of two pages", "as sent")
def closed_under_a_mapping(bench: Bench) -> str:
    """The bytes belong to the mapping, not to the socket."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(2 * PAGE)
    stream.receiver.close()
    stream.sender.close()
    return stream.as_sent(area.read(), 0)


@TABLE.add("the connection reset under a mapping of two pages", "as sent")
def reset_under_a_mapping(bench: Bench) -> str:
    """Nor does a reset take them back."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(2 * PAGE)
    stream.reset()
    return stream.as_sent(area.read(), 0)


@TABLE.add("more pages sent and mapped with an older mapping kept", "as sent, as sent")
def kept_mapping(bench: Bench) -> str:
    """Pages that somebody has mapped are not used for what comes later."""
    stream = Stream(bench).queue(4 * PAGE)
    older = stream.area(4 * PAGE)
    for _ in range(32):
        stream.queue(4 * PAGE)
        with stream.area(4 * PAGE) as newer:
            last = stream.as_sent(newer.read(), stream.taken - 4 * PAGE)
    return f"{stream.as_sent(older.read(), 0)}, {last}"


@TABLE.add("fork() with a mapping of two pages, read by the child", "as sent")
def forked_with_a_mapping(bench: Bench) -> str:
    """A child has the mapping, too."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(2 * PAGE)
    return str(forked(lambda: stream.as_sent(area.read(), 0)))


@TABLE.add("fork() with a mapping, unmapped and closed by the parent, then read by the child", "as sent")
def outlived_by_a_child(bench: Bench) -> str:
    """The child's mapping is its own."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(2 * PAGE)
    gone, told = os.pipe()

    def read() -> str:
        os.read(gone, 1)
        return stream.as_sent(area.read(0, 2 * PAGE), 0)

    def unmap() -> None:
        area.unmap()
        stream.receiver.close()
        os.write(told, b"1")

    return str(forked(read, unmap))


@TABLE.add(
    "fork(), a page mapped by the child, then one by the parent",
    "mapped 4096 as sent, 4096 queued; mapped 4096 as sent, 0 queued",
    "M1",
)
def mapped_by_a_child(bench: Bench) -> str:
    """Who shares a socket shares its stream: no byte comes twice."""
    stream = Stream(bench).queue(2 * PAGE)
    first = forked(lambda: stream.map(PAGE))
    stream.taken = PAGE
    return f"{first}; {stream.map(PAGE)}"


@TABLE.add(
    "a page mapped over an older mapping with MAP_FIXED",
    "mapped 4096 as sent, 0 queued, at the same address",
    "M1",
)
def fixed_over_an_older_mapping(bench: Bench) -> str:
    """The newer page takes the older one's place."""
    stream = Stream(bench).queue(2 * PAGE)
    older = stream.area(PAGE)
    said = stream.map(PAGE, flags=mmap.MAP_SHARED | MAP_FIXED, address=older.address)
    same = "at the same address" if stream.as_sent(older.read(), PAGE) == "as sent" else "elsewhere"
    return f"{said}, {same}"


@TABLE.add("a mapped page, grown with mremap()", "EFAULT, 4096 queued, as sent")
def grown(bench: Bench) -> str:
    """There is nothing behind a mapping to grow into: more bytes are mapped by mmap()."""
    return _resized(bench, PAGE, 2 * PAGE, MREMAP_MAYMOVE)


@TABLE.add("a mapped page, doubled with mremap() from length 0", "EFAULT, 4096 queued, as sent")
def doubled(bench: Bench) -> str:
    """Nor is there a second mapping of the same bytes."""
    return _resized(bench, 0, PAGE, MREMAP_MAYMOVE)


def _resized(bench: Bench, old: int, new: int, flags: int) -> str:
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(PAGE)
    said = outcome(lambda: _mremap(area, old, new, flags))
    return f"{said}, {inq(stream.receiver)} queued, {stream.as_sent(area.read(), 0)}"


@TABLE.add("two mapped pages, moved with mremap()", "as sent, gone from where they were")
def moved(bench: Bench) -> str:
    """A mapping may move."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(2 * PAGE)
    place = map_memory(bench, 2 * PAGE)
    to = _mremap(area, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place.address)
    gone = "still" if area.there() else "gone from"
    return f"{stream.as_sent(ctypes.string_at(to, 2 * PAGE), 0)}, {gone} where they were"


@TABLE.add("a mapped page, remap_file_pages() to another offset, a page queued", "EINVAL, 4096 queued")
def remapped_to_an_offset(bench: Bench) -> str:
    """A stream has no offsets there either."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(PAGE)
    said = outcome(lambda: _remap_file_pages(area, 1))
    return f"{said}, {inq(stream.receiver)} queued"


@TABLE.add("a mapped page, remap_file_pages() with nothing queued", "EAGAIN, 0 queued")
def remapped_with_nothing_queued(bench: Bench) -> str:
    """It is mmap() by another name, with the same rules."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    said = outcome(lambda: _remap_file_pages(area, 0))
    return f"{said}, {inq(stream.receiver)} queued"


@TABLE.add("a mapped page, TCP_ZEROCOPY_RECEIVE into it", "EINVAL, 4096 queued, as sent")
def not_an_area_for_zerocopy_receive(bench: Bench) -> str:
    """What holds bytes that were taken is not an area to move others into."""
    stream = Stream(bench).queue(2 * PAGE)
    area = stream.area(PAGE)
    said = ask(stream.receiver, Request(address=area.address, length=PAGE))
    return f"{said}, {inq(stream.receiver)} queued, {stream.as_sent(area.read(), 0)}"


@TABLE.add("a mapped page given to send()", "as sent")
def sent_on(bench: Bench) -> str:
    """The bytes can be handed to any call that reads memory."""
    stream = Stream(bench).queue(PAGE)
    area = stream.area(PAGE)
    onward, receiver = pair(bench)
    onward.sendall(area.view())
    return stream.as_sent(receiver.recv(PAGE, socket.MSG_WAITALL), 0)


# Several at once


@TABLE.add("64 pages mapped by two threads at once, one at a time", "64 pages, each once, in order", "M1")
def two_threads(bench: Bench) -> str:
    """No byte comes twice and none is lost."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 19)
    stream.queue(64 * PAGE)
    positions = {stream.sent[at : at + PAGE]: at // PAGE for at in range(0, 64 * PAGE, PAGE)}
    begin = threading.Barrier(2)
    found: list[list[int]] = [[], []]

    def take(mine: list[int]) -> None:
        begin.wait()
        with contextlib.suppress(BlockingIOError):
            while True:
                with map_memory(bench, PAGE, stream.receiver.fileno()) as area:
                    mine.append(positions.get(area.read(0, PAGE), -1))

    threads = [threading.Thread(target=take, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pages = sorted(found[0] + found[1])
    each = "each once" if pages == list(range(64)) else f"not each once: {pages}"
    order = "in order" if all(mine == sorted(mine) for mine in found) else "out of order"
    return f"{len(pages)} pages, {each}, {order}"


@TABLE.add(
    "a thread killed while it waits for its program's mapping lock in mmap(), two pages queued",
    "8192 queued, read 8192 as sent",
    "M13",
)
def killed_waiter(bench: Bench) -> str:
    """Who is killed there takes nothing, and leaves the socket to others that share it."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.ExitStack() as closing:  # there may be hundreds of tries
            stream = Stream(dataclasses.replace(bench, closing=closing)).queue(2 * PAGE)
            if kill_while_it_waits(stream.receiver.fileno()):
                said = _all_of_it(stream)
                if not said.startswith("4096 queued"):  # else it had its page before it died
                    return said
    raise NotHereError(f"within {SECONDS:.0f} s no thread was killed while it waited for its mapping lock")


def _all_of_it(stream: Stream) -> str:
    """Return what a process that shares the socket reads.

    It is a child: with the socket left locked, whoever asks waits for ever and can not be killed.
    """
    return forked(lambda: f"{inq(stream.receiver)} queued, {stream.rest()}") or "the socket stays locked"


# Waiting for a chunk, and keeping payload apart


@TABLE.add(
    "SO_RCVLOWAT of four pages, a page sent at a time: poll(), FIONREAD, then four pages mapped, three times",
    "not ready, not ready, not ready, ready with 16384: mapped 16384 as sent, 0 queued; " * 2
    + "not ready, not ready, not ready, ready with 16384: mapped 16384 as sent, 0 queued",
    "M10",
)
def low_water_mark(bench: Bench) -> str:
    """The low-water mark wakes the reader when exactly one chunk can be mapped."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 4 * PAGE)
    poll = select.poll()
    poll.register(stream.receiver, select.POLLIN)
    rounds = []
    for _ in range(3):
        states = []
        for _ in range(4):
            stream.queue(PAGE)
            states.append(f"ready with {inq(stream.receiver)}" if poll.poll(0) else "not ready")
        rounds.append(f"{', '.join(states)}: {stream.map(4 * PAGE)}")
    return "; ".join(rounds)


@TABLE.add(
    "SO_RCVLOWAT of four pages, a thread in poll() while they are sent",
    "woken, mapped 16384 as sent, 0 queued",
    "M10",
)
def woken_for_a_chunk(bench: Bench) -> str:
    """Who waits in poll() is woken when the chunk is whole."""
    stream = Stream(bench)
    stream.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 4 * PAGE)

    def send() -> None:
        for _ in range(4):
            stream.queue(PAGE)

    sending = threading.Thread(target=send)
    sending.start()
    woken = select.select([stream.receiver], [], [], SECONDS)[0]
    sending.join()
    return f"{'woken' if woken else 'not woken'}, {stream.map(4 * PAGE)}"


@TABLE.add(
    "a header of 100 bytes sent with MSG_EOR and two pages, both held back by TCP_CORK",
    "read 100 as sent; mapped 8192 as sent, 0 queued",
    "M11",
)
def end_of_record(bench: Bench) -> str:
    """MSG_EOR keeps the payload out of the header's segment, so that its pages stay whole."""
    stream = Stream(bench).queue_corked(100, socket.MSG_EOR, 2 * PAGE)
    return f"{stream.read(100)}; {stream.map(2 * PAGE)}"


@TABLE.add(
    "a header of 100 bytes sent without MSG_EOR and two pages, both held back by TCP_CORK",
    "read 100 as sent; EINVAL, 8192 queued; read 8192 as sent",
    "M11",
    "M5",
)
def no_end_of_record(bench: Bench) -> str:
    """Without it both share a segment, and no page of the payload begins where one begins in memory."""
    stream = Stream(bench).queue_corked(100, 0, 2 * PAGE)
    return f"{stream.read(100)}; {stream.map(2 * PAGE)}; {stream.rest()}"


# The switch


@TABLE.add(
    "tcp_mmap_consume 0: two pages queued, mmap(), then TCP_ZEROCOPY_RECEIVE",
    "8192 queued, nothing there; mapped 8192 as sent, 0 queued",
)
def switched_off(bench: Bench) -> str:
    """Switched off, mmap() gives a standing area that takes nothing by itself."""
    stream = Stream(bench).queue(2 * PAGE)
    with standing():
        area = map_memory(bench, 2 * PAGE, stream.receiver.fileno())
    there = "something" if area.there() else "nothing"
    before = f"{inq(stream.receiver)} queued, {there} there"
    request = Request(address=area.address, length=2 * PAGE)
    said = ask(stream.receiver, request)
    if said != "ok":
        return f"{before}; {said}"
    got = stream.as_sent(area.read(0, request.length), 0)
    return f"{before}; mapped {request.length} {got}, {inq(stream.receiver)} queued"


@TABLE.add("2, -1 and 256 written to tcp_mmap_consume", "EINVAL, EINVAL, EINVAL; it is 1")
def values_of_the_switch(bench: Bench) -> str:
    """It is on or off."""

    def write(value: str) -> str:
        return outcome(lambda: CONSUME.write_text(value, encoding="ascii"))

    before = CONSUME.read_text(encoding="ascii").strip()
    said = ", ".join(write(value) for value in ("2", "-1", "256"))
    now = CONSUME.read_text(encoding="ascii").strip()
    CONSUME.write_text(before, encoding="ascii")
    return f"{said}; it is {now}"


@TABLE.add(
    "tcp_mmap_consume in a new network namespace, then written there",
    "0 there; 1 there, 0 where it was not written",
)
def a_switch_of_each_namespace(bench: Bench) -> str:
    """Each network namespace has its own, which is off at first."""
    with standing():  # where this row came from

        def there() -> str:
            own_network()
            first = CONSUME.read_text(encoding="ascii").strip()
            CONSUME.write_text("1", encoding="ascii")
            return f"{first} there; {CONSUME.read_text(encoding='ascii').strip()} there"

        said = forked(there)
        return f"{said}, {CONSUME.read_text(encoding='ascii').strip()} where it was not written"
