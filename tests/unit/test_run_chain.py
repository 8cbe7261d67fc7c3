# SPDX-License-Identifier: Apache-2.0
"""Edits of a run after it was written: each is noticed, and named before anything else is shown."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests import factories

from zclab.analysis.verdict import RUN
from zclab.base.errors import UsageError
from zclab.cli.main import cli
from zclab.runs import chain, query
from zclab.runs.folder import Run
from zclab.runs.records import Record
from zclab.suites.conformance.document import CONFORMANCE

WARNING = ": what follows is not what was measured"
FINISHED = "20260101T000000.000Z-virtual-run-abcd"
OTHER = "20260102T000000.000Z-virtual-run-abcd"
THRESHOLD = factories.threshold(at_most=0.6)


def zclab(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that passed, with a console log; beside it another of the same lab."""
    runs = tmp_path_factory.mktemp("written")
    for name, cost in ((FINISHED, 0.4), (OTHER, 0.9)):
        manifest = factories.manifest(thresholds=[THRESHOLD], finished_at=None)
        run = factories.stored_run(runs / name, manifest, factories.records(manifest, cost))
        run.write_file("console/receiver1.log", "[    1.000000] eth0: link up\n")
        run.update(console_reports={"receiver1": []})
        run.update(finished_at="2026-01-01T00:10:00.000+00:00")
    return runs


@pytest.fixture
def stored(written: Path, runs: Path) -> Path:
    shutil.copytree(written, runs)
    return runs / FINISHED


Edit = Callable[[Path], object]


