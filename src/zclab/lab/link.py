# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of whole pages on a link.

The kernel maps a received fragment only if it is one whole page, so that a segment's payload must be a
multiple of 4096 bytes. The MTU is that payload, the IP header (IPv6: 40, IPv4: 20 bytes) and a TCP header
with the timestamp option (20 + 12 bytes).
"""

from __future__ import annotations

PAGE_BYTES = 4096
TCP_HEADER_BYTES = 20
TIMESTAMP_OPTION_BYTES = 12
IP_HEADER_BYTES = {4: 20, 6: 40}


def overhead_bytes(ip_version: int) -> int:
    """Return the bytes of IP and TCP header in each full segment (ip_version: 4 or 6)."""
    return IP_HEADER_BYTES[ip_version] + TCP_HEADER_BYTES + TIMESTAMP_OPTION_BYTES


def whole_page_mtu(ip_version: int, pages: int = 1) -> int:
    """Return the MTU in bytes whose segments carry exactly `pages` pages."""
    return pages * PAGE_BYTES + overhead_bytes(ip_version)


def ipv4_route_mtu(mtu: int) -> int | None:
    """Return the largest MTU up to `mtu` whose IPv4 segments carry whole pages, null if there is none."""
    pages = (mtu - overhead_bytes(4)) // PAGE_BYTES
    return whole_page_mtu(4, pages) if pages > 0 else None


def mss(ip_version: int, mtu: int) -> int:
    """Return the payload bytes of a full segment, the timestamp option already taken off."""
    return mtu - overhead_bytes(ip_version)
