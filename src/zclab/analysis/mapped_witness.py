# SPDX-License-Identifier: Apache-2.0
"""A second witness of mapped bytes beside the traffic tool, which a copying receiver could be wrong about.

Where the kernel counts mapped bytes (/proc/net/tcp_zerocopy), both counts have to be the same. Elsewhere
copies to the receiver are counted: what was copied cannot have been mapped. That bounds from above only, and
says nothing of bytes that were thrown away unread.
"""

from __future__ import annotations

from typing import Literal

from zclab.analysis.document import MappedWitness
from zclab.runs.records import Manifest, Record

#: How far two counts of mapped bytes may differ, as a share of the received bytes: a counter that is read
#: while others are written is not exact.
TOLERANCE = 0.001
#: The same in bytes, for short transfers.
_LEAST_TOLERANCE_BYTES = 65536
KERNEL: Literal["/proc/net/tcp_zerocopy"] = "/proc/net/tcp_zerocopy"
COPIES: Literal["skb_copy_datagram_iovec"] = "skb_copy_datagram_iovec"


def witness(manifest: Manifest, record: Record) -> MappedWitness | None:
    """Return what the kernel says of the bytes that a receiver mapped; null where none were to be.

    source null: nothing on the host could say, for the reason in unavailable.
    """
    document = record.receiver.document if record.receiver else None
    if document is None:
        return None
    mapped, copied = document.total.mapped_bytes, document.total.copied_bytes
    if mapped is None or copied is None:
        if document.mode == "copy" or record.planned.rpc is not None:
            return None
        return MappedWitness(
            source=None, bytes=None, agrees=None, unavailable="the receiver did not say what it mapped in all"
        )
    tolerance = max(_LEAST_TOLERANCE_BYTES, int(TOLERANCE * (mapped + copied)))
    host = manifest.pair[1].name
    before, after = (
        state[host].mapped_bytes if host in state else None for state in (record.before, record.after)
    )
    if before is not None and after is not None:
        counted = after - before
        return MappedWitness(source=KERNEL, bytes=counted, agrees=abs(counted - mapped) <= tolerance)
    if document.mode == "copy" or record.planned.rpc is not None:
        return None
    if record.copies is None or (least := record.copies.at_least_bytes) is None:
        why = record.copies.unavailable if record.copies else "copies were not counted"
        return MappedWitness(source=None, bytes=None, agrees=None, unavailable=why)
    return MappedWitness(source=COPIES, bytes=mapped + copied - least, agrees=least <= copied + tolerance)


def doubts(manifest: Manifest, record: Record) -> list[str]:
    """Return how the tool's mapped bytes contradict the kernel; what no kernel could say is no doubt."""
    found = witness(manifest, record)
    document = record.receiver.document if record.receiver else None
    if found is None or document is None or found.agrees in (None, True) or found.bytes is None:
        return []
    mapped = document.total.mapped_bytes or 0
    said = f"receiver: said that it mapped {mapped} bytes"
    if found.source == COPIES:
        return [f"{said}, but the kernel copied packets to it: at most {found.bytes} were mapped ({COPIES})"]
    if found.bytes < mapped:
        return [f"{said}, but the kernel mapped {found.bytes} ({KERNEL})"]
    more = found.bytes - mapped
    return [f"{manifest.pair[1].name}: {more} more bytes were mapped than its receiver says ({KERNEL})"]
