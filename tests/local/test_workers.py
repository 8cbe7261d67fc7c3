# SPDX-License-Identifier: Apache-2.0
"""Which tests run beside each other on two workers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import SHARE_RUNS

from zclab.base.paths import project_root

TESTS = project_root() / "tests"
#: Writes when each test began and ended; two files that would run at the same time.
FILE = """
import time, pytest
{mark}
@pytest.mark.parametrize("number", range(4))
def test_it(number, worker_id):
    with open({log!r}, "a") as log:
        log.write(f"{name} {{worker_id}} {{time.monotonic()}} ")
        time.sleep(0.2)
        log.write(f"{{time.monotonic()}}\\n")
"""


def intervals(directory: Path, marks: dict[str, str]) -> dict[str, list[tuple[str, float, float]]]:
    """Run two files on two workers; return each one's worker, begin and end of each test, in seconds."""
    shutil.copy(TESTS / "conftest.py", directory)
    (directory / "pytest.ini").write_text("[pytest]\nmarkers =\n    alone: measures\n")
    for name, mark in marks.items():
        text = FILE.format(name=name, mark=mark, log=str(directory / f"{name}.log"))
        (directory / f"test_{name}.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "xdist",
        "-n",
        "2",
        "--dist",
        "loadfile",
        str(directory),
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {name: (directory / f"{name}.log").read_text().splitlines() for name in marks}
    return {
        name: [(worker, float(begin), float(end)) for _, worker, begin, end in map(str.split, lines)]
        for name, lines in told.items()
    }


def test_a_test_that_measures_runs_alone_and_a_file_stays_together(tmp_path: Path) -> None:
    found = intervals(tmp_path, {"one": "@pytest.mark.alone", "other": ""})
    workers = {name: {worker for worker, _, _ in tests} for name, tests in found.items()}
    assert len(workers["one"]) == len(workers["other"]) == 1 and workers["one"] != workers["other"]
    for _, begin, end in found["one"]:
        assert all(ended < begin or end < began for _, began, ended in found["other"])


def test_files_that_look_for_new_runs_share_a_worker(tmp_path: Path) -> None:
    names = ["crosscheck_real", "conformance_real", "other"]
    workers = {
        name: {one[0] for one in tests}
        for name, tests in intervals(tmp_path, dict.fromkeys(names, "")).items()
    }
    assert workers["crosscheck_real"] == workers["conformance_real"] != workers["other"]


def test_what_removes_new_runs_is_named() -> None:
    """Whoever looks into the project's own runs/ and removes something there."""
    pattern = re.compile(r"rmtree\((?:.*runs|found\.directory|made\))")
    here = {path.stem for path in (TESTS / "local").glob("test_*.py") if pattern.search(path.read_text())}
    assert here - {"test_workers"} == SHARE_RUNS
