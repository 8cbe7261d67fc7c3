# SPDX-License-Identifier: Apache-2.0
"""The copy buffer."""

from __future__ import annotations

import errno

from ...libc import READ_WRITE
from ...sockets import PAGE, inq, map_memory
from ...table import Bench, Cases
from ...zerocopy_receive import Reader, ask

CASES = Cases()

#: An address that belongs to no program, and one that no program can have.
KERNEL_ADDRESS = 0xFFFF_8880_0000_0000
NOT_CANONICAL = 0x1234_0000_0000_0000


@CASES.add(
    "1000 bytes queued, a copy buffer of 4096", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
def copy_buffer_above(bench: Bench) -> str:
    """What fits the copy buffer is copied there."""
    return Reader(bench).queue(1000, pages=False).take(PAGE)


@CASES.add(
    "1000 bytes queued, a copy buffer of 1000", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
def copy_buffer_equal(bench: Bench) -> str:
    """What just fits the copy buffer is copied there."""
    return Reader(bench).queue(1000, pages=False).take(1000)


@CASES.add("1000 bytes queued, a copy buffer of 999", "mapped 0, hint 1000, 1000 queued", "S3")
def copy_buffer_below(bench: Bench) -> str:
    """Less than a page that does not fit is neither mapped nor copied in part."""
    return Reader(bench).queue(1000, pages=False).take(999)


@CASES.add(
    "two whole pages queued, a copy buffer of as many bytes",
    "mapped 0, hint 0, copied 8192, as sent, 0 queued",
    "S2",
)
def copy_buffer_for_whole_pages(bench: Bench) -> str:
    """A copy buffer that holds all is used in preference to the area."""
    return Reader(bench).queue(2 * PAGE).take(2 * PAGE)


@CASES.add(
    "two pages and 100 bytes queued, a copy buffer of 4096",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
def copy_buffer_for_the_rest(bench: Bench) -> str:
    """Pages are mapped, and what is left of their segment is copied."""
    return Reader(bench).queue(2 * PAGE + 100).take(PAGE)


@CASES.add(
    "100 bytes and two pages queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def copy_buffer_for_what_comes_before(bench: Bench) -> str:
    """What is before the pages is copied; the next call maps them."""
    reader = Reader(bench).queue(100, pages=False).queue(2 * PAGE)
    return f"{reader.take(PAGE)}; {reader.take(PAGE)}"


@CASES.add(
    "100 bytes and two pages queued, a copy buffer of 60",
    "mapped 0, hint 40, copied 60, as sent, 8232 queued",
)
def copy_buffer_for_some_of_what_comes_before(bench: Bench) -> str:
    """recv_skip_hint is what is still to be read before the next page."""
    return Reader(bench).queue(100, pages=False).queue(2 * PAGE).take(60)


@CASES.add(
    "two pages and 100 bytes queued, a copy buffer of -1 bytes",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
def copy_buffer_of_negative_length(bench: Bench) -> str:
    """A negative length is no error: what is left behind pages is copied as if there were no bound."""
    return Reader(bench).queue(2 * PAGE + 100).take(PAGE, copybuf_len=-1)


@CASES.add(
    "1000 bytes queued, a copy buffer where no program can have one",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
def copy_buffer_out_of_range(bench: Bench) -> str:
    """A 64-bit address always fits a pointer; an invalid one is EFAULT, and nothing is consumed."""
    return Reader(bench).queue(1000, pages=False).take(PAGE, copybuf_address=NOT_CANONICAL)


@CASES.add(
    "1000 bytes queued, a copy buffer in the kernel's memory",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
def copy_buffer_of_the_kernel(bench: Bench) -> str:
    """The kernel's own memory is not a valid copy buffer."""
    return Reader(bench).queue(1000, pages=False).take(PAGE, copybuf_address=KERNEL_ADDRESS)


@CASES.add("1000 bytes queued, a copy buffer that is not mapped", "EFAULT, 1000 queued; read 1000 as sent")
def copy_buffer_not_there(bench: Bench) -> str:
    """Memory that is not mapped is EFAULT, and everything can still be read."""
    reader = Reader(bench).queue(1000, pages=False)
    return f"{reader.take(PAGE, copybuf_address=PAGE)}; {reader.rest()}"


@CASES.add("1000 bytes queued, a copy buffer that can only be read", "EFAULT, 1000 queued; read 1000 as sent")
def copy_buffer_read_only(bench: Bench) -> str:
    """Memory that cannot be written is EFAULT."""
    reader = Reader(bench).queue(1000, pages=False)
    memory = map_memory(bench, PAGE)
    return f"{reader.take(PAGE, copybuf_address=memory.address)}; {reader.rest()}"


@CASES.add(
    "1000 bytes queued, a copy buffer that ends after 500 of 4096", "EFAULT, 1000 queued; read 1000 as sent"
)
def copy_buffer_there_in_part(bench: Bench) -> str:
    """A copy that fails half-way consumes nothing."""
    reader = Reader(bench).queue(1000, pages=False)
    memory = map_memory(bench, 2 * PAGE, protection=READ_WRITE)
    memory.unmap(PAGE, PAGE)
    result = reader.take(PAGE, copybuf_address=memory.address + PAGE - 500)
    memory.length = PAGE
    return f"{result}; {reader.rest()}"


@CASES.add(
    "two pages and 100 bytes queued, a copy buffer that is not mapped",
    "ok, mapped 8192, copybuf_len EFAULT, 100 queued",
)
def copy_buffer_not_there_for_the_rest(bench: Bench) -> str:
    """Pages that were mapped are not given back: the error is in copybuf_len."""
    reader = Reader(bench).queue(2 * PAGE + 100)
    request = reader.request(PAGE, copybuf_address=PAGE)
    result = ask(reader.receiver, request)
    copy = errno.errorcode.get(-request.copybuf_len, str(request.copybuf_len))
    return f"{result}, mapped {request.length}, copybuf_len {copy}, {inq(reader.receiver)} queued"
