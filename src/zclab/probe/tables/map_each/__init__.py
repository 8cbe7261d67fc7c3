# SPDX-License-Identifier: Apache-2.0
"""map_each: mmap() of a TCP socket takes what it maps off the receive queue."""

from ...sysctl import consuming
from ...table import Table
from . import (
    arguments,
    chunks,
    concurrency,
    consumption,
    end_of_data,
    lifetime,
    mappable_bytes,
    protection,
    socket_state,
    switch,
)

TABLE = Table(
    "map_each",
    [
        *consumption.CASES,
        *protection.CASES,
        *mappable_bytes.CASES,
        *end_of_data.CASES,
        *arguments.CASES,
        *socket_state.CASES,
        *lifetime.CASES,
        *concurrency.CASES,
        *chunks.CASES,
        *switch.CASES,
    ],
    consuming,
)
