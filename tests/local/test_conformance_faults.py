# SPDX-License-Identifier: Apache-2.0
"""Rows on kernels that break their rule: what the kernel answers or the peer does is changed; they fail."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from zclab.probe import table as probe_table
from zclab.probe.completions import settle, take_all
from zclab.probe.libc import check, libc
from zclab.probe.scripted_peer import ScriptedPeer
from zclab.probe.sockets import MSG_ZEROCOPY, PAGE, payload, unconnected
from zclab.probe.sysctl import standing
from zclab.probe.table import Bench, attempt
from zclab.probe.tables.msg_zerocopy import failed_sends, lifetime, segments, support
from zclab.probe.zerocopy_sends import memory, send
from zclab.suites import probe_command
from zclab.suites.conformance import document as documents

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and packet sockets need root")

MSG_ERRQUEUE, TCP_INQ = 0x2000, 36
Patch = pytest.MonkeyPatch


def received(patch: Patch, change: Callable[..., tuple[Any, ...]]) -> None:
    """Have recvmsg() return what `change` makes of the socket, the arguments and the real call."""
    real = socket.socket.recvmsg
    patch.setattr(
        socket.socket, "recvmsg", lambda sock, *asked: change(lambda *how: real(sock, *how), *asked)
    )


def not_marked(patch: Patch) -> None:
    def change(real: Callable[..., Any], *asked: int) -> tuple[Any, ...]:
        data, control, flags, address = real(*asked)
        return data, control, flags & ~MSG_ERRQUEUE, address

    received(patch, change)


def room_is_made(patch: Patch) -> None:
    received(patch, lambda real, size, room, flags: real(size, 512, flags))


def the_error_queue_is_waited_for(patch: Patch) -> None:
    def change(real: Callable[..., Any], *asked: int) -> tuple[Any, ...]:
        try:
            result: tuple[Any, ...] = real(*asked)
        except BlockingIOError:
            time.sleep(1.2)
            raise
        return result

    received(patch, change)


def one_byte_less(patch: Patch) -> None:
    def change(real: Callable[..., Any], *asked: int) -> tuple[Any, ...]:
        data, control, flags, address = real(*asked)
        less = [
            (level, kind, struct.pack("i", struct.unpack("i", value)[0] - 1))
            for level, kind, value in control
        ]
        return data, less, flags, address

    received(patch, change)


def never_switched_off(patch: Patch) -> None:
    real = socket.socket.setsockopt
    patch.setattr(
        socket.socket,
        "setsockopt",
        lambda sock, level, option, value: real(sock, level, option, value or int(option == TCP_INQ)),
    )


def flag(name: str, value: int) -> Callable[[Patch], None]:
    """Return the fault that a flag of epoll has another value: 0 for a kernel that passes over it."""
    return lambda patch: patch.setattr(select, name, value)


def epoll_adds(flags: int) -> Callable[[Patch], None]:
    """Return the fault that epoll sets some flags by itself."""

    make = select.epoll

    class Set(contextlib.ExitStack):
        def __init__(self) -> None:
            super().__init__()
            self.epoll = self.enter_context(make())
            self.poll = self.epoll.poll

        def register(self, fd: socket.socket, mask: int) -> None:
            self.epoll.register(fd, mask | flags)

    return lambda patch: patch.setattr(select, "epoll", Set)


def no_cookie_is_wanted(patch: Patch) -> None:
    patch.setattr(support, "_CLIENT", support._CLIENT | support._NO_COOKIE)


def a_failed_send_is_counted(patch: Patch) -> None:
    """The counter of a socket that was disconnected goes on where it was."""

    def used(bench: Bench) -> socket.socket:
        sender = unconnected(bench)
        with socket.create_server((bench.loopback, 0), family=bench.address_family) as listening:
            sender.connect(listening.getsockname()[:2])
            send(sender, memory(bench, payload(PAGE)).view())
            settle(sender)
            take_all(sender)
            nowhere = struct.pack("H26x", socket.AF_UNSPEC)
            check(libc.connect(sender.fileno(), nowhere, len(nowhere)))
            sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # that it was disconnected
        return sender

    patch.setattr(failed_sends, "unconnected", used)


def nothing_is_pinned(patch: Patch) -> None:
    patch.setattr(segments, "MSG_ZEROCOPY", 0)


def everything_is_acknowledged(patch: Patch) -> None:
    real = ScriptedPeer.acknowledge
    patch.setattr(ScriptedPeer, "acknowledge", lambda peer, number: real(peer, 65))


def nothing_is_sent_again(patch: Patch) -> None:
    """What was lost is out of the kernel's hands before it is acknowledged."""
    asked, again = ScriptedPeer.await_solicitation, ScriptedPeer.await_retransmission

    def early(peer: ScriptedPeer) -> None:
        asked(peer)
        peer.link.resolve()
        again(peer, 1)

    patch.setattr(ScriptedPeer, "await_solicitation", early)
    patch.setattr(ScriptedPeer, "await_retransmission", lambda peer, seq: None)


