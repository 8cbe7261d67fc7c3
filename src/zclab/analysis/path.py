# SPDX-License-Identifier: Apache-2.0
"""Whether the declared interfaces carried what the tools sent and received, in both directions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from zclab.analysis.ends import Document, growth, ping_pong, whole
from zclab.lab.link import IP_HEADER_BYTES, TCP_HEADER_BYTES
from zclab.runs.records import Manifest, Record
from zclab.traffic.document import TrafficDocument

ETHERNET_HEADER_BYTES = 14
#: Frame check sequence and VLAN tag, which some NICs count.
_ETHERNET_EXTRA_BYTES = 8
#: Room for TCP options: timestamps take 12 bytes, those of an acknowledgement at most 40.
_DATA_OPTION_BYTES = 12
_MOST_OPTION_BYTES = 40


class Range(NamedTuple):
    """Bytes that an interface must have counted, at least and at most; infinite where that is not known."""

    low: int
    high: float


def doubts(manifest: Manifest, record: Record) -> Iterator[str]:
    """Yield each direction of a data interface whose counters do not agree with what the ends moved.

    Nothing is said where the counters were not read, as in runs before schema version 5, or where the ends
    did not come to their end.
    """
    if not whole(record):
        return
    sender, receiver = (end.document for end in (record.sender, record.receiver) if end)
    if sender is None or receiver is None:
        return
    version = record.planned.ip_version or manifest.expectations.link.ip_version
    forth = carried(sender, receiver, version, _payload(record, sender, "forth"))
    back = carried(receiver, sender, version, _payload(record, receiver, "back"))
    foreign = manifest.expectations.validity.foreign_bytes_at_most
    for host, sent, received in zip(manifest.pair, (forth, back), (back, forth), strict=True):
        grown = growth(record, host.name)
        for word, counter, bounds in (("sent", "tx_bytes", sent), ("received", "rx_bytes", received)):
            if grown is None or counter not in grown:
                continue
            beyond = grown[counter] - bounds.high
            said = f"{host.name}: {host.data_interface} {word} {grown[counter]} bytes"
            if grown[counter] < bounds.low:
                yield f"{said}, the connection at least {bounds.low}: another interface carried it"
            elif beyond > foreign:
                yield (
                    f"{said}, {beyond:.0f} more than the connection: other traffic was on the link "
                    f"(foreign_bytes_at_most {foreign})"
                )


def too_little(manifest: Manifest, record: Record, payload: int) -> Iterator[str]:
    """Yield each data interface that did not carry the payload bytes which a tool of others received."""
    for host, counter, word in zip(
        manifest.pair, ("tx_bytes", "rx_bytes"), ("sent", "received"), strict=True
    ):
        grown = growth(record, host.name)
        if grown is not None and counter in grown and grown[counter] < payload:
            yield (
                f"{host.name}: {host.data_interface} {word} {grown[counter]} bytes, "
                f"the tool {payload}: another interface carried it"
            )


def _payload(record: Record, end: Document, direction: str) -> int:
    """Return the payload bytes of one direction of the whole connection, as the tool counted them."""
    if isinstance(end, TrafficDocument):
        return end.total.bytes or 0 if direction == "forth" else 0
    rpc, client = record.planned.rpc, ping_pong(record.sender)
    if rpc is None or client is None:
        return 0
    return client.total.rpcs * (rpc.request_bytes if direction == "forth" else rpc.reply_bytes)


def carried(source: Document, target: Document, ip_version: int, payload: int) -> Range:
    """Return the bytes that a NIC counts of one direction of a connection.

    source, target: the ends that sent and received it. payload: bytes of it, as the tool counted them.
    Segments that are sent or received as one large packet may be counted with one header: the lower bound
    has the payload, and headers of acknowledgements without payload only.
    """
    header = ETHERNET_HEADER_BYTES + IP_HEADER_BYTES[ip_version] + TCP_HEADER_BYTES
    sent, got = source.tcp.total, target.tcp.total
    counted = None not in (sent.bytes_sent, sent.segs_out, sent.data_segs_out)
    data = max(payload, (sent.bytes_sent or 0) - (sent.bytes_retransmitted or 0))
    bare = max(0, (got.segs_in or 0) - (got.data_segs_in or 0))
    most_data = max(data, sent.bytes_sent or 0)
    data_headers = (sent.data_segs_out or 0) * (header + _ETHERNET_EXTRA_BYTES + _DATA_OPTION_BYTES)
    out_bare = max(bare, (sent.segs_out or 0) - (sent.data_segs_out or 0))
    bare_headers = out_bare * (header + _ETHERNET_EXTRA_BYTES + _MOST_OPTION_BYTES)
    return Range(data + bare * header, most_data + data_headers + bare_headers if counted else math.inf)
