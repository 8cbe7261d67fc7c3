# SPDX-License-Identifier: Apache-2.0
"""What people see of a run: lines, tables, and the verdict."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests import factories
from tests.factories import changed

from zclab.analysis import measurement, verdict
from zclab.backends.virtual import lab as virtual
from zclab.backends.virtual.backend import VirtualHosts
from zclab.backends.virtual.lab import HostStatus
from zclab.base.timing import Timing
from zclab.plan import schedule
from zclab.report import console as report
from zclab.runs.folder import Run
from zclab.runs.records import Manifest, Record


class Screen:
    """A console that keeps what was printed."""

    def __init__(self, terminal: bool = False) -> None:
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=200, force_terminal=terminal, color_system=None)

    @property
    def text(self) -> str:
        return self._file.getvalue()


def shown(manifest: Manifest, records: list[Record] | None = None) -> str:
    screen = Screen()
    made = factories.records(manifest) if records is None else records
    report.show(screen.console, verdict.judge(manifest, made))
    return screen.text


def test_a_passed_run() -> None:
    text = shown(factories.manifest(thresholds=[factories.threshold()]))
    assert "verdict: pass (12 of 12 measurements valid, 1 of 1 gates kept, 1 comparisons shown" in text
    assert "6/6" in text
    assert "99.80%" in text
    assert "≤ 0.5" in text
    assert factories.RELEASE in text
    assert "emulated" not in text


SWITCHES = "receiver_context_switches_per_mib"


def with_switches() -> Manifest:
    metrics = {"gbit_per_s": ["F2", "F3"], SWITCHES: ["F2", "F3"]}
    return factories.manifest(plan=factories.plan(comparisons=[factories.comparison(metrics=metrics)]))


def test_figures_are_shown_beside_the_published_ones() -> None:
    rows = [line.strip(" │┃").split("│") for line in shown(with_switches()).splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    # 1000 of a window of 1024 MiB; medians of the four published runs of each receiver.
    name = "receive-262144-unpaced"
    assert [name, SWITCHES, "0.98", "0.98", "1.91", "2.00"] in cells
    assert [name, "gbit_per_s", "4.29", "4.29", "33.77", "34.35"] in cells
    assert "Beside the published" not in shown(factories.manifest())


def test_a_count_that_was_not_measured_is_no_zero() -> None:
    manifest = with_switches()
    path = "receiver.document.cpu.voluntary_context_switches"
    found = [factories.changed(one, {path: None}) for one in factories.records(manifest)]
    text = shown(manifest, found)
    assert f"{SWITCHES} was not measured" in text
    assert "verdict: invalid" in text


def test_what_is_left_out_is_one_line() -> None:
    reason = "kernel stock is built without map_each"
    plan = factories.plan(left_out={"receive_map_each": reason, "mapping": reason})
    assert f"left out: receive_map_each, mapping: {reason}\n" in shown(factories.manifest(plan=plan))
    assert "left out" not in shown(factories.manifest())


def test_conditions_that_do_not_hold_are_named() -> None:
    conditions = {"sender": {"rps": False, "kernel_arguments": ["idle=halt"]}}
    plan = factories.plan(preconditions=conditions)
    placements = {factories.SENDER: [{"rps_cpus": {"rx-0": [1]}}]}
    gates = [factories.threshold()]
    text = shown(factories.manifest(plan=plan, placements=placements, thresholds=gates))
    assert "sender1: RPS: off was asked, found: on\n" in text
    assert "sender1: idle=halt: a kernel argument was asked, it cannot be read\n" in text
    assert "not as published: sender1: RPS, idle=halt" in text


def test_equal_arms_are_shown_as_a_a() -> None:
    text = shown(factories.manifest(plan=factories.plan(aa_pairs=8, repeats=8)))
    rows = [line.strip(" │┃").split()[:1] for line in text.splitlines()]
    assert rows.count(["A/A"]) == 4  # both arms, and two metrics
    assert ["aa"] not in rows


def test_arm_a_is_above_arm_b_whichever_was_measured_first() -> None:
    manifest = factories.manifest()
    records = [one for one in factories.records(manifest) if one.planned.phase == "compare"]
    b_first = sorted(records, key=lambda one: one.planned.arm, reverse=True)
    rows = [line.split("│")[2].strip() for line in shown(manifest, b_first).splitlines() if "6/6" in line]
    assert rows == ["a", "b"]


def test_an_emulated_run_says_so() -> None:
    text = shown(factories.manifest(emulated=True, thresholds=[factories.threshold()]))
    assert "emulated: CPU figures are the emulator's" in text
    heading = next(line for line in text.splitlines() if "µs/MiB" in line)
    assert heading.count("emulated") == 2
    row = next(line for line in text.splitlines() if "receiver_usec_per_mib" in line)
    assert "not gated" in row and "emulated CPU" in row
    assert "gates kept" not in text
    assert "figures shown, none judged" in text


@pytest.mark.parametrize("emulated", [True, False])
def test_a_verdict_without_a_threshold_says_that_it_judges_nothing(emulated: bool) -> None:
    text = shown(factories.manifest(emulated=emulated))
    assert "no threshold declared: figures shown, none judged" in text
    assert "gates kept" not in text


def test_equal_arms_that_differ_are_the_first_line_of_the_verdict() -> None:
    manifest = factories.manifest(
        plan=factories.plan(aa_pairs=10, repeats=10), thresholds=[factories.threshold()]
    )
    records = [
        changed(one, {"receiver.document.cpu.user_s": 0.65})
        if (one.planned.phase, one.planned.arm) == ("aa", "b")
        else one
        for one in factories.records(manifest)
    ]
    lines = shown(manifest, records).splitlines()
    verdict = next(at for at, line in enumerate(lines) if line.startswith("verdict: "))
    assert lines[verdict].startswith("verdict: inconclusive")
    assert lines[verdict - 1].startswith("EQUAL ARMS DIFFER: receiver_usec_per_mib by a factor of 1.39")


def test_precision_that_was_not_reached_is_said() -> None:
    plan = factories.plan(repeats={"at_least": 6, "at_most": 8}, precision=0.01)
    manifest = factories.manifest(plan=plan)
    text = shown(manifest, factories.records(manifest, spread=0.05))
    line = next(line for line in text.splitlines() if "precision not reached" in line)
    assert line.startswith("receive-262144-unpaced: receiver_usec_per_mib: precision not reached: ")
    assert line.endswith("% where 1.00% was asked")
    narrow = factories.records(manifest, spread=0.001)[:12]
    assert "precision not reached" not in shown(manifest, narrow)


def test_what_was_made_again_is_counted() -> None:
    manifest = factories.manifest()
    records = factories.records(manifest)
    lost = changed(records[2], {"sender.document.tcp.total.retransmits": 2000})
    planned = {"id": f"{lost.planned.id}-again1", "attempt": 1}
    second = records[2].model_copy(update={"planned": records[2].planned.model_copy(update=planned)})
    text = shown(manifest, [*records[:2], lost, second, *records[3:]])
    assert "verdict: pass (12 of 13 measurements valid, 1 of them made again because they were" in text
    assert f"invalid: sender: 2000 of {factories.SEGMENTS} segments were retransmitted" in text


def test_an_invalid_comparison_shows_its_reason() -> None:
    manifest = factories.manifest(thresholds=[factories.threshold()])
    records = factories.records(manifest)
    nothing = {"receiver.document.cpu.user_s": 0.0, "receiver.document.cpu.system_s": 0.0}
    records[0] = changed(records[0], nothing)
    assert (
        f"receive-262144-unpaced: receiver_usec_per_mib: invalid: {records[0].planned.id}: "
        "receiver: its CPU time is 0 s, and it moved bytes"
    ) in shown(manifest, records)


def test_invalid_measurements_are_listed_with_their_reasons() -> None:
    manifest = factories.manifest()
    records = factories.records(manifest)
    records[3] = changed(records[3], {"after.sender1.mtu": 1500})
    text = shown(manifest, records)
    assert (
        "receive-262144-unpaced-02a: 4.295 Gbit/s, invalid: sender1: MTU is 1500, the lab declares 4168"
        in text
    )
    assert "verdict: invalid (11 of 12 measurements valid" in text


def test_reports_of_consoles_and_problems_are_shown() -> None:
    manifest = changed(
        factories.manifest(),
        {"console_reports": {"receiver1": ["[ 1.0] WARNING: CPU: 0 at x"]}, "finished_at": None},
    )
    text = shown(manifest, factories.records(manifest)[:-1])
    assert "receiver1: the kernel reported: [ 1.0] WARNING: CPU: 0 at x" in text
    assert "the run did not finish" in text
    assert "1 planned measurements were not made" in text


def test_a_skipped_mode_is_shown_as_skipped() -> None:
    manifest = factories.manifest()
    records = [changed(one, {"skipped": "no such call"}) for one in factories.records(manifest)]
    text = shown(manifest, records)
    assert "skipped: no such call" in text
    assert "verdict: inconclusive" in text


def test_what_is_not_known_is_no_zero() -> None:
    """A dash, where a kernel does not count retransmits."""
    manifest = factories.manifest()
    records = [
        changed(one, {"sender.document.tcp.total.retransmits": None}) for one in factories.records(manifest)
    ]
    row = next(line for line in shown(manifest, records).splitlines() if "map_once" in line and "│ b" in line)
    assert [cell.strip() for cell in row.split("│")[-3:-1]] == ["-", "-"]


@pytest.mark.parametrize("text", ["[/proc/net/tcp] is gone", "[fd5a::2]:5000 refused", "[bold]x", "\\[x]"])
@pytest.mark.parametrize("place", ["problem", "skipped"])
def test_messages_are_shown_as_they_are(text: str, place: str) -> None:
    """Square brackets are no markup."""
    manifest = factories.manifest()
    records = factories.records(manifest)
    records[1] = changed(records[1], {place: text})
    assert text in shown(manifest, records)


# ----------------------------------------------------------------------------------- one measurement's line


def line(receive_mode: str = "map_once", changes: dict[str, Any] | None = None) -> str:
    plan = factories.plan(comparisons=[factories.comparison(b=("copy", receive_mode))])
    planned = next(one for one in schedule.measurements(plan) if one.arm == "b")
    record = changed(factories.record(planned), changes or {})
    return report.measurement_line(measurement.document(factories.manifest(plan=plan), record))


def test_line_of_a_measurement() -> None:
    assert line() == "receive-262144-unpaced-01b: 4.295 Gbit/s, 99.80% mapped, valid"
    assert line("copy") == "receive-262144-unpaced-01b: 4.295 Gbit/s, valid"
    assert line(changes={"skipped": "why"}) == "receive-262144-unpaced-01b: skipped: why"
    assert line(changes={"problem": "gone"}).endswith(", invalid: gone")


def test_line_of_a_measurement_that_mapped_nothing() -> None:
    assert ", 0.00% mapped, invalid: " in line(changes={"receiver.document.window.mapped_bytes": 0})


def test_line_of_a_measurement_without_documents() -> None:
    assert "no bytes, invalid: receiver: left no result" in line(changes={"receiver": None})


# ------------------------------------------------------------------------------------------------- progress


def reported(terminal: bool, records: list[Record], tmp_path: Path) -> str:
    """Return what a reporter prints while a run of these records is made."""
    manifest = factories.manifest()
    screen = Screen(terminal)
    reporter = report.RunReporter(screen.console)
    run = Run(tmp_path / "run1", verdict.RUN)
    reporter.started(run, manifest.plan, 2.0, 0)
    for record in records:
        reporter.measured(run, measurement.document(manifest, record))
    reporter.finished(run)
    return screen.text


def test_without_a_terminal_a_line_a_measurement(tmp_path: Path) -> None:
    text = reported(False, factories.records(factories.manifest()), tmp_path)
    lines = text.splitlines()
    assert lines[0] == "run run1: 12 measurements, about 1.0 minutes, seed 1"
    assert len(lines) == 13
    assert all(one.endswith(", valid") for one in lines[1:])


def test_long_lines_are_not_broken(tmp_path: Path) -> None:
    record = changed(factories.records(factories.manifest())[1], {"problem": "x" * 500})
    assert len(reported(False, [record], tmp_path).splitlines()) == 2


def test_on_a_terminal_a_bar_and_the_invalid_ones(tmp_path: Path) -> None:
    records = factories.records(factories.manifest())
    records[1] = changed(records[1], {"after.sender1.mtu": 1500})
    text = reported(True, records, tmp_path)
    assert "12/12" in text
    assert "invalid: sender1: MTU is 1500" in text
    assert ", valid" not in text


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("text", ["[/dev/sda] gone", "[fd5a::2]:5000 refused"])
def test_messages_do_not_end_the_run(terminal: bool, text: str, tmp_path: Path) -> None:
    record = changed(factories.records(factories.manifest())[1], {"problem": text})
    assert text in reported(terminal, [record], tmp_path)


# ------------------------------------------------------------------------------------------------- the rest


def test_timings() -> None:
    screen = Screen()
    report.show_timings(screen.console, [Timing("kernel compile", 300.0), Timing("image", 100.0)], 500.0)
    assert "kernel compile" in screen.text
    assert "400.0" in screen.text
    assert "whole / parts: 1.25" in screen.text


def test_no_timings() -> None:
    screen = Screen()
    report.show_timings(screen.console, [], 5.0)
    assert "whole / parts" not in screen.text


def test_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = factories.lab()
    found = [
        HostStatus("sender1", True, 4711, 2201, "tcg", 61.0),
        HostStatus("receiver1", False, None, None, None, None),
    ]
    monkeypatch.setattr(virtual, "status", lambda state_dir: found)
    screen = Screen()
    report.show_status(screen.console, lab.name, VirtualHosts(lab).status())
    rows = screen.text.splitlines()
    sender = next(row for row in rows if "sender1" in row)
    assert all(word in sender for word in ("running", "4711", "127.0.0.1:2201", "emulated (tcg)", "0:01:01"))
    assert "down" in next(row for row in rows if "receiver1" in row)


def test_hosts_that_never_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "status", lambda state_dir: [])
    screen = Screen()
    report.show_status(screen.console, "virtual", VirtualHosts(factories.lab()).status())
    assert screen.text.count("down") == 2
