# SPDX-License-Identifier: Apache-2.0
"""The error queue: what a read of it returns, and how epoll reports that it is not empty."""

from __future__ import annotations

import os
import select
import socket
import struct
import time

from ...completions import MSG_ERRQUEUE, completion_in, settle, take, take_all
from ...processes import SECONDS, states
from ...sockets import PAGE, outcome, payload, wait_until
from ...table import Bench, Cases
from ...zerocopy_sends import connected, memory, send

CASES = Cases()

_FLAGS = {MSG_ERRQUEUE: "MSG_ERRQUEUE", socket.MSG_CTRUNC: "MSG_CTRUNC"}
_EVENTS = {select.EPOLLERR: "EPOLLERR", select.EPOLLOUT: "EPOLLOUT"}
# A call that waits does so for this long, and one that returns at once takes less than half of it.
_WAIT_SECONDS = 2


@CASES.add("a completion is read", "MSG_ERRQUEUE, 0 bytes, no address, 0 to 0 copied", "Z1")
def a_completion_is_marked(bench: Bench) -> str:
    """msg_flags says that it comes from the error queue, and no payload comes with it."""
    sender, _ = connected(bench)
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)
    data, control, flags, address = sender.recvmsg(1, 512, MSG_ERRQUEUE)
    came = f"{_named(flags, _FLAGS)}, {len(data)} bytes, {address or 'no address'}"
    return f"{came}, {completion_in(control[0][2])}"


@CASES.add(
    "a completion is read with no room for control messages",
    "MSG_ERRQUEUE and MSG_CTRUNC, 0 control messages, then none",
    "Z1",
)
def a_completion_without_room(bench: Bench) -> str:
    """A range that has no room is lost, and msg_flags says so."""
    sender, _ = connected(bench)
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)
    _, control, flags, _ = sender.recvmsg(1, 0, MSG_ERRQUEUE)
    return f"{_named(flags, _FLAGS)}, {len(control)} control messages, then {take(sender) or 'none'}"


@CASES.add("the empty error queue of a blocking socket is read", "EAGAIN, at once")
def reading_never_waits(bench: Bench) -> str:
    """A read of the error queue never blocks."""
    sender, _ = connected(bench)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _WAIT_SECONDS, 0))
    begin = time.monotonic()
    result = outcome(lambda: sender.recvmsg(1, 512, MSG_ERRQUEUE))
    waited = time.monotonic() - begin
    return f"{result}, {'at once' if waited < _WAIT_SECONDS / 2 else 'after a wait'}"


@CASES.add(
    "EPOLLET: two sends complete, then a third, and no completion is read",
    "EPOLLERR and EPOLLOUT once; EPOLLERR and EPOLLOUT once; 0 to 2 copied",
)
def epoll_edge_triggered(bench: Bench) -> str:
    """EPOLLERR is reported once for what came since it was asked for."""
    return _edges(bench, select.EPOLLET)


@CASES.add(
    "EPOLLET and EPOLLEXCLUSIVE: two sends complete, then a third, and no completion is read",
    "EPOLLERR and EPOLLOUT once; EPOLLERR and EPOLLOUT once; 0 to 2 copied",
)
def epoll_exclusive(bench: Bench) -> str:
    """EPOLLEXCLUSIVE changes nothing of that."""
    return _edges(bench, select.EPOLLET | select.EPOLLEXCLUSIVE)


@CASES.add(
    "without EPOLLET: a send completes, and no completion is read", "EPOLLERR; EPOLLERR; 0 to 0 copied"
)
def epoll_level_triggered(bench: Bench) -> str:
    """EPOLLERR is reported, although not asked for, until the completion is read."""
    sender, _ = connected(bench)
    epoll = bench.keep(select.epoll())
    epoll.register(sender, 0)
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)
    return f"{_reported(epoll)}; {_reported(epoll)}; {take_all(sender)}"


