# SPDX-License-Identifier: Apache-2.0
"""Whether the programs on a host are those that were built: a result of another program is not the run's."""

from __future__ import annotations

from zclab.host.snapshot import Snapshot
from zclab.runs.manifest import BaseManifest

_SHOWN = 12


def deviations(manifest: BaseManifest, host: str, snapshot: Snapshot) -> list[str]:
    """Return which programs of a host are not those that were built; of an older version nothing is known."""
    if manifest.is_older:
        return []
    if not manifest.programs:
        return ["the traffic tool of this source was not built: run `zclab up`"]
    reasons = []
    for path, built in manifest.programs.items():
        found = (snapshot.programs or {}).get(path)
        if found is None:
            reasons.append(f"{host}: {path} cannot be read: run `zclab up`")
        elif found != built:
            reasons.append(
                f"{host}: {path} is not the program that was built (sha256 {found[:_SHOWN]}, "
                f"not {built[:_SHOWN]}): run `zclab up`"
            )
    return reasons
