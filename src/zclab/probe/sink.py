# SPDX-License-Identifier: Apache-2.0
"""The peer of test cases that need a second host: reads all that comes, answers with length and hash."""

from __future__ import annotations

import hashlib
import socket
import threading
from typing import IO


def serve(address: str, allowed: str, output: IO[str]) -> None:
    """Serve connections of `allowed` on `address`, a thread each; first write "listening PORT" to `output`.

    Each connection is read to its end; then the number of bytes and their SHA-256 are sent back, as
    "BYTES HEX" and a newline. Returns never: it ends with its process.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        print("listening", listener.getsockname()[1], file=output, flush=True)
        while True:
            connection, peer = listener.accept()
            if peer[0] != allowed:
                connection.close()
                continue
            threading.Thread(target=_take, args=(connection,), daemon=True).start()


def _take(connection: socket.socket) -> None:
    digest, count = hashlib.sha256(), 0
    with connection:
        while part := connection.recv(1 << 18):
            digest.update(part)
            count += len(part)
        connection.sendall(f"{count} {digest.hexdigest()}\n".encode())