@CASES.add("EPOLLEXCLUSIVE: a process waits with each of two epoll sets, a send completes", "one is woken")
def epoll_exclusive_wakes_one(bench: Bench) -> str:
    """A completion does not wake every process that waits for it."""
    return _woken(bench, select.EPOLLEXCLUSIVE)


@CASES.add("two epoll sets without EPOLLEXCLUSIVE, a send completes", "two are woken")
def epoll_wakes_all(bench: Bench) -> str:
    """Without the flag each of them is woken."""
    return _woken(bench, 0)


@CASES.add(
    "EPOLLET and EPOLLONESHOT: two sends complete, then a third; then it is armed again",
    "EPOLLERR and EPOLLOUT once; nothing; EPOLLERR and EPOLLOUT once; 0 to 2 copied",
)
def epoll_one_shot(bench: Bench) -> str:
    """After one report a completion is not reported until it is asked for again."""
    sender, _ = connected(bench)
    epoll = bench.keep(select.epoll())
    epoll.register(sender, select.EPOLLOUT | select.EPOLLET | select.EPOLLONESHOT)
    _complete(bench, sender, 2)
    first = _reported_once(epoll)
    _complete(bench, sender, 1)
    second = _reported_once(epoll)
    epoll.modify(sender, select.EPOLLOUT | select.EPOLLONESHOT)
    return f"{first}; {second}; {_reported_once(epoll)}; {take_all(sender)}"


def _edges(bench: Bench, flags: int) -> str:
    sender, _ = connected(bench)
    epoll = bench.keep(select.epoll())
    epoll.register(sender, select.EPOLLOUT | flags)
    _reported(epoll)  # that it can be written
    _complete(bench, sender, 2)
    first = _reported_once(epoll)
    _complete(bench, sender, 1)
    return f"{first}; {_reported_once(epoll)}; {take_all(sender)}"


def _complete(bench: Bench, sender: socket.socket, sends: int) -> None:
    """Send pages; return when they are completed."""
    for _ in range(sends):
        send(sender, memory(bench, payload(PAGE)).view())
        settle(sender)


def _reported(epoll: select.epoll) -> str:
    """Return the events that epoll has now, of one socket."""
    return ", ".join(_named(events, _EVENTS) for _, events in epoll.poll(0)) or "nothing"


def _reported_once(epoll: select.epoll) -> str:
    """Return the events that epoll has now, and whether it has them again."""
    first, second = _reported(epoll), _reported(epoll)
    if first == second == "nothing":
        return first
    return f"{first} once" if second == "nothing" else f"{first}, then {second}"


def _woken(bench: Bench, flags: int) -> str:
    """Return how many of two processes that wait with epoll sets of their own one completion wakes."""
    sender, _ = connected(bench)
    readers = [_waiting(bench, sender, flags) for _ in range(2)]
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)  # the completion stays: a set that finds none goes on waiting
    select.select(readers, [], [], SECONDS)
    time.sleep(0.2)  # for another that was woken with the first
    woken = len(select.select(readers, [], [], 0)[0])
    return {1: "one is woken", 2: "two are woken"}.get(woken, "none is woken")


def _waiting(bench: Bench, sender: socket.socket, flags: int) -> int:
    """Start a process that waits with an epoll set of its own; return the pipe that it writes when woken."""
    epoll = bench.keep(select.epoll())
    epoll.register(sender, select.EPOLLERR | flags)
    reader, writer = os.pipe()
    bench.closing.callback(os.close, reader)
    child = os.fork()
    if child == 0:
        epoll.poll(SECONDS)
        os.write(writer, b"woken")
        os._exit(0)
    os.close(writer)
    wait_until(lambda: states(child).startswith("S"))
    return reader


def _named(bits: int, names: dict[int, str]) -> str:
    """Return the names of the bits that are set, and the number of those that have none."""
    known = [name for bit, name in names.items() if bits & bit]
    rest = bits & ~sum(names)
    return " and ".join([*known, *([f"{rest:#x}"] if rest else [])])
