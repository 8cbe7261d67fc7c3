# SPDX-License-Identifier: Apache-2.0
"""Flags and the fields of later kernels."""

from __future__ import annotations

import ctypes
import socket
import struct
from functools import partial

from ...sockets import PAGE, wait_until
from ...stream import plain, queue
from ...table import Cases
from ...zerocopy_receive import Reader, takes

CASES = Cases(Reader.does)

TLB_CLEAN_HINT = 1
SO_TIMESTAMPNS = 35
TCP_CMSG_TS = 2


CASES.why("A caller that knows its area to be empty sets the flag.")
CASES.steps("tlb-clean-hint", queue(2 * PAGE), takes(flags=TLB_CLEAN_HINT))(
    "two pages queued, a clean area, the TLB clean hint", "mapped 8192, hint 0, as sent, 0 queued"
)
CASES.why("The hint is only a hint: where it is not true the pages are replaced all the same.")
CASES.steps(
    "tlb-clean-hint-not-true",
    queue(4 * PAGE),
    takes(length=2 * PAGE, flags=TLB_CLEAN_HINT),
    takes(length=2 * PAGE, flags=TLB_CLEAN_HINT),
)(
    "four pages queued, two calls over the same two pages, both with the TLB clean hint",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
CASES.why("Unknown flags are not refused: a program cannot probe with them what a kernel supports.")
CASES.steps("unknown-flags", queue(2 * PAGE), takes(flags=0xFFFFFFFE))(
    "two pages queued, every flag that has no meaning", "mapped 8192, hint 0, as sent, 0 queued"
)
CASES.why("What is reserved has to be zero.")
CASES.steps("reserved-not-zero", queue(2 * PAGE), takes(reserved=1))(
    "two pages queued, reserved is 1", "EINVAL, 8192 queued"
)
CASES.why("Of msg_flags only the one for time stamps may be set.")
CASES.steps("message-flags-unknown", queue(2 * PAGE), takes(msg_flags=1))(
    "two pages queued, msg_flags is 1", "EINVAL, 8192 queued"
)


def _stamped(reader: Reader) -> None:
    """Switch time stamps on; the kernel begins to take them a little later."""
    reader.receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def comes() -> bool:
        reader.sender.sendall(b"x")
        return bool(reader.receiver.recvmsg(1, 64)[1])

    wait_until(comes)


def _control(reader: Reader, length: int = 64, copy: int = 0) -> str:
    """Take with room for control messages; return their flags, what is left of the room, and what came."""
    buffer = ctypes.create_string_buffer(64)
    request = reader.request(
        copy, msg_control=ctypes.addressof(buffer), msg_controllen=length, msg_flags=TCP_CMSG_TS
    )
    result = reader.answer(request)
    flags = "MSG_CTRUNC" if request.msg_flags == socket.MSG_CTRUNC else str(request.msg_flags)
    header = struct.unpack("Qii", buffer.raw[:16])
    stamp = ", a time stamp" if header == (32, socket.SOL_SOCKET, SO_TIMESTAMPNS) else ""
    return f"{result}; msg_flags {flags}, {request.msg_controllen} bytes of control free{stamp}"


CASES.why("The flag alone gives no control message.")
CASES.steps("message-flags-without-time-stamps", queue(2 * PAGE), _control)(
    "two pages queued, msg_flags asks for time stamps, none are switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 64 bytes of control free",
)
CASES.why("A time stamp comes as a control message, as recvmsg() gives it.")
CASES.steps("time-stamp", _stamped, queue(2 * PAGE), _control)(
    "two pages queued, time stamps switched on",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
CASES.why("What is copied has its time stamp, too.")
CASES.steps("time-stamp-of-a-copy", _stamped, plain(100), partial(_control, copy=PAGE))(
    "100 bytes queued, a copy buffer of 4096, time stamps switched on",
    "mapped 0, hint 0, copied 100, as sent, 0 queued; msg_flags 0, 32 bytes of control free, a time stamp",
)
CASES.why("A control buffer that is too short is reported as by recvmsg().")
CASES.steps("time-stamp-that-does-not-fit", _stamped, queue(2 * PAGE), partial(_control, length=8))(
    "two pages queued, time stamps switched on, 8 bytes for control messages",
    "mapped 8192, hint 0, as sent, 0 queued; msg_flags MSG_CTRUNC, 8 bytes of control free",
)
