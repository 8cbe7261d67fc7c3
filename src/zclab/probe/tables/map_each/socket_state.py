# SPDX-License-Identifier: Apache-2.0
"""The state of the socket, and protocols above and beside TCP."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import select
import socket
import struct

from ...libc import READ_WRITE, check, libc
from ...sockets import PAGE, error_name, listener, map_memory, outcome, pair
from ...stream import Step, Stream, maps, queue
from ...table import Bench, Cases, NotHereError

CASES = Cases(Stream.does)

TCP_REPAIR, TCP_ULP = 19, 31
SOL_TLS, TLS_RX = 282, 2


@CASES.add("a listening socket", "ENOTCONN", "M8")
def listening(bench: Bench) -> str:
    """A listening socket has no bytes."""
    return outcome(lambda: map_memory(bench, PAGE, listener(bench, backlog=0).fileno()))


def _unconnected(bench: Bench, kind: socket.SocketKind) -> str:
    sock = bench.keep(socket.socket(bench.address_family, kind))
    return outcome(lambda: map_memory(bench, PAGE, sock.fileno()))


CASES.why("Nor has one without a peer.")
CASES.call(_unconnected, "unconnected", socket.SOCK_STREAM)(
    "a socket that was never connected", "ENOTCONN", "M8", link="none"
)


@CASES.add("a socket that was disconnected with a page queued", "ENOTCONN, 0 queued", "M8")
def disconnected(bench: Bench) -> str:
    """connect() to no address gives up the connection, and what was queued."""
    stream = Stream(bench).queue(PAGE)
    nowhere = struct.pack("H26x", socket.AF_UNSPEC)
    check(libc.connect(stream.receiver.fileno(), nowhere, len(nowhere)))
    return stream.map(PAGE)


@CASES.add("a socket that is being connected", "EAGAIN", "M6")
def connecting(bench: Bench) -> str:
    """No data yet, but some may come."""
    listening = listener(bench, backlog=0)
    for _ in range(8):  # the listener's queue is full after a few, and the next waits
        sock = bench.keep(socket.socket(bench.address_family, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.connect_ex(listening.getsockname())
        if not select.select([], [sock], [], 0.2)[1]:
            break
    else:
        raise NotHereError("every connection to a full listener was made at once")
    return outcome(lambda: map_memory(bench, PAGE, sock.fileno()))


@CASES.add(
    "a listening socket: offset 4096, then PROT_WRITE, with and without offset", "EINVAL, EPERM, EINVAL", "M8"
)
def arguments_come_first(bench: Bench) -> str:
    """The offset is looked at first, then the protection, then the socket."""
    fd = listener(bench, backlog=0).fileno()

    def refusal(protection: int, offset: int) -> str:
        return outcome(lambda: map_memory(bench, PAGE, fd, protection, offset=offset))

    return ", ".join([refusal(mmap.PROT_READ, PAGE), refusal(READ_WRITE, 0), refusal(READ_WRITE, PAGE)])


CASES.why("Only streams are mapped.")
CASES.call(_unconnected, "datagrams", socket.SOCK_DGRAM)("a socket of UDP", "ENODEV", link="none")


def _repair(on: int) -> Step:
    return lambda stream: stream.receiver.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, on)


CASES.why("As with a read, which TCP_REPAIR refuses, too.")
CASES.steps("under-repair", queue(PAGE), _repair(1), maps(PAGE), _repair(0), maps(PAGE))(
    "TCP_REPAIR, a page queued; then no longer TCP_REPAIR",
    "EPERM, 4096 queued; mapped 4096 as sent, 0 queued",
)


@CASES.add("TLS receives on the socket", "EOPNOTSUPP")
def under_tls(bench: Bench) -> str:
    """The bytes that are queued are not those that the program is to read."""
    _, receiver = pair(bench)
    try:
        receiver.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        version, aes_gcm_128 = 0x0303, 51
        key = struct.pack("HH", version, aes_gcm_128) + bytes(8 + 16 + 4 + 8)
        receiver.setsockopt(SOL_TLS, TLS_RX, key)
    except OSError as error:
        raise NotHereError(f"this kernel has no TLS: {error_name(error)}") from None
    return outcome(lambda: map_memory(bench, PAGE, receiver.fileno()))


@CASES.add("a page queued, the socket in a BPF sockmap", "EOPNOTSUPP; read 4096 as sent", "M5")
def in_a_sockmap(bench: Bench) -> str:
    """A program may redirect what is queued; a read asks it, a mapping does not."""
    stream = Stream(bench).queue(PAGE)
    bench.closing.callback(os.close, _sockmap_with(stream.receiver))
    refused = outcome(lambda: stream.area(PAGE))  # FIONREAD may ask the program, too
    return f"{refused}; {stream.rest()}"


def _sockmap_with(sock: socket.socket) -> int:
    """Return the descriptor of a new sockmap of one entry, this socket."""
    numbers = {"x86_64": 321, "aarch64": 280}
    create, update, kind = 0, 2, 15
    if platform.machine() not in numbers:
        raise NotHereError(f"the number of bpf() is not known for {platform.machine()}")

    def bpf(command: int, *fields: int, packing: str) -> int:
        attributes = ctypes.create_string_buffer(struct.pack(packing, *fields), 128)
        got = libc.syscall(numbers[platform.machine()], command, attributes, 128)
        if got < 0:
            raise NotHereError(f"this kernel has no sockmap: {errno.errorcode[ctypes.get_errno()]}")
        return int(got)

    made = bpf(create, kind, 4, 4, 1, packing="IIII")
    key, value = ctypes.c_uint32(0), ctypes.c_uint32(sock.fileno())
    bpf(update, made, ctypes.addressof(key), ctypes.addressof(value), packing="I4xQQ")
    return made
