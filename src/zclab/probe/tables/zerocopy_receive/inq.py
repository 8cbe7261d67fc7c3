# SPDX-License-Identifier: Apache-2.0
"""TCP_INQ: a read says how many bytes are still queued, also where a call has mapped some."""

from __future__ import annotations

import socket
import struct

from ...sockets import PAGE
from ...stream import Step, fin, plain, queue
from ...table import Cases
from ...zerocopy_receive import Reader, takes

CASES = Cases(Reader.does)

_TCP_INQ = 36
_INQ_MESSAGE = (socket.IPPROTO_TCP, 36)  # TCP_CM_INQ


def _inq(on: int) -> Step:
    """Return the step that switches TCP_INQ on or off."""
    return lambda reader: reader.receiver.setsockopt(socket.IPPROTO_TCP, _TCP_INQ, on)


def _reads(length: int) -> Step:
    """Return the step that reads once, and says what the control message has."""

    def read(reader: Reader) -> str:
        data, control, _, _ = reader.receiver.recvmsg(length, 64)
        left = [
            struct.unpack("i", value)[0] for level, kind, value in control if (level, kind) == _INQ_MESSAGE
        ]
        said = f"inq {left[0]}" if left else "no inq"
        start, reader.taken = reader.taken, reader.taken + len(data)
        return f"read {len(data)} {reader.as_sent(data, start)}, {said}"

    return read


CASES.why("Each read says what it leaves.")
CASES.steps("inq-of-a-read", _inq(1), plain(10000), _reads(2000), _reads(8000))(
    "TCP_INQ, 10000 bytes queued, reads of 2000 and 8000",
    "read 2000 as sent, inq 8000; read 8000 as sent, inq 0",
)
CASES.why("The end of the stream counts as a byte, so that a program that reads on finds it.")
CASES.steps("inq-before-the-end", _inq(1), plain(10000), fin(), _reads(4000), _reads(6000))(
    "TCP_INQ, 10000 bytes and FIN queued, reads of 4000 and 6000",
    "read 4000 as sent, inq 6001; read 6000 as sent, inq 1",
)
CASES.why("What a call has mapped is not counted.")
CASES.steps("inq-behind-mapped-pages", _inq(1), queue(2 * PAGE), plain(100), takes(), _reads(60))(
    "TCP_INQ, two pages and 100 bytes queued, the pages mapped, a read of 60",
    "mapped 8192, hint 0, as sent, 100 queued; read 60 as sent, inq 40",
)
CASES.why("The option can be switched off again.")
CASES.steps("inq-switched-off", _inq(1), plain(1000), _reads(400), _inq(0), _reads(400))(
    "TCP_INQ on and off, 1000 bytes queued", "read 400 as sent, inq 600; read 400 as sent, no inq"
)
