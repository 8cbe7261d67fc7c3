# SPDX-License-Identifier: Apache-2.0
"""What is sent: lengths, alignment, cut into segments, with and without offloads."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from ...completions import Completion, as_text, await_completions, segments, settle, take, take_all, unsent
from ...libc import READ_WRITE
from ...netns import RX_CHECKSUM, SCATTER_GATHER, TX_CHECKSUM, linked, offload
from ...sockets import MSG_ZEROCOPY, PAGE, map_memory, outcome, payload
from ...table import Bench, Cases
from ...zerocopy_sends import (
    FRONT,
    across,
    connected,
    memory,
    read,
    reading,
    send,
    stall,
    stalled,
    take_away,
    to_sink,
    udp_pair,
    whole,
)

CASES = Cases()

_UDP_CORK = 1
LENGTHS = (1, 100, PAGE, 3 * PAGE, 1 << 16, 1 << 23)


@CASES.add(
    "a buffer is changed while it waits in the send queue",
    "the change arrives; before it, after it and on another connection content whole",
    "Z10",
)
def change_in_flight(bench: Bench) -> str:
    """Pages are not write-protected: a change changes what is sent, and nothing else."""
    sender, receiver = stalled(bench)
    other_sender, other_receiver = stalled(bench)
    mine, others, changed, after = (payload(2 * PAGE, seed) for seed in (1, 2, 3, 4))
    area = memory(bench, mine + others)
    send(sender, area.view(0, len(mine)))
    sender.send(after)
    send(other_sender, area.view(len(mine)))
    if unsent(sender) < len(mine) + len(after):
        return "some of it did not wait"
    area.view(0, len(mine))[:] = changed
    before = read(receiver, len(FRONT)) == FRONT
    change = "the change arrives" if read(receiver, len(mine)) == changed else "the change does not arrive"
    rest = read(receiver, len(after)) == after
    elsewhere = read(other_receiver, len(FRONT) + len(others)) == FRONT + others
    content = "content whole" if before and rest and elsewhere else "content changed"
    return f"{change}; before it, after it and on another connection {content}"


@CASES.add(
    "lengths 0, 1, 100, one page, three pages, 64 KiB, 8 MiB",
    "0: none; then 0 to 5 copied, content whole",
    "Z11",
)
def lengths(bench: Bench) -> str:
    """Any length can be sent; a send of no bytes has no completion."""
    return _lengths(bench, *connected(bench))


@CASES.add("the same under TCP_CORK", "0: none; then 0 to 5 copied, content whole", "Z11")
def lengths_corked(bench: Bench) -> str:
    """The same where segments wait to be filled."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    return _lengths(bench, sender, receiver)


@CASES.add("the same with MSG_MORE", "0: none; then 0 to 5 copied, content whole", "Z11")
def lengths_with_more(bench: Bench) -> str:
    """The same where the program announces more data."""
    return _lengths(bench, *connected(bench), flags=socket.MSG_MORE)


@CASES.add("plain sends and others by turns, corked", "0 to 7 copied, content whole", "Z1 Z11")
def corked_among_copies(bench: Bench) -> str:
    """Segments may hold both, and plain sends are not counted."""
    sender, receiver = connected(bench)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    received = reading(receiver)
    sent = payload(16 * 3000)
    area = memory(bench, sent)
    for at in range(0, len(sent), 6000):
        sender.sendall(sent[at : at + 3000])
        send(sender, area.view(at + 3000, 3000))
    sender.shutdown(socket.SHUT_WR)
    return f"{as_text(await_completions(sender, 8))}, {whole(received(), sent)}"


@CASES.add(
    "UDP datagrams of 0, 1, 100, a page, and the largest; then one byte more",
    "0: 0 to 0 copied; then 1 to 4 copied, content whole, EMSGSIZE, then none",
    "Z9 Z11",
    document="0: none; then 0 to 3 copied, content whole, EMSGSIZE, then none",
)
def datagram_lengths(bench: Bench) -> str:
    """Datagrams of any length, even empty ones, are counted; one that is too long is not."""
    sender, receiver = udp_pair(bench)
    largest = 65535 - 8 - (20 if bench.family == 4 else 0)
    sent = payload(largest + 1)
    area = memory(bench, sent)
    send(sender, area.view(0, 0))
    content = receiver.recv(1) == b""
    nothing = take_all(sender)  # of what has arrived on loopback the completion is there, if there is one
    completions = []
    for length in (1, 100, PAGE, largest):
        send(sender, area.view(0, length))
        content &= receiver.recv(1 << 17) == sent[:length]
        completions += await_completions(sender, 1)
    failed = outcome(lambda: send(sender, area.view()))
    arrived = "content whole" if content else "content changed"
    then = take_all(sender)
    return f"0: {nothing}; then {as_text(completions)}, {arrived}, {failed}, then {then}"


