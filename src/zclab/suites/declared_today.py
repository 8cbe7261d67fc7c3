# SPDX-License-Identifier: Apache-2.0
"""Whether a run was judged by what its lab's inventory declares today."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.lab import inventory
from zclab.lab.model import Expectations, Lab
from zclab.runs.manifest import BaseManifest, DeclaredToday
from zclab.runs.records import Manifest
from zclab.suites.crosscheck.document import CrosscheckManifest
from zclab.suites.lockdep import LockdepManifest

#: The inventory's key of what a manifest holds under another name.
_KEYS = {
    "rcvlowat_bytes": "zclab_limits.rcvlowat_bytes",
    "shared_cpu": "zclab_kind",
    "counts_instructions": "zclab_kind",
}
_NOT_DECLARED = "not declared"
Load = Callable[[Path], Lab]


def compared(manifest: BaseManifest, load: Load | None = None) -> DeclaredToday | None:
    """Compare what a run was judged by with the inventory; null for a kind that an inventory does not judge.

    load: reads an inventory's directory, null: the usual way.
    """
    judged_by = _judged_by(manifest)
    if judged_by is None:
        return None
    directory = project_root() / (manifest.lab_dir or f"inventory/{manifest.lab}")
    try:
        if not directory.is_dir():
            raise UsageError(f"{directory}: no such directory")
        lab = (load or _load)(directory)
    except UsageError as error:
        return DeclaredToday(problem=str(error))
    declared = _declared(manifest, lab)
    found = []
    for key in dict.fromkeys([*judged_by, *declared]):
        then, now = judged_by.get(key, _NOT_DECLARED), declared.get(key, _NOT_DECLARED)
        if then != now:
            file = inventory.file_of(directory, key.partition(".")[0].partition(":")[0])
            found.append(f"{file}: {key} {_shown(then)}, now {_shown(now)}")
    return DeclaredToday(differences=found)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _judged_by(manifest: BaseManifest) -> dict[str, Any] | None:
    if isinstance(manifest, Manifest):
        return _expected(manifest.expectations)
    if isinstance(manifest, CrosscheckManifest):
        return _flat("zclab_crosscheck", manifest.bounds.model_dump(exclude={"source"}))
    if isinstance(manifest, LockdepManifest):
        return {_lock_report(manifest): manifest.expected}
    return None


def _declared(manifest: BaseManifest, lab: Lab) -> dict[str, Any]:
    if isinstance(manifest, Manifest):
        return _expected(lab.expectations)
    if isinstance(manifest, CrosscheckManifest):
        bounds = lab.crosscheck.model_dump(exclude={"source"}) if lab.crosscheck else {}
        return _flat("zclab_crosscheck", bounds)
    variant = lab.kernel_variants.get(manifest.kernel_variant or "")
    return {_lock_report(manifest): [*variant.lock_report]} if variant else {}


def _lock_report(manifest: BaseManifest) -> str:
    return f"zclab_kernel_variants.{manifest.kernel_variant}.lock_report"


def _expected(expectations: Expectations) -> dict[str, Any]:
    """Return what a lab expects: each value by its key in an inventory, a threshold by what it bounds."""
    data = expectations.model_dump(mode="json")
    del data["not_gated"]  # it judges nothing
    found: dict[str, Any] = {}
    for one in data.pop("thresholds"):
        where = [one["comparison"], one["metric"]]
        where += [f"arm {one['arm']}"] if one["arm"] else []
        where += ["paced" if one["paced"] else "unpaced"] if one["paced"] is not None else []
        where += [f"{one['message_bytes']} bytes"] if one["message_bytes"] else []
        bound = "at_least" if one["at_most"] is None else "at_most"
        found[f"zclab_thresholds: {' '.join(where)} {bound}"] = one[bound]
    for one in (data.get("baseline") or {"entries": []}).pop("entries"):
        counted_by = f"{one['emulator']} {one['compiler']}"
        found |= {f"zclab_baseline: {counted_by} {cell}": counts for cell, counts in one["cells"].items()}
    for name, value in data.items():
        found |= _flat(_KEYS.get(name, f"zclab_{name}"), value)
    return found


def _flat(key: str, value: Any) -> dict[str, Any]:
    """Return the values of nested objects by their dotted keys, without those that are null."""
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for name, inner in value.items():
            found |= _flat(f"{key}.{name}", inner)
        return found
    return {} if value is None else {key: value}


def _load(directory: Path) -> Lab:
    # Ansible takes a second to read an inventory.
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return _loaded(directory, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@cache
def _loaded(directory: Path, _: tuple[tuple[Path, int, int], ...]) -> Lab:
    return inventory.load(directory)
