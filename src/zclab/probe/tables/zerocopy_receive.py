# SPDX-License-Identifier: Apache-2.0
"""zerocopy_receive: getsockopt(TCP_ZEROCOPY_RECEIVE) moves whole pages into a standing mapping."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
import tempfile

from ..sockets import PAGE, error_name, inq, listener, map_memory, outcome, pair, wait_until
from ..sysctl import standing
from ..table import Bench, Table
from ..zerocopy_receive import SIZE, TCP_ZEROCOPY_RECEIVE, Reader, Request, ask, end_of, getsockopt

TABLE = Table("zerocopy_receive", standing)

TLB_CLEAN_HINT = 1
SO_TIMESTAMPNS = 35
TCP_CMSG_TS = 2
#: An address that belongs to no program, and one that no program can have.
KERNEL_ADDRESS = 0xFFFF_8880_0000_0000
NOT_CANONICAL = 0x1234_0000_0000_0000
#: What the fields hold before a call, so that those which the kernel leaves alone can be told.
UNTOUCHED = 77


# What is queued


@TABLE.add("nothing queued, blocking socket", "mapped 0, hint 0, 0 queued", "S1")
def nothing_queued(bench: Bench) -> str:
    """The call never waits."""
    reader = Reader(bench)
    reader.receiver.settimeout(None)
    return reader.take()


@TABLE.add("nothing queued, a copy buffer of 4096", "mapped 0, hint 0, 0 queued", "S1")
def nothing_queued_for_a_copy_buffer(bench: Bench) -> str:
    """Nor does it wait for bytes to copy."""
    reader = Reader(bench)
    reader.receiver.settimeout(None)
    return reader.take(PAGE)


@TABLE.add("two pages queued, an area of eight", "mapped 8192, hint 0, as sent, 0 queued")
def whole_pages(bench: Bench) -> str:
    """An area that is longer than the queue takes all of it."""
    return Reader(bench).queue(2 * PAGE).take()


@TABLE.add(
    "40 pages queued, an area of 40: more than the kernel maps at a time",
    "mapped 163840, hint 0, as sent, 0 queued",
)
def many_pages(bench: Bench) -> str:
    """Pages of several segments are mapped by one call."""
    reader = Reader(bench, 40)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 19)  # makes room for them
    reader.queue(40 * PAGE)
    return reader.take()


@TABLE.add(
    "four pages queued, an area of two",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def queue_longer_than_the_area(bench: Bench) -> str:
    """What is beyond the area stays queued, for the next call."""
    reader = Reader(bench, 2).queue(4 * PAGE)
    return f"{reader.take()}; {reader.take()}"


@TABLE.add("two pages queued, SO_RCVLOWAT 64 KiB", "mapped 8192, hint 0, as sent, 0 queued")
def below_the_low_water_mark(bench: Bench) -> str:
    """The low-water mark is for poll(), not for this call."""
    reader = Reader(bench)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 65536)
    reader.queue(2 * PAGE)
    return reader.take()


@TABLE.add("1000 bytes queued, no copy buffer", "mapped 0, hint 1000, 1000 queued", "S3")
def less_than_a_page(bench: Bench) -> str:
    """Too little to map is only hinted at."""
    return Reader(bench).queue(1000, pages=False).take()


@TABLE.add("1000 bytes queued, no copy buffer, then recv()", "read 1000 as sent", "S3")
def less_than_a_page_is_left_to_recv(bench: Bench) -> str:
    """What was hinted at is read as ever."""
    reader = Reader(bench).queue(1000, pages=False)
    reader.take()
    return reader.rest()


@TABLE.add(
    "a page and 100 bytes queued, no copy buffer",
    "mapped 4096, hint 0, as sent, 100 queued; mapped 0, hint 100, 100 queued",
)
def a_partial_page_behind(bench: Bench) -> str:
    """The first call tells nothing of the rest; the second hints at it."""
    reader = Reader(bench).queue(PAGE + 100)
    return f"{reader.take()}; {reader.take()}"


@TABLE.add(
    "100 bytes and two pages queued, no copy buffer",
    "mapped 0, hint 100, 8292 queued; read 100 as sent; mapped 8192, hint 0, as sent, 0 queued",
)
def a_partial_page_before(bench: Bench) -> str:
    """Pages behind what can not be mapped wait until that was read."""
    reader = Reader(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{reader.take()}; {reader.read(100)}; {reader.take()}"


@TABLE.add(
    "two pages queued of which 100 bytes were read",
    "mapped 0, hint 8092, 8092 queued",
)
def a_page_read_in_part(bench: Bench) -> str:
    """A page of which something was read is not mapped; the hint goes to the end of its segment."""
    reader = Reader(bench).queue(2 * PAGE)
    reader.read(100)
    return reader.take()


@TABLE.add(
    "a page, 100 bytes and a page queued, no copy buffer",
    "mapped 4096, hint 100, as sent, 4196 queued",
)
def a_partial_page_between(bench: Bench) -> str:
    """The hint says how many bytes are to be read before the next page."""
    return Reader(bench).queue(PAGE).queue(100, pages=False).queue(PAGE).take()


@TABLE.add("four pages queued by a plain sender", "mapped 0, hint 16384, 16384 queued")
def pages_that_can_not_be_mapped(bench: Bench) -> str:
    """Bytes in larger pages, which a plain send over loopback leaves, are never mapped."""
    return Reader(bench).queue(4 * PAGE, pages=False).take()


# The copy buffer


@TABLE.add(
    "1000 bytes queued, a copy buffer of 4096", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
def copy_buffer_above(bench: Bench) -> str:
    """What fits the copy buffer is copied there."""
    return Reader(bench).queue(1000, pages=False).take(PAGE)


@TABLE.add(
    "1000 bytes queued, a copy buffer of 1000", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
def copy_buffer_equal(bench: Bench) -> str:
    """What just fits the copy buffer is copied there."""
    return Reader(bench).queue(1000, pages=False).take(1000)


@TABLE.add("1000 bytes queued, a copy buffer of 999", "mapped 0, hint 1000, 1000 queued", "S3")
def copy_buffer_below(bench: Bench) -> str:
    """Less than a page that does not fit is neither mapped nor copied in part."""
    return Reader(bench).queue(1000, pages=False).take(999)


@TABLE.add(
    "two whole pages queued, a copy buffer of as many bytes",
    "mapped 0, hint 0, copied 8192, as sent, 0 queued",
    "S2",
)
def copy_buffer_for_whole_pages(bench: Bench) -> str:
    """A copy buffer that holds all is used in preference to the area."""
    return Reader(bench).queue(2 * PAGE).take(2 * PAGE)


@TABLE.add(
    "two pages and 100 bytes queued, a copy buffer of 4096",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
def copy_buffer_for_the_rest(bench: Bench) -> str:
    """Pages are mapped, and what is left of their segment is copied."""
    return Reader(bench).queue(2 * PAGE + 100).take(PAGE)


@TABLE.add(
    "100 bytes and two pages queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def copy_buffer_for_what_comes_before(bench: Bench) -> str:
    """What is before the pages is copied; the next call maps them."""
    reader = Reader(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{reader.take(PAGE)}; {reader.take(PAGE)}"


@TABLE.add(
    "100 bytes and two pages queued, a copy buffer of 60",
    "mapped 0, hint 40, copied 60, as sent, 8232 queued",
)
def copy_buffer_for_some_of_what_comes_before(bench: Bench) -> str:
    """The hint says what is still to be read before the next page."""
    return Reader(bench).queue(100, pages=False).queue(2 * PAGE).take(60)


@TABLE.add(
    "two pages and 100 bytes queued, a copy buffer of -1 bytes",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
def copy_buffer_of_negative_length(bench: Bench) -> str:
    """A negative length is no error: what is left behind pages is copied as if there were no bound."""
    return Reader(bench).queue(2 * PAGE + 100).take(PAGE, copybuf_len=-1)


@TABLE.add(
    "1000 bytes queued, a copy buffer where no program can have one",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
def copy_buffer_out_of_range(bench: Bench) -> str:
    """A 64-bit address always fits a pointer; one that is none is EFAULT, and nothing is consumed."""
    return Reader(bench).queue(1000, pages=False).take(PAGE, copybuf_address=NOT_CANONICAL)


@TABLE.add(
    "1000 bytes queued, a copy buffer in the kernel's memory",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
def copy_buffer_of_the_kernel(bench: Bench) -> str:
    """The kernel's own memory is no copy buffer."""
    return Reader(bench).queue(1000, pages=False).take(PAGE, copybuf_address=KERNEL_ADDRESS)


