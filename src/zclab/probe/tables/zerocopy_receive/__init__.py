# SPDX-License-Identifier: Apache-2.0
"""zerocopy_receive: getsockopt(TCP_ZEROCOPY_RECEIVE) moves whole pages into a standing mapping."""

from ...sysctl import standing
from ...table import Table
from . import area, connection_state, copy_buffer, inq, later_fields, receive_queue, structure_length

TABLE = Table(
    "zerocopy_receive",
    [
        *receive_queue.CASES,
        *copy_buffer.CASES,
        *area.CASES,
        *later_fields.CASES,
        *structure_length.CASES,
        *inq.CASES,
        *connection_state.CASES,
    ],
    standing,
)
