# SPDX-License-Identifier: Apache-2.0
"""What ethtool prints and takes: text in, values out; nothing is run and nothing is changed."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.zclab_host import RefusedError

OFFLOAD_NAMES = {
    "rx": "rx-checksumming",
    "tx": "tx-checksumming",
    "sg": "scatter-gather",
    "tso": "tcp-segmentation-offload",
    "ufo": "udp-fragmentation-offload",
    "gso": "generic-segmentation-offload",
    "gro": "generic-receive-offload",
    "lro": "large-receive-offload",
    "rxvlan": "rx-vlan-offload",
    "txvlan": "tx-vlan-offload",
    "ntuple": "ntuple-filters",
    "rxhash": "receive-hashing",
}
RING_NAMES = {"rx": "RX", "rx-mini": "RX Mini", "rx-jumbo": "RX Jumbo", "tx": "TX"}


def parse_features(text: str) -> dict[str, dict[str, Any]]:
    """Return what `ethtool -k` prints: {name: {on, wanted, fixed, group}}.

    wanted: what was asked for, where something else hinders it ("[requested on]"). group: the line stands for
    the indented lines below it, which are the switches.
    """
    features: dict[str, dict[str, Any]] = {}
    above = ""
    for line in text.splitlines():
        match = re.match(r"(\t?)([\w.-]+): (on|off)(.*)$", line)
        if not match:
            continue
        indent, name, value, rest = match.groups()
        asked = re.search(r"requested (on|off)", rest)
        features[name] = {
            "on": value == "on",
            "wanted": (asked.group(1) if asked else value) == "on",
            "fixed": "[fixed]" in rest,
            "group": False,
        }
        if indent and above:
            features[above]["group"] = True
        elif not indent:
            above = name
    return features


def group_members(text: str) -> dict[str, list[str]]:
    """Return the switches that `ethtool -k` prints, by every name that sets them: a group's, or their own."""
    members: dict[str, list[str]] = {}
    above = ""
    for line in text.splitlines():
        match = re.match(r"(\t?)([\w.-]+): (?:on|off)", line)
        if not match:
            continue
        indent, name = match.groups()
        members[name] = [name]
        if not indent:
            above = name
        elif above:
            members[above] = [*(one for one in members[above] if one != above), name]
    return members


def parse_channels(text: str) -> dict[str, dict[str, int]]:
    """Return what `ethtool -l` prints: {"maximum": {...}, "current": {...}}, channels by lower-case name."""
    found: dict[str, dict[str, int]] = {"maximum": {}, "current": {}}
    part = "maximum"
    for line in text.splitlines():
        if line.startswith("Current hardware settings"):
            part = "current"
        name, _, value = line.partition(":")
        if value.strip().isdigit():
            found[part][name.strip().lower()] = int(value)
    return found


def parse_coalescing(text: str) -> dict[str, int | bool]:
    """Return what `ethtool -c` prints by the names of `ethtool -C`, without what a driver does not have."""
    found: dict[str, int | bool] = {}
    for line in text.splitlines():
        adaptive = re.match(r"Adaptive RX: (\S+)\s+TX: (\S+)", line)
        if adaptive:
            values = {"adaptive-rx": adaptive.group(1), "adaptive-tx": adaptive.group(2)}
            found.update({name: value == "on" for name, value in values.items() if value in ("on", "off")})
            continue
        match = re.match(r"([\w-]+):\s+(\S+)", line)
        if match and match.group(2).isdigit():
            found[match.group(1)] = int(match.group(2))
        elif match and match.group(2) in ("on", "off"):
            found[match.group(1)] = match.group(2) == "on"
    return found


def _rings(lines: str) -> dict[str, int]:
    names = {shown: name for name, shown in RING_NAMES.items()}
    pairs = (line.partition(":") for line in lines.splitlines())
    return {
        names[name.strip()]: int(value)
        for name, _, value in pairs
        if name.strip() in names and value.strip().isdigit()
    }


def parse_rings(text: str) -> dict[str, int]:
    """Return the current sizes that `ethtool -g` prints, by the names of `ethtool -G`."""
    return _rings(text.partition("Current hardware settings")[2])


def largest_rings(text: str) -> dict[str, int]:
    """Return the largest sizes that `ethtool -g` prints, by the names of `ethtool -G`."""
    return _rings(text.partition("Current hardware settings")[0])


def cpu_mask(mask: int) -> str:
    """Return a CPU mask as the kernel writes it: groups of 32 bits, in hex."""
    groups = []
    while mask or not groups:
        groups.append(mask & 0xFFFFFFFF)
        mask >>= 32
    return ",".join([f"{groups[-1]:x}", *(f"{group:08x}" for group in reversed(groups[:-1]))])


def word(value: Any) -> str:
    """Return a value as ethtool takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def as_switch(value: Any, name: str) -> bool:
    """Return an offload's declared value.

    Raises:
        RefusedError: it is neither true nor false.
    """
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("on", "true", "yes"):
        return True
    if str(value).lower() in ("off", "false", "no"):
        return False
    raise RefusedError(f"offload {name}: {value!r} is neither true nor false: correct the lab's tuning")


def offload_changes(
    declared: dict[str, Any], features: dict[str, dict[str, Any]], where: str
) -> dict[str, bool]:
    """Return the offloads that differ from what is declared, by the names that `ethtool -k` prints.

    Raises:
        RefusedError: the driver does not know one, or does not let it change.
    """
    changes = {}
    for name, value in declared.items():
        shown, wanted = OFFLOAD_NAMES.get(name, name), as_switch(value, name)
        if shown not in features:
            raise RefusedError(
                f"{where}: it has no offload {name}: correct or remove it in the lab's tuning.offloads"
            )
        if features[shown]["on"] == wanted:
            continue
        if features[shown]["fixed"]:
            raise RefusedError(
                f"{where}: its driver fixes offload {name} to {word(not wanted)}: remove {name} from "
                "the lab's tuning.offloads"
            )
        changes[shown] = wanted
    return changes


def queue_words(channels: dict[str, dict[str, int]], wanted: int, where: str) -> list[str]:
    """Return the words for `ethtool -L` that make `wanted` queues, none if it has them.

    Raises:
        RefusedError: the driver has fewer.
    """
    kinds = ["combined"] if channels["maximum"].get("combined") else ["rx", "tx"]
    words = []
    for kind in kinds:
        most = channels["maximum"].get(kind, 0)
        if wanted > most:
            raise RefusedError(
                f"{where}: it has at most {most} {kind} queues, not {wanted}: lower the lab's tuning.queues"
            )
        if channels["current"].get(kind) != wanted:
            words += [kind, str(wanted)]
    return words
