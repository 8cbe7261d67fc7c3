# SPDX-License-Identifier: Apache-2.0
"""Limits of option memory and locked memory."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from ...completions import Completion, as_text, await_completions, optmem, settle, take
from ...netns import enter_new_netns, opened_for_all
from ...sockets import PAGE, SO_ZEROCOPY, Mapping, error_name, outcome, payload
from ...table import Bench, Cases
from ...zerocopy_sends import FRONT, as_user, memory, send, stalled, take_away

CASES = Cases()

OPTMEM_MAX = Path("/proc/sys/net/core/optmem_max")
# No notification takes more option memory.
NOTIFICATION = 1024
# Any user that nobody else is: what is locked is counted by user.
USER = 1_000_000_000


@contextlib.contextmanager
def optmem_max_kept() -> Iterator[None]:
    """Restore net.core.optmem_max at the end: before 6.8 a test case can only set it for the whole host."""
    file = opened_for_all(OPTMEM_MAX)
    try:
        before = os.pread(file, 32, 0)
        try:
            yield
        finally:
            if os.pread(file, 32, 0) != before:
                _write_optmem_max(before)
    finally:
        os.close(file)


def _write_optmem_max(value: bytes) -> None:
    file = opened_for_all(OPTMEM_MAX, os.O_RDWR)
    try:
        os.pwrite(file, value, 0)
    finally:
        os.close(file)


@CASES.add(
    "more notifications wait than a small optmem_max has room for; without SO_ZEROCOPY; with 1048576",
    "ENOBUFS with option memory used up; as a copy ok; then ok; completions without a gap",
    "Z4 Z8 Z9",
)
def option_memory_is_bounded(bench: Bench) -> str:
    """Notifications take option memory, and a socket has only so much."""
    set_optmem_max = _optmem_setting(bench)
    sender, receiver = stalled(bench)
    area = memory(bench, payload(PAGE))
    set_optmem_max(4096)
    sends, refused = 0, ""
    while not refused and sends < 64:
        try:
            send(sender, area.view(), socket.MSG_EOR)
        except OSError as error:
            refused = _refusal(sender, error, 4096)
        else:
            sends += 1
        # A plain segment in between: the next send needs a notification of its own.
        sender.send(b"-", socket.MSG_EOR)
    plain = sends + bool(refused)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    copied = outcome(lambda: send(sender, area.view()))
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    set_optmem_max(1048576)
    cured = outcome(lambda: send(sender, area.view()))
    take_away(receiver, len(FRONT) + plain + PAGE * (sends + 2))
    completions = as_text(await_completions(sender, sends + 1))
    gap = "completions without a gap" if completions == str(Completion(0, sends, True)) else completions
    return f"{refused or 'no error'}; as a copy {copied}; then {cured}; {gap}"


@CASES.add(
    "an unprivileged user who may lock 16 pages sends four pages thrice, and again after completion",
    "ok, ok, ENOBUFS with option memory left; then ok; 0 to 2 copied",
    "Z8 Z9 Z13",
)
def locked_memory_is_bounded(bench: Bench) -> str:
    """What is pinned counts as locked memory, two pages more for each send, until it is completed."""
    user, area = _user_with_memory(bench)
    sender, receiver = stalled(bench)
    first = _try(user, sender, area, 3)
    take_away(receiver, len(FRONT) + 8 * PAGE)
    completions = await_completions(sender, 2)
    again = _try(user, sender, area, 1)
    completions += await_completions(sender, 1)
    return f"{first}; then {again}; {as_text(completions)}"


@CASES.add(
    "one user in two processes, and another user, each with 12 of the 16 pages they may lock",
    "ok, ok; same user ENOBUFS with option memory left; other user ok, ok",
    "Z8",
)
def locked_memory_is_counted_by_user(bench: Bench) -> str:
    """The limit is the user's, whatever process or socket sends."""
    user, area = _user_with_memory(bench)
    senders = [stalled(bench)[0] for _ in range(3)]
    first = _try(user, senders[0], area, 2)
    same = _try(user, senders[1], area, 1)
    other = _try(user + 1, senders[2], area, 2)
    return f"{first}; same user {same}; other user {other}"


@CASES.add("a privileged user with the same limit (CAP_IPC_LOCK)", "ok, ok, ok, ok", "Z8")
def privilege_escapes_the_limit(bench: Bench) -> str:
    """CAP_IPC_LOCK lifts the limit."""
    sender, _ = stalled(bench)
    area = memory(bench, payload(4 * PAGE))
    return _try(0, sender, area, 4)


@CASES.add("an unprivileged user with that limit, without SO_ZEROCOPY", "ok, ok, ok, ok; none", "Z4 Z8")
def a_copy_locks_nothing(bench: Bench) -> str:
    """The flag alone sends a copy: no limit, no completion."""
    sender, receiver = stalled(bench)
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 0)
    area = memory(bench, payload(4 * PAGE))
    tried = _try(USER + os.getpid(), sender, area, 4)
    take_away(receiver, len(FRONT) + 16 * PAGE)
    settle(sender)
    return f"{tried}; {take(sender) or 'none'}"


@CASES.add(
    "the connection of a user at the limit is reset with completions pending",
    "ok, ok, ENOBUFS with option memory left; 0 to 1; after the reset ok",
    "Z8 Z13",
)
def reset_unlocks(bench: Bench) -> str:
    """What a connection had pinned is free with its end."""
    user, area = _user_with_memory(bench)
    sender, receiver = stalled(bench)
    first = _try(user, sender, area, 3)
    # Closed with data unread: the peer is sent a reset, and drops all that it has queued.
    receiver.close()
    completions = as_text(await_completions(sender, 2))
    other, _ = stalled(bench)
    return f"{first}; {completions}; after the reset {_try(user, other, area, 1)}"


def _user_with_memory(bench: Bench) -> tuple[int, Mapping]:
    """Return a user that nobody else is, and four pages to send from."""
    return USER + os.getpid(), memory(bench, payload(4 * PAGE))


def _try(user: int, sender: socket.socket, area: Mapping, times: int) -> str:
    """Return what came of a user's sending an area so many times."""
    file = opened_for_all(OPTMEM_MAX)
    limit = int(os.pread(file, 32, 0))
    os.close(file)
    return as_user(user, lambda: ", ".join(_attempts(sender, area, times, limit)))


def _attempts(sender: socket.socket, area: Mapping, times: int, limit: int) -> list[str]:
    tried = []
    for _ in range(times):
        try:
            send(sender, area.view())
        except OSError as error:
            tried.append(_refusal(sender, error, limit))
        else:
            tried.append("ok")
    return tried


def _refusal(sender: socket.socket, error: OSError, limit: int) -> str:
    """Return the name of an error, and whether the socket's option memory has reached its limit."""
    left = "left" if optmem(sender) + NOTIFICATION <= limit else "used up"
    return f"{error_name(error)} with option memory {left}"


def _optmem_setting(bench: Bench) -> Callable[[int], object]:
    """Move to a network namespace of its own, and return a function that sets its net.core.optmem_max.

    Before 6.8 that is the host's, which is put back with the bench.
    """
    host = opened_for_all(OPTMEM_MAX, os.O_RDWR)
    bench.closing.callback(os.close, host)
    before = os.pread(host, 32, 0)
    enter_new_netns()
    if OPTMEM_MAX.exists():
        mine = os.open(OPTMEM_MAX, os.O_RDWR)
        bench.closing.callback(os.close, mine)
    else:
        mine = host
        bench.closing.callback(os.pwrite, host, before, 0)
    return lambda value: os.pwrite(mine, str(value).encode(), 0)
