# SPDX-License-Identifier: Apache-2.0
"""The area that pages are mapped into."""

from __future__ import annotations

import mmap
import tempfile

from ...libc import READ_WRITE
from ...sockets import PAGE, map_memory, outcome, pair
from ...stream import Step, plain, queue, rest, unsaid
from ...table import Bench, Cases
from ...zerocopy_receive import Reader, takes

CASES = Cases(Reader.does)


CASES.why("Nothing asked for is nothing consumed.")
CASES.steps("length-zero", queue(2 * PAGE), takes(length=0))(
    "two pages queued, length 0", "mapped 0, hint 0, 8192 queued"
)
CASES.why("A length below a page maps nothing; recv_skip_hint never exceeds the length.")
CASES.steps("length-below-a-page", queue(2 * PAGE), takes(length=100))(
    "two pages queued, length 100", "mapped 0, hint 100, 8192 queued"
)
CASES.why("A length is rounded down to whole pages.")
CASES.steps("length-of-broken-pages", queue(4 * PAGE), takes(length=10000))(
    "four pages queued, length 10000", "mapped 8192, hint 0, as sent, 8192 queued"
)
CASES.why("A length is cut at the end of the mapping.")
CASES.steps("length-beyond-the-area", queue(4 * PAGE), takes(length=0xFFFFFFFF), pages=2)(
    "four pages queued, the largest length, an area of two", "mapped 8192, hint 0, as sent, 8192 queued"
)
CASES.why("A call may fill any part of the mapping.")
CASES.steps(
    "address-inside-the-area",
    queue(2 * PAGE),
    lambda reader: reader.take(address=reader.mapping.address + 4 * PAGE),
)("two pages queued, an address in the area's middle", "mapped 8192, hint 0, as sent, 0 queued")
CASES.why("An address has to be a page's.")
CASES.steps(
    "address-unaligned", queue(2 * PAGE), lambda reader: reader.take(address=reader.mapping.address + 8)
)("two pages queued, an address 8 bytes into a page", "EINVAL, 8192 queued")
CASES.why("The address is looked at first.")
CASES.steps(
    "address-unaligned-with-nothing-queued", lambda reader: reader.take(address=reader.mapping.address + 8)
)("nothing queued, an address 8 bytes into a page", "EINVAL, 0 queued")
CASES.why("There is no default area.")
CASES.steps("address-null", queue(2 * PAGE), takes(address=0))(
    "two pages queued, address 0", "EINVAL, 8192 queued"
)
CASES.why("Where nothing can be mapped, the mapping is not looked up.")
CASES.steps("address-not-needed", plain(100), takes(address=0))(
    "100 bytes queued, address 0", "mapped 0, hint 100, 100 queued"
)


def _into(reader: Reader, *arguments: int, **named: int) -> str:
    """Take with an area of eight pages that is mapped so."""
    return reader.take(address=map_memory(reader.bench, 8 * PAGE, *arguments, **named).address)


CASES.why("Only a mapping of a TCP socket is filled.")
CASES.steps("area-of-anonymous-memory", queue(2 * PAGE), _into, rest())(
    "two pages queued, an area of anonymous memory", "EINVAL, 8192 queued; read 8192 as sent"
)


@CASES.add("two pages queued, an area of a file", "EINVAL, 8192 queued")
def area_of_a_file(bench: Bench) -> str:
    """A file's mapping is left alone."""
    reader = Reader(bench).queue(2 * PAGE)
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * PAGE)
        return _into(reader, file.fileno())


CASES.why("Any TCP socket's mapping will do: it is not tied to the socket that it was made of.")
CASES.steps(
    "area-of-another-socket",
    queue(2 * PAGE),
    lambda reader: reader.take(address=Reader(reader.bench).mapping.address),
)("two pages queued, an area of another TCP socket", "mapped 8192, hint 0, as sent, 0 queued")


@CASES.add("two pages queued, an area that was unmapped", "EINVAL, 8192 queued")
def area_unmapped(bench: Bench) -> str:
    """An unmapped area is not filled."""
    reader = Reader(bench).queue(2 * PAGE)
    gone = map_memory(bench, PAGE, reader.receiver.fileno())
    gone.unmap()
    return reader.take(address=gone.address)