def the_handshake_has_ended(patch: Patch) -> None:
    real = ScriptedPeer.open

    def ended(peer: ScriptedPeer, *how: Any) -> None:
        real(peer, *how)
        peer.acknowledge(1)

    patch.setattr(ScriptedPeer, "open", ended)


def flags_of_sends(change: Callable[[int, int], int]) -> Callable[[Patch], None]:
    """Return the fault that the kernel takes other flags: `change` gets the length and the real ones."""

    def plant(patch: Patch) -> None:
        real = socket.socket.send
        patch.setattr(
            socket.socket, "send", lambda sock, data, flags=0: real(sock, data, change(len(data), flags))
        )

    return plant


def the_packet_socket_sees_nothing(patch: Patch) -> None:
    patch.setattr(lifetime, "_ETH_P_ALL", 0x88B5)  # an EtherType for experiments


@pytest.mark.parametrize("family", [4, 6])
def test_a_slow_peer_sees_the_same_segments(family: int) -> None:
    """Nothing is sent again or held back because a segment waits longer than for a retransmission."""

    def two_sends(bench: Bench) -> str:
        peer = ScriptedPeer(bench)
        sender = peer.accept(unconnected(bench))
        sender.send(bytes(10))
        time.sleep(0.5)
        sender.send(bytes(20))
        return ", ".join(map(str, peer.segments(30)))

    case = probe_table.TestCase("slow", "two sends", "10 PSH, 20 PSH", (), None, two_sends, "veth")
    assert attempt(case, family) == {"outcome": case.expected, "reason": None}


class Fault(NamedTuple):
    """A row, the fault, and what the row says of it."""

    abi: str
    row: str
    plant: Callable[[Patch], None]
    outcome: str


