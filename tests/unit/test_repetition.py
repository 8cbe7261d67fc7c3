# SPDX-License-Identifier: Apache-2.0
"""A plan that is executed twice: what is compared, and that a planted difference is named."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests import factories
from tests.factories import changed
from tests.unit.test_measure_exact import Exact, plan

from zclab.analysis import repetition
from zclab.analysis.verdict import MeasuringRun
from zclab.base.errors import UsageError
from zclab.base.progress import Progress, quiet
from zclab.lab.model import Lab
from zclab.measure import twice
from zclab.report import console as report
from zclab.runs.records import Manifest, Record

#: What only the controller knows, and changes from one execution to the next.
CONTROLLERS: dict[str, Any] = {
    "started_at": "2027-01-01T00:00:01.000+00:00",
    "ended_at": "2027-01-01T00:00:09.000+00:00",
    "controller_cpu_share": 0.9,
    "guest.cpu_seconds": 99.0,
}


@pytest.fixture
def made(tmp_path: Path, runs: Path) -> tuple[Exact, MeasuringRun]:
    lab = Exact(tmp_path / "state")
    return lab, lab.run(plan(seed=3))


def parts(run: MeasuringRun) -> tuple[Manifest, list[Record]]:
    return run.manifest(), run.records()


def test_a_second_execution_is_the_same(made: tuple[Exact, MeasuringRun]) -> None:
    """Another folder, other times, other CPU seconds: all of that is the controller's."""
    lab, first = made

    def again(of: Lab, run: MeasuringRun, on_progress: Progress) -> MeasuringRun:
        return lab.run(run.manifest().plan)

    twice.compare(lab.lab, first, quiet, again)
    found = first.manifest().repetition
    assert found is not None and found.difference is None
    assert found.digest == found.second_digest
    assert found.run_id != first.id
    document = first.document()
    assert (document.verdict, document.problems, document.repetition) == ("pass", [], found)


def test_a_planted_difference_makes_the_run_invalid_and_is_named(made: tuple[Exact, MeasuringRun]) -> None:
    lab, first = made

    def again(of: Lab, run: MeasuringRun, on_progress: Progress) -> MeasuringRun:
        before = len(lab.guest.boots)

        def alter(outputs: dict[str, Any], boot: int) -> None:
            if boot == before + 2:  # the second boot that measures
                found = outputs["1/receive"]
                assert '"system_calls": 2048' in found.stdout
                text = found.stdout.replace('"system_calls": 2048', '"system_calls": 2049')
                outputs["1/receive"] = found.model_copy(update={"stdout": text})

        lab.guest.alter = alter
        return lab.run(run.manifest().plan)

    twice.compare(lab.lab, first, quiet, again)
    document = first.document()
    found = first.manifest().repetition
    assert found is not None and found.digest != found.second_digest
    ids = [one.planned.id for one in first.records()]
    # The digest of the whole boot differs in each of its records: the one that has changed is named.
    changed_to = "receiver.document.system_calls is 2048, the second time 2049"
    assert found.difference == f"{ids[3]}: {changed_to}"
    assert document.verdict == "invalid"
    assert document.problems == [f"executed twice, it was not the same: {found.difference}"]


@pytest.mark.parametrize(("path", "value"), CONTROLLERS.items())
def test_what_the_controller_adds_is_left_out(
    path: str, value: Any, made: tuple[Exact, MeasuringRun]
) -> None:
    manifest, records = parts(made[1])
    other = [changed(records[0], {path: value}), *records[1:]]
    assert repetition.compared("x", (manifest, records), (manifest, other)).difference is None


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (
            "receiver.document.window.seconds",
            1.5,
            "receiver.document.window.seconds is 2.0, the second time 1.5",
        ),
        ("guest.idle_ns", 3, "guest.idle_ns is 0, the second time 3"),
        ("guest.seed", 1, "guest.seed is "),
        ("before.sender1.softnet", None, "before.sender1.softnet is "),
        ("sender.status", 1, "sender.status is 0, the second time 1"),
        ("planned.order", 5, "planned.order is 0, the second time 5"),
    ],
)
def test_a_planted_field_of_a_record_is_named(
    path: str, value: Any, named: str, made: tuple[Exact, MeasuringRun]
) -> None:
    manifest, records = parts(made[1])
    softnet = {"before.sender1.softnet": {"processed": 1, "dropped": 0, "squeezed": 0, "received_rps": 0}}
    records = [changed(records[0], softnet), *records[1:]]
    other = [changed(records[0], {path: value}), *records[1:]]
    found = repetition.compared("x", (manifest, records), (manifest, other))
    assert found.difference is not None and found.difference.startswith(f"{records[0].planned.id}: {named}")
    assert found.digest != found.second_digest


def test_the_manifest_and_the_number_of_records_are_compared(made: tuple[Exact, MeasuringRun]) -> None:
    manifest, records = parts(made[1])
    other = changed(manifest, {"hosts.0.kernel_release": "6.1.0", "run_id": "another", "finished_at": None})
    found = repetition.compared("x", (manifest, records), (other, records)).difference
    assert found == f'manifest: hosts.0.kernel_release is "{factories.RELEASE}", the second time "6.1.0"'
    found = repetition.compared("x", (manifest, records), (manifest, records[:-1])).difference
    assert found == "the first execution made 8 records, the second 7"
    swapped = [records[1], records[0], *records[2:]]
    found = repetition.compared("x", (manifest, records), (manifest, swapped)).difference
    assert found == f"{records[0].planned.id}: the second execution made {records[1].planned.id} in its place"


def test_each_list_of_what_the_controller_adds_names_fields_that_there_are() -> None:
    assert set(repetition.OF_CONTROLLER_IN_MANIFEST) <= set(Manifest.model_fields)
    tops = {path.partition(".")[0] for path in repetition.OF_CONTROLLER_IN_RECORD}
    assert tops <= set(Record.model_fields)
    assert set(CONTROLLERS) == set(repetition.OF_CONTROLLER_IN_RECORD)


@pytest.mark.parametrize("name", ["virtual", "namespaces", "connectx3"])
def test_other_labs_are_never_the_same_twice(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: --twice compares two executions byte by byte"):
        twice.check_fits(factories.lab(name))


# ------------------------------------------------------------------------------------------- what is shown


def test_what_a_guest_executed_is_shown(made: tuple[Exact, MeasuringRun]) -> None:
    lab, first = made
    twice.compare(lab.lab, first, quiet, lambda of, run, say: lab.run(run.manifest().plan))
    screen = Console(file=io.StringIO(), width=200, color_system=None)
    report.show(screen, first.document())
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    assert "Instructions per MiB of one emulated guest (thousands, medians)" in text
    (row,) = [line for line in text.splitlines() if "│ copy" in line and "1953.1" in line]
    # Two seconds for a GiB, of which each thread's clock has one; 2048 calls.
    assert [part.strip() for part in row.strip("│").split("│")][2:] == [
        *("copy", "full", "1953.1", "976.6", "976.6", "0.0", "2.00")
    ]
    assert "counted by QEMU emulator version 7.2.22" in text
    assert "executed twice, the same: digest " in text
    # Small differences matter here, and have their digits.
    assert "1.00000" in text
    assert "Intervals are over boots of these kernels" in text
