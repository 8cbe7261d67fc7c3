# SPDX-License-Identifier: Apache-2.0
"""Keys that have new names: refused by their new name in what people write, still read in what runs left."""

from __future__ import annotations

from typing import Any

#: Old and new names of keys in inventories, plans, and the records of runs.
RENAMED = {
    "receive_low_water_bytes": "rcvlowat_bytes",
    "a_a_pairs": "aa_pairs",
    "block_pairs": "boot_measurements",
    "planted_usec_per_mib": "inject_usec_per_mib",
}
#: Old and new names of plans in lab_tests/plans: the old ones are accepted for one release.
RENAMED_PLANS = {"designs": "receive_designs"}


def problem(data: Any) -> tuple[str, str] | None:
    """Return the place of the first key of these that was renamed, and what to do; None if there is none."""
    for place, value in _items(data):
        if place in RENAMED:
            return place, f"this key is now called {RENAMED[place]}: rename it"
        if inner := problem(value):
            return f"{place}.{inner[0]}", inner[1]
    return None


def _items(data: Any) -> list[tuple[str, Any]]:
    if isinstance(data, dict):
        return [(str(key), value) for key, value in data.items()]
    return [(str(at), value) for at, value in enumerate(data)] if isinstance(data, list) else []
