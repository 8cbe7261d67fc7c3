# SPDX-License-Identifier: Apache-2.0
"""How long the structure is, and where it lies."""

from __future__ import annotations

import ctypes
import mmap
import socket

from ...libc import READ_WRITE
from ...sockets import PAGE, error_name, inq, map_memory, outcome
from ...stream import queue
from ...table import Bench, Cases
from ...zerocopy_receive import SIZE, TCP_ZEROCOPY_RECEIVE, Reader, Request, ask, end_of, getsockopt

CASES = Cases(Reader.does)

#: The value of the fields before a call: shows which of them the kernel leaves as they were.
UNTOUCHED = 77


def _fields(bench: Bench, optlen: int) -> str:
    """Call with a page and 100 bytes queued and this optlen; return the fields that the kernel filled."""
    reader = Reader(bench).queue(PAGE + 100)
    request = reader.request(recv_skip_hint=UNTOUCHED, inq=UNTOUCHED, err=UNTOUCHED)
    result = ask(reader.receiver, request, optlen)
    if result != "ok":
        return f"{result}, {inq(reader.receiver)} queued"
    names = ("recv_skip_hint", "inq", "err")
    filled = [f"{name} {getattr(request, name)}" for name in names if getattr(request, name) != UNTOUCHED]
    return ", ".join([f"mapped {request.length}", *filled, f"{inq(reader.receiver)} queued"])


CASES.why("A length is not negative.")
CASES.call(_fields, "optlen-negative", -1)("optlen -1", "EINVAL, 4196 queued")
CASES.why("A structure of no bytes is refused.")
CASES.call(_fields, "optlen-zero", 0)("optlen 0", "EINVAL, 4196 queued")
CASES.why("Address and length are the minimum.")
CASES.call(_fields, "optlen-below-the-first-form", end_of("length") - 1)(
    "optlen 11: less than address and length", "EINVAL, 4196 queued"
)
CASES.why("The shortest structure returns only what was mapped.")
CASES.call(_fields, "optlen-of-the-length", end_of("length"))(
    "optlen 12: address and length", "mapped 4096, 100 queued"
)
CASES.why("The first form of the structure.")
CASES.call(_fields, "optlen-of-the-hint", end_of("recv_skip_hint"))(
    "optlen 16: to the hint", "mapped 4096, recv_skip_hint 0, 100 queued"
)
CASES.why("The second form says how much is still queued.")
CASES.call(_fields, "optlen-of-inq", end_of("inq"))(
    "optlen 20: to inq", "mapped 4096, recv_skip_hint 0, inq 100, 100 queued"
)
CASES.why("The third form returns the socket's error.")
CASES.call(_fields, "optlen-of-err", end_of("err"))(
    "optlen 24: to err", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued"
)
CASES.why("A length that ends within a field is accepted, and inq and err are left as they were.")
CASES.call(_fields, "optlen-within-a-field", end_of("inq") + 2)(
    "optlen 22: into the middle of err", "mapped 4096, recv_skip_hint 0, 100 queued"
)
CASES.why("The fourth form has a copy buffer (none is given here).")
CASES.call(_fields, "optlen-of-the-copy-buffer", end_of("copybuf_len"))(
    "optlen 40: to the copy buffer's length", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued"
)
CASES.why("The last form has room for control messages.")
CASES.call(_fields, "optlen-of-all", SIZE)(
    "optlen 64: all", "mapped 4096, recv_skip_hint 0, inq 100, err 0, 100 queued"
)


@CASES.add(
    "100 bytes queued, optlen 24, a copy buffer behind it", "ok, hint 100, copybuf_len 4096, 100 queued"
)
def optlen_before_the_copy_buffer(bench: Bench) -> str:
    """What lies behind optlen is neither read nor written."""
    reader = Reader(bench).queue(100, pages=False)
    request = reader.request(PAGE)
    result = ask(reader.receiver, request, end_of("err"))
    queued = inq(reader.receiver)
    return f"{result}, hint {request.recv_skip_hint}, copybuf_len {request.copybuf_len}, {queued} queued"


def _longer(bench: Bench, more: bytes) -> str:
    reader = Reader(bench).queue(2 * PAGE)
    memory = ctypes.create_string_buffer(bytes(reader.request()) + more, SIZE + len(more))
    try:
        optlen = getsockopt(reader.receiver, ctypes.addressof(memory), len(memory))
    except OSError as error:
        return f"{error_name(error)}, {inq(reader.receiver)} queued"
    mapped = Request.from_buffer(memory).length
    return f"mapped {mapped}, optlen {optlen} afterwards, {inq(reader.receiver)} queued"


CASES.why("A program built for a later kernel gets the size that this kernel knows.")
CASES.call(_longer, "optlen-longer-with-zeros", bytes(8))(
    "optlen 72, zeros at the end", "mapped 8192, optlen 64 afterwards, 0 queued"
)
CASES.why("Unknown fields that are not zero are refused.")
CASES.call(_longer, "optlen-longer-with-something", b"\0" * 7 + b"\1")(
    "optlen 72, something at the end", "EINVAL, 8192 queued"
)


def _structure_at(reader: Reader, address: int) -> str:
    result = outcome(lambda: getsockopt(reader.receiver, address, SIZE))
    return f"{result}, {inq(reader.receiver)} queued"


CASES.why("A structure that cannot be read is EFAULT, and nothing is consumed.")
CASES.steps("structure-not-there", queue(2 * PAGE), lambda reader: _structure_at(reader, 0))(
    "two pages queued, no structure: address 0", "EFAULT, 8192 queued"
)


@CASES.add("two pages queued, a structure that can only be read", "EFAULT, 0 queued")
def structure_read_only(bench: Bench) -> str:
    """A structure that cannot be written is EFAULT, too, but the bytes are consumed and lost."""
    reader = Reader(bench).queue(2 * PAGE)
    memory = map_memory(bench, PAGE, protection=READ_WRITE)
    request = reader.request()
    ctypes.memmove(memory.address, ctypes.byref(request), SIZE)
    memory.protect(mmap.PROT_READ)
    return _structure_at(reader, memory.address)


@CASES.add("setsockopt() instead of getsockopt()", "ENOPROTOOPT")
def setsockopt_instead(bench: Bench) -> str:
    """The option cannot be set."""
    reader = Reader(bench)
    option = bytes(reader.request())
    return outcome(lambda: reader.receiver.setsockopt(socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, option))
