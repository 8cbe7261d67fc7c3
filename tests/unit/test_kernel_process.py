# SPDX-License-Identifier: Apache-2.0
"""Child processes: their output, their failures, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zclab.base.errors import LabError
from zclab.base.process import CommandError, require_tools, run, stream

# Two processes of the group write down who they are and wait.
WAIT = 'echo $$ >"$1/one"; sh -c \'echo $$ >"$1/two"; exec sleep 600\' sh "$1" & '
WAIT += 'until [ -s "$1/two" ]; do sleep 0.1; done; echo ready; wait'


def gone(*pids: int) -> bool:
    """Return whether these processes end; wait for that as long as pytest lets a test run."""

    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    while any(alive(pid) for pid in pids):
        time.sleep(0.05)
    return True


def pids(directory: Path) -> list[int]:
    files = [directory / "one", directory / "two"]
    while not all(file.exists() and file.read_text().strip() for file in files):
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def test_output_and_failure() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == "out\nerr"
    assert run(["sh", "-c", "echo $ZCLAB_X$ZCLAB_Y"], environment={"ZCLAB_X": "1"}) == "1"
    with pytest.raises(CommandError, match="sh failed with status 3: the reason") as caught:
        run(["sh", "-c", "echo the reason; exit 3"])
    assert caught.value.status == 3


def test_a_variable_can_be_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZCLAB_X", "1")
    assert run(["sh", "-c", "echo ${ZCLAB_X-none}"], environment={"ZCLAB_X": None}) == "none"


def test_group_dies_with_an_exception(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", WAIT, "sh", str(tmp_path)], stop)
    assert gone(*pids(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_group_dies_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    program = f"from zclab.base.process import run; run(['sh', '-c', {WAIT!r}, 'sh', {str(tmp_path)!r}])"
    parent = subprocess.Popen([sys.executable, "-c", program])
    started = pids(tmp_path)
    os.kill(parent.pid, number)
    assert parent.wait() == -number
    assert gone(*started)


# It writes nowhere after its parent's end: that would be SIGPIPE.
CLEAN_UP = """trap 'sleep 0.2; echo done >"$1/clean"; exit 1' TERM
echo $$ >"$1/one"; echo $$ >"$1/two"; echo ready; exec >/dev/null 2>&1
while :; do sleep 0.1; done"""


def test_a_group_with_grace_cleans_up_at_an_exception(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", CLEAN_UP, "sh", str(tmp_path)], stop, grace_seconds=20)
    assert (tmp_path / "clean").read_text() == "done\n"


def test_a_group_with_grace_cleans_up_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = ["sh", "-c", CLEAN_UP, "sh", str(tmp_path)]
    program = f"from zclab.base.process import stream; stream({command!r}, print, grace_seconds=20)"
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    started = pids(tmp_path)
    parent.kill()
    parent.wait()
    assert gone(*started)
    assert (tmp_path / "clean").read_text() == "done\n"


def test_a_group_that_does_not_end_in_its_grace_is_killed(tmp_path: Path) -> None:
    command = ["sh", "-c", f"trap '' TERM; {WAIT}", "sh", str(tmp_path)]
    program = f"from zclab.base.process import stream; stream({command!r}, print, grace_seconds=1)"
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    started = pids(tmp_path)
    parent.kill()
    parent.wait()
    assert gone(*started)


def test_the_log_holds_the_command_and_what_it_printed(tmp_path: Path) -> None:
    lines: list[str] = []
    for word in ("one", "two"):
        assert stream(["sh", "-c", f"echo {word}; echo {word} >&2"], lines.append, log=tmp_path / "log") == 0
    assert lines == ["one", "one", "two", "two"]
    expected = "".join(f"$ sh -c echo {word}; echo {word} >&2\n{word}\n{word}\n" for word in ("one", "two"))
    assert (tmp_path / "log").read_text() == expected


def test_a_program_that_is_not_installed() -> None:
    with pytest.raises(LabError, match=r"^no-such-program is not installed: run playbooks/controller.yml$"):
        run(["no-such-program"])


def test_missing_tools_are_named() -> None:
    require_tools(["sh"], "x")
    with pytest.raises(LabError, match="building needs zclab-no-such-tool, not installed here"):
        require_tools(["sh", "zclab-no-such-tool"], "building")
