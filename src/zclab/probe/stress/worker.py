# SPDX-License-Identifier: Apache-2.0
"""A worker of the stress: random operations on its own connections, each byte compared with its position's.

The operations and their arguments follow from the seed alone. What the kernel makes of them also depends on
timing, so that a fault may need several runs of the same seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import random
import resource
import select
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..completions import take, unsent
from ..libc import MAP_FIXED, MAP_POPULATE, READ_WRITE
from ..netns import enter_new_netns
from ..processes import end_with
from ..sockets import MSG_ZEROCOPY, PAGE, SO_ZEROCOPY, Mapping, error_name, inq, map_memory, mapped, outcome
from ..sysctl import CONSUME, standing
from ..table import Bench
from ..zerocopy_receive import Request, ask

#: The most bytes that one operation sends, maps or reads.
LARGEST = 64 * PAGE
_AREA = 16 * PAGE
#: Mappings and children that a worker keeps at a time.
_MAPPINGS, _CHILDREN = 24, 3
#: A prime, so that no shift by pages or powers of two goes unseen; and more bytes than several threads take
#: at a time, of which the positions have to be found.
_PERIOD = 1048573
_SECONDS = 30.0
_BYTES_RECEIVED = 128  # its place in struct tcp_info
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
#: What mmap() of a socket may be refused with; anything else is a fault.
_REFUSALS = {errno.EAGAIN, errno.EINVAL, errno.EIO, errno.ENOTCONN}
_ENDED = {errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN}


class MismatchError(Exception):
    """Bytes, a position or an error that cannot be right."""


@dataclass
class Tally:
    """What a worker did: operations by kind, bytes by how they came, refusals by operation and error."""

    operations: Counter[str] = field(default_factory=Counter)
    unsupported: Counter[str] = field(default_factory=Counter)
    transferred: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)

    def add(self, seed: int, tally: dict[str, Any]) -> None:
        """Add the tally of a worker with this seed, as it printed it."""
        for name in ("operations", "unsupported", "transferred", "refusals"):
            getattr(self, name).update(tally[name])
        self.connections += tally["connections"]
        self.mismatches += [{"seed": seed, **found} for found in tally["mismatches"]]


class Pattern:
    """The endless content of a stream; it lies in memory of its own, which is never written again."""

    def __init__(self, rng: random.Random) -> None:
        block = rng.randbytes(_PERIOD)
        self._memory = mmap.mmap(-1, _PERIOD + LARGEST + PAGE)
        self._memory.write((block * (len(self._memory) // _PERIOD + 1))[: len(self._memory)])

    def at(self, position: int, length: int) -> memoryview:
        """Return the bytes of the stream from a position on, at most LARGEST."""
        start = position % _PERIOD
        return memoryview(self._memory)[start : start + length]


@dataclass
class Kept:
    """A mapping that is kept, and the bytes that belong there."""

    area: Mapping
    expected: memoryview

    def check(self, offset: int, length: int) -> None:
        """Raise MismatchError if a part of it is not as it was."""
        if self.area.read(offset, length) != self.expected[offset : offset + length]:
            raise MismatchError("a kept mapping has changed")


class Connection:
    """A sender and a receiver in this process. Both are reset when closed, so that nothing waits."""

    def __init__(self, rng: random.Random, family: int, pattern: Pattern) -> None:
        self.bench = Bench(family)
        self.pattern = pattern
        self.inline = rng.random() < 0.3
        with socket.create_server((self.bench.loopback, 0), family=self.bench.address_family) as listener:
            self.sender = socket.socket(self.bench.address_family, socket.SOCK_STREAM)
            if rng.random() < 0.2:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << rng.randrange(14, 18))
            self.sender.connect(listener.getsockname())
            self.receiver = listener.accept()[0]
        for end in (self.sender, self.receiver):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.setblocking(False)
        self.sender.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
        self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(rng.random() < 0.8))
        self.receiver.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, int(self.inline))
        with standing():
            self.area = map_memory(self.bench, _AREA, self.receiver.fileno())
        self.sent = 0
        self.taken = 0
        self.urgent: int | None = None  # the position of an urgent byte that was not passed yet
        self.ended = False  # no more will be sent

    def close(self) -> None:
        """Close both ends and unmap the standing area; other mappings stay."""
        self.sender.close()
        self.receiver.close()
        self.bench.closing.close()

    def received(self) -> int:
        """Return the position up to which bytes have come, as the kernel counts."""
        info = self.receiver.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED + 8)
        count: int = struct.unpack_from("Q", info, _BYTES_RECEIVED)[0]
        return min(count, self.sent)  # a FIN counts, too

    def hole(self) -> bool:
        """Return whether the next byte is an urgent one that a read leaves out."""
        return not self.inline and self.urgent is not None and self.urgent == self.taken

    def advance(self, count: int) -> None:
        """Count bytes as taken."""
        self.taken += count
        if self.urgent is not None and self.taken > self.urgent:
            self.urgent = None
        if self.taken > self.sent:
            raise MismatchError("more came than was sent")

    def check(self, got: bytes, position: int) -> None:
        """Raise MismatchError if bytes are not those of a position."""
        if got != self.pattern.at(position, len(got)):
            raise MismatchError(f"{len(got)} bytes are not those at {position}")


class Worker:
    """Does operations until the time is over."""

    def __init__(
        self, seed: int, families: list[int], kinds: list[str] | None, at: Callable[[int, str], None]
    ):
        self.seed = seed
        self.rng = self._drawn(0)
        self.families = families
        self.kinds = {name: OPERATIONS[name] for name in kinds or OPERATIONS}
        self.at = at
        self.tally = Tally()
        self.patterns = [Pattern(self.rng) for _ in range(3)]
        self.kept: list[Kept] = []
        self.children: list[tuple[int, int]] = []  # a child and the pipe that it waits at
        self.consumes = CONSUME.exists()
        self.connection = self._connect()

    def run(self, deadline: float) -> Tally:
        """Do operations until a deadline of the monotonic clock; return what was done."""
        names = list(self.kinds)
        weights = [weight for weight, _ in self.kinds.values()]
        number = 0
        while time.monotonic() < deadline:
            number += 1
            self.rng = self._drawn(number)
            kind = self.rng.choices(names, weights)[0]
            self.at(number, kind)
            try:
                self.kinds[kind][1](self)
                self.tally.operations[kind] += 1
            except (MismatchError, OSError) as problem:
                found = {
                    "operation": number,
                    "kind": kind,
                    "taken": self.connection.taken,
                    "what": str(problem),
                }
                self.tally.mismatches.append(found)
                self.renew()
        self.at(number, "end")
        self.end()
        return self.tally

    def end(self) -> None:
        """Check and give back all that is kept."""
        for pid, writer in self.children:
            self._join(pid, writer)
        self.children = []
        for one in self.kept:
            one.check(0, one.area.length)
            one.area.unmap()
        self.kept = []
        self.connection.close()

    def renew(self) -> None:
        """Leave the connection for a new one; what is mapped of it stays."""
        self.connection.close()
        self.connection = self._connect()

    def _drawn(self, number: int) -> random.Random:
        """Return what an operation's kind and arguments are drawn from, whatever came of those before it."""
        return random.Random((self.seed << 32) + number)

    def _connect(self) -> Connection:
        self.tally.connections += 1
        return Connection(self.rng, self.rng.choice(self.families), self.rng.choice(self.patterns))

    def refused(self, kind: str, error: OSError) -> None:
        """Count an error of a call that may be refused."""
        self.tally.refusals[f"{kind} {error_name(error)}"] += 1

    # Sending

    def _send(self, length: int, flags: int) -> None:
        one = self.connection
        if one.ended:
            return
        try:
            count = one.sender.send(one.pattern.at(one.sent, length), flags)
        except OSError as error:
            self.refused("send", error)
            if error.errno == errno.ENOBUFS:
                self.complete()
            elif error.errno != errno.EAGAIN:
                one.ended = True
            return
        one.sent += count
        self.tally.transferred["sent"] += count

    def _length(self) -> int:
        pages = self.rng.choice([1, 1, 2, 3, 4, 4, 8, 16])
        return pages * PAGE if self.rng.random() < 0.7 else self.rng.randrange(1, pages * PAGE)

    def send_plain(self) -> None:
        """Send bytes that the kernel copies."""
        self._send(self._length(), self.rng.choice([0, 0, socket.MSG_EOR, socket.MSG_MORE]))

    def send_zerocopy(self) -> None:
        """Send bytes from where they are; a receiver on loopback finds them in whole pages."""
        self._send(self._length(), MSG_ZEROCOPY | self.rng.choice([0, 0, 0, socket.MSG_EOR, socket.MSG_MORE]))

    def send_header(self) -> None:
        """Send a short header as a record of its own, then whole pages."""
        self._send(self.rng.randrange(1, 200), socket.MSG_EOR)
        self._send(self.rng.randrange(1, 5) * PAGE, MSG_ZEROCOPY)

    def send_file(self) -> None:
        """Send pages of a file."""
        one, length = self.connection, self._length()
        if one.ended:
            return
        with tempfile.TemporaryFile() as file:
            file.write(one.pattern.at(one.sent, length))
            file.flush()
            try:
                count = os.sendfile(one.sender.fileno(), file.fileno(), 0, length)
            except OSError as error:
                self.refused("send", error)
                one.ended |= error.errno != errno.EAGAIN
                return
        one.sent += count
        self.tally.transferred["sent"] += count

    def send_urgent(self) -> None:
        """Send an urgent byte: one at a time, and only if nothing waits unsent."""
        one = self.connection
        # With bytes before it that wait to be sent, TCP reports another position first; an older one
        # that was not passed becomes a byte like others.
        if one.ended or one.urgent is not None or unsent(one.sender):
            return
        at = one.sent
        self._send(1, socket.MSG_OOB)
        if one.sent > at:
            one.urgent = at

    def complete(self) -> None:
        """Read the completions of sends."""
        with contextlib.suppress(OSError):
            while take(self.connection.sender):
                pass

    # Mapping

    def map(self) -> None:
        """Map some pages of the stream, look at them, and often keep them."""
        self._map(self.rng.choice([1, 1, 1, 2, 2, 3, 4, 8, 16]) * PAGE - self.rng.choice([0, 0, 0, 100]))

    def map_what_is_queued(self) -> None:
        """Map all whole pages that are queued."""
        one = self.connection
        queued = 0
        with contextlib.suppress(OSError):
            queued = inq(one.receiver)
        self._map(min(max(queued // PAGE, 1) * PAGE, _AREA))

    def map_over(self) -> None:
        """Map a page over a mapping that is kept."""
        if self.kept:
            older = self.kept.pop(self.rng.randrange(len(self.kept)))
            self._map(PAGE, MAP_FIXED, older.area.address)
            older.area.unmap()

    def _map(self, length: int, flags: int = 0, address: int = 0) -> None:
        if not self.consumes:
            self.tally.unsupported["map"] += 1
            return
        one, start = self.connection, self.connection.taken
        whole = (length + PAGE - 1) // PAGE * PAGE
        flags |= self.rng.choice([mmap.MAP_SHARED, mmap.MAP_SHARED, mmap.MAP_PRIVATE])
        flags |= self.rng.choice([0, 0, MAP_POPULATE])
        try:
            area = mapped(length, one.receiver.fileno(), mmap.PROT_READ, flags, address=address)
        except OSError as error:
            self.refused("map", error)
            if error.errno not in _REFUSALS:
                raise MismatchError(f"mmap() is refused with {error_name(error)}") from None
            return
        area.length = whole
        if one.urgent is not None and one.urgent < start + whole:
            raise MismatchError(f"an urgent byte at {one.urgent} was mapped")
        one.check(area.read(), start)
        one.advance(whole)
        self.tally.transferred["mapped"] += whole
        if address or self.rng.random() < 0.3:
            area.unmap()
        else:
            self.kept.append(Kept(area, one.pattern.at(start, whole)))
            if len(self.kept) > _MAPPINGS:
                self.unmap()

    def map_what_is_refused(self) -> None:
        """Ask for mappings that are always refused."""
        if not self.consumes:
            self.tally.unsupported["map"] += 1
            return
        fd = self.connection.receiver.fileno()
        length, protection, offset, allowed = self.rng.choice(
            [
                (PAGE, READ_WRITE, 0, "EPERM"),
                (PAGE, mmap.PROT_READ | mmap.PROT_EXEC, 0, "EPERM"),
                (PAGE, 0, 0, "EPERM"),
                (PAGE, mmap.PROT_READ, PAGE, "EINVAL"),
                (0, mmap.PROT_READ, 0, "EINVAL"),
                ((1 << 64) - 1, mmap.PROT_READ, 0, "ENOMEM"),
                (1 << 33, mmap.PROT_READ, 0, "EAGAIN EINVAL EIO ENOTCONN"),
            ]
        )
        result = outcome(lambda: mapped(length, fd, protection, offset=offset))
        self.tally.refusals[f"map {result}"] += 1
        if result not in allowed.split():
            raise MismatchError(f"mmap() of {length}, protection {protection}, offset {offset}: {result}")

    def unmap(self) -> None:
        """Unmap something that is kept, whole or in part, after a look at it."""
        if not self.kept:
            return
        one = self.kept.pop(self.rng.randrange(len(self.kept)))
        pages = one.area.length // PAGE
        one.check(0, one.area.length)
        if pages > 1 and self.rng.random() < 0.5:
            hole = self.rng.randrange(pages)
            one.area.unmap(hole * PAGE, PAGE)
            for page in range(pages):
                if page != hole:
                    one.check(page * PAGE, PAGE)
        one.area.unmap()

    def look(self) -> None:
        """Look at a mapping that is kept."""
        if self.kept:
            one = self.rng.choice(self.kept)
            one.check(0, one.area.length)

    def misuse(self) -> None:
        """Try to write to a mapping that is kept."""
        if self.kept:
            one = self.rng.choice(self.kept)
            result = outcome(lambda: one.area.protect(READ_WRITE))
            if result != "EACCES":
                raise MismatchError(f"mprotect() to write: {result}")

    def send_on(self) -> None:
        """Send a mapping on over a connection of its own, from where it is; it may be unmapped at once."""
        if not self.kept:
            return
        one = self.kept.pop(self.rng.randrange(len(self.kept)))
        pattern = self.rng.choice(self.patterns)
        onward = Connection(self.rng, self.rng.choice(self.families), pattern)
        try:
            count = onward.sender.send(one.area.view(), MSG_ZEROCOPY)
            one.area.unmap()
            got = b""
            while len(got) < count and select.select([onward.receiver], [], [], _SECONDS)[0]:
                got += onward.receiver.recv(LARGEST)
        finally:
            onward.close()
        if got != one.expected[:count]:
            raise MismatchError("a mapping was not sent on as it was")

    # Reading

    def read(self) -> None:
        """Read some bytes."""
        self._receive(self.rng.choice([1, 100, PAGE, PAGE, 3 * PAGE, 16 * PAGE]), 0)

    def read_to_a_page(self) -> None:
        """Read what recv_skip_hint counts before the next page that can be mapped."""
        hint = self._move(PAGE, 0)
        if hint:
            self._receive(min(hint, LARGEST), 0)

    def peek(self) -> None:
        """Look at some bytes."""
        self._receive(self.rng.choice([1, PAGE, 8 * PAGE]), socket.MSG_PEEK)

    def _receive(self, length: int, flags: int) -> None:
        one = self.connection
        try:
            got = one.receiver.recv(length, flags)
        except OSError as error:
            self.refused("read", error)
            self._nothing(error.errno, flags)
            return
        start = one.taken + one.hole()
        if not got:
            if not flags:
                self._end_of_stream(start)
            return
        one.check(got, start)
        if not flags:
            one.advance(start + len(got) - one.taken)
            self.tally.transferred["copied"] += len(got)

    def _nothing(self, number: int | None, flags: int) -> None:
        """Go on after a read that failed."""
        one = self.connection
        if number in _ENDED or (one.sender.fileno() < 0 and number == errno.EAGAIN):
            self.renew()
        elif number != errno.EAGAIN:
            raise MismatchError(f"recv() fails with {errno.errorcode.get(number or 0)}")
        elif one.hole() and not flags and one.received() > one.taken:
            one.advance(1)  # the read went past the urgent byte, and found nothing behind it

    def _end_of_stream(self, start: int) -> None:
        one = self.connection
        if one.sender.fileno() >= 0 and not (one.ended and start == one.sent):
            raise MismatchError(f"the stream ends at {start} of {one.sent}")
        self.renew()

    def read_urgent(self) -> None:
        """Read the urgent byte by itself."""
        one = self.connection
        try:
            got = one.receiver.recv(1, socket.MSG_OOB)
        except OSError as error:
            self.refused("read_urgent", error)
            return
        if got and one.urgent is not None:
            one.check(got, one.urgent)

    def zerocopy_receive(self) -> None:
        """Have pages moved into the standing area, sometimes with a copy buffer for what is left."""
        one = self.connection
        # What is copied leaves urgent bytes out; then only pages are asked for.
        room = self.rng.choice([0, 0, 1000, PAGE - 1]) if one.urgent is None or one.inline else 0
        self._move(self.rng.randrange(1, _AREA // PAGE + 1) * PAGE, room)

    def _move(self, length: int, room: int) -> int:
        """Move up to `length` bytes into the standing area and `room` into a copy buffer; return the hint."""
        one = self.connection
        buffer = ctypes.create_string_buffer(PAGE)
        request = Request(
            address=one.area.address,
            length=length,
            copybuf_address=ctypes.addressof(buffer) if room else 0,
            copybuf_len=room,
        )
        result = ask(one.receiver, request)
        if result != "ok":
            self.tally.refusals[f"zerocopy_receive {result}"] += 1
            if result not in ("EIO", "EINVAL", "ENOTCONN", "EAGAIN"):
                raise MismatchError(f"TCP_ZEROCOPY_RECEIVE fails with {result}")
            return 0
        copied = max(request.copybuf_len, 0)
        got = one.area.read(0, request.length) + buffer.raw[:copied]
        one.check(got, one.taken)
        one.advance(len(got))
        self.tally.transferred["moved"] += request.length
        self.tally.transferred["copied"] += copied
        return 0 if got else int(request.recv_skip_hint)

    # Ends

    def fin(self) -> None:
        """End the stream; what was sent before is still to be taken."""
        one = self.connection
        with contextlib.suppress(OSError):
            one.sender.shutdown(socket.SHUT_WR)
        one.ended = True

    def reset(self) -> None:
        """Reset the connection by its sender; what has come is still to be taken."""
        one = self.connection
        one.sender.close()
        one.ended = True
        for kind in self.rng.choices(["map", "read", "peek", "zerocopy_receive"], k=4):
            if self.connection is one:
                getattr(self, kind)()
        if self.connection is one:
            self.renew()

    def close(self) -> None:
        """Close both ends under all that is mapped."""
        self.renew()
        for one in self.kept:
            one.check(0, one.area.length)

    # Several at once

    def fork(self) -> None:
        """Have a child look at all that is mapped, at once or later."""
        if len(self.children) >= _CHILDREN:
            self._join(*self.children.pop(0))
        waiting, writer = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_with(parent)
            os.close(writer)
            os._exit(self._as_child(waiting))
        os.close(waiting)
        self.children.append((pid, writer))
        if self.rng.random() < 0.5:
            self._join(*self.children.pop())

    def _as_child(self, waiting: int) -> int:
        """Return 0 if all that was mapped is unchanged, once the parent signals it or has ended."""
        try:
            for _, writer in self.children:
                os.close(writer)
            os.read(waiting, 1)
            for one in self.kept:
                one.check(0, one.area.length)
                one.area.unmap()
            self.connection.close()
        except BaseException:
            return 1
        return 0

    def _join(self, pid: int, writer: int) -> None:
        os.close(writer)
        _, status = os.waitpid(pid, 0)
        if status:
            raise MismatchError(f"a child that looked at the mappings ended with wait status {status}")

    def together(self) -> None:
        """Have several threads map and read a stream, while another moves this program's memory about."""
        one = self.connection
        if one.urgent is not None or one.sender.fileno() < 0:
            return
        for _ in range(4):
            self._send(self.rng.randrange(1, 5) * PAGE, MSG_ZEROCOPY)
        taken: list[bytes] = []  # appending is atomic
        tasks: list[Callable[[], None]] = [
            _Burst(self.rng.randrange(1 << 30), one, self.consumes, taken).run
            for _ in range(self.rng.randrange(2, 5))
        ]
        tasks.append(_move_memory)
        threads = [threading.Thread(target=task) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._assemble(taken)

    def _assemble(self, taken: list[bytes]) -> None:
        """Put in order what several threads took; raise MismatchError if a byte is missing or came twice."""
        one = self.connection
        pieces = sorted(taken, key=len, reverse=True)
        while pieces:
            fitting = next(
                (piece for piece in pieces if piece == one.pattern.at(one.taken, len(piece))), None
            )
            if fitting is None:
                raise MismatchError(f"{len(pieces)} pieces of several threads do not go on at {one.taken}")
            pieces.remove(fitting)
            one.advance(len(fitting))
            self.tally.transferred["by several threads"] += len(fitting)


class _Burst:
    """One of several threads on a connection: a few operations that take bytes off it."""

    def __init__(self, seed: int, connection: Connection, consumes: bool, taken: list[bytes]) -> None:
        self.rng = random.Random(seed)
        self.connection = connection
        self.taken = taken
        self.kinds = [self._read, self._peek, *([self._map] * 3 if consumes else [])]

    def run(self) -> None:
        for _ in range(8):
            with contextlib.suppress(OSError):
                self.rng.choice(self.kinds)()

    def _map(self) -> None:
        length = self.rng.randrange(1, 4) * PAGE
        area = mapped(length, self.connection.receiver.fileno())
        self.taken.append(area.read())
        area.unmap()

    def _read(self) -> None:
        # Into memory that is not there yet: the kernel fills it in with the socket locked.
        with mmap.mmap(-1, 4 * PAGE) as memory:
            count = self.connection.receiver.recv_into(memory, self.rng.randrange(64, 4 * PAGE))
            if count:
                self.taken.append(memory[:count])

    def _peek(self) -> None:
        self.connection.receiver.recv(PAGE, socket.MSG_PEEK)


def _move_memory() -> None:
    """Take the mapping lock again and again."""
    for _ in range(8):
        mmap.mmap(-1, 1 << 18, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_POPULATE).close()


#: Each kind of operation, how often it is drawn, and what it does.
OPERATIONS: dict[str, tuple[float, Callable[[Worker], None]]] = {
    "send_plain": (5, Worker.send_plain),
    "send_zerocopy": (20, Worker.send_zerocopy),
    "send_header": (4, Worker.send_header),
    "send_file": (1, Worker.send_file),
    "send_urgent": (2, Worker.send_urgent),
    "complete": (4, Worker.complete),
    "map": (18, Worker.map),
    "map_what_is_queued": (8, Worker.map_what_is_queued),
    "map_over": (2, Worker.map_over),
    "map_what_is_refused": (2, Worker.map_what_is_refused),
    "unmap": (6, Worker.unmap),
    "look": (3, Worker.look),
    "misuse": (1, Worker.misuse),
    "send_on": (1, Worker.send_on),
    "read": (8, Worker.read),
    "read_to_a_page": (10, Worker.read_to_a_page),
    "peek": (3, Worker.peek),
    "read_urgent": (1, Worker.read_urgent),
    "zerocopy_receive": (8, Worker.zerocopy_receive),
    "fin": (0.5, Worker.fin),
    "reset": (1, Worker.reset),
    "close": (1, Worker.close),
    "fork": (0.7, Worker.fork),
    "together": (1, Worker.together),
}


def prepare(parent: int) -> None:
    """Make this process a worker's: a network of its own, in which mmap() consumes where it can; no core.

    Raises:
        NotHereError: no network namespace can be made.
    """
    enter_new_netns()
    if CONSUME.exists():
        CONSUME.write_text("1", encoding="ascii")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end_with(parent)