CASES.why("What is left of a mapping is filled, and nothing behind it.")
CASES.steps(
    "area-unmapped-in-part", queue(4 * PAGE), lambda reader: reader.mapping.unmap(PAGE, PAGE), takes()
)(
    "four pages queued, an area of which the second page was unmapped",
    "mapped 4096, hint 0, as sent, 12288 queued",
)
CASES.why("A private mapping is filled as a shared one is.")
CASES.steps(
    "area-private",
    queue(2 * PAGE),
    lambda reader: _into(reader, reader.receiver.fileno(), flags=mmap.MAP_PRIVATE),
)("two pages queued, an area mapped MAP_PRIVATE", "mapped 8192, hint 0, as sent, 0 queued")


def _map(bench: Bench, protection: int) -> str:
    _, receiver = pair(bench)
    return outcome(lambda: map_memory(bench, PAGE, receiver.fileno(), protection))


CASES.why("What was received is not to be written.")
CASES.call(_map, "area-for-writing", READ_WRITE)("mmap() for writing", "EPERM")
CASES.why("What was received is not to be executed.")
CASES.call(_map, "area-for-execution", mmap.PROT_READ | mmap.PROT_EXEC)("mmap() for execution", "EPERM")


@CASES.add(
    "mprotect() for writing, before and after pages are there",
    "EACCES, EACCES, mapped 8192, hint 0, as sent, 0 queued",
)
def area_made_writable(bench: Bench) -> str:
    """A mapping cannot be made writable later."""
    reader = Reader(bench).queue(2 * PAGE)
    protection = READ_WRITE
    before = outcome(lambda: reader.mapping.protect(protection))
    result = reader.take()
    return f"{before}, {outcome(lambda: reader.mapping.protect(protection))}, {result}"


@CASES.add("mprotect() for execution", "EACCES")
def area_made_executable(bench: Bench) -> str:
    """Nor executable."""
    reader = Reader(bench)
    return outcome(lambda: reader.mapping.protect(mmap.PROT_READ | mmap.PROT_EXEC))


def _looks(page: int) -> Step:
    """Return the step that reads a byte of a page of the area."""
    return lambda reader: f"read {reader.mapping.read(page * PAGE, 1)!r}"


CASES.why("There is nothing behind a page until a call fills it: SIGBUS.")
CASES.steps("area-not-filled", _looks(0))(
    "a page of the area is read that no call has filled", "killed by signal 7"
)
CASES.why("Nor does a call put anything behind what it mapped.")
CASES.steps("area-not-filled-behind-a-page", queue(PAGE), unsaid(takes()), _looks(1))(
    "one page mapped, the area's second page is read", "killed by signal 7"
)


@CASES.add("two pages mapped, then one over the first of them", "the second page as before")
def area_filled_in_part_again(bench: Bench) -> str:
    """What an earlier call mapped stays where the next one asks for nothing."""
    reader = Reader(bench).queue(4 * PAGE)
    reader.take(length=2 * PAGE)
    reader.take(length=PAGE)
    kept = reader.mapping.read(PAGE, PAGE) == reader.sent[PAGE : 2 * PAGE]
    return "the second page as before" if kept else "the second page is another"


CASES.why("What an earlier call mapped is removed where the next one was to map and could not.")
CASES.steps("area-emptied-in-part", queue(3 * PAGE), takes(length=2 * PAGE), plain(PAGE), takes(), _looks(1))(
    "two pages mapped, then one of the two that were asked for, then the second is read", "killed by signal 7"
)
CASES.why("A call replaces what an earlier one mapped.")
CASES.steps("second-call-over-mapped-pages", queue(4 * PAGE), takes(length=2 * PAGE), takes(length=2 * PAGE))(
    "four pages queued, two calls over the same two pages",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)


@CASES.add("two pages mapped, then the socket is closed", "as sent")
def socket_closed_under_the_area(bench: Bench) -> str:
    """What was mapped stays readable."""
    reader = Reader(bench).queue(2 * PAGE)
    reader.take()
    reader.close()
    return reader.as_sent(reader.mapping.read(0, 2 * PAGE), 0)
