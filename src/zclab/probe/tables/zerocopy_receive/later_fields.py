# SPDX-License-Identifier: Apache-2.0
"""Flags and the fields of later kernels."""

from __future__ import annotations

import ctypes
import socket
import struct

from ...sockets import PAGE, wait_until
from ...table import Bench, Cases
from ...zerocopy_receive import Reader

CASES = Cases()

TLB_CLEAN_HINT = 1
SO_TIMESTAMPNS = 35
TCP_CMSG_TS = 2


@CASES.add("two pages queued, a clean area, the TLB clean hint", "mapped 8192, hint 0, as sent, 0 queued")
def tlb_clean_hint(bench: Bench) -> str:
    """A caller that knows its area to be empty sets the flag."""
    return Reader(bench).queue(2 * PAGE).take(flags=TLB_CLEAN_HINT)


@CASES.add(
    "four pages queued, two calls over the same two pages, both with the TLB clean hint",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def tlb_clean_hint_not_true(bench: Bench) -> str:
    """The hint is only a hint: where it is not true the pages are replaced all the same."""
    reader = Reader(bench).queue(4 * PAGE)
    first = reader.take(length=2 * PAGE, flags=TLB_CLEAN_HINT)
    return f"{first}; {reader.take(length=2 * PAGE, flags=TLB_CLEAN_HINT)}"


@CASES.add("two pages queued, every flag that has no meaning", "mapped 8192, hint 0, as sent, 0 queued")
def unknown_flags(bench: Bench) -> str:
    """Unknown flags are not refused: a program cannot probe with them what a kernel supports."""
    return Reader(bench).queue(2 * PAGE).take(flags=0xFFFFFFFE)


@CASES.add("two pages queued, reserved is 1", "EINVAL, 8192 queued")
def reserved_not_zero(bench: Bench) -> str:
    """What is reserved has to be zero."""
    return Reader(bench).queue(2 * PAGE).take(reserved=1)


@CASES.add("two pages queued, msg_flags is 1", "EINVAL, 8192 queued")
def message_flags_unknown(bench: Bench) -> str:
    """Of msg_flags only the one for time stamps may be set."""
    return Reader(bench).queue(2 * PAGE).take(msg_flags=1)


@CASES.add(
    "two pages queued, msg_flags asks for time stamps, none are switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 64 bytes of control free",
)
def message_flags_without_time_stamps(bench: Bench) -> str:
    """The flag alone gives no control message."""
    return _control(Reader(bench).queue(2 * PAGE), 64)


@CASES.add(
    "two pages queued, time stamps switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
def time_stamp(bench: Bench) -> str:
    """A time stamp comes as a control message, as recvmsg() gives it."""
    return _control(_stamped(bench).queue(2 * PAGE), 64)


@CASES.add(
    "100 bytes queued, a copy buffer of 4096, time stamps switched on",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
def time_stamp_of_a_copy(bench: Bench) -> str:
    """What is copied has its time stamp, too."""
    return _control(_stamped(bench).queue(100, pages=False), 64, PAGE)


@CASES.add(
    "two pages queued, time stamps switched on, 8 bytes for control messages",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags MSG_CTRUNC, 8 bytes of control free",
)
def time_stamp_that_does_not_fit(bench: Bench) -> str:
    """A control buffer that is too short is reported as by recvmsg()."""
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
    result = reader.answer(request)
    flags = "MSG_CTRUNC" if request.msg_flags == socket.MSG_CTRUNC else str(request.msg_flags)
    header = struct.unpack("Qii", buffer.raw[:16])
    stamp = ", a time stamp" if header == (32, socket.SOL_SOCKET, SO_TIMESTAMPNS) else ""
    return f"{result}; msg_flags {flags}, {request.msg_controllen} bytes of control free{stamp}"
