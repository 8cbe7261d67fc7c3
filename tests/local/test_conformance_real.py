# SPDX-License-Identifier: Apache-2.0
"""The conformance suite on two real network namespaces, with this machine's own kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.namespaces_lab import NamespacesLab

from zclab.base.paths import project_root
from zclab.runs import query
from zclab.runs.manifest import SCHEMA_VERSION
from zclab.suites import probe_command
from zclab.suites.conformance import document as documents
from zclab.suites.conformance import run

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
BIN = Path(sys.executable).parent
LIMIT = 300


class LabUnderTest(NamespacesLab):
    """A copy of the namespaces inventory with a state of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "namespaces-conformance")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BIN / arguments[0]), *arguments[1:], "--lab", str(self.directory)],
            cwd=project_root(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> list[str]:
        """Return the command lines of all that Python runs on the hosts: the probe, its rows, the sink."""
        found = []
        for host in self.lab.hosts:
            name = self.namespace(host.name)
            listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
            for pid in listed.stdout.split():
                try:
                    line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if line.startswith("python3"):
                    found.append(line)
        return found

    def wait_until_all_is_gone(self) -> None:
        deadline = time.monotonic() + LIMIT
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def under_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("conformance"))
    yield made
    out, err = (down := made.start("zclab", "down")).communicate(timeout=LIMIT)
    assert down.returncode == 0, out + err
    for found in query.all_runs(lambda line: None, made.lab.name):
        shutil.rmtree(found.directory)


def test_every_table_on_this_machines_kernel(under_test: LabUnderTest) -> None:
    """The lab comes up by itself; each row is in the result; what this kernel does not have is skipped."""
    process = under_test.start("zclab", "conformance", "--json")
    out, err = process.communicate(timeout=LIMIT)
    assert out, err
    document = documents.ConformanceDocument.model_validate_json(out)
    assert process.returncode == document.exit_code
    assert (document.kernel_variant, document.kernel_release) == (None, os.uname().release)
    names = Counter((row.abi, row.row) for row in document.rows)
    assert names == {
        (abi, row.name): 2 for abi in probe_command.ABIS for row in probe_command.table(abi).cases
    }
    wrong = [row for row in document.rows if row.abi == "zerocopy_receive" and row.verdict != "pass"]
    assert wrong == []
    if not Path("/proc/sys/net/ipv4/tcp_mmap_consume").exists():
        reasons = {row.reason for row in document.rows if row.abi == "map_each"}
        assert len(reasons) == 1 and "no sysctl net.ipv4.tcp_mmap_consume" in str(reasons)
    peerless = [row for row in document.rows if row.reason and "no other host" in row.reason]
    assert peerless == []
    assert run.SUITE.latest(under_test.lab, None) == document
    under_test.wait_until_all_is_gone()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_end_on_the_way_leaves_nothing_behind(under_test: LabUnderTest, end: signal.Signals) -> None:
    process = under_test.start("zclab", "conformance")
    deadline = time.monotonic() + LIMIT
    # The last table has a sink on the other host, too.
    while not {"sink", "msg_zerocopy"} <= {word for line in under_test.processes() for word in line.split()}:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(end)
    process.communicate(timeout=LIMIT)
    assert process.returncode == (130 if end is signal.SIGINT else -end)
    under_test.wait_until_all_is_gone()


def test_the_same_as_lab_tests(under_test: LabUnderTest) -> None:
    """pytest makes a test of each row over each family."""
    only = "zerocopy_receive-whole-pages or zerocopy_receive-reset or map_each"
    process = under_test.start("pytest", "lab_tests/conformance", "-q", "-k", only, "-p", "no:cacheprovider")
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, out + err
    assert "passed" in out and "failed" not in out, out


def test_a_result_can_be_read_again(under_test: LabUnderTest) -> None:
    name = under_test.lab.name
    process = under_test.start("zclab", "show", "latest", "--lab", name, "--kind", "conformance", "--json")
    out, err = process.communicate(timeout=LIMIT)
    shown: dict[str, Any] = json.loads(out)
    assert process.returncode == shown["exit_code"], err
    assert shown["schema_version"] == SCHEMA_VERSION
    assert set(shown["rows"][0]) == set(documents.RowDocument.model_fields)
