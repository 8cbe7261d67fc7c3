# SPDX-License-Identifier: Apache-2.0
"""The sysctl that switches the interface on."""

from __future__ import annotations

from ...netns import enter_new_netns
from ...processes import forked
from ...sockets import PAGE, inq, map_memory, outcome
from ...stream import Stream
from ...sysctl import CONSUME, standing
from ...table import Bench, Cases
from ...zerocopy_receive import Request, ask

CASES = Cases()


@CASES.add(
    "tcp_mmap_consume 0: two pages queued, mmap(), then TCP_ZEROCOPY_RECEIVE",
    "8192 queued, nothing there; mapped 8192 as sent, 0 queued",
)
def switched_off(bench: Bench) -> str:
    """Switched off, mmap() gives a standing area that takes nothing by itself."""
    stream = Stream(bench).queue(2 * PAGE)
    with standing():
        area = map_memory(bench, 2 * PAGE, stream.receiver.fileno())
    there = "something" if area.there() else "nothing"
    before = f"{inq(stream.receiver)} queued, {there} there"
    request = Request(address=area.address, length=2 * PAGE)
    result = ask(stream.receiver, request)
    if result != "ok":
        return f"{before}; {result}"
    got = stream.as_sent(area.read(0, request.length), 0)
    return f"{before}; mapped {request.length} {got}, {inq(stream.receiver)} queued"


@CASES.add("2, -1 and 256 written to tcp_mmap_consume", "EINVAL, EINVAL, EINVAL; it is 1", link="none")
def values_of_the_switch(bench: Bench) -> str:
    """It is on or off."""

    def write(value: str) -> str:
        return outcome(lambda: CONSUME.write_text(value, encoding="ascii"))

    before = CONSUME.read_text(encoding="ascii").strip()
    result = ", ".join(write(value) for value in ("2", "-1", "256"))
    now = CONSUME.read_text(encoding="ascii").strip()
    CONSUME.write_text(before, encoding="ascii")
    return f"{result}; it is {now}"


@CASES.add(
    "tcp_mmap_consume in a new network namespace, then written there",
    "0 there; 1 there, 0 where it was not written",
    link="none",
)
def a_switch_of_each_namespace(bench: Bench) -> str:
    """Each network namespace has its own, which is off at first."""
    with standing():  # in the namespace that this test case came from

        def there() -> str:
            enter_new_netns()
            first = CONSUME.read_text(encoding="ascii").strip()
            CONSUME.write_text("1", encoding="ascii")
            return f"{first} there; {CONSUME.read_text(encoding='ascii').strip()} there"

        result = forked(there)
        return f"{result}, {CONSUME.read_text(encoding='ascii').strip()} where it was not written"
