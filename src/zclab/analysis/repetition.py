# SPDX-License-Identifier: Apache-2.0
"""Whether two executions of one plan are the same in all that a guest made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from zclab.runs.records import Manifest, Record, Repetition

#: What the controller adds, by dotted path: two executions differ in it, and nothing else is left out.
OF_CONTROLLER_IN_MANIFEST = (
    *("run_id", "started_at", "finished_at", "verdict", "exit_code"),
    *("chain", "declared_today", "repetition"),
)
OF_CONTROLLER_IN_RECORD = ("started_at", "ended_at", "controller_cpu_share", "guest.cpu_seconds")
_SHOWN = 60


def compared(
    run_id: str, first: tuple[Manifest, Sequence[Record]], second: tuple[Manifest, Sequence[Record]]
) -> Repetition:
    """Compare a run with the second execution of its plan, the run `run_id`."""
    # What differs in one record changes the digest of its whole boot: the record is what is named.
    left_out = (*OF_CONTROLLER_IN_RECORD, "guest.digest")
    found = [
        difference
        for paths in (left_out, OF_CONTROLLER_IN_RECORD)
        for difference in _differences([*_parts(*first, paths)], [*_parts(*second, paths)])
    ]
    return Repetition(
        run_id=run_id,
        digest=digest(*first),
        second_digest=digest(*second),
        difference=found[0] if found else None,
    )


def digest(manifest: Manifest, records: Sequence[Record]) -> str:
    """Return the sha256 in hex of all that does not come from the controller; it has that of each boot."""
    found = hashlib.sha256()
    for name, part in _parts(manifest, records):
        found.update(json.dumps([name, part], sort_keys=True).encode())
    return found.hexdigest()


def _parts(
    manifest: Manifest, records: Sequence[Record], left_out: Sequence[str] = OF_CONTROLLER_IN_RECORD
) -> Iterator[tuple[str, Any]]:
    """Yield the manifest and each record by name, as JSON values without what the controller adds."""
    yield "manifest", _without(manifest.model_dump(mode="json"), OF_CONTROLLER_IN_MANIFEST)
    for record in records:
        yield record.planned.id, _without(record.model_dump(mode="json"), left_out)


def _without(data: dict[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    for path in paths:
        *parents, last = path.split(".")
        place: Any = data
        for key in parents:
            place = place.get(key) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)
    return data


def _differences(first: list[tuple[str, Any]], second: list[tuple[str, Any]]) -> Iterator[str]:
    """Yield which part differs, where and how, in the order in which they were made."""
    for (name, one), (other_name, other) in zip(first, second, strict=False):
        if name != other_name:
            yield f"{name}: the second execution made {other_name} in its place"
        elif (found := _difference(one, other)) is not None:
            yield f"{name}: {found}"
    if len(first) != len(second):
        yield f"the first execution made {len(first) - 1} records, the second {len(second) - 1}"


def _difference(one: Any, other: Any, place: str = "") -> str | None:
    """Return the first place in which two JSON values differ, and both values; null: they are equal."""
    if one == other:
        return None
    inner: Iterator[str | int] = iter(())
    if isinstance(one, dict) and isinstance(other, dict):
        inner = iter(dict.fromkeys([*one, *other]))
        one, other = ({key: data.get(key) for key in [*one, *other]} for data in (one, other))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        inner = iter(range(len(one)))
    for key in inner:
        if (found := _difference(one[key], other[key], f"{place}.{key}" if place else str(key))) is not None:
            return found
    return f"{place} is {_short(one)}, the second time {_short(other)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
