# SPDX-License-Identifier: Apache-2.0
"""Sends that fail."""

from __future__ import annotations

import socket

from ...completions import as_text, await_completions, settle, take, take_all
from ...sockets import PAGE, listener, map_memory, outcome, payload, unconnected
from ...table import Bench, Cases
from ...zerocopy_sends import FRONT, SO_SNDBUFFORCE, connected, memory, read, send, stalled, take_away, whole

CASES = Cases()


@CASES.add("a send, one from a bad address, a send", "EFAULT, 0 to 1 copied, content whole", "Z9")
def bad_address_leaves_no_gap(bench: Bench) -> str:
    """A send that took nothing is not counted."""
    sender, receiver = connected(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    gone = map_memory(bench, PAGE)
    nowhere = gone.view()
    gone.unmap()
    send(sender, area.view(0, PAGE))
    failed = outcome(lambda: send(sender, nowhere))
    send(sender, area.view(PAGE))
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {as_text(await_completions(sender, 2))}, {content}"


@CASES.add("a send whose second page is not there, then a send", "EFAULT, 0 to 0 copied, content whole", "Z9")
def partly_bad_address(bench: Bench) -> str:
    """A buffer that is mapped only in part is refused, including its first pages."""
    sender, receiver = connected(bench)
    sent = payload(PAGE)
    area = memory(bench, payload(2 * PAGE, seed=2))
    both = area.view()
    area.unmap(PAGE, PAGE)
    area.length = PAGE
    failed = outcome(lambda: send(sender, both))
    send(sender, memory(bench, sent).view())
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {as_text(await_completions(sender, 1))}, {content}"


@CASES.add(
    "a send that waits, one that finds the buffer full, a send", "EAGAIN, 0 to 1 copied, content whole", "Z9"
)
def full_buffer_leaves_no_gap(bench: Bench) -> str:
    """A refused send is not counted, although it shared the notification of one that waits."""
    sender, receiver = stalled(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view(0, PAGE), socket.MSG_EOR)
    room = sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1)
    failed = outcome(lambda: send(sender, area.view(), socket.MSG_DONTWAIT))
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, room)
    send(sender, area.view(PAGE))
    take_away(receiver, len(FRONT))
    content = whole(read(receiver, len(sent)), sent)
    settle(sender)
    return f"{failed}, {as_text(await_completions(sender, 2))}, {content}"


@CASES.add("a send before connect(), and one after it", "EPIPE, then none; then 0 to 0 copied", "Z9")
def never_connected(bench: Bench) -> str:
    """A send without a connection is not counted."""
    sender = unconnected(bench)
    area = memory(bench, payload(PAGE))
    failed = outcome(lambda: send(sender, area.view()))
    early = take_all(sender)
    listening = listener(bench)
    sender.connect(listening.getsockname()[:2])
    bench.keep(listening.accept()[0])
    send(sender, area.view())
    settle(sender)
    return f"{failed}, then {early}; then {take_all(sender)}"


@CASES.add("a send, then one after shutdown()", "EPIPE, 0 to 0 copied, then none", "Z9")
def send_after_shutdown(bench: Bench) -> str:
    """A send after shutdown() has no completion."""
    sender, _ = connected(bench)
    area = memory(bench, payload(PAGE))
    send(sender, area.view())
    sender.shutdown(socket.SHUT_WR)
    failed = outcome(lambda: send(sender, area.view()))
    settle(sender)
    return f"{failed}, {as_text(await_completions(sender, 1))}, then {take(sender) or 'none'}"
