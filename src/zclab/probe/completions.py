# SPDX-License-Identifier: Apache-2.0
"""What the kernel reports about MSG_ZEROCOPY sends: completions on the error queue, and memory in use."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Iterable
from typing import NamedTuple

from .processes import SECONDS
from .sockets import wait_until

MSG_ERRQUEUE = 0x2000
SO_MEMINFO = 55
_ORIGIN_ZEROCOPY = 5
_CODE_COPIED = 1
# The control messages that carry an extended error: IP_RECVERR, IPV6_RECVERR.
_RECVERR = {(socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25)}
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_SIOCOUTQNSD = 0x894B
_MEMINFO = struct.Struct("=9I")
_OPTMEM = 6  # its place in SO_MEMINFO
# Where struct tcp_info has these.
_OPTIONS, _TOTAL_RETRANS, _DATA_SEGS_OUT = (5, "B"), (100, "I"), (156, "I")
_OPTION_SYN_DATA = 32


class Completion(NamedTuple):
    """A range of sends, [lo, hi], that the kernel has done with; `copied` if it made a copy after all."""

    lo: int
    hi: int
    copied: bool

    def __str__(self) -> str:
        return f"{self.lo} to {self.hi}{' copied' if self.copied else ''}"


def take(sock: socket.socket) -> Completion | None:
    """Return the next completion of a blocking socket, or None if its error queue is empty.

    Raises:
        ValueError: the error queue has something else.
    """
    try:
        data, control, flags, _ = sock.recvmsg(1, 512, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    if data or flags != MSG_ERRQUEUE or len(control) != 1 or control[0][:2] not in _RECVERR:
        raise ValueError(f"not a completion: {data!r} {control!r} {flags:#x}")
    return completion_in(control[0][2])


def completion_in(control: bytes) -> Completion:
    """Return the completion in a control message's data, struct sock_extended_err; raise ValueError."""
    error, origin, kind, code, _, lo, hi = _EXTENDED_ERROR.unpack_from(control)
    if error or origin != _ORIGIN_ZEROCOPY or kind or code & ~_CODE_COPIED:
        raise ValueError(f"not a completion: error {error}, origin {origin}, type {kind}, code {code}")
    return Completion(lo, hi, bool(code & _CODE_COPIED))


def await_completions(sock: socket.socket, sends: int) -> list[Completion]:
    """Return the completions of as many sends; raise TimeoutError when they do not come."""
    poll = select.poll()
    poll.register(sock, 0)
    completions: list[Completion] = []
    deadline = time.monotonic() + SECONDS
    while sum(one.hi - one.lo + 1 for one in completions) < sends:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{sends} sends, but only these were completed: {as_text(completions)}")
        poll.poll(100)
        while one := take(sock):
            completions.append(one)
    return completions


def as_text(completions: Iterable[Completion]) -> str:
    """Return completions as text, however many reads they came in: adjacent ones of a kind are joined."""
    joined: list[Completion] = []
    for one in sorted(completions):
        if joined and joined[-1].hi + 1 == one.lo and joined[-1].copied == one.copied:
            one = joined.pop()._replace(hi=one.hi)
        joined.append(one)
    return ", ".join(map(str, joined)) or "none"


def take_all(sock: socket.socket) -> str:
    """Return the completions that are there now, in the order in which they come, as text."""
    return ", ".join(map(str, iter(lambda: take(sock), None))) or "none"


def settle(sock: socket.socket, left: int = 0) -> None:
    """Wait until all that was sent but for `left` bytes is acknowledged and its completions are queued."""
    wait_until(lambda: struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] <= left)
    # This call takes the socket's lock: whatever freed the last buffer has finished then.
    _tcp_info(sock, *_OPTIONS)


def unsent(sock: socket.socket) -> int:
    """Return how many bytes are queued and were never transmitted."""
    return struct.unpack("i", fcntl.ioctl(sock, _SIOCOUTQNSD, bytes(4)))[0]  # type: ignore[no-any-return]


def optmem(sock: socket.socket) -> int:
    """Return the bytes of option memory that a socket uses: that of its notifications."""
    return _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[_OPTMEM]  # type: ignore[no-any-return]


def segments(sock: socket.socket) -> int:
    """Return the number of segments with data that were sent, but for those that were sent again."""
    return _tcp_info(sock, *_DATA_SEGS_OUT) - _tcp_info(sock, *_TOTAL_RETRANS)


def syn_had_data(sock: socket.socket) -> bool:
    """Return whether the SYN carried data, and the peer acknowledged it."""
    return bool(_tcp_info(sock, *_OPTIONS) & _OPTION_SYN_DATA)


def _tcp_info(sock: socket.socket, offset: int, kind: str) -> int:
    return struct.unpack_from(kind, sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), offset)[0]  # type: ignore[no-any-return]
