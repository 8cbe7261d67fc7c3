# SPDX-License-Identifier: Apache-2.0
"""One transfer between two hosts: a command that listens on one, a command that connects on the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from zclab.host.ssh import Completed, Process, Remote

#: Seconds that either end may take beyond its own time: start, connect, drain. A limit, not an expectation.
GRACE_SECONDS = 30.0
#: Seconds that a receiver has to say what it saw of a sender that failed.
_FAILED_SECONDS = 3.0


class Ends(NamedTuple):
    """What both ends left; the sender's is null if it was not started.

    `controller_cpu_share` is the CPU that this process used while the sender ran, as a share of one core.
    """

    receiver: Completed
    sender: Completed | None
    controller_cpu_share: float | None = None


def transfer(
    receiving: Remote,
    sending: Remote,
    receive: str,
    send: Callable[[int], str],
    seconds: float,
    failed: Callable[[Completed], bool],
) -> Ends:
    """Run both ends of a transfer to their end; a receiver whose sender `failed` is asked to end.

    Whatever happens, both channels are closed, which ends what still runs.

    Raises:
        RemoteError: a host cannot be reached, or an end did not end within `seconds` and GRACE_SECONDS.
    """
    receiver = receiving.start(receive)
    sender: Process | None = None
    try:
        listening = receiver.wait_for_stderr_line("listening ", GRACE_SECONDS)
        if listening is None:
            return Ends(receiver.wait(GRACE_SECONDS), None)
        command = send(int(listening.split()[-1]))
        clocks = time.process_time(), time.monotonic()
        sender = sending.start(command)
        sent = sender.wait(seconds + GRACE_SECONDS)
        busy, elapsed = time.process_time() - clocks[0], time.monotonic() - clocks[1]
        if failed(sent):
            receiver.ask_to_end(_FAILED_SECONDS)  # nothing more will come
        return Ends(receiver.wait(GRACE_SECONDS), sent, busy / elapsed)
    finally:
        receiver.close()
        if sender is not None:
            sender.close()
