# SPDX-License-Identifier: Apache-2.0
"""The area that pages are mapped into."""

from __future__ import annotations

import mmap
import tempfile

from ...libc import READ_WRITE
from ...sockets import PAGE, map_memory, outcome, pair
from ...table import Bench, Cases
from ...zerocopy_receive import Reader

CASES = Cases()


@CASES.add("two pages queued, length 0", "mapped 0, hint 0, 8192 queued")
def length_zero(bench: Bench) -> str:
    """Nothing asked for is nothing consumed."""
    return Reader(bench).queue(2 * PAGE).take(length=0)


@CASES.add("two pages queued, length 100", "mapped 0, hint 100, 8192 queued")
def length_below_a_page(bench: Bench) -> str:
    """A length below a page maps nothing; recv_skip_hint never exceeds the length."""
    return Reader(bench).queue(2 * PAGE).take(length=100)


@CASES.add("four pages queued, length 10000", "mapped 8192, hint 0, as sent, 8192 queued")
def length_of_broken_pages(bench: Bench) -> str:
    """A length is rounded down to whole pages."""
    return Reader(bench).queue(4 * PAGE).take(length=10000)


@CASES.add(
    "four pages queued, the largest length, an area of two", "mapped 8192, hint 0, as sent, 8192 queued"
)
def length_beyond_the_area(bench: Bench) -> str:
    """A length is cut at the end of the mapping."""
    return Reader(bench, 2).queue(4 * PAGE).take(length=0xFFFFFFFF)


@CASES.add("two pages queued, an address in the area's middle", "mapped 8192, hint 0, as sent, 0 queued")
def address_inside_the_area(bench: Bench) -> str:
    """A call may fill any part of the mapping."""
    reader = Reader(bench).queue(2 * PAGE)
    return reader.take(address=reader.mapping.address + 4 * PAGE)


@CASES.add("two pages queued, an address 8 bytes into a page", "EINVAL, 8192 queued")
def address_unaligned(bench: Bench) -> str:
    """An address has to be a page's."""
    reader = Reader(bench).queue(2 * PAGE)
    return reader.take(address=reader.mapping.address + 8)


@CASES.add("nothing queued, an address 8 bytes into a page", "EINVAL, 0 queued")
def address_unaligned_with_nothing_queued(bench: Bench) -> str:
    """The address is looked at first."""
    reader = Reader(bench)
    return reader.take(address=reader.mapping.address + 8)


@CASES.add("two pages queued, address 0", "EINVAL, 8192 queued")
def address_null(bench: Bench) -> str:
    """There is no default area."""
    return Reader(bench).queue(2 * PAGE).take(address=0)


@CASES.add("100 bytes queued, address 0", "mapped 0, hint 100, 100 queued")
def address_not_needed(bench: Bench) -> str:
    """Where nothing can be mapped, the mapping is not looked up."""
    return Reader(bench).queue(100, pages=False).take(address=0)


@CASES.add("two pages queued, an area of anonymous memory", "EINVAL, 8192 queued; read 8192 as sent")
def area_of_anonymous_memory(bench: Bench) -> str:
    """Only a mapping of a TCP socket is filled."""
    reader = Reader(bench).queue(2 * PAGE)
    return f"{reader.take(address=map_memory(bench, 8 * PAGE).address)}; {reader.rest()}"


@CASES.add("two pages queued, an area of a file", "EINVAL, 8192 queued")
def area_of_a_file(bench: Bench) -> str:
    """A file's mapping is left alone."""
    reader = Reader(bench).queue(2 * PAGE)
    with tempfile.TemporaryFile() as file:
        file.truncate(8 * PAGE)
        return reader.take(address=map_memory(bench, 8 * PAGE, file.fileno()).address)


@CASES.add("two pages queued, an area of another TCP socket", "mapped 8192, hint 0, as sent, 0 queued")
def area_of_another_socket(bench: Bench) -> str:
    """Any TCP socket's mapping will do: it is not tied to the socket that it was made of."""
    reader, other = Reader(bench), Reader(bench)
    reader.queue(2 * PAGE)
    return reader.take(address=other.mapping.address)