@CASES.add(
    "a UDP datagram of two sends, the first with MSG_MORE",
    "one datagram, content whole, 0 to 1 copied",
    "Z11",
)
def datagram_corked(bench: Bench) -> str:
    """Each send into a datagram is counted."""
    sender, receiver = udp_pair(bench)
    sent = payload(2 * PAGE)
    area = memory(bench, sent)
    send(sender, area.view(0, 3000), socket.MSG_MORE)
    send(sender, area.view(3000))
    got = receiver.recv(1 << 16)
    datagrams = "one datagram" if len(got) == len(sent) else f"a datagram of {len(got)}"
    return f"{datagrams}, {whole(got, sent)}, {as_text(await_completions(sender, 2))}"


def _corked_datagram(bench: Bench, flagged: tuple[bool, ...]) -> str:
    """Send a datagram in pieces under UDP_CORK, those `flagged` with MSG_ZEROCOPY."""
    sender, receiver = udp_pair(bench)
    sent = payload(len(flagged) * 3000)
    area = memory(bench, sent)
    sender.setsockopt(socket.IPPROTO_UDP, _UDP_CORK, 1)
    for number, flag in enumerate(flagged):
        sender.send(area.view(3000 * number, 3000), MSG_ZEROCOPY if flag else 0)
    sender.setsockopt(socket.IPPROTO_UDP, _UDP_CORK, 0)
    got = receiver.recv(1 << 16)
    datagrams = "one datagram" if len(got) == len(sent) else f"a datagram of {len(got)}"
    return f"{datagrams}, {whole(got, sent)}, {as_text(await_completions(sender, sum(flagged)))}"


CASES.why("A datagram may hold copies and the program's pages; only what has the flag is counted.")
CASES.call(_corked_datagram, "datagram-corked-among-copies", (False, True) * 3)(
    "a corked UDP datagram of six pieces, every second with the flag",
    "one datagram, content whole, 0 to 2 copied",
    "Z1 Z11",
)
CASES.why("The same where the program's pages come first.")
CASES.call(_corked_datagram, "datagram-corked-before-copies", (True, False) * 3)(
    "a corked UDP datagram of six pieces, the first and then every second with the flag",
    "one datagram, content whole, 0 to 2 copied",
    "Z1 Z11",
)


@CASES.add(
    "the interface has scatter-gather off", "off; 0: none; then 0 to 5, content whole", "Z11", link="veth"
)
def scatter_gather_off(bench: Bench) -> str:
    """A device that takes no fragments is sent a copy."""
    link = linked(bench)
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    # Which of them the kernel calls copied depends on how they were cut into segments.
    return f"{setting}; {_lengths(bench, *across(bench, link), form=_ranges)}"


@CASES.add(
    "scatter-gather is off, so that sends are copied: one that fits a packet, one of two packets",
    "off; 0 to 0 copied; 1 to 1; content whole",
    "Z3",
    document="off; 0 to 0 copied; 1 to 1 copied; content whole",
    link="veth",
)
def copies_of_segments_are_not_told(bench: Bench) -> str:
    """A copy that is made when the kernel segments a send is not reported as one."""
    link = linked(bench)
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    sender, receiver = across(bench, link)
    packet = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    sent = payload(3 * packet)
    area = memory(bench, sent)
    send(sender, area.view(0, packet))
    content = read(receiver, packet)
    completions = [as_text(await_completions(sender, 1))]
    send(sender, area.view(packet))
    content += read(receiver, 2 * packet)
    completions.append(as_text(await_completions(sender, 1)))
    return f"{setting}; {'; '.join(completions)}; {whole(content, sent)}"


@CASES.add("scatter-gather is turned off while sends wait", "off; 0 to 3, content whole", "Z11", link="veth")
def scatter_gather_turned_off(bench: Bench) -> str:
    """What was queued for a device that takes fragments arrives although it no longer does."""
    link = linked(bench)
    sender, receiver = stall(*across(bench, link))
    sent = payload(1 << 18)
    area = memory(bench, sent)
    for at in range(0, len(sent), 1 << 16):
        send(sender, area.view(at, 1 << 16))
    setting = _on_off(offload(link.near, SCATTER_GATHER, False))
    take_away(receiver, len(FRONT))
    content = whole(read(receiver, len(sent)), sent)
    return f"{setting}; {_ranges(await_completions(sender, 4))}, {content}"


