# SPDX-License-Identifier: Apache-2.0
"""A TCP peer that does only what a test case says, and the segments that the kernel under test sends it.

It reads and writes frames on a packet socket at the far end of a veth pair, whose own stack answers nothing.
Formats: RFC 791 and 8200 (IP), 9293 (TCP), 2018 (SACK), 826 (ARP), 4861 (neighbour discovery).
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from .netns import FAR_MAC, NEAR_MAC, VethLink, linked, run
from .processes import SECONDS
from .sockets import wait_until
from .table import Bench

SYN, PSH, ACK = 0x02, 0x08, 0x10
PORT = 4000

_ETH_P_ALL, _ETH_P_IP, _ETH_P_ARP, _ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
_ETHERNET, _TCP = struct.Struct("!6s6sH"), struct.Struct("!HHIIBBHHH")
_IPV4, _IPV6 = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!IHBB16s16s")
_ICMPV6, _NEIGHBOUR_SOLICITATION = 58, 135
# A maximum segment size of 1000, SACK permitted.
_SYN_OPTIONS = struct.pack("!BBHBBBB", 2, 4, 1000, 4, 2, 1, 1)
_WINDOW = 65535
_FIRST_SEQUENCE = 1_000_000
_MASK = 0xFFFFFFFF


class Segment(NamedTuple):
    """A segment of the kernel under test; `seq` is relative to its SYN, which has 0."""

    seq: int
    flags: int
    data: bytes

    @property
    def end(self) -> int:
        """The sequence number that follows its data."""
        return self.seq + len(self.data)

    def __str__(self) -> str:
        return f"{len(self.data)}{' PSH' if self.flags & PSH else ''}"


class ScriptedPeer:
    """The other end of one connection, at `link`.address and PORT. It acknowledges only when told to.

    The kernel under test is at the near end of `link`, to whose network namespace this thread moves.
    """

    def __init__(self, bench: Bench) -> None:
        self.link: VethLink = linked(bench, stack=False)
        # What comes is what the test case made the kernel send: no probes, and no retransmission because this
        # peer is slow.
        Path("/proc/sys/net/ipv4/tcp_early_retrans").write_text("0", encoding="ascii")
        run("ip", "route", "add", self.link.address, "dev", self.link.near, "rto_min", f"{SECONDS:.0f}s")
        self._family = bench.address_family
        with self.link.beyond():
            self._tap = bench.keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
            self._tap.bind((self.link.far, _ETH_P_ALL))
        self._here = b""  # the kernel's address
        self._kernel_port = 0
        self._kernel_first = 0  # its initial sequence number
        self._sent = 0  # sequence numbers that this end has used
        self._received = 0  # the kernel's sequence number that comes next

    def accept(self, sender: socket.socket) -> socket.socket:
        """Connect a socket of the kernel to this peer; return it, blocking; raise OSError without a route."""
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sender.connect((self.link.address, PORT))
        self._take_syn(SYN)
        self._send(SYN | ACK, options=_SYN_OPTIONS)
        self._await(lambda segment: segment.flags & ACK)
        wait_until(lambda: bool(select.select([], [sender], [], 0)[1]))
        sender.settimeout(None)
        return sender

    def open(self, address: tuple[str, int], data: bytes = b"") -> None:
        """Begin a connection to a listening socket, with data in the SYN; await the SYN's acknowledgement.

        The handshake ends with the next acknowledge().
        """
        self._here, self._kernel_port = socket.inet_pton(self._family, address[0]), address[1]
        self._send(SYN, data, _SYN_OPTIONS)
        self._take_syn(SYN | ACK)

    def segments(self, length: int) -> list[Segment]:
        """Return the segments of so many bytes that were not received before, in their order."""
        came: list[Segment] = []
        while length > 0:
            segment = self._await(lambda segment: segment.data and segment.seq == self._received)
            came.append(segment)
            self._received += len(segment.data)
            length -= len(segment.data)
        return came

    def acknowledge(self, number: int, sack: tuple[int, int] | None = None) -> None:
        """Acknowledge what is before a sequence number, and selectively what is in a range [from, to)."""
        options = b""
        if sack is not None:
            edges = ((self._kernel_first + edge) & _MASK for edge in sack)
            options = struct.pack("!BBBBII", 1, 1, 5, 10, *edges)
        self._send(ACK, acknowledged=number, options=options)

    def await_retransmission(self, seq: int) -> None:
        """Wait until a segment that begins there comes once more."""
        self._await(lambda segment: segment.data and segment.seq == seq)

    def await_solicitation(self) -> None:
        """Wait until the kernel asks for the MAC address of this peer, because a packet waits for it."""
        address = socket.inet_pton(self._family, self.link.address)
        for kind, packet in self._frames():
            if kind == _ETH_P_ARP and packet[24:28] == address:
                return
            asks = kind == _ETH_P_IPV6 and (packet[6], packet[40]) == (_ICMPV6, _NEIGHBOUR_SOLICITATION)
            if asks and packet[48:64] == address:
                return

    def _take_syn(self, flags: int) -> None:
        """Wait for the kernel's SYN."""
        self._kernel_first = 0
        segment = self._await(lambda segment: segment.flags == flags)
        self._kernel_first, self._received = segment.seq, 1

    def _await(self, wanted: Callable[[Segment], object]) -> Segment:
        for kind, packet in self._frames():
            segment = self._parse(kind, packet)
            if segment is not None and wanted(segment):
                return segment
        raise AssertionError("frames end with an error only")

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield the EtherType and payload of each frame that comes; raise TimeoutError if none does."""
        deadline = time.monotonic() + SECONDS
        while (left := deadline - time.monotonic()) > 0 and select.select([self._tap], [], [], left)[0]:
            frame, address = self._tap.recvfrom(1 << 17)
            if address[2] != socket.PACKET_OUTGOING:
                yield _ETHERNET.unpack_from(frame)[2], frame[_ETHERNET.size :]
        raise TimeoutError("the segment that the test case waited for did not come")

    def _parse(self, kind: int, packet: bytes) -> Segment | None:
        """Return a segment to PORT, or None for any other packet."""
        if kind == _ETH_P_IP and self._family == socket.AF_INET and packet[9] == socket.IPPROTO_TCP:
            start, end, here = 4 * (packet[0] & 0xF), int.from_bytes(packet[2:4], "big"), packet[12:16]
        elif kind == _ETH_P_IPV6 and self._family == socket.AF_INET6 and packet[6] == socket.IPPROTO_TCP:
            start, end, here = 40, 40 + int.from_bytes(packet[4:6], "big"), packet[8:24]
        else:
            return None
        source, port, seq, _, offset, flags, *_ = _TCP.unpack_from(packet, start)
        if port != PORT:
            return None
        self._here, self._kernel_port = here, source
        data = packet[start + 4 * (offset >> 4) : end]
        return Segment((seq - self._kernel_first) & _MASK, flags, data)

    def _send(
        self, flags: int, data: bytes = b"", options: bytes = b"", acknowledged: int | None = None
    ) -> None:
        """Send a segment; it acknowledges all that was received unless it says otherwise."""
        there = socket.inet_pton(self._family, self.link.address)
        number = self._received if acknowledged is None else acknowledged
        ack = (self._kernel_first + number) & _MASK if flags & ACK else 0
        offset = (_TCP.size + len(options)) // 4 << 4
        head = (PORT, self._kernel_port, _FIRST_SEQUENCE + self._sent, ack, offset, flags, _WINDOW)
        length = _TCP.size + len(options) + len(data)
        pseudo = there + self._here + struct.pack("!II", length, socket.IPPROTO_TCP)
        checked = _checksum(pseudo + _TCP.pack(*head, 0, 0) + options + data)
        self._tap.send(self._ip_header(there, length) + _TCP.pack(*head, checked, 0) + options + data)
        self._sent += len(data) + bool(flags & SYN)

    def _ip_header(self, there: bytes, length: int) -> bytes:
        """Return the Ethernet and IP headers of a packet from `there` with so many bytes of TCP."""
        kind = _ETH_P_IPV6 if self._family == socket.AF_INET6 else _ETH_P_IP
        ethernet = _ETHERNET.pack(_mac(NEAR_MAC), _mac(FAR_MAC), kind)
        if kind == _ETH_P_IPV6:
            return ethernet + _IPV6.pack(6 << 28, length, socket.IPPROTO_TCP, 64, there, self._here)
        head = (0x45, 0, _IPV4.size + length, 0, 0, 64, socket.IPPROTO_TCP)
        checked = _checksum(_IPV4.pack(*head, 0, there, self._here))
        return ethernet + _IPV4.pack(*head, checked, there, self._here)


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
