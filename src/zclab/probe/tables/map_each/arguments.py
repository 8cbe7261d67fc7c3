# SPDX-License-Identifier: Apache-2.0
"""The arguments of mmap()."""

from __future__ import annotations

import mmap
import resource

from ...libc import MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_POPULATE, MAP_SHARED_VALIDATE
from ...sockets import PAGE, inq, map_memory, outcome
from ...stream import Stream, maps, queue
from ...table import Bench, Cases

CASES = Cases(Stream.does)


CASES.why("A stream is mapped from its current position; there is no offset.")
CASES.steps("offset", queue(PAGE), maps(PAGE, offset=PAGE))(
    "a page queued, offset 4096", "EINVAL, 4096 queued", "M8"
)
CASES.why("No offset is possible, page-aligned or not.")
CASES.steps("offset-within-a-page", queue(PAGE), maps(PAGE, offset=1))(
    "a page queued, offset 1", "EINVAL, 4096 queued", "M8"
)
CASES.why("A mapping of length 0 is refused.")
CASES.steps("no-length", queue(PAGE), maps(0))("a page queued, length 0", "EINVAL, 4096 queued", "M8")
CASES.why("So many bytes are never queued.")
CASES.steps("huge-length", queue(PAGE), maps(1 << 40), maps(PAGE))(
    "a page queued, a length of 1 TiB", "EAGAIN, 4096 queued; mapped 4096 as sent, 0 queued", "M6"
)
CASES.why("No length is truncated to 32 bits.")
CASES.steps(
    "length-beyond-32-bits",
    queue(PAGE),
    *map(maps, (1 << 31, 1 << 32, (1 << 31) + PAGE, (1 << 32) + PAGE, PAGE)),
)(
    "a page queued, lengths of 2 GiB, 4 GiB, and both with a page more",
    "EAGAIN, 4096 queued; " * 4 + "mapped 4096 as sent, 0 queued",
    "M6",
)
CASES.why(
    "Rounded up to whole pages the length is 0; mmap() itself refuses that, and the socket stays usable."
)
CASES.steps("length-that-wraps", queue(PAGE), maps((1 << 64) - 1), maps(PAGE))(
    "a page queued, a length of 2**64 - 1", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued"
)
CASES.why("There is no room for it; the socket stays usable.")
CASES.steps("length-beyond-all-addresses", queue(PAGE), maps((1 << 64) - PAGE), maps(PAGE))(
    "a page queued, a length of 2**64 - 4096", "ENOMEM, 4096 queued; mapped 4096 as sent, 0 queued"
)


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


CASES.why("It makes no difference whether the mapping is shared.")
CASES.steps("private", queue(PAGE), maps(PAGE, flags=mmap.MAP_PRIVATE))(
    "a page queued, MAP_PRIVATE", "mapped 4096 as sent, 0 queued", "M1"
)
CASES.why("The newer way to ask for a shared mapping is one, too.")
CASES.steps("shared-validate", queue(PAGE), maps(PAGE, flags=MAP_SHARED_VALIDATE))(
    "a page queued, MAP_SHARED_VALIDATE", "mapped 4096 as sent, 0 queued", "M1"
)
CASES.why("The pages are there and stay there anyway.")
CASES.steps(
    "populated-and-locked", queue(2 * PAGE), maps(2 * PAGE, flags=mmap.MAP_SHARED | MAP_POPULATE | MAP_LOCKED)
)("two pages queued, MAP_SHARED | MAP_POPULATE | MAP_LOCKED", "mapped 8192 as sent, 0 queued", "M1")


def _over(bench: Bench, flag: int, within: int) -> str:
    """Map a page over other memory, from a byte of it on."""
    area = map_memory(bench, 2 * PAGE)
    return Stream(bench).queue(PAGE).map(PAGE, flags=mmap.MAP_SHARED | flag, address=area.address + within)


CASES.why("What mmap() itself refuses takes nothing.")
CASES.call(_over, "fixed-address-unaligned", MAP_FIXED, within=100)(
    "a page queued, MAP_FIXED at an address within a page", "EINVAL, 4096 queued"
)
CASES.why("Nor does this.")
CASES.call(_over, "address-in-use", MAP_FIXED_NOREPLACE, within=0)(
    "a page queued, MAP_FIXED_NOREPLACE over other memory", "EEXIST, 4096 queued"
)
