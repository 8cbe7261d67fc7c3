# SPDX-License-Identifier: Apache-2.0
"""MSG_ZEROCOPY: sends that take the program's pages, and completions that say when they are free again.

On loopback, and on every link without a device, what was sent is copied before it is received, and
completions say so.
"""

from ...table import Table
from . import completion, error_queue, failed_sends, lifetime, limits, payload, segments, support

TABLE = Table(
    "msg_zerocopy",
    [
        *completion.CASES,
        *error_queue.CASES,
        *support.CASES,
        *limits.CASES,
        *failed_sends.CASES,
        *payload.CASES,
        *segments.CASES,
        *lifetime.CASES,
    ],
    limits.optmem_max_kept,
)
