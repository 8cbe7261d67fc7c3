# SPDX-License-Identifier: Apache-2.0
"""A connection on loopback whose bytes are known: what is mapped or read is compared with what was sent."""

from __future__ import annotations

import errno
import fcntl
import mmap
import socket
import struct
import termios
from typing import TYPE_CHECKING

from .processes import SECONDS
from .sockets import (
    MSG_ZEROCOPY,
    PAGE,
    Mapping,
    error_name,
    inq,
    map_memory,
    pair,
    payload,
    send_pages,
    wait_until,
)
from .table import Bench

if TYPE_CHECKING:  # which Python has since 3.11, and a host may lack
    from typing import Self

_ESTABLISHED = 1


class Stream:
    """A sender, a receiver, the bytes `sent` so far and how many of them were `taken`."""

    def __init__(self, bench: Bench, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        self.bench = bench
        self.sender, self.receiver = ends or pair(bench)
        self.sent = b""
        self.taken = 0

    def queue(self, length: int, pages: bool = True) -> Self:
        """Send more bytes and wait for them: in pages of their own, or where they cannot be mapped."""
        data = payload(length, 1 + len(self.sent))
        if pages:
            send_pages(self.sender, self.receiver, data)
        else:
            self.sender.sendall(data)
            self._wait_acknowledged()
        self.sent += data
        return self

    def queue_urgent(self, length: int = 0) -> Self:
        """Send an urgent byte, and more bytes behind it; without SO_OOBINLINE a read never returns it."""
        behind = payload(length, 1 + len(self.sent))
        self.sender.send(b"!", socket.MSG_OOB)
        self.sender.sendall(behind)
        self._wait_acknowledged()
        inline = self.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
        self.sent += (b"!" if inline else b"") + behind
        return self

    def queue_corked(self, header: int, flags: int, length: int) -> Self:
        """Send a header with some flags and then pages, both under TCP_CORK until they can go together."""
        data = payload(header + length, 1 + len(self.sent))
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self.sender.send(data[:header], flags)
        self.sender.sendall(data[header:], MSG_ZEROCOPY)
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        self._wait_acknowledged()
        self.sent += data
        return self

    def fin(self) -> Self:
        """End the sender's direction, and wait until the receiver knows."""
        self.sender.shutdown(socket.SHUT_WR)
        wait_until(lambda: self._state() != _ESTABLISHED)
        return self

    def reset(self) -> Self:
        """Have the sender reset the connection, and wait until the receiver knows."""
        self.sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sender.close()
        wait_until(lambda: self._state() != _ESTABLISHED)
        return self

    def area(
        self,
        length: int,
        protection: int = mmap.PROT_READ,
        flags: int = mmap.MAP_SHARED,
        offset: int = 0,
        address: int = 0,
    ) -> Mapping:
        """mmap() the receiver; the bytes count as taken; raise OSError."""
        area = map_memory(self.bench, length, self.receiver.fileno(), protection, flags, offset, address)
        self.taken += (length + PAGE - 1) // PAGE * PAGE
        return area

    def map(self, length: int, *arguments: int, **named: int) -> str:
        """mmap() the receiver; return the result, whether the bytes are as sent, and what is queued then."""
        start = self.taken
        try:
            area = self.area(length, *arguments, **named)
        except OSError as error:
            return f"{error_name(error)}, {inq(self.receiver)} queued"
        got = area.read(0, self.taken - start)
        return f"mapped {len(got)} {self.as_sent(got, start)}, {inq(self.receiver)} queued"

    def map_then_rest(self, length: int) -> str:
        """map(), and then rest(), which shows what the mapping has left."""
        return f"{self.map(length)}; {self.rest()}"

    def as_sent(self, got: bytes, start: int) -> str:
        """Return whether bytes are those that were sent, from a position of the stream on."""
        return "as sent" if got and got == self.sent[start : start + len(got)] else "not as sent"

    def read(self, length: int) -> str:
        """recv() once; return how many bytes came, and whether they are as sent."""
        return self._checked(self.receiver.recv(length))

    def rest(self) -> str:
        """recv() until nothing is left; return how much it was, whether as sent, and what comes then."""
        got, then = b"", ""
        self.receiver.setblocking(False)
        try:
            while part := self.receiver.recv(1 << 20):
                got += part
            then = "then the end"
        except OSError as error:
            then = "" if error.errno == errno.EAGAIN else f"then {error_name(error)}"
        self.receiver.settimeout(SECONDS)
        return ", ".join(filter(None, [self._checked(got) if got else "read 0", then]))

    def _checked(self, got: bytes) -> str:
        start, self.taken = self.taken, self.taken + len(got)
        return f"read {len(got)} {self.as_sent(got, start)}"

    def _wait_acknowledged(self) -> None:
        """Wait until all that was sent is queued at the receiver; FIONREAD stops at an urgent byte."""
        wait_until(lambda: not struct.unpack("i", fcntl.ioctl(self.sender, termios.TIOCOUTQ, bytes(4)))[0])

    def _state(self) -> int:
        """Return the receiver's TCP state (tcp_info's first byte)."""
        return self.receiver.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
