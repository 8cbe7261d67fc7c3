# SPDX-License-Identifier: Apache-2.0
"""Run folders: appended, read back, cut off by a crash, resumed; and the document that tools rely on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import factories
from tests.factories import changed

from zclab.analysis import verdict
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.base.errors import UsageError
from zclab.runs import query
from zclab.runs.chain import Chain
from zclab.runs.folder import Run
from zclab.runs.manifest import SCHEMA_VERSION
from zclab.runs.records import Manifest, Record


@pytest.fixture
def run(tmp_path: Path) -> MeasuringRun:
    """A run that was killed after three records."""
    manifest = factories.manifest(finished_at=None)
    return factories.stored_run(tmp_path / "run", manifest, factories.records(manifest)[:3])


def some_record(number: int = 5) -> Record:
    return factories.records(factories.manifest())[number]


# -------------------------------------------------------------------------------------------------- records


def test_records_are_read_as_they_were_written(run: MeasuringRun) -> None:
    assert run.records() == factories.records(factories.manifest())[:3]
    assert run.records_path.read_bytes().count(b"\n") == 3


def test_a_run_without_records(tmp_path: Path) -> None:
    run = factories.stored_run(tmp_path / "run", factories.manifest(), [])
    assert run.records() == []
    assert run.resume() == []


@pytest.mark.parametrize("kept", [1, 200, -2])
def test_a_line_that_a_crash_cut_off_is_left_out(run: MeasuringRun, kept: int) -> None:
    lines = run.records_path.read_bytes().splitlines(keepends=True)
    run.records_path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    assert [one.planned.order for one in run.records()] == [0, 1]


@pytest.mark.parametrize("kept", [1, 200, -2, -1])
def test_resuming_cuts_the_unfinished_line_off(run: MeasuringRun, kept: int) -> None:
    lines = run.records_path.read_bytes().splitlines(keepends=True)
    run.records_path.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    kept_orders = [one.planned.order for one in run.resume()]
    run.append(some_record())
    assert [one.planned.order for one in run.records()] == [*kept_orders, 5]
    assert run.records_path.read_bytes().startswith(b"".join(lines[:2]))


def test_resuming_a_sound_run_changes_nothing(run: MeasuringRun) -> None:
    before = run.records_path.read_bytes()
    assert len(run.resume()) == 3
    assert run.records_path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"planned": 1}', b"\x00" * 20, b"not json"])
def test_a_damaged_line_in_the_middle_is_an_error(run: MeasuringRun, damage: bytes) -> None:
    lines = run.records_path.read_bytes().splitlines(keepends=True)
    run.records_path.write_bytes(lines[0] + damage + b"\n" + lines[2])
    with pytest.raises(UsageError, match=r"records\.jsonl: line 2 is damaged$"):
        run.records()
    with pytest.raises(UsageError):
        run.resume()
    assert damage in run.records_path.read_bytes()


def test_a_crash_inside_of_a_character(run: MeasuringRun) -> None:
    record = changed(some_record(), {"receiver.stderr": "\ufffd"})
    run.append(record)
    content = run.records_path.read_bytes()
    run.records_path.write_bytes(content[: content.rindex("\ufffd".encode()) + 1])
    assert len(run.resume()) == 3


@pytest.mark.parametrize("text", ["\u2028", "\x85", "\x0b", "\r\n", "\x1c"])
def test_messages_may_hold_any_character(run: MeasuringRun, text: str) -> None:
    """A record is one line, whatever else Unicode calls the end of a line."""
    record = changed(some_record(), {"receiver.stderr": f"one{text}two"})
    run.append(record)
    run.append(some_record(6))
    assert run.records()[3] == record


# --------------------------------------------------------------------------------------------- the manifest


def test_manifest_is_read_as_it_was_written(run: MeasuringRun) -> None:
    whole = Chain(state="whole")
    assert run.manifest() == factories.manifest(run_id="run", finished_at=None, chain=whole)


def test_manifest_is_written_whole_or_not_at_all(run: MeasuringRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.manifest_path.read_bytes()

    def full_disk(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        run.write_manifest(factories.manifest(run_id="other"))
    assert run.manifest_path.read_bytes() == before
    monkeypatch.undo()
    run.write_manifest(factories.manifest(run_id="other"))
    assert run.manifest().run_id == "other"
    names = sorted(path.name for path in run.directory.iterdir())
    assert names == ["journal.jsonl", "manifest.json", "records.jsonl"]


@pytest.mark.parametrize("text", ["", "{", "{}", '{"schema_version": 3}'])
def test_a_manifest_that_cannot_be_read_is_one_line(run: MeasuringRun, text: str) -> None:
    run.manifest_path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        run.manifest()
    assert str(caught.value).startswith(f"{run.manifest_path}: cannot be read: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_manifest_of_another_schema_is_refused(run: MeasuringRun) -> None:
    data = json.loads(run.manifest_path.read_text(encoding="utf-8"))
    run.manifest_path.write_text(json.dumps(data | {"schema_version": 99}), encoding="utf-8")
    with pytest.raises(UsageError, match="schema_version"):
        run.manifest()


# --------------------------------------------------------------------------------------------- finding runs


def test_a_new_run_has_a_folder_of_its_own(runs: Path) -> None:
    one, two = Run.create("virtual", RUN), Run.create("virtual", RUN)
    assert one.directory != two.directory
    assert one.directory.parent == runs
    assert one.id.endswith(one.directory.name) and "-virtual-" in one.id


def test_runs_are_found(runs: Path) -> None:
    first = factories.stored_run(runs / "20260101T000000Z-virtual-aaaa", factories.manifest(), [])
    last = factories.stored_run(runs / "20260102T000000Z-virtual-aaaa", factories.manifest(), [])
    assert query.find("latest", pytest.fail).directory == last.directory
    assert query.find(first.id, pytest.fail).directory == first.directory
    assert query.find(str(first.directory), pytest.fail).directory == first.directory


def test_no_run_yet(runs: Path) -> None:
    with pytest.raises(UsageError, match="no run yet: make one with `zclab run`"):
        query.find("latest", pytest.fail)
    with pytest.raises(UsageError, match=r"^nosuch: no such run"):
        query.find("nosuch", pytest.fail)


# --------------------------------------------------------------------------------------------- the document

#: The document of `zclab show --json` as docs and tools know it. A leaf is None; a list holds what each of
#: its members has. More may be there, but nothing of this may be missing or be called something else.
GOLDEN: dict[str, Any] = {
    **dict.fromkeys(
        ["schema_version", "run_id", "lab", "emulated", "started_at", "finished_at", "exit_code", "verdict"]
    ),
    "hosts": [
        {
            **dict.fromkeys(["name", "role", "kernel_release", "kernel_build_id", "artifact_key"]),
            "nic": dict.fromkeys(["name", "driver", "mtu", "speed_mbps", "header_split"]),
            "sysctls": {"net.core.optmem_max": None},
        }
    ],
    "measurements": [
        {
            **dict.fromkeys(
                [
                    "id",
                    "comparison",
                    "arm",
                    "order",
                    "receive_mode",
                    "send_mode",
                    "ip_version",
                    "message_bytes",
                    "pace_gbit_per_s",
                    "seconds",
                    "bytes_received",
                    "gbit_per_s",
                    "mapped_bytes",
                    "copied_bytes",
                    "mapped_fraction",
                    "receiver_context_switches",
                    "retransmitted_segments",
                    "mss",
                    "integrity",
                    "system_calls",
                    "valid",
                    "invalid_reasons",
                    "skipped",
                ]
            ),
            "receiver_cpu": dict.fromkeys(["user_s", "system_s", "usec_per_mib", "softirq_s", "host_busy_s"]),
            "sender_cpu": dict.fromkeys(["user_s", "system_s", "usec_per_mib", "softirq_s", "host_busy_s"]),
            "completions": dict.fromkeys(["sends", "completed", "copied"]),
        }
    ],
    "comparisons": [
        dict.fromkeys(
            [
                "name",
                "metric",
                "arm_a",
                "arm_b",
                "n",
                "ratio_median",
                "ratio_ci95",
                "threshold",
                "direction",
                "verdict",
                "claim_ids",
                "reference",
                "gated",
                "not_gated_because",
            ]
        )
    ],
}


def missing(document: Any, wanted: Any, place: str = "") -> list[str]:
    """Return the paths of `wanted` that a document lacks."""
    if isinstance(wanted, list):
        assert document, f"{place} is empty"
        return [path for one in document for path in missing(one, wanted[0], f"{place}[]")]
    if not isinstance(wanted, dict):
        return []
    if not isinstance(document, dict):
        return [place]
    found = [f"{place}.{key}" for key in wanted if key not in document]
    return found + [
        path
        for key, inner in wanted.items()
        if key in document
        for path in missing(document[key], inner, f"{place}.{key}")
    ]


def document_of(manifest: Manifest) -> dict[str, Any]:
    judged = verdict.judge(manifest, factories.records(manifest))
    document: dict[str, Any] = json.loads(judged.model_dump_json())
    return document


def test_the_document_has_every_key_that_tools_rely_on() -> None:
    manifest = factories.manifest(
        plan=factories.plan(
            comparisons=[factories.comparison(a=("zerocopy", "copy"), b=("zerocopy", "map_once"))]
        ),
        thresholds=[factories.threshold()],
    )
    document = document_of(manifest)
    assert missing(document, GOLDEN) == []
    assert document["schema_version"] == SCHEMA_VERSION == 5


def test_the_golden_list_notices_what_is_missing() -> None:
    document = document_of(factories.manifest())
    del document["measurements"][4]["receiver_cpu"]["usec_per_mib"]
    del document["comparisons"][0]["verdict"]
    assert ".measurements[].receiver_cpu.usec_per_mib" in missing(document, GOLDEN)
    assert ".comparisons[].verdict" in missing(document, GOLDEN)


def test_values_of_the_document() -> None:
    document = document_of(factories.manifest(thresholds=[factories.threshold()]))
    assert document["verdict"] == "pass"
    assert document["exit_code"] == 0
    assert document["emulated"] is False
    comparison = document["comparisons"][0]
    assert comparison["direction"] == "at_most"
    assert len(comparison["ratio_ci95"]) == 2
    assert comparison["gated"] is True
    # Where nothing was asked, null, never 0.
    assert document["measurements"][0]["completions"] is None
    assert document["measurements"][0]["receiver_cpu"]["cycles_per_mib"] is None
    assert document["measurements"][0]["pace_gbit_per_s"] is None
