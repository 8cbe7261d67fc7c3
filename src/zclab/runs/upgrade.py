# SPDX-License-Identifier: Apache-2.0
"""Records that were written under earlier names, read under today's."""

from __future__ import annotations

from typing import Any

from zclab.base.renamed_keys import RENAMED

_CALLS = {"wait": "poll", "map": "getsockopt", "receive": "recvmsg", "send": "sendmsg"}


def upgraded(data: Any) -> Any:
    """Return a manifest or a record (JSON values) with today's keys and names; what has them is unchanged."""
    if isinstance(data, list):
        return [upgraded(value) for value in data]
    if not isinstance(data, dict):
        return data
    found = {RENAMED.get(key, key): upgraded(value) for key, value in data.items()}
    if found.get("phase") == "a_a":
        found |= {"phase": "aa", "comparison": "aa", "id": f"aa{found['id'].removeprefix('a_a')}"}
    if "end" in found and found.get("schema_version") == 3:  # what the traffic tool printed
        found["schema_version"] = 4
        if isinstance(calls := found.get("calls"), dict):
            found["calls"] = {_CALLS.get(name, name): count for name, count in calls.items()}
    return found
