# SPDX-License-Identifier: Apache-2.0
"""The steps of the night: their order, what follows a failed one, and the exit code of the whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from tests import factories

from zclab.base.exit_codes import worst
from zclab.cli.main import cli
from zclab.jobs import lab, nightly
from zclab.jobs.steps import Step, carry_out
from zclab.measure import run as measure_run

STEPS = [
    Step("zclab first", "one"),
    Step("zclab second --up", "two"),
    Step("zclab down", "three", cleanup=True),
    Step("pytest -m nightly", "four"),
]


class FakeRunner:
    """Ends each command with the next of some statuses, and remembers the commands."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(list(command))
        return self._statuses[len(self.commands) - 1]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 3, 0], 3),
        ([3, 1], 1),
        ([1, 2], 2),
        ([2, 4, 1], 4),
        ([4, 6], 6),
        ([6, 5, 4, 2, 1, 3, 0], 5),
        ([1, 139], 6),
        ([0, -9], 6),
    ],
)
def test_the_worst_of_several_exit_codes(codes: list[int], expected: int) -> None:
    assert worst(codes) == expected
    assert worst(reversed(codes)) == expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((0, 0, 0, 0), 0),
        ((5, 1, 0, 0), 5),
        ((1, 4, 3, 0), 4),
        ((3, 0, 0, 1), 1),
        ((0, 0, 0, 5), 6),  # pytest found no test: not a lab that did not come up
        ((0, 0, 0, 4), 6),  # pytest's usage error: not an invalid measurement
    ],
)
def test_a_night_goes_on_after_a_failed_step(statuses: tuple[int, ...], expected: int) -> None:
    runner = FakeRunner(*statuses)
    lines: list[str] = []
    assert carry_out("nightly", STEPS, runner, lines.append) == expected
    assert runner.commands == [step.command.split() for step in STEPS]
    assert lines[0] == "nightly: zclab first: one"
    assert lines[1] == f"nightly: zclab first: exit code {statuses[0]}"
    assert lines[-1].startswith(f"nightly: exit code {expected}")
    assert ("zclab first" in lines[-1]) == (statuses[0] != 0)


def test_an_interruption_leaves_only_the_cleaning_up() -> None:
    runner = FakeRunner(130, 0)
    assert carry_out("nightly", STEPS, runner, lambda line: None) == 130
    assert runner.commands == [["zclab", "first"], ["zclab", "down"]]


def test_ctrl_c_lets_the_step_clean_up(tmp_path: Path) -> None:
    for name in ("python", "zclab"):
        tmp_path.joinpath(name).symlink_to(sys.executable)
    step = f"""
import pathlib, time
here = pathlib.Path({str(tmp_path)!r})
here.joinpath("started").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    here.joinpath("cleaned").touch()
    raise SystemExit(0)
"""
    tmp_path.joinpath("step.py").write_text(step)
    night = (
        f"import sys; sys.executable = {str(tmp_path / 'python')!r}\n"
        "from zclab.jobs.steps import Step, carry_out, run_command\n"
        f"steps = [Step('zclab {tmp_path}/step.py', 'sleeps'), Step('zclab -V', 'not run')]\n"
        "sys.exit(carry_out('nightly', steps, run_command, print))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", night], start_new_session=True)
    try:
        deadline = time.monotonic() + 30
        while not tmp_path.joinpath("started").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert tmp_path.joinpath("cleaned").exists()


@pytest.mark.parametrize(
    "step", [step for step in (*nightly.STEPS, *lab.steps("1.5")) if step.command.startswith("zclab ")]
)
def test_each_step_is_a_command_line_of_zclab(step: Step) -> None:
    program, name, *arguments = step.command.split()
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    with command.make_context(name, arguments) as context:  # refuses an unknown option
        assert isinstance(context, click.Context)
    assert program == "zclab"


def lab_of(command: str) -> str:
    """Return the lab that a step names, else the default of its command."""
    words = command.split()
    if "--lab" in words:
        return words[words.index("--lab") + 1]
    name, *arguments = words[1:]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    with found.make_context(name, arguments) as context:
        return context.params["lab_name"] or measure_run.lab_for(context.params["plan_name"])


def test_the_night_takes_down_what_it_brought_up() -> None:
    """And no two labs of virtual hosts are up at the same time."""
    up: set[str] = set()
    for step in nightly.STEPS:
        words = step.command.split()
        if words[0] != "zclab":
            continue
        lab = lab_of(step.command)
        if words[1] == "down":
            assert step.cleanup
            up.remove(lab)
        elif words[1] == "up" or "--up" in words:
            up.add(lab)
        assert len(up) <= 1
        assert lab in up or words[1] == "down" or lab.startswith("exact"), step.command
    assert not up


def test_each_kernel_is_tested_on_two_cpus_and_in_one_guest() -> None:
    """The lab virtual-smp has two CPUs in each host; in all else it is the lab virtual."""
    assert factories.lab("virtual-smp").virtual == factories.lab("virtual").virtual.model_copy(  # type: ignore[union-attr]
        update={"cpus": 2}
    )
    of_suite: dict[tuple[str, str], list[str]] = {}
    for step in nightly.STEPS:
        words = step.command.split()
        if words[:2] in (["zclab", "conformance"], ["zclab", "lockdep"], ["zclab", "stress"]):
            assert "--lab" in words, step.command
            kernel = words[words.index("--kernel") + 1] if "--kernel" in words else "diff"
            of_suite.setdefault((words[1], lab_of(step.command)), []).append(kernel)
    conformance = ["stock", "full", "full-6.12", "diff"]
    assert of_suite == {
        ("lockdep", "virtual-smp"): ["mmap-debug", "mmap_hook-debug", "full-debug"],
        ("conformance", "virtual-smp"): conformance,
        ("stress", "virtual-smp"): ["full-debug", "full-leaks"],
        ("conformance", "exact-e1000e"): conformance,
        ("stress", "exact"): ["full"],
    }
