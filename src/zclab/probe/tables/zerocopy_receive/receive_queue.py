# SPDX-License-Identifier: Apache-2.0
"""What is queued, and how much of it a call takes."""

from ...sockets import PAGE
from ...stream import blocking, plain, queue, rcvlowat, reads, rest, unsaid
from ...table import Cases
from ...zerocopy_receive import Reader, takes

CASES = Cases(Reader.does)


CASES.why("The call never waits.")
CASES.steps("nothing-queued", blocking(), takes())(
    "nothing queued, blocking socket", "mapped 0, hint 0, 0 queued", "S1"
)
CASES.why("Nor does it wait for bytes to copy.")
CASES.steps("nothing-queued-for-a-copy-buffer", blocking(), takes(PAGE))(
    "nothing queued, a copy buffer of 4096", "mapped 0, hint 0, 0 queued", "S1"
)
CASES.why("An area that is longer than the queue takes all of it.")
CASES.steps("whole-pages", queue(2 * PAGE), takes())(
    "two pages queued, an area of eight", "mapped 8192, hint 0, as sent, 0 queued"
)
CASES.why("Pages of several segments are mapped by one call.")
CASES.steps("many-pages", rcvlowat(1 << 19), queue(40 * PAGE), takes(), pages=40)(
    "40 pages queued, an area of 40: more than the kernel maps at a time",
    "mapped 163840, hint 0, as sent, 0 queued",
)
CASES.why("What is beyond the area stays queued, for the next call.")
CASES.steps("queue-longer-than-the-area", queue(4 * PAGE), takes(), takes(), pages=2)(
    "four pages queued, an area of two",
    "mapped 8192, hint 0, as sent, 8192 queued; mapped 8192, hint 0, as sent, 0 queued",
)
CASES.why("The low-water mark is for poll(), not for this call.")
CASES.steps("below-the-low-water-mark", rcvlowat(65536), queue(2 * PAGE), takes())(
    "two pages queued, SO_RCVLOWAT 64 KiB", "mapped 8192, hint 0, as sent, 0 queued"
)
CASES.why("Less than a page is only counted in recv_skip_hint.")
CASES.steps("less-than-a-page", plain(1000), takes())(
    "1000 bytes queued, no copy buffer", "mapped 0, hint 1000, 1000 queued", "S3"
)
CASES.why("What recv_skip_hint counts can be read with recv().")
CASES.steps("less-than-a-page-is-left-to-recv", plain(1000), unsaid(takes()), rest())(
    "1000 bytes queued, no copy buffer, then recv()", "read 1000 as sent", "S3"
)
CASES.why("The first call returns recv_skip_hint 0; the second counts the rest there.")
CASES.steps("a-partial-page-behind", queue(PAGE + 100), takes(), takes())(
    "a page and 100 bytes queued, no copy buffer",
    "mapped 4096, hint 0, as sent, 100 queued; mapped 0, hint 100, 100 queued",
)
CASES.why("Pages behind what cannot be mapped stay queued until that was read.")
CASES.steps("a-partial-page-before", plain(100), queue(2 * PAGE), takes(), reads(100), takes())(
    "100 bytes and two pages queued, no copy buffer",
    "mapped 0, hint 100, 8292 queued; read 100 as sent; mapped 8192, hint 0, as sent, 0 queued",
)
CASES.why("A page that was read in part is not mapped; recv_skip_hint extends to the end of its segment.")
CASES.steps("a-page-read-in-part", queue(2 * PAGE), unsaid(reads(100)), takes())(
    "two pages queued of which 100 bytes were read", "mapped 0, hint 8092, 8092 queued"
)
CASES.why("recv_skip_hint is the number of bytes to read before the next page.")
CASES.steps("a-partial-page-between", queue(PAGE), plain(100), queue(PAGE), takes())(
    "a page, 100 bytes and a page queued, no copy buffer", "mapped 4096, hint 100, as sent, 4196 queued"
)
CASES.why("Bytes in larger pages, which a plain send over loopback leaves, are never mapped.")
CASES.steps("pages-that-can-not-be-mapped", plain(4 * PAGE), takes())(
    "four pages queued by a plain sender", "mapped 0, hint 16384, 16384 queued"
)