@TABLE.add("1000 bytes queued, a copy buffer that is not mapped", "EFAULT, 1000 queued; read 1000 as sent")
def copy_buffer_not_there(bench: Bench) -> str:
    """Memory that the program does not have is EFAULT, and all can still be read."""
    reader = Reader(bench).queue(1000, pages=False)
    return f"{reader.take(PAGE, copybuf_address=PAGE)}; {reader.rest()}"


@TABLE.add("1000 bytes queued, a copy buffer that can only be read", "EFAULT, 1000 queued; read 1000 as sent")
def copy_buffer_read_only(bench: Bench) -> str:
    """Memory that can not be written is EFAULT."""
    reader = Reader(bench).queue(1000, pages=False)
    memory = map_memory(bench, PAGE)
    return f"{reader.take(PAGE, copybuf_address=memory.address)}; {reader.rest()}"


@TABLE.add(
    "1000 bytes queued, a copy buffer that ends after 500 of 4096", "EFAULT, 1000 queued; read 1000 as sent"
)
def copy_buffer_there_in_part(bench: Bench) -> str:
    """A copy that does not come to its end consumes nothing."""
    reader = Reader(bench).queue(1000, pages=False)
    memory = map_memory(bench, 2 * PAGE, protection=mmap.PROT_READ | mmap.PROT_WRITE)
    memory.unmap(PAGE, PAGE)
    said = reader.take(PAGE, copybuf_address=memory.address + PAGE - 500)
    memory.length = PAGE
    return f"{said}; {reader.rest()}"


