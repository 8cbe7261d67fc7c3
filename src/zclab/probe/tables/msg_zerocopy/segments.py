# SPDX-License-Identifier: Apache-2.0
"""What the peer sees: segments, and completions as it acknowledges them. The peer is a scripted one."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from pathlib import Path

from ...completions import settle, take_all
from ...libc import READ_WRITE
from ...scripted_peer import ScriptedPeer, Segment
from ...sockets import MSG_ZEROCOPY, PAGE, SO_ZEROCOPY, map_memory, payload, unconnected
from ...table import Bench, Cases, NotHereError
from ...zerocopy_sends import SO_SNDBUFFORCE, memory, read, send, whole

CASES = Cases()

_TCP_SYN_RECV = 3
_SIZE = 500
# Pieces of memory that a segment has room for. Only the initial network namespace shows the setting.
_FRAGMENTS, _FRAGMENTS_SETTING = 17, Path("/proc/sys/net/core/max_skb_frags")


@CASES.add(
    "18 pieces of one byte each, without the flag and with it",
    "18 PSH; 17 PSH, 1 PSH; 0 to 0 copied, content whole",
    "Z12",
    link="veth",
)
def a_segment_has_17_pieces(bench: Bench) -> str:
    """A copy needs one segment; of the program's own pieces a segment takes 17."""
    _check_fragments()
    peer = ScriptedPeer(bench)
    sender = peer.accept(unconnected(bench))
    pieces, sent = _pieces(bench, 18)
    sender.sendmsg(pieces)
    copied = _acknowledged(peer, len(sent))
    sender.sendmsg(pieces, [], MSG_ZEROCOPY)
    pinned = _acknowledged(peer, len(sent))
    settle(sender)
    content = _content(copied + pinned, sent + sent)
    return f"{_lengths(copied)}; {_lengths(pinned)}; {take_all(sender)}, {content}"


@CASES.add(
    "64 pieces of one byte each, acknowledged segment by segment",
    "17 PSH, 17 PSH, 17 PSH, 13 PSH; none, none, none, 0 to 0 copied; content whole",
    "Z1 Z12",
    link="veth",
)
def one_completion_after_the_last_segment(bench: Bench) -> str:
    """Each full segment is pushed, and a send is completed once, when all of it is acknowledged."""
    _check_fragments()
    peer = ScriptedPeer(bench)
    sender = peer.accept(unconnected(bench))
    # A pinned page counts as a whole one, however little of it is sent.
    sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 21)
    pieces, sent = _pieces(bench, 64)
    sender.sendmsg(pieces, [], MSG_ZEROCOPY)
    came = peer.segments(len(sent))
    left, completions = len(sent), []
    for segment in came:
        left -= len(segment.data)
        peer.acknowledge(segment.end)
        settle(sender, left)
        completions.append(take_all(sender))
    return f"{_lengths(came)}; {', '.join(completions)}; {_content(came, sent)}"


@CASES.add(
    "the first of two sends is lost, and is on its way again when both are acknowledged",
    "none while it is lost; 1 to 1 copied; 0 to 0 copied; content whole",
    "Z1 Z2",
    link="veth",
)
def completed_out_of_order(bench: Bench) -> str:
    """A send is completed when nothing needs its pages any more: what is sent again still does."""
    peer = ScriptedPeer(bench)
    sender = peer.accept(unconnected(bench))
    sent = payload(2 * _SIZE)
    area = memory(bench, sent)
    send(sender, area.view(0, _SIZE))
    first = peer.segments(_SIZE)
    send(sender, area.view(_SIZE))
    second = peer.segments(_SIZE)
    peer.link.unresolve()  # what is sent again waits for the neighbour's address
    lost, kept = first[0], second[-1]
    peer.acknowledge(lost.seq, sack=(kept.seq, kept.end))
    peer.await_solicitation()
    before = take_all(sender)
    peer.acknowledge(kept.end)
    settle(sender)
    completions = take_all(sender)
    peer.link.resolve()
    peer.await_retransmission(lost.seq)
    content = _content(first + second, sent)
    return f"{before} while it is lost; {completions}; {take_all(sender)}; {content}"


@CASES.add(
    "a fast open server answers data of the SYN before the handshake ends",
    "SYN_RECV, 500 PSH, then none; after the handshake 0 to 0 copied; content whole",
    "Z1",
    link="veth",
)
def server_sends_before_the_handshake_ends(bench: Bench) -> str:
    """A send of a connection that is not established yet is counted and completed as any other."""
    peer = ScriptedPeer(bench)
    # Client and server, both without a cookie.
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("519", encoding="ascii")
    address = (peer.link.near_address, 0)
    listening = bench.keep(socket.create_server(address, family=bench.address_family))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    request, answer = payload(_SIZE, seed=2), payload(_SIZE)
    peer.open(listening.getsockname()[:2], request)
    sender = bench.keep(listening.accept()[0])
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    arrived = read(sender, _SIZE) == request
    send(sender, memory(bench, answer).view())
    came = peer.segments(_SIZE)
    number = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    state = "SYN_RECV" if number == _TCP_SYN_RECV else f"state {number}"
    early = take_all(sender)
    peer.acknowledge(came[-1].end)
    settle(sender)
    content = _content(came, answer) if arrived else "the request did not arrive"
    return f"{state}, {_lengths(came)}, then {early}; after the handshake {take_all(sender)}; {content}"


def _check_fragments() -> None:
    """Raise NotHereError if segments of this kernel have room for another number of pieces."""
    if _FRAGMENTS_SETTING.exists():
        number = _FRAGMENTS_SETTING.read_text(encoding="ascii").strip()
        if number != str(_FRAGMENTS):
            raise NotHereError(f"net.core.max_skb_frags is {number}, not {_FRAGMENTS}")


def _pieces(bench: Bench, count: int) -> tuple[list[memoryview], bytes]:
    """Return so many bytes, each in a piece of memory of its own, and what they are together."""
    # With a page between two of them, so that they cannot be joined.
    area = map_memory(bench, 2 * count * PAGE, protection=READ_WRITE)
    sent = bytes(range(1, count + 1))
    pieces = [area.view(2 * number * PAGE, 1) for number in range(count)]
    for number, piece in enumerate(pieces):
        piece[0] = sent[number]
    return pieces, sent


def _acknowledged(peer: ScriptedPeer, length: int) -> list[Segment]:
    """Return the segments of so many bytes, all acknowledged."""
    came = peer.segments(length)
    peer.acknowledge(came[-1].end)
    return came


def _lengths(segments: Iterable[Segment]) -> str:
    return ", ".join(map(str, segments))


def _content(segments: Iterable[Segment], sent: bytes) -> str:
    return whole(b"".join(segment.data for segment in segments), sent)
