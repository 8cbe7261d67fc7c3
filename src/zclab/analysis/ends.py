# SPDX-License-Identifier: Apache-2.0
"""What one record holds: the documents of its ends, and how counters of its hosts grew."""

from __future__ import annotations

from collections.abc import Iterator

from zclab.host.snapshot import Snapshot
from zclab.runs.records import End, Record
from zclab.traffic.document import RpcDocument, TrafficDocument

Document = TrafficDocument | RpcDocument


def bulk(end: End | None) -> TrafficDocument | None:
    """Return what an end of a bulk transfer printed, if it did."""
    return end.document if end and isinstance(end.document, TrafficDocument) else None


def ping_pong(end: End | None) -> RpcDocument | None:
    """Return what an end of a ping-pong printed, if it did."""
    return end.document if end and isinstance(end.document, RpcDocument) else None


def documents(record: Record) -> Iterator[tuple[str, Document]]:
    """Yield what each end printed, under the name that reasons give it: receiver, sender."""
    for name, end in (("receiver", record.receiver), ("sender", record.sender)):
        if end and end.document:
            yield name, end.document


def whole(record: Record) -> bool:
    """Say whether both ends printed that they did all of what they were asked to."""
    return [document.outcome for _, document in documents(record)] == ["complete", "complete"]


def states(record: Record, host: str) -> tuple[Snapshot, Snapshot] | None:
    """Return a host's state before and after a measurement, null unless both are known."""
    before, after = record.before.get(host), record.after.get(host)
    return (before, after) if before is not None and after is not None else None


def difference(record: Record, host: str, field: str) -> int | None:
    """Return how much a number of a host's snapshot grew over a measurement."""
    found = states(record, host)
    start, end = (getattr(state, field) for state in found) if found else (None, None)
    return end - start if start is not None and end is not None else None


def growth(record: Record, host: str) -> dict[str, int] | None:
    """Return by how much each counter of the data interface grew; null where they were not read."""
    found = states(record, host)
    if found is None or found[0].link_counters is None or found[1].link_counters is None:
        return None
    before, after = found[0].link_counters, found[1].link_counters
    return {name: after[name] - value for name, value in before.items() if name in after}


def losses(record: Record, host: str) -> int | None:
    """Return how many packets a host lost on the way to or from the data interface; null if not known.

    rx_dropped also counts frames that no protocol wants. Of what it counts, those packets were lost that the
    kernel's backlog had no room for; these softnet_stat counts, too, of all interfaces.
    """
    dropped, grown, found = difference(record, host, "drops"), growth(record, host), states(record, host)
    if dropped is None or found is None or grown is None or not found[0].softnet or not found[1].softnet:
        return dropped
    overflowed = found[1].softnet.dropped - found[0].softnet.dropped
    return dropped + max(0, min(grown.get("rx_dropped", 0), overflowed))
