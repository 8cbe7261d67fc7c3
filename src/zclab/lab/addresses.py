# SPDX-License-Identifier: Apache-2.0
"""Data addresses: those that cannot work are refused before a host is touched."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from zclab.lab.model import Host, Lab

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
_KEYS = {"data_address": "zclab_data_address", "data_address_ipv4": "zclab_data_address_ipv4"}


class Problem(NamedTuple):
    """What is wrong with a key of a host, and what to do."""

    key: str
    host: Host
    text: str


def problems(lab: Lab) -> Iterator[Problem]:
    """Yield what is wrong with the data addresses of a lab."""
    found: dict[tuple[str, str], Interface] = {}
    for host in lab.hosts:
        for field, key in _KEYS.items():
            text = getattr(host, field)
            if text is None:
                continue
            try:
                interface = ipaddress.ip_interface(text) if "/" in text and "%" not in text else None
            except ValueError:
                interface = None
            if interface is None:
                yield Problem(key, host, f"{text!r} is not an address with prefix length")
                continue
            found[host.name, field] = interface
            if problem := _of_version(lab, field, interface) or _unusable(interface):
                yield Problem(key, host, f"{text} of {host.name} {problem}")
    for host in lab.hosts:
        for field, key in _KEYS.items():
            yield from _between(host, key, field, found)
    yield from _repeated(lab, found)


def _of_version(lab: Lab, field: str, interface: Interface) -> str | None:
    version = lab.expectations.link.ip_version
    if field == "data_address":
        wrong = interface.version != version
        return f"is IPv{interface.version}, but zclab_link.ip_version is {version}" if wrong else None
    if version == 4:
        return "is one too many: the link is IPv4 already: leave it out"
    return "is not IPv4" if interface.version != 4 else None


def _unusable(interface: Interface) -> str | None:
    """Return why no TCP connection over the link can have this address, None if one can."""
    address, network = interface.ip, interface.network
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        return "is not the address of a host on a link"
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_link_local:
            return "is a link-local address, which needs a zone: use another, such as one of fd00::/8"
        if address.ipv4_mapped is not None:
            return "stands for an IPv4 address: write that"
    elif address.is_reserved or address in ipaddress.ip_network("0.0.0.0/8"):
        return "is reserved: no host can have it"
    if network.num_addresses == 1:
        return "leaves no room for the peer: write the prefix length of the network, such as /64 or /30"
    if network.num_addresses > 2:
        if address == network.network_address:
            kind = "the network's own" if interface.version == 4 else "that of all routers of the network"
            return f"is {kind}: use another of {network}"
        if interface.version == 4 and address == network.broadcast_address:
            return f"is the broadcast address of {network}: use another"
    return None


def _between(host: Host, key: str, field: str, found: dict[tuple[str, str], Interface]) -> Iterator[Problem]:
    """Yield what is wrong with an address of a host and that of its peer."""
    own, peers = found.get((host.name, field)), found.get((host.peer, field))
    if own is None:
        return
    if peers is None:
        yield Problem(key, host, f"{host.peer} has none: declare it for both hosts, or for neither")
    elif own.ip == peers.ip:
        yield Problem(key, host, f"{host.name} and {host.peer} have the same address")
    elif peers.ip not in own.network:
        yield Problem(key, host, f"{host.peer} is not in the network of {host.name}")


def _repeated(lab: Lab, found: dict[tuple[str, str], Interface]) -> Iterator[Problem]:
    """Yield addresses that two hosts have, and those by which SSH reaches a host, too."""
    ends = {host.address: host for host in lab.hosts}
    seen: dict[object, str] = {}
    for host in lab.hosts:
        for field, key in _KEYS.items():
            if (interface := found.get((host.name, field))) is None:
                continue
            if interface.ip in seen:
                yield Problem(key, host, f"{host.name} and {seen[interface.ip]} have the same address")
            seen[interface.ip] = host.name
            if reached := ends.get(str(interface.ip)):
                yield Problem(
                    "ansible_host",
                    reached,
                    f"{interface.ip} is the data address of {host.name}: SSH needs an address that is not on "
                    "the measured link",
                )
    if lab.traits.made:
        return
    reached_at: dict[tuple[str, int], str] = {}
    for host in lab.hosts:
        if other := reached_at.get(end := (host.address, host.port)):
            text = f"{host.name} and {other} are both {host.address} port {host.port}: they are two machines"
            yield Problem("ansible_host", host, text)
        reached_at[end] = host.name
