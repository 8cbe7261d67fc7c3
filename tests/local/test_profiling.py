# SPDX-License-Identifier: Apache-2.0
"""Profiles: what is run around an end of a transfer, and what is read from its messages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from zclab.traffic import profile as profiling

REPORT = """\
listening fd5a::2 4711
profile: # To display the perf.data header info, please use --header/--header-only options.
profile: #
profile: # Samples: 52  of event 'cycles'
profile: # Overhead       Samples  Symbol
profile:     79.41%            41  [k] copy_user_enhanced_fast_string
profile:     17.30%             9  [k] tcp_sendmsg_locked
profile:      3.29%             2  [.] send_stream
profile:
"""
BUSY = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done'"


def test_a_report_is_read() -> None:
    found = profiling.profile(REPORT, "cycles")
    assert (found.event, found.samples, found.unavailable) == ("cycles", 52, None)
    assert [(one.percent, one.symbol) for one in found.symbols] == [
        (79.41, "copy_user_enhanced_fast_string (kernel)"),
        (17.3, "tcp_sendmsg_locked (kernel)"),
        (3.29, "send_stream"),
    ]
    assert profiling.rest(REPORT) == "listening fd5a::2 4711"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("profile: unavailable sh: 5: perf: not found", "perf is not installed on this host"),
        ("profile: unavailable <not supported>,,cycles,0,100.00,,", "perf cannot count cycles: <not supp"),
        ("profile: no samples", "perf recorded no sample of cycles: no samples"),
        ("", "perf recorded no sample of cycles: no message"),
    ],
)
def test_without_samples_it_says_why(said: str, why: str) -> None:
    found = profiling.profile(said, "cycles")
    assert (found.samples, found.symbols) == (None, [])
    assert found.unavailable is not None and found.unavailable.startswith(why)


def run(command: str, directory: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"TMPDIR": str(directory), "PATH": path or "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_perf_the_command_runs_all_the_same(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "mktemp", "rm", "sed", "head"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = run(profiling.recording("sh -c 'echo done; exit 3'", "cycles"), tmp_path, str(programs))
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert profiling.profile(done.stderr, "cycles").unavailable == "perf is not installed on this host"
    assert [path for path in tmp_path.iterdir() if path != programs] == []


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_an_event_that_no_host_has(tmp_path: Path) -> None:
    done = run(profiling.recording("echo done", "no-such-event"), tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n")
    found = profiling.profile(done.stderr, "no-such-event")
    assert found.unavailable is not None and "cannot count no-such-event" in found.unavailable


@pytest.mark.skipif(shutil.which("perf") is None, reason="perf is not installed")
def test_a_recording_names_where_the_time_went(tmp_path: Path) -> None:
    """By a software event, which every kernel that has perf can count."""
    done = run(profiling.recording(BUSY, "cpu-clock"), tmp_path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    found = profiling.profile(done.stderr, "cpu-clock")
    assert found.samples is not None and found.samples > 10, done.stderr
    assert found.symbols
    assert list(tmp_path.iterdir()) == []
