# SPDX-License-Identifier: Apache-2.0
"""The cross-check with the real tools, on two real network namespaces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.namespaces_lab import NamespacesLab

from zclab.base.paths import project_root

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
BIN = Path(sys.executable).parent
LIMIT = 60
TOOLS = ("tcp_mmap", "iperf3", "zclab-traffic")


class LabUnderTest(NamespacesLab):
    """A copy of the namespaces inventory with a state of its own."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [str(BIN / "zclab"), *arguments, "--lab", str(self.directory)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def crosscheck(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for a cross-check with --json; return its document, and leave nothing in runs/."""
        out, err = process.communicate(timeout=300)
        assert out, err
        document: dict[str, Any] = json.loads(out)
        shutil.rmtree(project_root() / "runs" / document["run_id"])
        assert process.returncode == document["exit_code"]
        return document

    def processes(self) -> dict[int, str]:
        """Return the tools that run on the hosts: pid and name."""
        found = {}
        for host in self.lab.hosts:
            name = self.namespace(host.name)
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
            for pid in map(int, listed.stdout.split()):
                try:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if (program := Path(words[0].decode()).name) in TOOLS:
                    found[pid] = program
        return found

    def wait_for(self, program: str) -> list[int]:
        """Wait until a tool runs on both hosts; return its pids."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            pids = [pid for pid, name in self.processes().items() if name == program]
            if len(pids) == 2:
                return pids
            time.sleep(0.01)
        raise AssertionError(f"{program} never ran on both hosts")


@pytest.fixture(scope="module")
def under_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("crosscheck"))
    out, err = (up := made.start("up")).communicate(timeout=300)
    assert up.returncode == 0, out + err
    yield made
    out, err = (down := made.start("down")).communicate(timeout=300)
    assert down.returncode == 0, out + err


def test_the_tools_are_compared(under_test: LabUnderTest) -> None:
    document = under_test.crosscheck(
        under_test.start("crosscheck", "--repeats", "2", "--seconds", "1", "--seed", "7", "--json")
    )
    assert document["problems"] == []
    assert document["exit_code"] == 3  # two blocks can tell nothing
    assert document["seed"] == 7
    assert [mode["receive_mode"] for mode in document["modes"]] == ["copy", "map_once"]
    for mode in document["modes"]:
        mapped = {tool["tool"]: tool["median_mapped_fraction"] for tool in mode["tools"]}
        for tool in mode["tools"]:
            assert all(rate > 0 for rate in tool["gbit_per_s"])
            assert all(cost > 0 for cost in tool["receiver_usec_per_mib"])
        if mode["receive_mode"] == "copy":
            assert mapped["zclab"] == mapped["tcp_mmap"] == 0
        else:
            assert mapped["zclab"] > 0.9 and mapped["tcp_mmap"] > 0.9
        for ratio in mode["ratios"]:
            assert ratio["n"] == 2 and ratio["ratio_median"] > 0
    assert under_test.processes() == {}


@pytest.mark.parametrize("program", ["tcp_mmap", "iperf3"])
def test_ctrl_c_leaves_nothing_behind(under_test: LabUnderTest, program: str) -> None:
    before = set((project_root() / "runs").glob("*"))
    process = under_test.start("crosscheck", "--modes", "map_once", "--repeats", "9", "--seconds", "2")
    under_test.wait_for(program)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    deadline = time.monotonic() + LIMIT
    while under_test.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert under_test.processes() == {}
    for made in set((project_root() / "runs").glob("*")) - before:
        shutil.rmtree(made)


@pytest.mark.parametrize("program", ["tcp_mmap", "iperf3"])
def test_a_tool_that_dies_makes_it_invalid_with_the_reason(under_test: LabUnderTest, program: str) -> None:
    process = under_test.start("crosscheck", "--modes", "copy", "--repeats", "2", "--seconds", "2", "--json")
    for pid in under_test.wait_for(program):
        os.kill(pid, signal.SIGKILL)
    document = under_test.crosscheck(process)
    assert (document["verdict"], document["exit_code"]) == ("invalid", 4)
    assert len(document["problems"]) == 1
    assert program in document["problems"][0]
    (mode,) = document["modes"]
    known = {tool["tool"]: [rate is not None for rate in tool["gbit_per_s"]] for tool in mode["tools"]}
    assert known == {name: [True, True] for name in ("zclab", "tcp_mmap", "iperf3")} | {
        program: [False, True]
    }
    assert under_test.processes() == {}


def test_restore_removes_the_tools(under_test: LabUnderTest) -> None:
    tools = [
        under_test.lab.state_dir / "hosts" / host.name / "var/lib/zclab/crosscheck"
        for host in under_test.lab.hosts
    ]
    assert all((one / "iperf3").is_file() for one in tools)
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(under_test.directory), "playbooks/restore.yml"],
        cwd=project_root(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not any(one.exists() for one in tools)
