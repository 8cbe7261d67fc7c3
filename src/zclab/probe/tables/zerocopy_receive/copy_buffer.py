# SPDX-License-Identifier: Apache-2.0
"""The copy buffer."""

from __future__ import annotations

import errno

from ...libc import READ_WRITE
from ...sockets import PAGE, inq, map_memory
from ...stream import plain, queue, rest
from ...table import Bench, Cases
from ...zerocopy_receive import Reader, ask, takes

CASES = Cases(Reader.does)

#: An address that belongs to no program, and one that no program can have.
KERNEL_ADDRESS = 0xFFFF_8880_0000_0000
NOT_CANONICAL = 0x1234_0000_0000_0000


CASES.why("What fits the copy buffer is copied there.")
CASES.steps("copy-buffer-above", plain(1000), takes(PAGE))(
    "1000 bytes queued, a copy buffer of 4096", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
CASES.why("What just fits the copy buffer is copied there.")
CASES.steps("copy-buffer-equal", plain(1000), takes(1000))(
    "1000 bytes queued, a copy buffer of 1000", "mapped 0, hint 0, copied 1000, as sent, 0 queued", "S2"
)
CASES.why("Less than a page that does not fit is neither mapped nor copied in part.")
CASES.steps("copy-buffer-below", plain(1000), takes(999))(
    "1000 bytes queued, a copy buffer of 999", "mapped 0, hint 1000, 1000 queued", "S3"
)
CASES.why("A copy buffer that holds all is used in preference to the area.")
CASES.steps("copy-buffer-for-whole-pages", queue(2 * PAGE), takes(2 * PAGE))(
    "two whole pages queued, a copy buffer of as many bytes",
    "mapped 0, hint 0, copied 8192, as sent, 0 queued",
    "S2",
)
CASES.why("Pages are mapped, and what is left of their segment is copied.")
CASES.steps("copy-buffer-for-the-rest", queue(2 * PAGE + 100), takes(PAGE))(
    "two pages and 100 bytes queued, a copy buffer of 4096",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
CASES.why("What is before the pages is copied; the next call maps them.")
CASES.steps("copy-buffer-for-what-comes-before", plain(100), queue(2 * PAGE), takes(PAGE), takes(PAGE))(
    "100 bytes and two pages queued, a copy buffer of 4096",
    "mapped 0, hint 0, copied 100, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
CASES.why("recv_skip_hint is what is still to be read before the next page.")
CASES.steps("copy-buffer-for-some-of-what-comes-before", plain(100), queue(2 * PAGE), takes(60))(
    "100 bytes and two pages queued, a copy buffer of 60",
    "mapped 0, hint 40, copied 60, as sent, 8232 queued",
)
CASES.why("A negative length is no error: what is left behind pages is copied as if there were no bound.")
CASES.steps("copy-buffer-of-negative-length", queue(2 * PAGE + 100), takes(PAGE, copybuf_len=-1))(
    "two pages and 100 bytes queued, a copy buffer of -1 bytes",
    "mapped 8192, hint 0, copied 100, as sent, 0 queued",
)
CASES.why("A 64-bit address always fits a pointer; an invalid one is EFAULT, and nothing is consumed.")
CASES.steps("copy-buffer-out-of-range", plain(1000), takes(PAGE, copybuf_address=NOT_CANONICAL))(
    "1000 bytes queued, a copy buffer where no program can have one",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
CASES.why("The kernel's own memory is not a valid copy buffer.")
CASES.steps("copy-buffer-of-the-kernel", plain(1000), takes(PAGE, copybuf_address=KERNEL_ADDRESS))(
    "1000 bytes queued, a copy buffer in the kernel's memory",
    "EFAULT, 1000 queued",
    "S4",
    document="EINVAL, 1000 queued",
)
CASES.why("Memory that is not mapped is EFAULT, and everything can still be read.")
CASES.steps("copy-buffer-not-there", plain(1000), takes(PAGE, copybuf_address=PAGE), rest())(
    "1000 bytes queued, a copy buffer that is not mapped", "EFAULT, 1000 queued; read 1000 as sent"
)
CASES.why("Memory that cannot be written is EFAULT.")
CASES.steps(
    "copy-buffer-read-only",
    plain(1000),
    lambda reader: reader.take(PAGE, copybuf_address=map_memory(reader.bench, PAGE).address),
    rest(),
)("1000 bytes queued, a copy buffer that can only be read", "EFAULT, 1000 queued; read 1000 as sent")


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
