# SPDX-License-Identifier: Apache-2.0
"""Completions: when they come, and what they report."""

from __future__ import annotations

import select
import socket

from ...completions import as_text, await_completions, optmem, settle, take
from ...sockets import PAGE, payload
from ...table import Bench, Cases, NotHereError
from ...zerocopy_sends import FRONT, connected, memory, read, send, stalled, take_away, to_sink, whole

CASES = Cases()


@CASES.add("three sends, each awaited", "0 to 0 copied; 1 to 1 copied; 2 to 2 copied", "Z1")
def each_send_is_told(bench: Bench) -> str:
    """Sends are counted from 0, and each has its completion."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    completions = []
    for _ in range(3):
        send(sender, area.view())
        completions += await_completions(sender, 1)
    return "; ".join(map(str, completions))


@CASES.add("three sends complete before the first completion is read", "0 to 2 copied; then none", "Z1 Z2")
def adjacent_completions_merge(bench: Bench) -> str:
    """Completions that were not read yet are merged into one range."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    for _ in range(3):
        send(sender, area.view())
    settle(sender)
    return f"{take(sender)}; then {take(sender) or 'none'}"


@CASES.add("sixteen sends of 64 KiB wait in the send queue", "2 notifications, 0 to 15 copied", "Z2")
def merging_is_bounded(bench: Bench) -> str:
    """Sends that wait share a notification, for no more than 512 KiB, so that none waits for ever."""
    sender, receiver = stalled(bench)
    area = memory(bench, payload(1 << 16))
    send(sender, area.view())
    one = optmem(sender)
    for _ in range(15):
        send(sender, area.view())
    notifications = optmem(sender) / one
    take_away(receiver, len(FRONT) + 16 * (1 << 16))
    return f"{notifications:g} notifications, {as_text(await_completions(sender, 16))}"


@CASES.add("2^32 sends on one socket", "the range goes on at 0", "Z1", link="none")
def counter_wraps(bench: Bench) -> str:
    """The counter has 32 bits."""
    raise NotHereError("no kernel lets a program set the counter, and 2^32 sends take hours")


@CASES.add(
    "a completion is waiting",
    "POLLERR, SO_ERROR 0, reads are not disturbed; 0 to 0 copied, then no POLLERR",
    "Z1",
)
def a_completion_is_no_error(bench: Bench) -> str:
    """A waiting completion wakes poll(), and fails no other call."""
    sender, receiver = connected(bench)
    poll = select.poll()
    poll.register(sender, 0)
    send(sender, memory(bench, payload(PAGE)).view())
    settle(sender)
    polled = "POLLERR" if poll.poll(0) == [(sender.fileno(), select.POLLERR)] else "no POLLERR"
    receiver.sendall(b"answer")
    error = sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    answer = sender.recv(6, socket.MSG_WAITALL)
    disturbed = "reads are not disturbed" if answer == b"answer" else "reads are disturbed"
    completions = as_text(await_completions(sender, 1))
    after = "POLLERR" if poll.poll(0) else "no POLLERR"
    return f"{polled}, SO_ERROR {error}, {disturbed}; {completions}, then {after}"


@CASES.add(
    "a send to a receiver on the same host that does not read, and then a change of the buffer",
    "0 to 0 copied, content whole",
    "Z3 Z7",
)
def what_loops_back_is_copied(bench: Bench) -> str:
    """Completion does not wait for a local reader: it has a copy."""
    sender, receiver = connected(bench)
    sent = payload(4 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view())
    completions = await_completions(sender, 1)
    area.view()[:] = bytes(len(sent))
    return f"{as_text(completions)}, {whole(read(receiver, len(sent)), sent)}"


@CASES.add(
    "sends to the other host",
    "0 to 3, content whole over the data interfaces",
    "Z1 Z3",
    link="data interface",
)
def not_copied_on_the_link(bench: Bench) -> str:
    """A device takes the program's own pages."""
    link = to_sink(bench)
    sent = payload(1 << 18)
    area = memory(bench, sent)
    for at in range(0, len(sent), 1 << 16):
        send(link.sender, area.view(at, 1 << 16))
    completions = await_completions(link.sender, 4)
    return f"{as_text(completions)}, {link.report(sent)}"