@CASES.add(
    "checksums are computed by neither interface",
    "receiving off, sending off; 0: none; then 0 to 5 copied, content whole",
    "Z11",
    link="veth",
)
def checksum_offload_off(bench: Bench) -> str:
    """The kernel reads the pages itself to send them, and checks what it receives."""
    link = linked(bench)
    with link.beyond():
        receiving = _on_off(offload(link.far, RX_CHECKSUM, False))
    sending = _on_off(offload(link.near, TX_CHECKSUM, False))
    completions = _lengths(bench, *across(bench, link))
    return f"receiving {receiving}, sending {sending}; {completions}"


@CASES.add(
    "lengths 1, 100, one page, three pages, 64 KiB, 8 MiB to the other host",
    "0: none; then 0 to 5, content whole over the data interfaces",
    "Z11",
    link="data interface",
)
def lengths_on_the_link(bench: Bench) -> str:
    """Any length goes out without a copy."""
    link = to_sink(bench)
    nothing, completions, sent = _send_lengths(bench, link.sender, 0)
    return f"0: {nothing}; then {as_text(completions)}, {link.report(sent)}"


@CASES.add("buffers that begin 1, 7, 2048 and 4095 bytes into a page", "0 to 3 copied, content whole", "Z12")
def unaligned_buffers(bench: Bench) -> str:
    """A buffer may begin anywhere."""
    sender, receiver = connected(bench)
    received = reading(receiver)
    sent = _send_unaligned(bench, sender)
    sender.shutdown(socket.SHUT_WR)
    return f"{as_text(await_completions(sender, 4))}, {whole(received(), sent)}"


@CASES.add(
    "buffers that begin 1, 7, 2048 and 4095 bytes into a page, to the other host",
    "0 to 3, content whole over the data interfaces",
    "Z12",
    link="data interface",
)
def unaligned_on_the_link(bench: Bench) -> str:
    """A device takes them from there."""
    link = to_sink(bench)
    sent = _send_unaligned(bench, link.sender)
    return f"{as_text(await_completions(link.sender, 4))}, {link.report(sent)}"


@CASES.add(
    "16000 bytes from four pages, and from forty",
    "one segment, then more; 0 to 1 copied, content whole",
    "Z12",
)
def pieces_make_small_segments(bench: Bench) -> str:
    """A segment has room for only so many pieces of memory."""
    sender, receiver = connected(bench)
    sent = payload(16000)
    area = memory(bench, sent)
    scattered = map_memory(bench, 80 * PAGE, protection=READ_WRITE)
    pieces = []
    for number in range(40):
        # With a page between two of them, so that they cannot be joined.
        piece = scattered.view(2 * number * PAGE, 400)
        piece[:] = sent[400 * number : 400 * (number + 1)]
        pieces.append(piece)
    send(sender, area.view())
    content = read(receiver, len(sent))
    settle(sender)
    first = segments(sender)
    sender.sendmsg(pieces, [], MSG_ZEROCOPY)
    content += read(receiver, len(sent))
    settle(sender)
    more = "more" if segments(sender) - first > first else "no more"
    completions = as_text(await_completions(sender, 2))
    return (
        f"{'one segment' if first == 1 else first}, then {more}; {completions}, {whole(content, sent + sent)}"
    )


def _lengths(
    bench: Bench,
    sender: socket.socket,
    receiver: socket.socket,
    flags: int = 0,
    form: Callable[[Iterable[Completion]], str] = as_text,
) -> str:
    received = reading(receiver)
    nothing, completions, sent = _send_lengths(bench, sender, flags)
    sender.shutdown(socket.SHUT_WR)
    return f"0: {nothing}; then {form(completions)}, {whole(received(), sent)}"


def _send_lengths(bench: Bench, sender: socket.socket, flags: int) -> tuple[str, list[Completion], bytes]:
    """Send no bytes, then each of LENGTHS; return the completions of both, and what was sent."""
    sent = payload(sum(LENGTHS))
    area = memory(bench, sent)
    send(sender, area.view(0, 0), flags)
    settle(sender)
    nothing = str(take(sender) or "none")
    at = 0
    for length in LENGTHS:
        send(sender, area.view(at, length), flags)
        at += length
    return nothing, await_completions(sender, len(LENGTHS)), sent


def _ranges(completions: Iterable[Completion]) -> str:
    """Return completions as text, without which of them were copied."""
    return as_text(one._replace(copied=False) for one in completions)


def _send_unaligned(bench: Bench, sender: socket.socket) -> bytes:
    sent = payload(1 << 18)
    area = memory(bench, sent)
    views = [area.view(offset, 100_000) for offset in (1, 7, 2048, 4095)]
    for view in views:
        send(sender, view)
    return b"".join(views)


def _on_off(on: bool) -> str:
    return "on" if on else "off"
