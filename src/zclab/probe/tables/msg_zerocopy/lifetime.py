# SPDX-License-Identifier: Apache-2.0
"""Buffers and sockets that go away while completions are pending, and filters that read the pages."""

from __future__ import annotations

import socket

from ...completions import as_text, await_completions, settle
from ...netns import enter_new_netns, linked, run
from ...processes import SECONDS
from ...sockets import PAGE, SO_ZEROCOPY, Mapping, payload
from ...table import Bench, Cases
from ...zerocopy_sends import (
    FRONT,
    as_user,
    connected,
    memory,
    read,
    read_to_end,
    send,
    stalled,
    to_sink,
    whole,
)

CASES = Cases()

_ETH_P_ALL = 3


@CASES.add("the socket is closed with completions pending", "content whole", "Z13")
def closed_while_pending(bench: Bench) -> str:
    """What a closed socket has still to send is sent as it was."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)
    send(sender, memory(bench, sent).view())
    sender.close()
    return whole(read_to_end(receiver), FRONT + sent)


@CASES.add(
    "the buffer is unmapped with completions pending, and its address used for something else",
    "content whole, 0 to 0 copied",
    "Z13",
)
def unmapped_while_pending(bench: Bench) -> str:
    """The kernel has the pages, not their address."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)
    area = memory(bench, sent)
    at, other = area.address, payload(len(sent), seed=2)
    send(sender, area.view())
    area.unmap()
    memory(bench, other, at)
    content = whole(read(receiver, len(FRONT) + len(sent)), FRONT + sent)
    return f"{content}, {as_text(await_completions(sender, 1))}"


@CASES.add("the sending process ends with completions pending", "sent; content whole", "Z13")
def process_ends_while_pending(bench: Bench) -> str:
    """Nor does the kernel need the process."""
    sender, receiver = stalled(bench)
    sent = payload(1 << 18)

    def process() -> str:
        send(sender, memory(bench, sent).view())
        return "sent"

    done = as_user(0, process)
    sender.close()
    return f"{done}; {whole(read_to_end(receiver), FRONT + sent)}"


@CASES.add(
    "buffers are unmapped after the send, to the other host",
    "content whole over the data interfaces, 0 to 3",
    "Z13",
    link="data interface",
)
def unmapped_on_the_link(bench: Bench) -> str:
    """A device reads pages that the program no longer has."""
    link = to_sink(bench)
    sent = payload(1 << 20)
    for at in range(0, len(sent), 1 << 18):
        area = memory(bench, sent[at : at + (1 << 18)])
        send(link.sender, area.view())
        area.unmap()
    content = link.report(sent)
    return f"{content}, {as_text(await_completions(link.sender, 4))}"


@CASES.add(
    "a tc filter copies what begins with a mark to another interface; of three sends, two are marked",
    "two copies whole, content whole, 0 to 2 copied",
)
def filter_reads_payload(bench: Bench) -> str:
    """A filter on the way out sees the program's pages."""
    enter_new_netns()
    run("ip", "link", "add", "copies", "mtu", "65535", "type", "veth", "peer", "name", "seen", "mtu", "65535")
    for interface in ("copies", "seen"):
        run("ip", "link", "set", interface, "up")
    marked, other = payload(2 * PAGE, seed=0x5A434C42), payload(2 * PAGE, seed=2)
    protocol, headers = ("ip", 20 + 32) if bench.family == 4 else ("ipv6", 40 + 32)
    run("tc", "qdisc", "add", "dev", "lo", "clsact")
    run(
        *("tc", "filter", "add", "dev", "lo", "egress", "protocol", protocol, "u32"),
        *("match", "u32", f"0x{marked[:4].hex()}", "0xffffffff", "at", str(headers)),
        *("action", "mirred", "egress", "mirror", "dev", "copies"),
    )
    tap = bench.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
    tap.bind(("seen", _ETH_P_ALL))
    tap.settimeout(SECONDS)
    sender, receiver = connected(bench)
    area = memory(bench, marked + other)
    content = b""
    for at in (0, len(marked), 0):
        send(sender, area.view(at, len(marked)))
        content += read(receiver, len(marked))
        settle(sender)
    arrived = whole(content, marked + other + marked)
    return f"{_copies(tap, marked, other)}, {arrived}, {as_text(await_completions(sender, 3))}"


@CASES.add(
    "datagrams that the far end drops: before, while and after a packet socket is on the interface",
    "0 to 0; 1 to 1 copied; 2 to 2",
    "Z3",
    link="veth",
)
def packet_socket_makes_copies(bench: Bench) -> str:
    """What a packet socket of the sending interface gets is a copy, and the completion says so."""
    link = linked(bench, stack=False)
    # What is larger than the far end's MTU is dropped there: nothing but a packet socket keeps or copies it.
    run("ip", "link", "set", link.near, "mtu", "9000")
    sender = bench.keep(socket.socket(bench.address_family, socket.SOCK_DGRAM))
    sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    sender.connect((link.address, 9))
    return _with_packet_socket(sender, memory(bench, payload(2 * PAGE)), link.near)


@CASES.add(
    "sends to the other host: before, while and after a packet socket is on the data interface",
    "0 to 0; 1 to 1 copied; 2 to 2; content whole over the data interfaces",
    "Z3",
    link="data interface",
)
def packet_socket_on_the_link(bench: Bench) -> str:
    """So it does where the device would have taken the pages."""
    link = to_sink(bench)
    sent = payload(2 * PAGE)
    completions = _with_packet_socket(link.sender, memory(bench, sent), link.peer.interface)
    return f"{completions}; {link.report(3 * sent)}"


def _with_packet_socket(sender: socket.socket, area: Mapping, interface: str) -> str:
    """Send an area before, while and after a packet socket is on an interface; return the completions."""

    def completed() -> str:
        send(sender, area.view())
        return as_text(await_completions(sender, 1))

    before = completed()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as tap:
        tap.bind((interface, _ETH_P_ALL))
        during = completed()
    return f"{before}; {during}; {completed()}"


def _copies(tap: socket.socket, marked: bytes, other: bytes) -> str:
    """Return whether a tap has seen two marked sends, and not the one without a mark."""
    seen = 0
    while seen < 2:
        frame = tap.recv(1 << 17)
        if frame.endswith(other):
            return "a copy of what has no mark"
        seen += frame.endswith(marked)
    return "two copies whole"
