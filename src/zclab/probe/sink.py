# SPDX-License-Identifier: Apache-2.0
"""The peer of test cases that need a second host: it says what came, and what its interface counted."""

from __future__ import annotations

import hashlib
import socket
import threading
from typing import IO

from .netns import await_bytes, byte_count

#: Sent as soon as the bytes that the interface receives are counted.
READY = b"ready\n"


def serve(address: str, allowed: str, interface: str, output: IO[str]) -> None:
    """Serve connections of `allowed` on `address`, a thread each; first write "listening PORT" to `output`.

    Each connection is sent READY, and is then read to its end. The answer is "BYTES HEX RECEIVED" and a
    newline: the number of bytes, their SHA-256, and the bytes that `interface` received since READY, headers
    and all. Never returns: it ends with its process.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        print("listening", listener.getsockname()[1], file=output, flush=True)
        while True:
            connection, peer = listener.accept()
            if peer[0] != allowed:
                connection.close()
                continue
            threading.Thread(target=_take, args=(connection, interface), daemon=True).start()


def _take(connection: socket.socket, interface: str) -> None:
    digest, count, before = hashlib.sha256(), 0, byte_count(interface, "rx")
    with connection:
        connection.sendall(READY)
        while part := connection.recv(1 << 18):
            digest.update(part)
            count += len(part)
        received = await_bytes(interface, "rx", before, count)
        connection.sendall(f"{count} {digest.hexdigest()} {received}\n".encode())
