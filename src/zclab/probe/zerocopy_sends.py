# SPDX-License-Identifier: Apache-2.0
"""Connections, memory, sends and reads for test cases that send with MSG_ZEROCOPY."""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from .libc import MAP_FIXED_NOREPLACE, READ_WRITE
from .netns import VethLink, await_bytes, byte_count, needs_device
from .processes import SECONDS, forked
from .sink import READY
from .sockets import MSG_ZEROCOPY, PAGE, SO_ZEROCOPY, Mapping, map_memory, pair, payload, unconnected
from .table import Bench, NotHereError, Peer

SO_SNDBUFFORCE = 32
#: What as_user() lets a user lock.
LOCKED_PAGES = 16
#: Plain bytes that fill a receiver's buffer, so that all after them waits in the sender's queue.
FRONT = payload(1 << 18, seed=9)


def connected(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Return a connected sender and receiver on loopback; the sender blocks, and has SO_ZEROCOPY."""
    sender, receiver = pair(bench)
    # Each call is one send: none is begun again by Python.
    sender.settimeout(None)
    return sender, receiver


def stalled(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Return a connection on loopback on which nothing more is transmitted until FRONT has been read."""
    return stall(*connected(bench))


def stall(sender: socket.socket, receiver: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Have nothing more transmitted on a connection until FRONT, which this sends, has been read."""
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 26)
    # Nothing is appended to its last segment.
    sender.sendall(FRONT, socket.MSG_EOR)
    return sender, receiver


def across(bench: Bench, link: VethLink) -> tuple[socket.socket, socket.socket]:
    """Return a sender in this network namespace, and a receiver at the far end of a link."""
    with link.beyond():
        listener = bench.keep(socket.create_server((link.address, 0), family=bench.address_family))
    sender = unconnected(bench)
    sender.connect(listener.getsockname()[:2])
    receiver = bench.keep(listener.accept()[0])
    receiver.settimeout(SECONDS)
    return sender, receiver


def udp_pair(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Return a connected UDP sender and its receiver on loopback; the sender has SO_ZEROCOPY."""
    bench.links.add("loopback")
    receiver = bench.keep(socket.socket(bench.address_family, socket.SOCK_DGRAM))
    receiver.bind((bench.loopback, 0))
    receiver.settimeout(SECONDS)
    sender = bench.keep(socket.socket(bench.address_family, socket.SOCK_DGRAM))
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    sender.connect(receiver.getsockname()[:2])
    return sender, receiver


class ToSink(NamedTuple):
    """A connection to the pair's other host, and what the interface had sent before."""

    sender: socket.socket
    peer: Peer
    tx_before: int

    def report(self, sent: bytes) -> str:
        """End the stream; return whether the sink got it whole, and both data interfaces carried it."""
        self.sender.shutdown(socket.SHUT_WR)
        count, digest, received = read_to_end(self.sender).split()
        same = (int(count), digest.decode()) == (len(sent), hashlib.sha256(sent).hexdigest())
        content = "content whole" if same else "content changed"
        for word, carried in (
            ("sent", await_bytes(self.peer.interface, "tx", self.tx_before, len(sent))),
            ("received", int(received)),
        ):
            if carried < len(sent):
                return f"{content}, but the data interface {word} {carried} of {len(sent)} bytes"
        return f"{content} over the data interfaces"


def to_sink(bench: Bench) -> ToSink:
    """Connect to the pair's other host, with SO_ZEROCOPY.

    Raises:
        NotHereError: there is none, or none behind a device that sends from the program's pages.
        RuntimeError: the route to it leaves by another interface than the one under test.
    """
    if bench.peer is None:
        raise NotHereError("there is no other host to send to")
    bench.links.add("data interface")
    needs_device(bench.peer)
    before = byte_count(bench.peer.interface, "tx")
    sender = unconnected(bench)
    sender.connect(bench.peer[:2])
    if (answer := read(sender, len(READY))) != READY:
        raise RuntimeError(
            f"the sink's first answer is {answer!r}: it takes nothing from this host's address"
        )
    return ToSink(sender, bench.peer, before)


def memory(bench: Bench, data: bytes, at: int = 0) -> Mapping:
    """Return memory of its own pages with data in it, at an address if one is given, which must be free."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (MAP_FIXED_NOREPLACE if at else 0)
    area = map_memory(bench, len(data), -1, READ_WRITE, flags, 0, at)
    area.view()[:] = data
    return area


def send(sender: socket.socket, data: memoryview, flags: int = 0) -> None:
    """Send all by one call with MSG_ZEROCOPY; raise OSError, or RuntimeError when it took only a part."""
    taken = sender.send(data, MSG_ZEROCOPY | flags)
    if taken != len(data):
        raise RuntimeError(f"{taken} of {len(data)} bytes were taken")


def read(receiver: socket.socket, length: int) -> bytes:
    """Return so many bytes, or all until the end if that comes first."""
    parts = []
    while length and (part := receiver.recv(min(length, 1 << 18))):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def read_to_end(receiver: socket.socket) -> bytes:
    """Return all until the end of the stream."""
    return read(receiver, 1 << 40)


def take_away(receiver: socket.socket, length: int) -> None:
    """Read and discard so many bytes; raise RuntimeError if the stream ends before."""
    got = len(read(receiver, length))
    if got != length:
        raise RuntimeError(f"only {got} of {length} bytes came")


def reading(receiver: socket.socket) -> Callable[[], bytes]:
    """Read to the end by a thread, from now; return the call that waits for it and returns what was read."""
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(read_to_end(receiver)), daemon=True)
    thread.start()

    def result() -> bytes:
        thread.join(SECONDS)
        if not got:
            raise TimeoutError("the stream did not end")
        return got[0]

    return result


def whole(got: bytes, sent: bytes) -> str:
    """Return whether what was received is what was sent, as text."""
    return "content whole" if got == sent else f"content changed ({len(got)} of {len(sent)} bytes)"


def as_user(user: int, call: Callable[[], str]) -> str:
    """Return what a call returns in a process of that user, who may lock LOCKED_PAGES; see forked()."""

    def become_and_call() -> str:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (LOCKED_PAGES * PAGE, LOCKED_PAGES * PAGE))
        if user:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        return call()

    return str(forked(become_and_call))