ALL_COUNTED = flags_of_sends(lambda length, flags: flags | MSG_ZEROCOPY)
FAULTS = [
    Fault(*fault)
    for fault in (
        ("msg_zerocopy", "a-completion-is-marked", not_marked, ", 0 bytes, no address, 0 to 0 copied"),
        (
            "msg_zerocopy",
            "a-completion-without-room",
            room_is_made,
            "MSG_ERRQUEUE, 1 control messages, then none",
        ),
        ("msg_zerocopy", "reading-never-waits", the_error_queue_is_waited_for, "EAGAIN, after a wait"),
        (
            "msg_zerocopy",
            "epoll-edge-triggered",
            flag("EPOLLET", 0),
            "EPOLLERR and EPOLLOUT, then EPOLLERR and EPOLLOUT; "
            "EPOLLERR and EPOLLOUT, then EPOLLERR and EPOLLOUT; 0 to 2 copied",
        ),
        (
            "msg_zerocopy",
            "epoll-exclusive",
            flag("EPOLLET", 0),
            "EPOLLERR and EPOLLOUT, then EPOLLERR and EPOLLOUT; "
            "EPOLLERR and EPOLLOUT, then EPOLLERR and EPOLLOUT; 0 to 2 copied",
        ),
        (
            "msg_zerocopy",
            "epoll-level-triggered",
            epoll_adds(select.EPOLLET),
            "EPOLLERR; nothing; 0 to 0 copied",
        ),
        ("msg_zerocopy", "epoll-exclusive-wakes-one", flag("EPOLLEXCLUSIVE", 0), "two are woken"),
        ("msg_zerocopy", "epoll-wakes-all", epoll_adds(select.EPOLLEXCLUSIVE), "one is woken"),
        (
            "msg_zerocopy",
            "epoll-one-shot",
            flag("EPOLLONESHOT", 0),
            "EPOLLERR and EPOLLOUT once; EPOLLERR and EPOLLOUT once; "
            "EPOLLERR and EPOLLOUT, then EPOLLERR and EPOLLOUT; 0 to 2 copied",
        ),
        (
            "msg_zerocopy",
            "fast-open-without-a-cookie",
            no_cookie_is_wanted,
            "ok, the SYN had data, then 0 to 0 copied; then 1 to 1 copied",
        ),
        (
            "msg_zerocopy",
            "fast-open-waits-without-a-cookie",
            no_cookie_is_wanted,
            "4096 bytes sent, the SYN had data, content whole, 0 to 0 copied",
        ),
        ("msg_zerocopy", "never-connected", a_failed_send_is_counted, "EPIPE, then none; then 1 to 1 copied"),
        (
            "msg_zerocopy",
            "datagram-lengths",
            flags_of_sends(lambda length, flags: flags if length else 0),
            "0: none; then 0 to 3 copied, content whole, EMSGSIZE, then none",
        ),
        (
            "msg_zerocopy",
            "datagram-corked-among-copies",
            ALL_COUNTED,
            "one datagram, content whole, 0 to 5 copied",
        ),
        (
            "msg_zerocopy",
            "datagram-corked-before-copies",
            ALL_COUNTED,
            "one datagram, content whole, 0 to 5 copied",
        ),
        ("msg_zerocopy", "a-segment-has-17-pieces", nothing_is_pinned, "18 PSH; 18 PSH; none, content whole"),
        (
            "msg_zerocopy",
            "one-completion-after-the-last-segment",
            everything_is_acknowledged,
            "17 PSH, 17 PSH, 17 PSH, 13 PSH; 0 to 0 copied, none, none, none; content whole",
        ),
        (
            "msg_zerocopy",
            "completed-out-of-order",
            nothing_is_sent_again,
            "none while it is lost; 0 to 1 copied; none; content whole",
        ),
        (
            "msg_zerocopy",
            "server-sends-before-the-handshake-ends",
            the_handshake_has_ended,
            "state 1, 500 PSH, then none; after the handshake 0 to 0 copied; content whole",
        ),
        (
            "msg_zerocopy",
            "packet-socket-makes-copies",
            the_packet_socket_sees_nothing,
            "0 to 0; 1 to 1; 2 to 2",
        ),
        (
            "zerocopy_receive",
            "inq-of-a-read",
            one_byte_less,
            "read 2000 as sent, inq 7999; read 8000 as sent, inq -1",
        ),
        (
            "zerocopy_receive",
            "inq-before-the-end",
            one_byte_less,
            "read 4000 as sent, inq 6000; read 6000 as sent, inq 0",
        ),
        (
            "zerocopy_receive",
            "inq-behind-mapped-pages",
            one_byte_less,
            "mapped 8192, hint 0, as sent, 100 queued; read 60 as sent, inq 39",
        ),
        (
            "zerocopy_receive",
            "inq-switched-off",
            never_switched_off,
            "read 400 as sent, inq 600; read 400 as sent, inq 200",
        ),
    )
]


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.row for fault in FAULTS])
def test_a_kernel_that_breaks_the_rule_fails(fault: Fault, monkeypatch: Patch) -> None:
    table = probe_command.table(fault.abi)
    (row,) = (row for row in table.cases if row.name == fault.row)
    fault.plant(monkeypatch)
    with standing() if fault.abi == "zerocopy_receive" else contextlib.nullcontext():
        outcome, reason = attempt(row, 6).values()
    assert (outcome, reason) == (fault.outcome, None)
    assert documents.judged(fault.abi, row, 6, os.uname().release, outcome, reason).verdict == "fail"
