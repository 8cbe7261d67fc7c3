# SPDX-License-Identifier: Apache-2.0
"""Counts beside the pinned ones: what passes, what fails, what has no baseline, and how one is set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import factories
from tests.trusted_tool import Silent
from tests.unit.test_measure_exact import Exact
from tests.unit.test_one_guest import METRIC, judged, manifest, plan, records
from tests.unit.test_report import Screen

from zclab.analysis import baseline
from zclab.analysis.document import RunDocument
from zclab.backends.exact.emulator import EmulatorFacts
from zclab.base.errors import InvalidError, UsageError
from zclab.base.paths import project_root
from zclab.lab import inventory
from zclab.lab.model import Baseline, BaselineEntry
from zclab.measure import engine, exact, pin
from zclab.report.console import show
from zclab.runs.records import Manifest
from zclab.suites import declared_today

CPU = "max,-erms"
COMPILER = "gcc (Debian 12.2.0-14+deb12u1) 12.2.0"
#: What one MiB costs where an arm takes the usual time; the first of a boot takes 1.1 times that.
COUNT = 2.0 * 1e9 / (factories.WINDOW_BYTES / 2**20)
COPY, MAPPED = "copy to copy, 262144 bytes", "copy to map_once, 262144 bytes"


def emulator(version: str = "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", cpu: str = CPU) -> EmulatorFacts:
    return EmulatorFacts(version=f"QEMU emulator version {version}", options=["-machine", "pc", "-cpu", cpu])


def entry(**changes: Any) -> BaselineEntry:
    """Return the entry of a kernel whose map_once takes 1.7 % less than its copying."""
    cells = {COPY: [1.1 * COUNT, COUNT], MAPPED: [1.1 * 0.983 * COUNT, 0.983 * COUNT]}
    own: dict[str, Any] = {
        "emulator": "QEMU 7.2.22",
        "compiler": "gcc 12.2.0",
        "cpu": CPU,
        "variant": "full",
        "cells": cells,
    }
    return BaselineEntry(**{**own, "source": "linux 6.1", "boots": 4, "reason": "first"} | changes)


def pinned(*entries: BaselineEntry) -> Baseline:
    return Baseline(plan=plan().name, margin=0.008, entries=[*(entries or [entry()])])


def run(counts: dict[str, float], **changes: Any) -> tuple[Manifest, RunDocument]:
    """Return a run in which arm A and B take so many times the usual count."""
    own = {"emulator": emulator(), "versions": {"compiler": COMPILER, "kernel_source": "linux 6.1"}}
    of = manifest(**{**own, "baseline": pinned()} | changes)
    guest = {"guest.emulator": of.emulator and of.emulator.model_dump()}
    made = [factories.changed(one, guest) for one in records(of, counts, first=1.1)]
    return of, judged(of, made)


def test_counts_near_the_pinned_ones_pass() -> None:
    _, document = run({"a": 1.0, "b": 0.983})
    assert document.verdict == "pass"
    assert {one.cell: one.verdict for one in document.baseline} == {COPY: "pass", MAPPED: "pass"}
    for one in document.baseline:
        assert one.ratio == pytest.approx(1, abs=1e-3)
        assert (one.n, one.because) == (8, None)


def test_a_mapping_that_is_lost_fails() -> None:
    """It costs what copying does."""
    _, document = run({"a": 1.0, "b": 1.0})
    assert document.verdict == "fail"
    found = {one.cell: one for one in document.baseline}
    assert (found[COPY].verdict, found[MAPPED].verdict) == ("pass", "fail")
    assert found[MAPPED].ratio == pytest.approx(1 / 0.983, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({"emulator": emulator("7.2.22 (Debian 1:7.2+dfsg-7+deb12u20)")}, True),
        ({"emulator": emulator("10.0.2 (Debian 1:10.0.2+ds-2)")}, False),
        ({"emulator": emulator("7.2.23")}, False),
        ({"emulator": emulator(cpu="max")}, False),
        ({"versions": {"compiler": "gcc (Debian 14.2.0-19) 14.2.0"}}, False),
        ({"versions": {}}, False),
    ],
    ids=["a later Debian revision", "QEMU 10", "a later version", "other CPU flags", "gcc 14", "not known"],
)
def test_only_the_same_emulator_compiler_and_cpu_compare(changes: dict[str, Any], known: bool) -> None:
    _, document = run({"a": 1.0, "b": 0.983}, **changes)
    assert document.verdict == ("pass" if known else "inconclusive")
    for one in document.baseline:
        assert (one.ratio is not None) == known
        assert known or one.because is not None
    if not known and changes.get("versions") != {}:
        assert document.baseline[0].because is not None
        assert document.baseline[0].because.startswith("no baseline for this emulator (QEMU ")


def test_another_plan_has_no_baseline() -> None:
    other = pinned().model_copy(update={"plan": "another"})
    _, document = run({"a": 1.0, "b": 1.0}, baseline=other)
    assert (document.baseline, document.verdict) == ([], "pass")


def test_what_a_run_counted_is_an_entry_of_its_own() -> None:
    of, document = run({"a": 1.0, "b": 0.97}, baseline=pinned(entry(emulator="QEMU 10.0.2")))
    found = baseline.entry_of(of, document.measurements, "a new emulator")
    assert (found.emulator, found.compiler, found.cpu) == ("QEMU 7.2.22", "gcc 12.2.0", CPU)
    assert (found.boots, found.reason, found.source) == (4, "a new emulator", "linux 6.1")
    again = baseline.replaced([entry(), entry(emulator="QEMU 10.0.2")], found)
    assert [one.emulator for one in again] == ["QEMU 10.0.2", "QEMU 7.2.22"]
    _, document = run({"a": 1.0, "b": 0.97}, baseline=pinned(*again))
    assert [one.ratio for one in document.baseline] == pytest.approx([1.0, 1.0], abs=1e-3)


def test_another_baseline_today_is_said() -> None:
    today = factories.lab("exact")
    declared = pinned(entry(cells=entry().cells | {COPY: [1.0, 2.0]}))
    now = today.model_copy(
        update={"expectations": today.expectations.model_copy(update={"baseline": declared})}
    )
    of = manifest(baseline=pinned(), lab="exact")
    found = declared_today.compared(of, lambda directory: now)
    assert found is not None
    assert [one for one in found.differences if f"QEMU 7.2.22 gcc 12.2.0 {COPY}" in one]
    assert not [one for one in found.differences if MAPPED in one]


# ----------------------------------------------------------------------------------------- setting a baseline


@pytest.fixture
def lab(tmp_path: Path, runs: Path) -> Exact:
    """The lab exact in a copy of its inventory, which a test may write."""
    directory = tmp_path / "inventory" / "exact"
    shutil.copytree(project_root() / "inventory" / "exact", directory)
    made = Exact(tmp_path / "state")
    made.lab = inventory.load(directory).model_copy(update={"state_dir": tmp_path / "state"})
    made.guest.emulator = emulator()
    return made


def renew(lab: Exact, reason: str = "first") -> Path:
    def execute(of: Any, chosen: Any, reporter: Any, **_: Any) -> Any:
        # What a guest that pretends has moved.
        moved = chosen.model_copy(update={"bytes": factories.TOTAL_BYTES})
        return engine.execute(of, moved, reporter, open_driver=exact.opener(lab.open_guests()))

    return pin.renew(lab.lab, reason, 2, Silent(), lambda line: None, execute)[1]


def test_what_is_counted_now_is_pinned(lab: Exact) -> None:
    path = renew(lab)
    text = path.read_text(encoding="utf-8")
    before = (project_root() / "inventory/exact/group_vars/all/baseline.yml").read_text(encoding="utf-8")
    assert text.partition("zclab_baseline:")[0] == before.partition("zclab_baseline:")[0]
    found = inventory.load(lab.lab.lab_dir).expectations.baseline
    assert found is not None
    (own,) = (one for one in found.entries if one.cpu == CPU)
    assert (own.emulator, own.compiler, own.boots, own.reason) == ("QEMU 7.2.22", "gcc 12.2.0", 2, "first")
    assert {*own.cells} == {f"zerocopy to {mode}, 262144 bytes" for mode in ("copy", "map_once", "map_each")}
    assert all(len(counts) == 2 for counts in own.cells.values())
    others = len(found.entries)
    renew(lab, "once more")
    found = inventory.load(lab.lab.lab_dir).expectations.baseline
    assert found is not None
    assert len(found.entries) == others
    assert found.entries[-1].reason == "once more"


def test_nothing_is_pinned_by_a_run_that_is_not_valid(lab: Exact) -> None:
    path = lab.lab.lab_dir / "group_vars/all/baseline.yml"
    before = path.read_text(encoding="utf-8")
    lab.guest.idle_ns = [0, 5000]
    with pytest.raises(InvalidError, match=r"the baseline stays as it was: .*the guest was idle for 5000 ns"):
        renew(lab)
    assert path.read_text(encoding="utf-8") == before


def test_a_file_that_says_more_is_not_written(lab: Exact) -> None:
    path = lab.lab.lab_dir / "group_vars/all/baseline.yml"
    path.write_text(path.read_text(encoding="utf-8") + "zclab_smallest_effect: 0.1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="says more than zclab_baseline"):
        renew(lab)


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"a": 1.0, "b": 0.983}, "2 of 2 counts within the baseline's margin"),
        ({"a": 1.0, "b": 1.0}, "1 of 2 counts within the baseline's margin"),
        ({"a": 1.0, "b": 0.97}, "% less than pinned: a later rise by as much would pass"),
    ],
    ids=["equal", "a lost mapping", "less"],
)
def test_what_is_shown(counts: dict[str, float], line: str) -> None:
    screen = Screen()
    show(screen.console, run(counts)[1])
    assert line in screen.text
    assert "beside the baseline's" in screen.text


def test_only_a_lab_that_counts_instructions_has_a_baseline(tmp_path: Path) -> None:
    directory = tmp_path / "inventory" / "namespaces"
    shutil.copytree(project_root() / "inventory" / "namespaces", directory)
    text = yaml.safe_dump({"zclab_baseline": {"plan": "exact_short", "margin": 0.01}})
    (directory / "group_vars/all/baseline.yml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="zclab_baseline: a lab of kind namespaces has no clock that counts"):
        inventory.load(directory)


def test_the_metric_is_the_whole_guests() -> None:
    _, document = run({"a": 1.0, "b": 0.983})
    counts = {one.cell: one.instructions_per_mib for one in document.baseline}
    of_arm = {one.metric: one.median_a for one in document.comparisons}
    assert of_arm[METRIC] is not None
    assert counts[COPY] == pytest.approx(of_arm[METRIC], rel=0.06)
