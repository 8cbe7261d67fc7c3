# SPDX-License-Identifier: Apache-2.0
"""Whether figures of a guest whose clock counts instructions are those of the run, and instructions only."""

from __future__ import annotations

from collections.abc import Iterator

from zclab.backends.exact.emulator import EmulatorFacts
from zclab.runs.records import Manifest, Record


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
    in an unpaced transfer.
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
    elif guest.idle_ns > 0:
        yield f"the guest was idle for {guest.idle_ns} ns, in which its clock counted no instructions"