@CASES.add("two pages queued, an area that was unmapped", "EINVAL, 8192 queued")
def area_unmapped(bench: Bench) -> str:
    """An unmapped area is not filled."""
    reader = Reader(bench).queue(2 * PAGE)
    gone = map_memory(bench, PAGE, reader.receiver.fileno())
    gone.unmap()
    return reader.take(address=gone.address)


@CASES.add(
    "four pages queued, an area of which the second page was unmapped",
    "mapped 4096, hint 0, as sent, 12288 queued",
)
def area_unmapped_in_part(bench: Bench) -> str:
    """What is left of a mapping is filled, and nothing behind it."""
    reader = Reader(bench).queue(4 * PAGE)
    reader.mapping.unmap(PAGE, PAGE)
    return reader.take()


@CASES.add("two pages queued, an area mapped MAP_PRIVATE", "mapped 8192, hint 0, as sent, 0 queued")
def area_private(bench: Bench) -> str:
    """A private mapping is filled as a shared one is."""
    reader = Reader(bench).queue(2 * PAGE)
    area = map_memory(bench, 8 * PAGE, reader.receiver.fileno(), flags=mmap.MAP_PRIVATE)
    return reader.take(address=area.address)


def _map(bench: Bench, protection: int) -> str:
    _, receiver = pair(bench)
    return outcome(lambda: map_memory(bench, PAGE, receiver.fileno(), protection))


@CASES.add("mmap() for writing", "EPERM")
def area_for_writing(bench: Bench) -> str:
    """What was received is not to be written."""
    return _map(bench, READ_WRITE)


@CASES.add("mmap() for execution", "EPERM")
def area_for_execution(bench: Bench) -> str:
    """What was received is not to be executed."""
    return _map(bench, mmap.PROT_READ | mmap.PROT_EXEC)


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


@CASES.add("a page of the area is read that no call has filled", "killed by signal 7")
def area_not_filled(bench: Bench) -> str:
    """There is nothing behind a page until a call fills it: SIGBUS."""
    return f"read {Reader(bench).mapping.read(0, 1)!r}"


@CASES.add("one page mapped, the area's second page is read", "killed by signal 7")
def area_not_filled_behind_a_page(bench: Bench) -> str:
    """Nor does a call put anything behind what it mapped."""
    reader = Reader(bench).queue(PAGE)
    reader.take()
    return f"read {reader.mapping.read(PAGE, 1)!r}"


@CASES.add("two pages mapped, then one over the first of them", "the second page as before")
def area_filled_in_part_again(bench: Bench) -> str:
    """What an earlier call mapped stays where the next one asks for nothing."""
    reader = Reader(bench).queue(4 * PAGE)
    reader.take(length=2 * PAGE)
    reader.take(length=PAGE)
    kept = reader.mapping.read(PAGE, PAGE) == reader.sent[PAGE : 2 * PAGE]
    return "the second page as before" if kept else "the second page is another"


@CASES.add(
    "two pages mapped, then one of the two that were asked for, then the second is read", "killed by signal 7"
)
def area_emptied_in_part(bench: Bench) -> str:
    """What an earlier call mapped is removed where the next one was to map and could not."""
    reader = Reader(bench).queue(3 * PAGE)
    reader.take(length=2 * PAGE)
    reader.queue(PAGE, pages=False)
    result = reader.take()
    return f"{result}; read {reader.mapping.read(PAGE, 1)!r}"


@CASES.add(
    "four pages queued, two calls over the same two pages",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
def second_call_over_mapped_pages(bench: Bench) -> str:
    """A call replaces what an earlier one mapped."""
    reader = Reader(bench).queue(4 * PAGE)
    return f"{reader.take(length=2 * PAGE)}; {reader.take(length=2 * PAGE)}"


@CASES.add("two pages mapped, then the socket is closed", "as sent")
def socket_closed_under_the_area(bench: Bench) -> str:
    """What was mapped stays readable."""
    reader = Reader(bench).queue(2 * PAGE)
    reader.take()
    reader.receiver.close()
    reader.sender.close()
    return reader.as_sent(reader.mapping.read(0, 2 * PAGE), 0)
