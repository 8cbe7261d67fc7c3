# SPDX-License-Identifier: Apache-2.0
"""Too few bytes: EAGAIN as long as more may come, EIO behind the end."""

from ...sockets import PAGE
from ...stream import Stream, blocking, fin, maps, plain, queue, reset, rest, shut
from ...table import Cases

CASES = Cases(Stream.does)


CASES.why("The call never waits.")
CASES.steps("nothing-queued", maps(PAGE))("nothing queued", "EAGAIN, 0 queued", "M6")
CASES.why("Not on a blocking socket either.")
CASES.steps("nothing-queued-blocking", blocking(), maps(PAGE))(
    "nothing queued, blocking socket", "EAGAIN, 0 queued", "M6"
)
CASES.why("One byte too few is too few.")
CASES.steps("one-byte-too-few", queue(PAGE), queue(PAGE - 1), blocking(), maps(2 * PAGE))(
    "a page and 4095 bytes queued, blocking socket, two pages mapped", "EAGAIN, 8191 queued", "M6"
)
CASES.why("The same call succeeds when enough has come.")
CASES.steps("too-few-then-enough", queue(PAGE), maps(2 * PAGE), queue(PAGE), maps(2 * PAGE))(
    "a page queued, two pages mapped, then another page comes",
    "EAGAIN, 4096 queued; mapped 8192 as sent, 0 queued",
    "M6",
)
CASES.why("Too few bytes are reported before whether they can be mapped.")
CASES.steps("too-few-and-not-mappable", plain(100), maps(PAGE), rest())(
    "100 bytes queued by a plain sender, one page mapped", "EAGAIN, 100 queued; read 100 as sent", "M6"
)
CASES.why("No more can come.")
CASES.steps("fin", fin(), maps(PAGE), rest())(
    "FIN, nothing queued", "EIO, 0 queued; read 0, then the end", "M7"
)
CASES.why("What was sent before the end is mapped as long as it is enough, and read where not.")
CASES.steps("fin-behind-pages", queue(3 * PAGE), fin(), maps(2 * PAGE), maps(2 * PAGE), rest())(
    "FIN behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then the end",
    "M7 M5",
)
CASES.why("A mapping may end with the stream.")
CASES.steps("fin-behind-just-enough", queue(2 * PAGE), fin(), maps(2 * PAGE), maps(PAGE))(
    "FIN behind two pages, both mapped", "mapped 8192 as sent, 0 queued; EIO, 0 queued", "M7"
)
CASES.why("The end itself does not fill a page.")
CASES.steps("fin-is-no-byte", queue(PAGE - 1), fin(), maps(PAGE), rest())(
    "FIN behind 4095 bytes, one page mapped", "EIO, 4095 queued; read 4095 as sent, then the end", "M7 M5"
)
CASES.why("Enough bytes that cannot be mapped are EINVAL behind a FIN, too.")
CASES.steps("fin-behind-what-can-not-be-mapped", plain(PAGE), fin(), maps(PAGE), rest())(
    "FIN behind a page of a plain sender", "EINVAL, 4096 queued; read 4096 as sent, then the end", "M3 M5"
)
CASES.why("A reset is an end as well; ECONNRESET is left for a read to report.")
CASES.steps("reset", reset(), maps(PAGE), rest())(
    "RST, nothing queued", "EIO, 0 queued; read 0, then ECONNRESET", "M7"
)
CASES.why("What was queued before the reset is there to be mapped.")
CASES.steps("reset-behind-pages", queue(3 * PAGE), reset(), maps(2 * PAGE), maps(2 * PAGE), rest())(
    "RST behind three pages, two mapped, two mapped",
    "mapped 8192 as sent, 4096 queued; EIO, 4096 queued; read 4096 as sent, then ECONNRESET",
    "M7",
)
CASES.why("The reader's own shutdown ends the stream behind what is queued.")
CASES.steps("reading-shut-down", queue(PAGE), shut(), maps(2 * PAGE), maps(PAGE), maps(PAGE))(
    "shutdown(SHUT_RD) by the reader, a page queued, two pages mapped, one mapped",
    "EIO, 4096 queued; mapped 4096 as sent, 0 queued; EIO, 0 queued",
    "M7",
)