@TABLE.add(
    "two pages and 100 bytes queued, a copy buffer that is not mapped",
    "ok, mapped 8192, copybuf_len EFAULT, 100 queued",
)
def copy_buffer_not_there_for_the_rest(bench: Bench) -> str:
    """Pages that were mapped are not given back: the error is in copybuf_len."""
    reader = Reader(bench).queue(2 * PAGE + 100)
    request = reader.request(PAGE, copybuf_address=PAGE)
    said = ask(reader.receiver, request)
    copy = errno.errorcode.get(-request.copybuf_len, str(request.copybuf_len))
    return f"{said}, mapped {request.length}, copybuf_len {copy}, {inq(reader.receiver)} queued"


# The area


@TABLE.add("two pages queued, length 0", "mapped 0, hint 0, 8192 queued")
def length_zero(bench: Bench) -> str:
    """Nothing asked for is nothing consumed."""
    return Reader(bench).queue(2 * PAGE).take(length=0)


@TABLE.add("two pages queued, length 100", "mapped 0, hint 100, 8192 queued")
def length_below_a_page(bench: Bench) -> str:
    """Less than a page asked for is hinted at: the hint is never more than was asked for."""
    return Reader(bench).queue(2 * PAGE).take(length=100)


@TABLE.add("four pages queued, length 10000", "mapped 8192, hint 0, as sent, 8192 queued")
def length_of_broken_pages(bench: Bench) -> str:
    """A length is rounded down to whole pages."""
    return Reader(bench).queue(4 * PAGE).take(length=10000)


@TABLE.add(
    "four pages queued, the largest length, an area of two", "mapped 8192, hint 0, as sent, 8192 queued"
)
def length_beyond_the_area(bench: Bench) -> str:
    """A length is cut at the end of the mapping."""
    return Reader(bench, 2).queue(4 * PAGE).take(length=0xFFFFFFFF)


@TABLE.add("two pages queued, an address in the area's middle", "mapped 8192, hint 0, as sent, 0 queued")
def address_inside_the_area(bench: Bench) -> str:
    """A call may fill any part of the mapping."""
    reader = Reader(bench).queue(2 * PAGE)
    return reader.take(address=reader.mapping.address + 4 * PAGE)


@TABLE.add("two pages queued, an address 8 bytes into a page", "EINVAL, 8192 queued")
def address_unaligned(bench: Bench) -> str:
    """An address has to be a page's."""
    reader = Reader(bench).queue(2 * PAGE)
    return reader.take(address=reader.mapping.address + 8)


@TABLE.add("nothing queued, an address 8 bytes into a page", "EINVAL, 0 queued")
def address_unaligned_with_nothing_queued(bench: Bench) -> str:
    """The address is looked at first."""
    reader = Reader(bench)
    return reader.take(address=reader.mapping.address + 8)


@TABLE.add("two pages queued, address 0", "EINVAL, 8192 queued")
def address_null(bench: Bench) -> str:
    """There is no default area."""
    return Reader(bench).queue(2 * PAGE).take(address=0)


@TABLE.add("100 bytes queued, address 0", "mapped 0, hint 100, 100 queued")
def address_not_needed(bench: Bench) -> str:
    """Where nothing can be mapped, nobody looks for the mapping."""
    return Reader(bench).queue(100, pages=False).take(address=0)


@TABLE.add("two pages queued, an area of anonymous memory", "EINVAL, 8192 queued; read 8192 as sent")
def area_of_anonymous_memory(bench: Bench) -> str:
    """Only a mapping of a TCP socket is filled."""
    reader = Reader(bench).queue(2 * PAGE)
    return f"{reader.take(address=map_memory(bench, 8 * PAGE).address)}; {reader.rest()}"


