# SPDX-License-Identifier: Apache-2.0
"""getsockopt(TCP_ZEROCOPY_RECEIVE): its structure, the call, and a connection whose receiver makes it."""

from __future__ import annotations

import ctypes
import errno
import socket

from .libc import check, libc
from .sockets import PAGE, inq, map_memory, outcome
from .stream import Stream, step
from .table import Bench

TCP_ZEROCOPY_RECEIVE = 35

takes = step("take")


class Request(ctypes.Structure):
    """struct tcp_zerocopy_receive."""

    _fields_ = [
        ("address", ctypes.c_uint64),
        ("length", ctypes.c_uint32),
        ("recv_skip_hint", ctypes.c_uint32),
        ("inq", ctypes.c_uint32),
        ("err", ctypes.c_int32),
        ("copybuf_address", ctypes.c_uint64),
        ("copybuf_len", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("msg_control", ctypes.c_uint64),
        ("msg_controllen", ctypes.c_uint64),
        ("msg_flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


SIZE = ctypes.sizeof(Request)


def end_of(field: str) -> int:
    """Return the shortest optlen that holds a field."""
    member = getattr(Request, field)
    end: int = member.offset + member.size
    return end


def getsockopt(sock: socket.socket, value: int, length: int) -> int:
    """Call getsockopt(TCP_ZEROCOPY_RECEIVE) on memory at `value`; return optlen afterwards; raise OSError."""
    optlen = ctypes.c_uint32(length & 0xFFFFFFFF)
    option = (socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, ctypes.c_void_p(value), ctypes.byref(optlen))
    check(libc.getsockopt(sock.fileno(), *option))
    return optlen.value


def ask(sock: socket.socket, request: Request, optlen: int = SIZE) -> str:
    """Make the call; return "ok" or the error's name. The request then holds the kernel's answer."""
    return outcome(lambda: getsockopt(sock, ctypes.addressof(request), optlen))


class Reader(Stream):
    """A connection with what its receiver needs: an area of some pages to map into, and a copy buffer."""

    def __init__(self, bench: Bench, pages: int = 8) -> None:
        super().__init__(bench)
        self.mapping = map_memory(bench, pages * PAGE, self.receiver.fileno())
        self.buffer = ctypes.create_string_buffer(pages * PAGE)

    def request(self, copy: int = 0, **fields: int) -> Request:
        """Return a request for the whole area, with a copy buffer of some bytes."""
        defaults = {
            "address": self.mapping.address,
            "length": self.mapping.length,
            "copybuf_address": ctypes.addressof(self.buffer) if copy else 0,
            "copybuf_len": copy,
        }
        return Request(**{**defaults, **fields})

    def take(self, copy: int = 0, **fields: int) -> str:
        """Call with such a request; see answer()."""
        return self.answer(self.request(copy, **fields))

    def answer(self, request: Request) -> str:
        """Call with a request; return what the kernel answers as text, and whether the bytes are as sent."""
        area = request.address
        result = ask(self.receiver, request)
        if result != "ok":
            return f"{result}, {inq(self.receiver)} queued"
        copied = max(request.copybuf_len, 0)
        got = (ctypes.string_at(area, request.length) if request.length else b"") + self.buffer.raw[:copied]
        parts = [f"mapped {request.length}", f"hint {request.recv_skip_hint}"]
        if request.copybuf_len:
            parts.append(f"copied {request.copybuf_len}")
        if request.err:
            parts.append(f"err {errno.errorcode[-request.err]}")
        if got:
            parts.append(self.as_sent(got, self.taken))
            self.taken += len(got)
        return ", ".join([*parts, f"{inq(self.receiver)} queued"])
