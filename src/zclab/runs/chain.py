# SPDX-License-Identifier: Apache-2.0
"""The hash chain of a run: each line carries a hash of itself and of all that was written before it.

The journal, journal.jsonl, has one line for each state of the manifest (what changed, and how many records
there were) and for each other file that is kept. The records carry the same chain. It notices accidents and
careless edits. It cannot notice who writes every hash anew, nor that the end of a run was cut off which
was killed before its next line in the journal: such a run did not finish, and is invalid anyway.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zclab.base.model import Model

JOURNAL = "journal.jsonl"
RECORDS = "records.jsonl"
_LINK = re.compile(rb'^\{"chain":"([0-9a-f]{64})",')


class Chain(Model):
    """What checking the chain of a run found: none where an older version kept none.

    problems: what is not as it was written, one line each; the first is the earliest in the chain.
    """

    state: Literal["whole", "broken", "none"]
    problems: list[str] = []


class Entry(NamedTuple):
    """A line of the journal: the records before it, fields of the manifest, files by name and sha256."""

    records: int
    changes: dict[str, Any]
    files: dict[str, str]


class _Line(NamedTuple):
    """A line without its link, and the link, empty where it has none."""

    body: bytes
    link: str

    def follows(self, head: str) -> bool:
        return self.link == _hash(head, self.body)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that end in a newline, without it; a missing file has none."""
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def append(path: Path, text: str) -> None:
    """Add a JSON object, one line, to a file of a run; it is on the disk before this returns.

    A line that an earlier write left unfinished is cut off first.
    """
    head, _ = _end(path.parent)
    body = text.encode()
    whole = sum(len(line) + 1 for line in whole_lines(path))
    with path.open("ab") as file:
        if file.seek(0, os.SEEK_END) > whole:
            file.truncate(whole)
        file.write(b'{"chain":"' + _hash(head, body).encode() + b'",' + body[1:] + b"\n")
        file.flush()
        os.fsync(file.fileno())


def note(
    directory: Path, *, changes: dict[str, Any] | None = None, files: dict[str, str] | None = None
) -> None:
    """Add a line to the journal of a run: fields of the manifest (JSON values), or files by sha256."""
    _, records = _end(directory)
    entry = {"records": records, "changes": changes or {}, "files": files or {}}
    append(directory / JOURNAL, json.dumps(entry))


def manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest as the journal has it: every change, in order. Lines that are damaged have none."""
    return _replayed([entry for entry in _entries(directory) if entry is not None])


def check(directory: Path, stored: dict[str, Any]) -> tuple[Chain, dict[str, Any]]:
    """Check the chain of a run whose manifest.json says `stored`; return the manifest that holds, too.

    That is the journal's while the chain is whole: an interrupted write may have left manifest.json one
    change behind.
    """
    problems = [*_problems(directory, stored)]
    if problems:
        return Chain(state="broken", problems=problems), stored
    return Chain(state="whole"), manifest(directory)


def without_link(data: Any) -> Any:
    """Return the JSON value of a line of records.jsonl as it was before it was linked."""
    return {key: value for key, value in data.items() if key != "chain"} if isinstance(data, dict) else data


def sha256_of(path: Path) -> str | None:
    """Return the sha256 of a file in hex; null: it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _hash(head: str, body: bytes) -> str:
    return hashlib.sha256(head.encode() + body).hexdigest()


def _split(line: bytes) -> _Line:
    found = _LINK.match(line)
    return _Line(b"{" + line[found.end() :], found[1].decode()) if found else _Line(line, "")


def _end(directory: Path) -> tuple[str, int]:
    """Return the link of what was written last, and how many records there are."""
    records, entries = whole_lines(directory / RECORDS), _entries(directory)
    noted = entries[-1].records if entries and entries[-1] else 0
    last = records if len(records) > noted else whole_lines(directory / JOURNAL)
    return (_split(last[-1]).link if last else ""), len(records)


def _entries(directory: Path) -> list[Entry | None]:
    """Return the lines of the journal, null for one that is damaged."""
    found: list[Entry | None] = []
    for line in whole_lines(directory / JOURNAL):
        try:
            data = json.loads(line)
            entry = Entry(int(data["records"]), dict(data["changes"]), dict(data["files"]))
        except (ValueError, KeyError, TypeError):
            entry = None
        found.append(entry)
    return found


def _replayed(entries: list[Entry]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        found |= entry.changes
    return found


def _problems(directory: Path, stored: dict[str, Any]) -> Iterator[str]:
    if not whole_lines(directory / JOURNAL):
        yield f"{JOURNAL} is missing or empty, so that nothing says what was written"
        return
    if (first := _first_broken(directory)) is not None:
        yield first
    entries = [entry for entry in _entries(directory) if entry is not None]
    written = _replayed(entries)
    if stored not in (written, _replayed(entries[:-1])):
        yield f"manifest.json: {_difference(written, stored)}"
    files = {name: digest for entry in entries for name, digest in entry.files.items()}
    # Killed in the middle, a run may have left a file that the journal does not know yet.
    for name, digest in files.items() if written.get("finished_at") is not None else ():
        found = sha256_of(directory / name)
        if found != digest:
            what = "is missing" if found is None else "was changed after it was written"
            yield f"{name} {what}"


def _first_broken(directory: Path) -> str | None:
    """Return the first line, in the order of writing, that is not what was written there."""
    records = [_split(line) for line in whole_lines(directory / RECORDS)]
    journal = [_split(line) for line in whole_lines(directory / JOURNAL)]
    entries = _entries(directory)
    noted = max((entry.records for entry in entries if entry), default=0)
    head, made = "", 0
    for number, (line, entry) in enumerate(zip(journal, entries, strict=True), 1):
        if entry is None:
            return f"{JOURNAL} line {number} is damaged"
        for record in records[made : entry.records]:
            made += 1
            if not record.follows(head):
                return _record_broken(made, len(records), noted)
            head = record.link
        if made < entry.records:
            return f"records.jsonl: {entry.records} records were written, {len(records)} are left"
        if not line.follows(head):
            return f"{JOURNAL} line {number} is not what was written there"
        head = line.link
    for number, record in enumerate(records[made:], made + 1):
        if not record.follows(head):
            return _record_broken(number, len(records), noted)
        head = record.link
    return None


def _record_broken(number: int, found: int, noted: int) -> str:
    counts = f" ({noted} records were written, {found} are there)" if 0 < found < noted else ""
    return f"records.jsonl line {number} is not what was written there{counts}"


def _difference(written: Any, found: Any, place: str = "") -> str:
    """Return the first place in which two JSON values differ, and how."""
    if isinstance(written, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*written, *found]):
            inner = f"{place}.{key}" if place else str(key)
            if key not in found:
                return f"{inner} was removed after it was written"
            if key not in written:
                return f"{inner} was added after it was written"
            if written[key] != found[key]:
                return _difference(written[key], found[key], inner)
    if isinstance(written, list) and isinstance(found, list):
        if len(written) != len(found):
            return f"{place} had {len(written)} entries when it was written and has {len(found)}"
        at = next(at for at, one in enumerate(written) if one != found[at])
        return _difference(written[at], found[at], f"{place}.{at}")
    was, now = (textwrap.shorten(json.dumps(value), 80) for value in (written, found))
    return f"{place} was changed after it was written, from {was} to {now}"