@TABLE.add("two pages queued, an area of a file", "EINVAL, 8192 queued")
def area_of_a_file(bench: Bench) -> str:
    """A file's mapping is left alone."""
    reader = Reader(bench).queue(2 * PAGE)
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * PAGE)
        return reader.take(address=map_memory(bench, 8 * PAGE, file.fileno()).address)


@TABLE.add("two pages queued, an area of another TCP socket", "mapped 8192, hint 0, as sent, 0 queued")
def area_of_another_socket(bench: Bench) -> str:
    """Any TCP socket's mapping will do: it is not tied to the socket that it was made of."""
    reader, other = Reader(bench), Reader(bench)
    reader.queue(2 * PAGE)
    return reader.take(address=other.mapping.address)


@TABLE.add("two pages queued, an area that was unmapped", "EINVAL, 8192 queued")
def area_unmapped(bench: Bench) -> str:
    """What is no mapping any more is not filled."""
    reader = Reader(bench).queue(2 * PAGE)
    gone = map_memory(bench, PAGE, reader.receiver.fileno())
    gone.unmap()
    return reader.take(address=gone.address)


@TABLE.add(
    "four pages queued, an area of which the second page was unmapped",
    "mapped 4096, hint 0, as sent, 12288 queued",
)
def area_unmapped_in_part(bench: Bench) -> str:
    """What is left of a mapping is filled, and nothing behind it."""
    reader = Reader(bench).queue(4 * PAGE)
    reader.mapping.unmap(PAGE, PAGE)
    return reader.take()


@TABLE.add("two pages queued, an area mapped MAP_PRIVATE", "mapped 8192, hint 0, as sent, 0 queued")
def area_private(bench: Bench) -> str:
    """A private mapping is filled as a shared one is."""
    reader = Reader(bench).queue(2 * PAGE)
    area = map_memory(bench, 8 * PAGE, reader.receiver.fileno(), flags=mmap.MAP_PRIVATE)
    return reader.take(address=area.address)


def _map(bench: Bench, protection: int) -> str:
    _, receiver = pair(bench)
    return outcome(lambda: map_memory(bench, PAGE, receiver.fileno(), protection))


@TABLE.add("mmap() for writing", "EPERM")
def area_for_writing(bench: Bench) -> str:
    """What was received is not to be written."""
    return _map(bench, mmap.PROT_READ | mmap.PROT_WRITE)


@TABLE.add("mmap() for execution", "EPERM")
def area_for_execution(bench: Bench) -> str:
    """What was received is not to be executed."""
    return _map(bench, mmap.PROT_READ | mmap.PROT_EXEC)


@TABLE.add(
    "mprotect() for writing, before and after pages are there",
    "EACCES, EACCES, mapped 8192, hint 0, as sent, 0 queued",
)
def area_made_writable(bench: Bench) -> str:
    """A mapping can not be made writable later."""
    reader = Reader(bench).queue(2 * PAGE)
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    before = outcome(lambda: reader.mapping.protect(protection))
    said = reader.take()
    return f"{before}, {outcome(lambda: reader.mapping.protect(protection))}, {said}"


@TABLE.add("mprotect() for execution", "EACCES")
def area_made_executable(bench: Bench) -> str:
    """Nor executable."""
    reader = Reader(bench)
    return outcome(lambda: reader.mapping.protect(mmap.PROT_READ | mmap.PROT_EXEC))


@TABLE.add("a page of the area is read that no call has filled", "killed by signal 7")
def area_not_filled(bench: Bench) -> str:
    """There is nothing behind a page until a call fills it: SIGBUS."""
    return f"read {Reader(bench).mapping.read(0, 1)!r}"


@TABLE.add("one page mapped, the area's second page is read", "killed by signal 7")
def area_not_filled_behind_a_page(bench: Bench) -> str:
    """Nor does a call put anything behind what it mapped."""
    reader = Reader(bench).queue(PAGE)
    reader.take()
    return f"read {reader.mapping.read(PAGE, 1)!r}"


@TABLE.add("two pages mapped, then one over the first of them", "the second page as before")
def area_filled_in_part_again(bench: Bench) -> str:
    """What an earlier call mapped stays where the next one asks for nothing."""
    reader = Reader(bench).queue(4 * PAGE)
    reader.take(length=2 * PAGE)
    reader.take(length=PAGE)
    kept = reader.mapping.read(PAGE, PAGE) == reader.sent[PAGE : 2 * PAGE]
    return "the second page as before" if kept else "the second page is another"


