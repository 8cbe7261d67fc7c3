# SPDX-License-Identifier: Apache-2.0
"""The folder of one run, of any kind.

runs/<id>/manifest.json  what was done, on what, expecting what
runs/<id>/records.jsonl  one record per line, appended and never edited
runs/<id>/journal.jsonl  every state of the manifest, and the hash chain (zclab.runs.chain)
runs/<id>/console/       what each host's console said since the run began
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic

from pydantic import ValidationError

from zclab.base.errors import UsageError
from zclab.base.files import named_in_errors, write_whole
from zclab.base.model import first_problem
from zclab.base.paths import runs_dir
from zclab.runs import chain
from zclab.runs.manifest import KIND_NAMES, SCHEMA_VERSION, D, Kind, KindName, M, R
from zclab.runs.upgrades import UPGRADES, Stored

#: Files that version 3 had in place of manifest.json and records.jsonl, and the kind that they mean.
_OLD_FILES: tuple[tuple[str, str, KindName], ...] = (
    ("crosscheck.json", "observations.jsonl", "crosscheck"),
    ("stress.json", "", "stress"),
)
_OLD_RECORDS = "measurements.jsonl"
_OLD_PREFIX = "stress-"
#: Fields that are found when a folder is read or shown, and are not in it.
_WHEN_READ = {"chain", "declared_today"}


class Run(Generic[M, R, D]):
    """The folder of one run."""

    def __init__(self, directory: Path, kind: Kind[M, R, D]) -> None:
        self.directory = directory
        self.kind = kind
        self.manifest_path = directory / "manifest.json"
        self.records_path = directory / chain.RECORDS

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.directory.name

    @classmethod
    def create(cls, lab: str, kind: Kind[M, R, D]) -> Run[M, R, D]:
        """Make a folder for a new run of a lab, named so that names sort by time."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"
        directory = runs_dir() / f"{stamp}-{lab}-{kind.name}-{secrets.token_hex(2)}"
        directory.mkdir(parents=True)
        return cls(directory, kind)

    def write_manifest(self, manifest: M) -> None:
        """Write the manifest, whole or not at all, and what changed of it into the journal."""
        data = manifest.model_dump(mode="json", exclude=_WHEN_READ)
        before = chain.manifest(self.directory)
        if changes := {
            key: value for key, value in data.items() if key not in before or before[key] != value
        }:
            chain.note(self.directory, changes=changes)
        write_whole(self.manifest_path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    def update(self, **changes: Any) -> M:
        """Replace fields of the manifest, as the journal has it, and return it."""
        manifest = self.kind.manifest.model_validate(chain.manifest(self.directory))
        manifest = manifest.model_copy(update=changes)
        self.write_manifest(manifest)
        return manifest

    def write_file(self, name: str, text: str) -> None:
        """Write a file that belongs to the run; `name` is its path in the folder."""
        write_whole(self.directory / name, text)
        chain.note(self.directory, files={name: hashlib.sha256(text.encode()).hexdigest()})

    def manifest(self) -> M:
        """Read the manifest.

        Raises:
            UsageError: it cannot be read, is of another kind, or a newer zclab wrote it.
        """
        data = read(self.directory).manifest
        if data["kind"] != self.kind.name:
            raise UsageError(f"{self.directory}: is a run of kind {data['kind']}, not {self.kind.name}")
        try:
            return self.kind.manifest.model_validate(data)
        except ValidationError as error:
            raise UsageError(f"{self.manifest_path}: cannot be read: {first_problem(error)}") from None

    def append(self, record: R) -> None:
        """Add one record, on disk before this returns."""
        with named_in_errors(self.records_path):
            chain.append(self.records_path, record.model_dump_json())

    def resume(self) -> list[R]:
        """Return all records, and cut a line that a crash left unfinished off the file.

        Raises:
            UsageError: a record is damaged, the chain is broken, or the folder is of an older version: it is
                read, never written.
        """
        manifest = self.manifest()
        if manifest.chain and manifest.chain.problems:
            raise UsageError(f"{self.id}: cannot be resumed: {manifest.chain.problems[0]}: start a new run")
        if manifest.is_older:
            raise UsageError(f"{self.id}: an older zclab made this run: start a new one")
        records = self.records()
        if self.records_path.is_file():
            whole = chain.whole_lines(self.records_path)
            os.truncate(self.records_path, sum(len(line) + 1 for line in whole))
        return records

    def records(self) -> list[R]:
        """Read all records; a last line that was cut off by a crash is left out.

        Raises:
            UsageError: another line is damaged.
        """
        stored = read(self.directory)
        records: list[R] = []
        try:
            for data in stored.records:
                records.append(self.kind.record.model_validate(data))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{stored.records_path}: line {len(records) + 1} is damaged") from None
        return records

    def document(self) -> D:
        """Return the judged document of the run."""
        return self.kind.document(self.manifest(), self.records())


def directories() -> list[Path]:
    """Return the folder of every run, newest first, whatever is in it."""
    found = [path for path in runs_dir().glob("[!.]*") if path.is_dir()]
    return sorted(found, key=lambda path: path.name.removeprefix(_OLD_PREFIX), reverse=True)


def directory_of(name: str) -> Path:
    """Return the folder of a run by its id or path.

    Raises:
        UsageError: there is none.
    """
    for directory in (runs_dir() / name, Path(name)):
        if directory.is_dir():
            return directory
    raise UsageError(f"{name}: no such run in {runs_dir()}: `zclab list` shows them")


def read(directory: Path) -> Stored:
    """Read a run folder of any kind and version, upgraded to today's.

    Raises:
        UsageError: there is no manifest, it is damaged, or its version is not one that this zclab reads.
    """
    path, records_path = directory / "manifest.json", directory / "records.jsonl"
    old: dict[str, Any] = {"schema_version": 3, "kind": "run"}
    for name, records_name, kind in _OLD_FILES:
        if (directory / name).is_file():
            path, records_path, old["kind"] = directory / name, directory / records_name, kind
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if old["kind"] != "run":
            data |= old
        elif (version := data.get("schema_version")) == old["schema_version"]:
            data |= old
            records_path = directory / _OLD_RECORDS
        elif version not in {*UPGRADES, SCHEMA_VERSION}:
            oldest = min(UPGRADES)
            raise ValueError(
                f"its schema_version is {version}, this zclab reads {oldest} to {SCHEMA_VERSION}"
            )
        found = chain.Chain(state="none")
        if data["schema_version"] == SCHEMA_VERSION or (directory / chain.JOURNAL).exists():
            found, data = chain.check(directory, data)
        recorded = {"recorded_schema": data["schema_version"], "chain": found.model_dump()}
        stored = Stored(data, _lines(records_path), records_path)
        for step in range(data["schema_version"], SCHEMA_VERSION):
            stored = UPGRADES[step](stored)
        stored = stored._replace(manifest=stored.manifest | recorded)
        if stored.manifest["kind"] not in KIND_NAMES:
            raise ValueError(f"kind {stored.manifest['kind']!r} is none of {', '.join(KIND_NAMES)}")
    except FileNotFoundError:
        raise UsageError(f"{directory}: cannot be read: it has no {path.name}") from None
    except KeyError as error:
        raise UsageError(f"{path}: cannot be read: {error.args[0]} is missing") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    return stored


def _lines(path: Path) -> Iterator[Any]:
    """Yield the JSON value of each line that was written whole: that ends in a newline."""
    # No other character ends a line here.
    yield from (chain.without_link(json.loads(line)) for line in chain.whole_lines(path))
