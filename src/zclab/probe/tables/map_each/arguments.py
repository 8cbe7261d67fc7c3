# SPDX-License-Identifier: Apache-2.0
"""The arguments of mmap()."""

from __future__ import annotations

import mmap
import resource

from ...libc import MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_POPULATE, MAP_SHARED_VALIDATE
from ...sockets import PAGE, inq, map_memory, outcome
from ...stream import Stream
from ...table import Bench, Cases

CASES = Cases()


@CASES.add("a page queued, offset 4096", "EINVAL, 4096 queued", "M8")
def offset(bench: Bench) -> str:
    """A stream is mapped from its current position; there is no offset."""
    return Stream(bench).queue(PAGE).map(PAGE, offset=PAGE)


@CASES.add("a page queued, offset 1", "EINVAL, 4096 queued", "M8")
def offset_within_a_page(bench: Bench) -> str:
    """No offset is possible, page-aligned or not."""
    return Stream(bench).queue(PAGE).map(PAGE, offset=1)


@CASES.add("a page queued, length 0", "EINVAL, 4096 queued", "M8")
def no_length(bench: Bench) -> str:
    """A mapping of length 0 is refused."""
    return Stream(bench).queue(PAGE).map(0)


@CASES.add("a page queued, a length of 1 TiB", "EAGAIN, 4096 queued; mapped 4096 as sent, 0 queued", "M6")
def huge_length(bench: Bench) -> str:
    """So many bytes are never queued."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map(1 << 40)}; {stream.map(PAGE)}"


@CASES.add(
    "a page queued, lengths of 2 GiB, 4 GiB, and both with a page more",
    "EAGAIN, 4096 queued; EAGAIN, 4096 queued; EAGAIN, 4096 queued; EAGAIN, 4096 queued; "
    "mapped 4096 as sent, 0 queued",
    "M6",
)
def length_beyond_32_bits(bench: Bench) -> str:
    """No length is truncated to 32 bits."""
    stream = Stream(bench).queue(PAGE)
    lengths = (1 << 31, 1 << 32, (1 << 31) + PAGE, (1 << 32) + PAGE, PAGE)
    return "; ".join(stream.map(length) for length in lengths)


@CASES.add("a page queued, a length of 2**64 - 1", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued")
def length_that_wraps(bench: Bench) -> str:
    """Rounded up to whole pages the length is 0; mmap() itself refuses that, and the socket stays usable."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map((1 << 64) - 1)}; {stream.map(PAGE)}"


@CASES.add("a page queued, a length of 2**64 - 4096", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued")
def length_beyond_all_addresses(bench: Bench) -> str:
    """There is no room for it; the socket stays usable."""
    stream = Stream(bench).queue(PAGE)
    return f"{stream.map((1 << 64) - PAGE)}; {stream.map(PAGE)}"


@CASES.add(
    "a page queued, no address space left (RLIMIT_AS)", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued"
)
def no_address_space(bench: Bench) -> str:
    """What the memory management refuses takes nothing."""
    stream = Stream(bench).queue(PAGE)
    resource.setrlimit(resource.RLIMIT_AS, (PAGE, resource.RLIM_INFINITY))
    refused = outcome(lambda: stream.area(PAGE))
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return f"{refused}, {inq(stream.receiver)} queued; {stream.map(PAGE)}"


@CASES.add("a page queued, MAP_PRIVATE", "mapped 4096 as sent, 0 queued", "M1")
def private(bench: Bench) -> str:
    """It makes no difference whether the mapping is shared."""
    return Stream(bench).queue(PAGE).map(PAGE, flags=mmap.MAP_PRIVATE)


@CASES.add("a page queued, MAP_SHARED_VALIDATE", "mapped 4096 as sent, 0 queued", "M1")
def shared_validate(bench: Bench) -> str:
    """The newer way to ask for a shared mapping is one, too."""
    return Stream(bench).queue(PAGE).map(PAGE, flags=MAP_SHARED_VALIDATE)


@CASES.add("two pages queued, MAP_SHARED | MAP_POPULATE | MAP_LOCKED", "mapped 8192 as sent, 0 queued", "M1")
def populated_and_locked(bench: Bench) -> str:
    """The pages are there and stay there anyway."""
    return Stream(bench).queue(2 * PAGE).map(2 * PAGE, flags=mmap.MAP_SHARED | MAP_POPULATE | MAP_LOCKED)


@CASES.add("a page queued, MAP_FIXED at an address within a page", "EINVAL, 4096 queued")
def fixed_address_unaligned(bench: Bench) -> str:
    """What mmap() itself refuses takes nothing."""
    area = map_memory(bench, 2 * PAGE)
    return Stream(bench).queue(PAGE).map(PAGE, flags=mmap.MAP_SHARED | MAP_FIXED, address=area.address + 100)


@CASES.add("a page queued, MAP_FIXED_NOREPLACE over other memory", "EEXIST, 4096 queued")
def address_in_use(bench: Bench) -> str:
    """Nor does this."""
    area = map_memory(bench, PAGE)
    flags = mmap.MAP_SHARED | MAP_FIXED_NOREPLACE
    return Stream(bench).queue(PAGE).map(PAGE, flags=flags, address=area.address)
