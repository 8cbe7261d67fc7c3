# SPDX-License-Identifier: Apache-2.0
"""Upgrades of run folders, one function for each schema version: from it to the next, on plain values.

They are applied to what was read, one after the other; the files stay as they are. When a field of a manifest
or record changes, raise SCHEMA_VERSION and add a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from zclab.base.renamed_keys import RENAMED


class Stored(NamedTuple):
    """A run folder as it was read: its manifest, and its records, one after the other."""

    manifest: dict[str, Any]
    records: Iterable[dict[str, Any]]
    records_path: Path


_CALLS = {"wait": "poll", "map": "getsockopt", "receive": "recvmsg", "send": "sendmsg"}
_EXPECTATIONS = ("link", "validity", "thresholds", "smallest_effect", "shared_cpu", "counts_instructions")


def upgrade_3_to_4(stored: Stored) -> Stored:
    """Give every kind of run the same manifest, and each thing one name.

    Version 3 had no kind: the reader told it by the name of the file and added it. The hosts of a stress
    become records. All of version 4 that version 3 did not record is null.
    """
    old = dict(stored.manifest)
    kind = old["kind"]
    manifest = {
        "schema_version": 4,
        "kind": kind,
        "accelerator": old.pop("accelerator", None),
        "finished_at": old.pop("finished_at", None),
        **dict.fromkeys(("kernel_variant", "kernel_release", "kernel_build_id", "artifact_key")),
    }
    if kind == "run":
        return _run_3_to_4(stored._replace(manifest=old | manifest))
    if kind == "crosscheck":
        versions = dict(old["versions"])
        versions["traffic"] = versions.pop("zclab")
        return stored._replace(manifest=old | manifest | {"versions": versions})
    hosts = old.pop("hosts")
    reports = {host["name"]: host["console_reports"] for host in hosts}
    variant = old.pop("kernel")
    manifest |= {
        "kernel_variant": None if variant == "machine" else variant,
        "kernel_release": old["kernel_release"],
        "artifact_key": old["artifact_key"],
        "console_reports": reports,
    }
    return stored._replace(
        manifest=old | manifest,
        records=[{key: value for key, value in host.items() if key != "console_reports"} for host in hosts],
    )


def upgrade_4_to_5(stored: Stored) -> Stored:
    """Raise the version: what version 5 added is optional, and null in what version 4 recorded.

    Of a plan, the measurements between two boots have another name.
    """
    manifest = stored.manifest | {"schema_version": 5}
    plan = manifest.get("plan")
    if isinstance(plan, dict) and "block_pairs" in plan:
        others = {key: value for key, value in plan.items() if key != "block_pairs"}
        manifest["plan"] = others | {"boot_measurements": plan["block_pairs"]}
    return stored._replace(manifest=manifest)


def _run_3_to_4(stored: Stored) -> Stored:
    old = _renamed(stored.manifest)
    artifact = old.pop("artifact")
    hosts = old["hosts"]
    same = {(host["kernel_release"], host["kernel_build_id"]) for host in hosts}
    release, build_id = next(iter(same)) if len(same) == 1 else (None, None)
    identity = {"kernel_variant": None, "artifact_key": None}
    identity |= {"kernel_release": release, "kernel_build_id": build_id}
    manifest = old | (_identity(artifact) if artifact else identity)
    manifest |= {
        "expectations": {key: old[key] for key in _EXPECTATIONS if key in old}
        | {"rcvlowat_bytes": old["rcvlowat_bytes"]},
        "other_kernels": {name: _identity(one) for name, one in old.get("other_artifacts", {}).items()},
    }
    for key in (*_EXPECTATIONS, "rcvlowat_bytes", "other_artifacts"):
        manifest.pop(key, None)
    return stored._replace(manifest=manifest, records=_records_3_to_4(stored.records))


def _records_3_to_4(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        upgraded = _renamed(record)
        planned = upgraded["planned"]
        planned["kernel_variant"] = planned.pop("kernel")
        yield upgraded


def _identity(artifact: dict[str, Any]) -> dict[str, Any]:
    names = {"kernel_variant": "variant", "kernel_release": "release", "kernel_build_id": "build_id"}
    return {name: artifact[old] for name, old in names.items()} | {"artifact_key": artifact["key"]}


def _renamed(old: Any) -> Any:
    """Return JSON values with the keys of version 4, and the names that its values have."""
    if isinstance(old, list):
        return [_renamed(value) for value in old]
    if not isinstance(old, dict):
        return old
    new = {RENAMED.get(key, key): _renamed(value) for key, value in old.items()}
    if new.get("phase") == "a_a":
        new |= {"phase": "aa", "comparison": "aa", "id": f"aa{new['id'].removeprefix('a_a')}"}
    if "end" in new and new.get("schema_version") == 3:  # what the traffic tool printed
        new["schema_version"] = 4
        if isinstance(calls := new.get("calls"), dict):
            new["calls"] = {_CALLS.get(name, name): count for name, count in calls.items()}
    return new


#: By the version that a function upgrades from.
UPGRADES: dict[int, Callable[[Stored], Stored]] = {3: upgrade_3_to_4, 4: upgrade_4_to_5}
