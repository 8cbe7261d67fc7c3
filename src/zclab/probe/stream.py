# SPDX-License-Identifier: Apache-2.0
"""A connection on loopback whose bytes are known: what is mapped or read is compared with what was sent."""

from __future__ import annotations

import errno
import fcntl
import functools
import mmap
import operator
import socket
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
#: What is done with a Stream in a test case; text that it returns is a part of the outcome.
Step = Callable[[Any], object]


def step(method: str) -> Callable[..., Step]:
    """Return the function that makes steps of a method: step("queue")(PAGE) is one that queues a page."""
    return functools.partial(operator.methodcaller, method)


queue, urgent, corked, fin, reset = map(step, ("queue", "queue_urgent", "queue_corked", "fin", "reset"))
inline, rcvlowat, blocking, shut = map(step, ("inline", "rcvlowat", "blocking", "shut"))
plain = functools.partial(queue, pages=False)
maps, reads, rest = map(step, ("map", "read", "rest"))


def unsaid(given: Step) -> Step:
    """Return a step whose text is no part of the outcome."""
    return lambda stream: given(stream) and None


class Stream:
    """A sender, a receiver, the bytes `sent` so far and how many of them were `taken`."""

    def __init__(self, bench: Bench, ends: tuple[socket.socket, socket.socket] | None = None) -> None:
        self.bench = bench
        self.sender, self.receiver = ends or pair(bench)
        self.sent = b""
        self.taken = 0

    @classmethod
    def does(cls, bench: Bench, *steps: Step, **made: int) -> str:
        """Return the outcome of steps on a new stream, which is made so: the texts that they return."""
        stream = cls(bench, **made)  # type: ignore[arg-type]
        return "; ".join(text for step in steps if isinstance(text := step(stream), str))

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
        self.sender.sendall(memoryview(data)[header:], MSG_ZEROCOPY)
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        self._wait_acknowledged()
        self.sent += data
        return self

    def inline(self) -> Self:
        """Have a read return urgent bytes, too (SO_OOBINLINE)."""
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        return self

    def rcvlowat(self, length: int) -> Self:
        """Set SO_RCVLOWAT, which also makes room for so many bytes."""
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)
        return self

    def blocking(self) -> Self:
        """Have the receiver wait without a limit."""
        self.receiver.settimeout(None)
        return self

    def shut(self) -> Self:
        """shutdown() the receiver's direction by the receiver itself."""
        self.receiver.shutdown(socket.SHUT_RD)
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

    def close(self) -> None:
        """Close both ends."""
        self.receiver.close()
        self.sender.close()

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


def with_area(bench: Bench, length: int, behind: int = 0, **how: int) -> tuple[Stream, Mapping]:
    """Return a stream and a mapping of its first bytes, with others queued `behind` them."""
    stream = Stream(bench).queue(length + behind)
    return stream, stream.area(length, **how)