@TABLE.add(
    "two pages mapped, then one of the two that were asked for, then the second is read",
    "killed by signal 7",
)
def area_emptied_in_part(bench: Bench) -> str:
    """What an earlier call mapped is gone where the next one was to map and could not."""
    reader = Reader(bench).queue(3 * PAGE)
    reader.take(length=2 * PAGE)
    reader.queue(PAGE, pages=False)
    said = reader.take()
    return f"{said}; read {reader.mapping.read(PAGE, 1)!r}"


@TABLE.add(
    "four pages queued, two calls over the same two pages",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def second_call_over_mapped_pages(bench: Bench) -> str:
    """A call replaces what an earlier one mapped."""
    reader = Reader(bench).queue(4 * PAGE)
    return f"{reader.take(length=2 * PAGE)}; {reader.take(length=2 * PAGE)}"


@TABLE.add("two pages mapped, then the socket is closed", "as sent")
def socket_closed_under_the_area(bench: Bench) -> str:
    """What was mapped stays readable."""
    reader = Reader(bench).queue(2 * PAGE)
    reader.take()
    reader.receiver.close()
    reader.sender.close()
    return reader.as_sent(reader.mapping.read(0, 2 * PAGE), 0)


# Flags and the fields of later kernels


@TABLE.add("two pages queued, a clean area, the TLB clean hint", "mapped 8192, hint 0, as sent, 0 queued")
def tlb_clean_hint(bench: Bench) -> str:
    """A caller that knows its area to be empty says so."""
    return Reader(bench).queue(2 * PAGE).take(flags=TLB_CLEAN_HINT)


@TABLE.add(
    "four pages queued, two calls over the same two pages, both with the TLB clean hint",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def tlb_clean_hint_not_true(bench: Bench) -> str:
    """The hint is only a hint: where it is not true the pages are replaced all the same."""
    reader = Reader(bench).queue(4 * PAGE)
    first = reader.take(length=2 * PAGE, flags=TLB_CLEAN_HINT)
    return f"{first}; {reader.take(length=2 * PAGE, flags=TLB_CLEAN_HINT)}"


@TABLE.add("two pages queued, every flag that has no meaning", "mapped 8192, hint 0, as sent, 0 queued")
def unknown_flags(bench: Bench) -> str:
    """Unknown flags are not refused: a program can not learn from them what a kernel knows."""
    return Reader(bench).queue(2 * PAGE).take(flags=0xFFFFFFFE)


@TABLE.add("two pages queued, reserved is 1", "EINVAL, 8192 queued")
def reserved_not_zero(bench: Bench) -> str:
    """What is reserved has to be zero."""
    return Reader(bench).queue(2 * PAGE).take(reserved=1)


@TABLE.add("two pages queued, msg_flags is 1", "EINVAL, 8192 queued")
def message_flags_unknown(bench: Bench) -> str:
    """Of msg_flags only the one for time stamps may be set."""
    return Reader(bench).queue(2 * PAGE).take(msg_flags=1)


@TABLE.add(
    "two pages queued, msg_flags asks for time stamps, none are switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 64 bytes of control free",
)
def message_flags_without_time_stamps(bench: Bench) -> str:
    """The flag alone gives no control message."""
    return _control(Reader(bench).queue(2 * PAGE), 64)


@TABLE.add(
    "two pages queued, time stamps switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
def time_stamp(bench: Bench) -> str:
    """A time stamp comes as a control message, as recvmsg() gives it."""
    return _control(_stamped(bench).queue(2 * PAGE), 64)


@TABLE.add(
    "100 bytes queued, a copy buffer of 4096, time stamps switched on",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
def time_stamp_of_a_copy(bench: Bench) -> str:
    """What is copied has its time stamp, too."""
    return _control(_stamped(bench).queue(100, pages=False), 64, PAGE)


@TABLE.add(
    "two pages queued, time stamps switched on, 8 bytes for control messages",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags MSG_CTRUNC, 8 bytes of control free",
)
def time_stamp_that_does_not_fit(bench: Bench) -> str:
    """A control buffer that is too short is told as recvmsg() tells it."""
    return _control(_stamped(bench).queue(2 * PAGE), 8)


def _stamped(bench: Bench) -> Reader:
    """Return a reader whose socket has time stamps; the kernel begins to take them a little later."""
    reader = Reader(bench)
    reader.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def comes() -> bool:
        reader.sender.sendall(b"x")
        return bool(reader.receiver.recvmsg(1, 64)[1])

    wait_until(comes)
    return reader


def _control(reader: Reader, length: int, copy: int = 0) -> str:
    buffer = ctypes.create_string_buffer(64)
    request = reader.request(
        copy, msg_control=ctypes.addressof(buffer), msg_controllen=length, msg_flags=TCP_CMSG_TS
    )
    said = reader.answer(request)
    flags = "MSG_CTRUNC" if request.msg_flags == socket.MSG_CTRUNC else str(request.msg_flags)
    header = struct.unpack("Qii", buffer.raw[:16])
    stamp = ", a time stamp" if header == (32, socket.SOL_SOCKET, SO_TIMESTAMPNS) else ""
    return f"{said}; msg_flags {flags}, {request.msg_controllen} bytes of control free{stamp}"


# How long the structure is


def _fields(bench: Bench, optlen: int) -> str:
    """Call with a page and 100 bytes queued and this optlen; say which of the fields the kernel filled."""
    reader = Reader(bench).queue(PAGE + 100)
    request = reader.request(recv_skip_hint=UNTOUCHED, inq=UNTOUCHED, err=UNTOUCHED)
    said = ask(reader.receiver, request, optlen)
    if said != "ok":
        return f"{said}, {inq(reader.receiver)} queued"
    names = ("recv_skip_hint", "inq", "err")
    told = [f"{name} {getattr(request, name)}" for name in names if getattr(request, name) != UNTOUCHED]
    return ", ".join([f"mapped {request.length}", *told, f"{inq(reader.receiver)} queued"])


@TABLE.add("optlen -1", "EINVAL, 4196 queued")
def optlen_negative(bench: Bench) -> str:
    """A length is not negative."""
    return _fields(bench, -1)


@TABLE.add("optlen 0", "EINVAL, 4196 queued")
def optlen_zero(bench: Bench) -> str:
    """There is no answer of no bytes."""
    return _fields(bench, 0)


@TABLE.add("optlen 11: less than address and length", "EINVAL, 4196 queued")
def optlen_below_the_first_form(bench: Bench) -> str:
    """Address and length are the least."""
    return _fields(bench, end_of("length") - 1)


@TABLE.add("optlen 12: address and length", "mapped 4096, 100 queued")
def optlen_of_the_length(bench: Bench) -> str:
    """So short a call learns nothing but what was mapped."""
    return _fields(bench, end_of("length"))


@TABLE.add("optlen 16: to the hint", "mapped 4096, recv_skip_hint 0, 100 queued")
def optlen_of_the_hint(bench: Bench) -> str:
    """The first form of the structure."""
    return _fields(bench, end_of("recv_skip_hint"))


@TABLE.add("optlen 20: to inq", "mapped 4096, recv_skip_hint 0, inq 100, 100 queued")
def optlen_of_inq(bench: Bench) -> str:
    """The second form says how much is still queued."""
    return _fields(bench, end_of("inq"))


@TABLE.add("optlen 24: to err", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued")
def optlen_of_err(bench: Bench) -> str:
    """The third form tells the socket's error."""
    return _fields(bench, end_of("err"))


@TABLE.add("optlen 22: into the middle of err", "mapped 4096, recv_skip_hint 0, 100 queued")
def optlen_within_a_field(bench: Bench) -> str:
    """A length that ends within a field is taken, and inq and err are left as they were."""
    return _fields(bench, end_of("inq") + 2)


@TABLE.add(
    "optlen 40: to the copy buffer's length", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued"
)
def optlen_of_the_copy_buffer(bench: Bench) -> str:
    """The fourth form has a copy buffer (none is given here)."""
    return _fields(bench, end_of("copybuf_len"))


@TABLE.add("optlen 64: all", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued")
def optlen_of_all(bench: Bench) -> str:
    """The last form has room for control messages."""
    return _fields(bench, SIZE)


@TABLE.add(
    "100 bytes queued, optlen 24, a copy buffer behind it", "ok, hint 100, copybuf_len 4096, 100 queued"
)
def optlen_before_the_copy_buffer(bench: Bench) -> str:
    """What lies behind optlen is neither read nor written."""
    reader = Reader(bench).queue(100, pages=False)
    request = reader.request(PAGE)
    said = ask(reader.receiver, request, end_of("err"))
    queued = inq(reader.receiver)
    return f"{said}, hint {request.recv_skip_hint}, copybuf_len {request.copybuf_len}, {queued} queued"


def _longer(bench: Bench, more: bytes) -> str:
    reader = Reader(bench).queue(2 * PAGE)
    memory = ctypes.create_string_buffer(bytes(reader.request()) + more, SIZE + len(more))
    try:
        optlen = getsockopt(reader.receiver, ctypes.addressof(memory), len(memory))
    except OSError as error:
        return f"{error_name(error)}, {inq(reader.receiver)} queued"
    mapped = Request.from_buffer(memory).length
    return f"mapped {mapped}, optlen {optlen} afterwards, {inq(reader.receiver)} queued"


@TABLE.add("optlen 72, zeros at the end", "mapped 8192, optlen 64 afterwards, 0 queued")
def optlen_longer_with_zeros(bench: Bench) -> str:
    """A program built for a later kernel is told how much this one knows."""
    return _longer(bench, bytes(8))


@TABLE.add("optlen 72, something at the end", "EINVAL, 8192 queued")
def optlen_longer_with_something(bench: Bench) -> str:
    """What this kernel does not know it does not ignore."""
    return _longer(bench, b"\0" * 7 + b"\1")


@TABLE.add("two pages queued, no structure: address 0", "EFAULT, 8192 queued")
def structure_not_there(bench: Bench) -> str:
    """A structure that can not be read is EFAULT, and nothing is consumed."""
    reader = Reader(bench).queue(2 * PAGE)
    said = outcome(lambda: getsockopt(reader.receiver, 0, SIZE))
    return f"{said}, {inq(reader.receiver)} queued"


@TABLE.add("two pages queued, a structure that can only be read", "EFAULT, 0 queued")
def structure_read_only(bench: Bench) -> str:
    """A structure that can not be written is EFAULT, too, but its bytes are taken and lost to the queue."""
    reader = Reader(bench).queue(2 * PAGE)
    memory = map_memory(bench, PAGE, protection=mmap.PROT_READ | mmap.PROT_WRITE)
    request = reader.request()
    ctypes.memmove(memory.address, ctypes.byref(request), SIZE)
    memory.protect(mmap.PROT_READ)
    said = outcome(lambda: getsockopt(reader.receiver, memory.address, SIZE))
    return f"{said}, {inq(reader.receiver)} queued"


@TABLE.add("setsockopt() instead of getsockopt()", "ENOPROTOOPT")
def setsockopt_instead(bench: Bench) -> str:
    """The option can not be set."""
    reader = Reader(bench)
    option = bytes(reader.request())
    return outcome(lambda: reader.receiver.setsockopt(socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, option))


# The state of the connection


@TABLE.add("a listening socket", "ENOTCONN")
def listening(bench: Bench) -> str:
    """A listening socket has no bytes."""
    return ask(listener(bench), Request())


@TABLE.add("a listening socket, an address 8 bytes into a page", "EINVAL")
def listening_with_address_unaligned(bench: Bench) -> str:
    """The address is looked at first here, too."""
    return ask(listener(bench), Request(address=8))


@TABLE.add("a socket that was never connected", "ok, mapped 0, hint 0")
def unconnected(bench: Bench) -> str:
    """It is not told from a connection with nothing queued, where recv() is ENOTCONN."""
    sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    request = Request(length=PAGE)
    return f"{ask(sock, request)}, mapped {request.length}, hint {request.recv_skip_hint}"


@TABLE.add("FIN, nothing queued", "EIO, 0 queued")
def fin(bench: Bench) -> str:
    """The end of the stream is EIO."""
    return Reader(bench).fin().take()


@TABLE.add("FIN, two pages queued", "mapped 8192, hint 0, as sent, 0 queued; EIO, 0 queued")
def fin_behind_pages(bench: Bench) -> str:
    """The end comes after what was sent before it."""
    reader = Reader(bench).queue(2 * PAGE).fin()
    return f"{reader.take()}; {reader.take()}"


@TABLE.add(
    "FIN, 100 bytes queued, no copy buffer", "mapped 0, hint 100, 100 queued; read 100 as sent; EIO, 0 queued"
)
def fin_behind_less_than_a_page(bench: Bench) -> str:
    """What can not be mapped is hinted at before the end, too."""
    reader = Reader(bench).queue(100, pages=False).fin()
    return f"{reader.take()}; {reader.read(PAGE)}; {reader.take()}"


@TABLE.add(
    "FIN, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; EIO, 0 queued",
    "S2",
)
def fin_behind_what_is_copied(bench: Bench) -> str:
    """Nor does the end keep bytes from being copied."""
    reader = Reader(bench).queue(100, pages=False).fin()
    return f"{reader.take(PAGE)}; {reader.take(PAGE)}"


@TABLE.add("FIN, two pages queued, length 0", "EIO, 8192 queued")
def fin_with_length_zero(bench: Bench) -> str:
    """Nothing asked for looks like the end, although bytes are queued."""
    return Reader(bench).queue(2 * PAGE).fin().take(length=0)


@TABLE.add("FIN, a page and 100 bytes queued", "mapped 4096, inq 101")
def fin_counts_as_queued(bench: Bench) -> str:
    """The end counts as a byte in inq, so that a reader goes on to it."""
    reader = Reader(bench).queue(PAGE + 100).fin()
    request = reader.request()
    ask(reader.receiver, request)
    return f"mapped {request.length}, inq {request.inq}"


@TABLE.add("RST, nothing queued", "mapped 0, hint 0, err ECONNRESET, 0 queued; mapped 0, hint 0, 0 queued")
def reset(bench: Bench) -> str:
    """The reset is told once, in err and not by the call; after that all looks open and empty."""
    reader = Reader(bench).reset()
    return f"{reader.take()}; {reader.take()}"


@TABLE.add("RST, two pages queued", "mapped 8192, hint 0, err ECONNRESET, as sent, 0 queued")
def reset_behind_pages(bench: Bench) -> str:
    """What was queued is mapped, and the same call tells the reset."""
    return Reader(bench).queue(2 * PAGE).reset().take()


@TABLE.add(
    "RST, 100 bytes queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, err ECONNRESET, as sent, 0 queued",
    "S2",
)
def reset_behind_what_is_copied(bench: Bench) -> str:
    """What was queued is copied, and the same call tells the reset."""
    return Reader(bench).queue(100, pages=False).reset().take(PAGE)


@TABLE.add("RST, nothing queued, optlen 20", "ok, then SO_ERROR ECONNRESET")
def reset_without_room_for_it(bench: Bench) -> str:
    """A structure without err leaves the error to others."""
    reader = Reader(bench).reset()
    said = ask(reader.receiver, reader.request(), end_of("inq"))
    error = reader.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return f"{said}, then SO_ERROR {errno.errorcode.get(error, error)}"


@TABLE.add("shutdown(SHUT_RD) by the reader, nothing queued", "mapped 0, hint 0, 0 queued")
def reading_shut_down(bench: Bench) -> str:
    """The reader's own shutdown is no end: recv() returns 0 there, this call finds nothing queued."""
    reader = Reader(bench)
    reader.receiver.shutdown(socket.SHUT_RD)
    return reader.take()


# Urgent data


def _urgent(bench: Bench, before: int) -> Reader:
    """Return a reader with some bytes, an urgent byte and a page queued."""
    return Reader(bench).queue(before).queue_urgent(PAGE)


def _all_queued(reader: Reader) -> int:
    """Return what the kernel tells as inq: all that is queued, urgent or behind it, too."""
    request = reader.request(length=0)
    ask(reader.receiver, request)
    return int(request.inq)


@TABLE.add(
    "two pages, an urgent byte and a page queued",
    "mapped 8192, hint 0, as sent, 0 queued; mapped 0, hint 0, 0 queued, inq 4097",
)
def urgent_behind_pages(bench: Bench) -> str:
    """Mapping stops at the urgent byte; there it looks as if nothing were queued, but for inq."""
    reader = _urgent(bench, 2 * PAGE)
    return f"{reader.take()}; {reader.take()}, inq {_all_queued(reader)}"


@TABLE.add("two pages, an urgent byte and a page queued, the pages mapped, then recv()", "read 4096 as sent")
def urgent_is_passed_by_recv(bench: Bench) -> str:
    """A read goes past the urgent byte."""
    reader = _urgent(bench, 2 * PAGE)
    reader.take()
    return reader.rest()


@TABLE.add("100 bytes, an urgent byte and a page queued", "mapped 0, hint 100, 100 queued")
def urgent_behind_less_than_a_page(bench: Bench) -> str:
    """The hint stops at the urgent byte, too."""
    return _urgent(bench, 100).take()


@TABLE.add(
    "two pages, an urgent byte and a page queued, a copy buffer of 8192",
    "mapped 0, hint 4097, copied 8192, as sent, 0 queued",
)
def urgent_behind_what_is_copied(bench: Bench) -> str:
    """A copy stops at the urgent byte, too; the hint is about what comes from there on."""
    return _urgent(bench, 2 * PAGE).take(2 * PAGE)


@TABLE.add(
    "an urgent byte within a page of SO_OOBINLINE, two pages before it",
    "mapped 8192, hint 1, as sent, 4097 queued",
)
def urgent_inline(bench: Bench) -> str:
    """In line it is a byte like others, which is in no page of its own."""
    reader = Reader(bench)
    reader.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return reader.queue(2 * PAGE).queue_urgent().queue(PAGE).take()