def manifest(change: Callable[[dict[str, Any]], object]) -> Edit:
    """Edit manifest.json as its values."""

    def edit(directory: Path) -> None:
        path = directory / "manifest.json"
        data = json.loads(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(json.dumps(data, indent=2), encoding="utf-8")

    return edit


def lines(name: str, change: Callable[[list[bytes]], object]) -> Edit:
    """Edit a file as the list of its lines."""

    def edit(directory: Path) -> None:
        path = directory / name
        found = path.read_bytes().splitlines(keepends=True)
        change(found)
        path.write_bytes(b"".join(found))

    return edit


def replaced(name: str, at: int, old: bytes, new: bytes) -> Edit:
    """Edit one line of a file, in which `old` has to be."""

    def change(found: list[bytes]) -> None:
        assert old in found[at] and old != new
        found[at] = found[at].replace(old, new)

    return lines(name, change)


def copied_from_another(directory: Path) -> None:
    other = (directory.parent / OTHER / "records.jsonl").read_bytes().splitlines(keepends=True)
    lines("records.jsonl", lambda found: found.__setitem__(7, other[7]))(directory)


def all_from_another(directory: Path) -> None:
    shutil.copy(directory.parent / OTHER / "records.jsonl", directory / "records.jsonl")


def without_links(directory: Path) -> None:
    path = directory / "records.jsonl"
    path.write_bytes(re.sub(rb'"chain":"[0-9a-f]{64}",', b"", path.read_bytes()))


def without_last_newline(directory: Path) -> None:
    path = directory / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


RECORDS, JOURNAL = "records.jsonl", "journal.jsonl"
EDITS: dict[str, tuple[Edit, str]] = {
    "a threshold eased": (
        manifest(lambda data: data["expectations"]["thresholds"][0].update(at_most=0.9)),
        "manifest.json: expectations.thresholds.0.at_most was changed after it was written, from 0.6 to 0.9",
    ),
    "the thresholds removed": (
        manifest(lambda data: data["expectations"]["thresholds"].clear()),
        "manifest.json: expectations.thresholds had 1 entries when it was written and has 0",
    ),
    "a threshold added": (
        manifest(lambda data: data["expectations"]["thresholds"].append(dict(THRESHOLD, at_most=0.9))),
        "manifest.json: expectations.thresholds had 1 entries when it was written and has 2",
    ),
    "a validity bound eased": (
        manifest(lambda data: data["expectations"]["validity"].update(drops_at_most=9)),
        "manifest.json: expectations.validity.drops_at_most was changed after it was written, from 0 to 9",
    ),
    "emulated flipped": (
        manifest(lambda data: data.update(emulated=True)),
        "manifest.json: emulated was changed after it was written, from false to true",
    ),
    "the plan edited": (
        manifest(lambda data: data["plan"].update(seconds=9.0)),
        "manifest.json: plan.seconds was changed after it was written, from 2.0 to 9.0",
    ),
    "an optional field removed": (
        manifest(lambda data: data.pop("console_reports")),
        "manifest.json: console_reports was removed after it was written",
    ),
    "the kernel renamed": (
        manifest(lambda data: data.update(kernel_variant="full")),
        'manifest.json: kernel_variant was changed after it was written, from "stock" to "full"',
    ),
    "another time of its end": (
        manifest(lambda data: data.update(finished_at="2026-01-01T00:20:00.000+00:00")),
        "manifest.json: finished_at was changed after it was written, from ",
    ),
    "an older version pretended": (
        manifest(lambda data: data.update(schema_version=4)),
        "manifest.json: schema_version was changed after it was written, from 5 to 4",
    ),
    "a figure changed": (
        replaced(RECORDS, 6, b'"user_s":', b'"user_s":1'),
        "records.jsonl line 7 is not what was written there",
    ),
    "the last record's figure changed": (
        replaced(RECORDS, 11, b'"user_s":', b'"user_s":1'),
        "records.jsonl line 12 is not what was written there",
    ),
    "a record reformatted": (
        lines(RECORDS, lambda found: found.__setitem__(2, json.dumps(json.loads(found[2])).encode() + b"\n")),
        "records.jsonl line 3 is not what was written there",
    ),
    "the first record removed": (
        lines(RECORDS, lambda found: found.pop(0)),
        "records.jsonl line 1 is not what was written there (12 records were written, 11 are there)",
    ),
    "a record in the middle removed": (
        lines(RECORDS, lambda found: found.pop(6)),
        "records.jsonl line 7 is not what was written there (12 records were written, 11 are there)",
    ),
    "the last record removed": (
        lines(RECORDS, lambda found: found.pop()),
        "records.jsonl: 12 records were written, 11 are left",
    ),
    "the last newline removed": (without_last_newline, "records.jsonl: 12 records were written, 11 are left"),
    "all records removed": (
        lambda directory: (directory / RECORDS).unlink(),
        "records.jsonl: 12 records were written, 0 are left",
    ),
    "two records swapped": (
        lines(RECORDS, lambda found: found.__setitem__(slice(4, 6), [found[5], found[4]])),
        "records.jsonl line 5 is not what was written there",
    ),
    "a record doubled": (
        lines(RECORDS, lambda found: found.insert(4, found[3])),
        "records.jsonl line 5 is not what was written there",
    ),
    "a record added at the end": (
        lines(RECORDS, lambda found: found.append(found[11])),
        "records.jsonl line 13 is not what was written there",
    ),
    "a record of another run": (copied_from_another, "records.jsonl line 8 is not what was written there"),
    "all records of another run": (all_from_another, "records.jsonl line 1 is not what was written there"),
    "the links removed": (without_links, "records.jsonl line 1 is not what was written there"),
    "a console log edited": (
        lambda directory: (directory / "console" / "receiver1.log").write_text("", encoding="utf-8"),
        "console/receiver1.log was changed after it was written",
    ),
    "a console log removed": (
        lambda directory: (directory / "console" / "receiver1.log").unlink(),
        "console/receiver1.log is missing",
    ),
    "the journal removed": (
        lambda directory: (directory / JOURNAL).unlink(),
        "journal.jsonl is missing or empty, so that nothing says what was written",
    ),
    "the journal emptied": (
        lambda directory: (directory / JOURNAL).write_bytes(b""),
        "journal.jsonl is missing or empty, so that nothing says what was written",
    ),
    "the journal edited, too": (
        lambda directory: [
            one(directory)
            for one in (
                EDITS["a threshold eased"][0],
                replaced(JOURNAL, 0, b'"at_most": 0.6', b'"at_most": 0.9'),
            )
        ],
        "journal.jsonl line 1 is not what was written there",
    ),
    "the journal's end removed": (
        lines(JOURNAL, lambda found: found.pop()),
        "manifest.json: finished_at was changed after it was written, from null to ",
    ),
    "the journal damaged": (
        lines(JOURNAL, lambda found: found.__setitem__(1, b"damage\n")),
        "journal.jsonl line 2 is damaged",
    ),
}


def test_what_nobody_edited_is_whole(stored: Path) -> None:
    done = zclab("show", FINISHED)
    assert done.exit_code == 0 and WARNING not in done.stdout
    document = json.loads(zclab("show", FINISHED, "--json").stdout)
    assert (document["verdict"], document["chain"]) == ("pass", {"state": "whole", "problems": []})


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_named_in_the_first_line_and_never_resumed(name: str, stored: Path) -> None:
    edit, expected = EDITS[name]
    edit(stored)
    done = zclab("show", FINISHED)
    first = done.stdout.splitlines()[0]
    assert first.startswith(expected) and first.endswith(WARNING)
    assert done.exit_code == 4
    document = json.loads(zclab("show", FINISHED, "--json").stdout)
    assert (document["verdict"], document["chain"]["state"]) == ("invalid", "broken")
    assert document["chain"]["problems"][0] == first.removesuffix(WARNING)
    found = {one["id"]: one for one in json.loads(zclab("list", "--json").stdout)["runs"]}
    assert (found[FINISHED]["verdict"], found[FINISHED]["chain"]) == ("invalid", "broken")
    assert found[OTHER]["chain"] == "whole"

    before = {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=rf"^{FINISHED}: cannot be resumed: [a-z]+[/.].*: start a new run$"):
        Run(stored, RUN).resume()
    assert {path: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before


def test_every_byte_of_the_records_is_covered(stored: Path) -> None:
    path = stored / RECORDS
    content = path.read_bytes()
    data = json.loads((stored / "manifest.json").read_text(encoding="utf-8"))
    for offset in range(0, len(content), 499):
        path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
        assert chain.check(stored, data)[0].problems, offset


# -------------------------------------------------------------------------------- accidents that are no edits


def killed(runs: Path, count: int = 3) -> Run[Any, Record, Any]:
    manifest = factories.manifest(finished_at=None)
    return factories.stored_run(runs / FINISHED, manifest, factories.records(manifest)[:count])


def test_a_half_written_record_is_no_edit(runs: Path) -> None:
    run = killed(runs)
    with run.records_path.open("ab") as file:
        file.write(b'{"chain":"0123')
    found = run.manifest().chain
    assert found and found.state == "whole"
    assert len(run.resume()) == 3
    run.append(factories.records(factories.manifest())[3])
    run.update(finished_at="2026-01-01T00:10:00.000+00:00")
    found = run.manifest().chain
    assert found and found.state == "whole" and len(run.records()) == 4


def test_a_record_follows_a_half_written_one_without_resuming(runs: Path) -> None:
    """A full disk: the run goes on to keep what the consoles said."""
    run = killed(runs)
    with run.records_path.open("ab") as file:
        file.write(b"half")
    run.update(console_reports={"receiver1": []})
    run.append(factories.records(factories.manifest())[3])
    found = run.manifest().chain
    assert found and found.state == "whole" and len(run.records()) == 4


def test_a_half_written_line_of_the_journal_is_no_edit(runs: Path) -> None:
    run = killed(runs)
    with (run.directory / JOURNAL).open("ab") as file:
        file.write(b'{"chain":"0123')
    run.update(console_reports={"receiver1": []})
    found = run.manifest().chain
    assert found and found.state == "whole"


def test_a_manifest_that_could_not_be_replaced_is_read_from_the_journal(stored: Path) -> None:
    """The journal is written first: a full disk or a crash between the two loses nothing."""
    run = Run(stored, RUN)
    before = run.manifest_path.read_bytes()
    run.update(exit_code=0)
    run.manifest_path.write_bytes(before)
    assert run.manifest().exit_code == 0
    assert json.loads(zclab("show", FINISHED, "--json").stdout)["chain"]["state"] == "whole"


def test_an_edit_while_the_run_goes_on_is_not_taken_over(runs: Path) -> None:
    run = killed(runs)
    EDITS["emulated flipped"][0](run.directory)
    run.update(console_reports={"receiver1": []})
    assert run.manifest().emulated is False


def test_a_log_that_the_journal_does_not_know_yet_can_be_resumed(runs: Path) -> None:
    run = killed(runs)
    run.write_file("console/receiver1.log", "one\n")
    (run.directory / "console" / "receiver1.log").write_text("one\ntwo\n", encoding="utf-8")
    assert len(run.resume()) == 3


def test_a_moved_folder_is_whole(stored: Path, tmp_path: Path) -> None:
    moved = shutil.move(stored, tmp_path / "elsewhere")
    assert zclab("show", str(moved)).exit_code == 0


def test_no_edited_result_is_compared(runs: Path) -> None:
    """--diff makes a result anew rather than use one that was edited."""
    run = Run.create("virtual", CONFORMANCE)
    fields = factories.common("conformance", run_id=run.id) | {"fingerprint": "f"}
    run.write_manifest(CONFORMANCE.manifest.model_validate(fields))
    assert query.latest_whole(CONFORMANCE, "virtual", "inventory/virtual", "stock", "f") is not None
    EDITS["another time of its end"][0](run.directory)
    assert query.latest_whole(CONFORMANCE, "virtual", "inventory/virtual", "stock", "f") is None
