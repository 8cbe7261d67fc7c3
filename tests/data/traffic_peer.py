# SPDX-License-Identifier: Apache-2.0
"""The other end of a traffic session over IPv6, for what the traffic tool itself never does.

receive OWN HEADER MESSAGE   map a framed stream; print how much of its payload was mapped page by page
send OWN PEER PORT HELLO HEADER MESSAGE COUNT   send corked zerocopy messages with headers, without MSG_EOR
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import select
import socket
import struct
import sys

PAGE = mmap.PAGESIZE
CHUNK = 512 * 1024
TCP_CORK, TCP_ZEROCOPY_RECEIVE = 3, 35
SO_RCVLOWAT, SO_ZEROCOPY = 18, 60
MSG_ERRQUEUE, MSG_ZEROCOPY = 0x2000, 0x4000000


def receive(own: str, header: int, message: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with socket.create_server((own, 0), family=socket.AF_INET6) as listener:
        print(f"listening {own} {listener.getsockname()[1]}", file=sys.stderr, flush=True)
        connection = listener.accept()[0]
    connection.recv(64, socket.MSG_WAITALL)
    connection.send(b"G")
    connection.setsockopt(socket.SOL_SOCKET, SO_RCVLOWAT, CHUNK)
    mapping = libc.mmap(None, CHUNK, mmap.PROT_READ, mmap.MAP_SHARED, connection.fileno(), 0)
    position = aligned = shifted = copied = 0
    while True:
        select.select([connection], [], [])
        call = ctypes.create_string_buffer(struct.pack("=QIIIi", mapping, CHUNK, 0, 0, 0), 24)
        size = ctypes.c_uint(len(call))
        if libc.getsockopt(
            connection.fileno(), socket.IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, call, ctypes.byref(size)
        ):
            break
        length, skip = struct.unpack_from("=II", call, 8)
        for page in range(position, position + length, PAGE):
            in_message = page % (header + message) - header
            if in_message >= 0 and in_message % PAGE == 0:
                aligned += PAGE
            else:
                shifted += PAGE
        position += length
        if skip:
            got = len(connection.recv(skip))
            position, copied = position + got, copied + got
        elif not length and not connection.recv(1, socket.MSG_PEEK):
            break
    print(json.dumps({"bytes": position, "aligned": aligned, "shifted": shifted, "copied": copied}))


def reap(connection: socket.socket) -> None:
    """Take the completions off the socket, unread: nothing is ever written to the buffer."""
    try:
        while True:
            connection.recvmsg(0, 256, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass


def send(own: str, peer: str, port: int, hello: str, header: int, message: int, count: int) -> None:
    payload = mmap.mmap(-1, message)
    connection = socket.create_connection((peer, port), source_address=(own, 0))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(bytes.fromhex(hello))
    connection.recv(1)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_CORK, 1)
    connection.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    for _ in range(count):
        connection.sendall(bytes(header))
        left = memoryview(payload)
        while left:
            try:
                left = left[connection.send(left, MSG_ZEROCOPY) :]
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
            reap(connection)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


if __name__ == "__main__":
    words = sys.argv[2:]
    if sys.argv[1] == "receive":
        receive(words[0], int(words[1]), int(words[2]))
    else:
        send(words[0], words[1], int(words[2]), words[3], *map(int, words[4:]))
