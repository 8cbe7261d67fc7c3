# SPDX-License-Identifier: Apache-2.0
"""Whether figures of a guest whose clock counts instructions are those of the run, and instructions only."""

from __future__ import annotations

from collections.abc import Iterator

from zclab.analysis.ends import bulk, ping_pong
from zclab.backends.exact.emulator import EmulatorFacts
from zclab.runs.records import Manifest, Record

#: Of a guest that counts them: its clock runs a nanosecond for each.
INSTRUCTIONS_PER_SECOND = 10**9


def difference(one: EmulatorFacts | None, other: EmulatorFacts | None) -> str | None:
    """Return why figures of two emulators are never compared, null if they are the same."""
    if one is None or other is None:
        return None if one is other else "one was made in a guest that counts instructions, the other was not"
    if one.version != other.version:
        return f"{one.version} and {other.version}: figures of two emulators are never compared"
    if one.options != other.options:
        only = [option for option in one.options if option not in other.options]
        only += [option for option in other.options if option not in one.options]
        return f"{one.version} with other options ({', '.join(only) or 'in another order'}): not compared"
    return None


def doubts(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield why a measurement in a guest does not count: another emulator, or a guest that was idle.

    While a guest is idle its clock goes on without an instruction. That matters where its count is compared:
    in an unpaced transfer. A guest that was not idle around it was not idle in its window. Else what was
    executed in the window tells for how long it was.
    """
    guest, planned = record.guest, record.planned
    if guest is None:
        if manifest.emulator is not None:
            yield "the record does not say which emulator made it"
        return
    if guest.emulator is not None and (why := difference(manifest.emulator, guest.emulator)) is not None:
        yield f"the run began with {why}"
    if record.problem or record.skipped or planned.phase != "compare" or planned.pace_gbit_per_s is not None:
        return
    if guest.idle_ns is None:
        yield "it is not known for how long the guest was idle"
        return
    share, bound = idle_share(record), manifest.expectations.validity.guest_idle_share_at_most
    if guest.idle_ns > 0 and share is None:
        yield f"the guest was idle for {guest.idle_ns} ns, in which its clock counted no instructions"
    elif guest.idle_ns > 0 and share is not None and share > bound:
        yield f"the guest was idle for {share:.3%} of the window, more than {bound:.3%}"


def executed(record: Record) -> int | None:
    """Return the instructions that the guest executed in the receiver's window; null if it is not known.

    Where they were counted one by one, it is their number. Else it is the window by the guest's clock, in
    nanoseconds, which also has the time for which the guest was idle.
    """
    seconds = _window_seconds(record)
    if record.guest is None or seconds is None:
        return None
    counted = record.guest.instructions
    return counted.total if counted is not None else round(seconds * INSTRUCTIONS_PER_SECOND)


def idle_share(record: Record) -> float | None:
    """Return the share of the receiver's window for which the guest was idle, null if it is not known."""
    seconds = _window_seconds(record)
    if record.guest is None or record.guest.instructions is None or not seconds:
        return None
    return max(0.0, 1 - record.guest.instructions.total / (seconds * INSTRUCTIONS_PER_SECOND))


def _window_seconds(record: Record) -> float | None:
    """Return the seconds of the window of the receiver, or of a ping-pong's server; null if there is none."""
    end = bulk(record.receiver) or ping_pong(record.receiver)
    return end.window.seconds if end else None
