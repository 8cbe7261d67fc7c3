# SPDX-License-Identifier: Apache-2.0
"""The folder of one run."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from zclab.base.errors import UsageError
from zclab.base.paths import runs_dir
from zclab.runs.records import Manifest, Record
from zclab.runs.upgrade import upgraded


class Run:
    """The folder of one run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest_path = directory / "manifest.json"
        self.measurements_path = directory / "measurements.jsonl"

    @property
    def id(self) -> str:
        """The run's id: the folder's name."""
        return self.directory.name

    @classmethod
    def create(cls, lab: str) -> Run:
        """Make a folder for a new run of a lab, named so that names sort by time."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        directory = runs_dir() / f"{stamp}-{lab}-{secrets.token_hex(2)}"
        directory.mkdir(parents=True)
        return cls(directory)

    @classmethod
    def find(cls, name: str) -> Run:
        """Return a run by its id, by its directory, or the newest one by "latest".

        Raises:
            UsageError: there is none.
        """
        if name == "latest":
            runs = sorted(path.parent for path in runs_dir().glob("*/manifest.json"))
            if not runs:
                raise UsageError(f"{runs_dir()}: no run yet: make one with `zclab run`")
            return cls(runs[-1])
        for directory in (runs_dir() / name, Path(name)):
            if (directory / "manifest.json").is_file():
                return cls(directory)
        raise UsageError(f"{name}: no such run in {runs_dir()}: `zclab show latest` shows the newest")

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest, whole or not at all."""
        partial = self.manifest_path.with_suffix(".partial")
        partial.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        partial.replace(self.manifest_path)

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            UsageError: it is missing, or another schema wrote it.
        """
        try:
            data = json.loads(self.manifest_path.read_text(encoding="utf-8"))
            return Manifest.model_validate(upgraded(data))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"])
            raise UsageError(f"{self.manifest_path}: cannot be read: {key}: {problem['msg']}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.manifest_path}: cannot be read: {error}") from None

    def append(self, record: Record) -> None:
        """Add one record, on disk before this returns."""
        with self.measurements_path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def keep_whole_records(self) -> list[Record]:
        """Return all records, and cut a line that a crash left unfinished off the file."""
        records = self.records()
        if self.measurements_path.is_file():
            whole = self.measurements_path.read_bytes().split(b"\n")[: len(records)]
            os.truncate(self.measurements_path, sum(len(line) + 1 for line in whole))
        return records

    def records(self) -> list[Record]:
        """Read all records; a last line that was cut off by a crash is left out.

        Raises:
            UsageError: another line is damaged.
        """
        if not self.measurements_path.is_file():
            return []
        # Only what ends in a newline was written whole; no other character ends a line here.
        *lines, _ = self.measurements_path.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records.append(Record.model_validate(upgraded(json.loads(line))))
            except (ValueError, ValidationError):
                raise UsageError(f"{self.measurements_path}: line {number} is damaged") from None
        return records
