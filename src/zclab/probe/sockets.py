# SPDX-License-Identifier: Apache-2.0
"""Sockets and mappings for test cases: what Python's standard library has no names or calls for."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import termios
import time
from collections.abc import Callable

from .libc import check, libc
from .processes import SECONDS
from .table import Bench

PAGE = mmap.PAGESIZE
MSG_ZEROCOPY = 0x4000000
SO_ZEROCOPY = 60

# Of two names of one number that of the documents; and a number of the kernel's own, not for programs.
_OTHER_NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP", 524: "ENOTSUPP"}


def pair(bench: Bench) -> tuple[socket.socket, socket.socket]:
    """Return a connected sender and receiver on loopback; the sender may send with MSG_ZEROCOPY."""
    bench.links.add("loopback")
    sender = unconnected(bench)
    with socket.create_server((bench.loopback, 0), family=bench.address_family) as listening:
        sender.connect(listening.getsockname())
        receiver = bench.keep(listening.accept()[0])
    sender.settimeout(SECONDS)
    receiver.settimeout(SECONDS)
    return sender, receiver


def unconnected(bench: Bench) -> socket.socket:
    """Return a TCP socket with SO_ZEROCOPY and TCP_NODELAY."""
    sender = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sender


def listener(bench: Bench, backlog: int | None = None) -> socket.socket:
    """Return a TCP socket that listens on loopback."""
    bench.links.add("loopback")
    address = (bench.loopback, 0)
    return bench.keep(socket.create_server(address, family=bench.address_family, backlog=backlog))


def payload(length: int, seed: int = 1) -> bytes:
    """Return bytes that are different on every page and for every seed."""
    block = b"".join(
        struct.pack("<II", seed, page) * (PAGE // 8) for page in range((length + PAGE - 1) // PAGE)
    )
    return block[:length]


def send_pages(sender: socket.socket, receiver: socket.socket, data: bytes) -> None:
    """Send data so that the receiver finds each whole page of it in a page of its own, and wait for it.

    On loopback the kernel's private copy of a zerocopy send lies in such pages; a plain send's does not.
    A new connection's segments carry at most half of the first window, which is a little less than 8 pages.
    """
    queued = inq(receiver)
    view = memoryview(data)  # a slice of bytes would be freed while the kernel may still send from it
    for at in range(0, len(data), 4 * PAGE):
        sender.sendall(view[at : at + 4 * PAGE], MSG_ZEROCOPY)
    wait_until(lambda: inq(receiver) >= queued + len(data))


def inq(sock: socket.socket) -> int:
    """Return how many bytes are queued for reading (FIONREAD)."""
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


def wait_until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until something is true; raise TimeoutError when it does not come."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test case waited for did not come")
        time.sleep(0.002)


def error_name(error: OSError) -> str:
    """Return the name of an error, like "EINVAL"."""
    return _OTHER_NAMES.get(error.errno or 0) or errno.errorcode.get(error.errno or 0, str(error))


def outcome(call: Callable[[], object]) -> str:
    """Return "ok", or the name of the error that a call raises."""
    try:
        call()
    except OSError as error:
        return error_name(error)
    return "ok"


class Mapping(contextlib.AbstractContextManager["Mapping"]):
    """What mmap() gave: `address` and `length`. Unmapped with its context."""

    def __init__(self, address: int, length: int) -> None:
        self.address = address
        self.length = length

    def __exit__(self, *_: object) -> None:
        self.unmap()

    def read(self, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of the mapping; reading what is not there is SIGBUS or SIGSEGV."""
        return ctypes.string_at(self.address + offset, self.length - offset if length is None else length)

    def view(self, offset: int = 0, length: int | None = None) -> memoryview:
        """Return a view of the mapping to send from or write to; nothing is touched until it is used."""
        length = self.length - offset if length is None else length
        return memoryview((ctypes.c_char * length).from_address(self.address + offset)).cast("B")

    def there(self, offset: int = 0) -> bool:
        """Return whether a byte of the mapping can be read, without a signal if it cannot."""
        memory = os.memfd_create("asked")
        try:
            return bool(libc.write(memory, self.address + offset, 1) == 1)
        finally:
            os.close(memory)

    def protect(self, protection: int) -> None:
        """mprotect() the whole mapping; raise OSError."""
        check(libc.mprotect(self.address, self.length, protection))

    def unmap(self, offset: int = 0, length: int | None = None) -> None:
        """munmap() a part or, by default, all; raise OSError."""
        if length is None:
            length, self.length = self.length, 0
        if length:
            check(libc.munmap(self.address + offset, length))


def map_memory(bench: Bench, length: int, *arguments: int, **named: int) -> Mapping:
    """Return what `mapped` does, unmapped with the bench."""
    return bench.keep(mapped(length, *arguments, **named))


def mapped(
    length: int,
    fd: int = -1,
    protection: int = mmap.PROT_READ,
    flags: int | None = None,
    offset: int = 0,
    address: int = 0,
) -> Mapping:
    """mmap(): of a file or socket (shared) or, by default, of anonymous memory (private); raise OSError."""
    if flags is None:
        flags = mmap.MAP_SHARED if fd >= 0 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return Mapping(check(libc.mmap(address, length, protection, flags, fd, offset)), length)
