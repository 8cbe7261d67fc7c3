# SPDX-License-Identifier: Apache-2.0
"""Faults in mid-transfer, on two real network namespaces: each is named, and the plan goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import factories, trusted_tool
from tests.namespaces_lab import NamespacesLab

from zclab.analysis.document import RunDocument
from zclab.backends.namespaces import lab as namespaces
from zclab.base.paths import project_root
from zclab.plan.plan import Plan
from zclab.runs.records import Record

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]
TOOL = "usr/local/bin/zclab-traffic"


class LabUnderTest(NamespacesLab):
    """A copy of the namespaces inventory with a state of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.plan = directory / "plan.yml"

    def zclab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("zclab")), *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )

    def plan_of(self, **changes: Any) -> Plan:
        """Write the plan: two pairs of a zerocopy sender to a copying and to a mapping receiver."""
        plan = factories.plan(
            **{
                "seconds": 2,
                "warmup_seconds": 0.1,
                "repeats": 2,
                "repeat_invalid": {"per_measurement": 0},
                "comparisons": [factories.comparison(a=("zerocopy", "copy"), b=("zerocopy", "map_once"))],
                **changes,
            }
        )
        self.plan.write_text(yaml.safe_dump(plan.model_dump(mode="json")), encoding="utf-8")
        return plan

    def run(self) -> tuple[int, dict[str, Any]]:
        """Carry the plan out; return the exit code and the run's document."""
        done = self.zclab("run", str(self.plan), "--lab", str(self.directory))
        found = re.search(r"^run (\S+): ", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        shown = self.zclab("show", found[1], "--json")
        shutil.rmtree(project_root() / "runs" / found[1])
        assert shown.returncode == done.returncode
        return done.returncode, json.loads(shown.stdout)

    def traffic(self, host: str) -> list[int]:
        """Return the pids of the traffic tool on a host."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.namespace(host)], capture_output=True, text=True, check=True
        )
        return [pid for pid in map(int, listed.stdout.split()) if is_traffic(pid)]

    def ip(self, host: str, *words: str) -> None:
        subprocess.run(["ip", "-n", self.namespace(host), *words], check=True)


def is_traffic(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == "zclab-traffic"
    except OSError:
        return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("lab"))
    up = made.zclab("up", "--lab", str(made.directory))
    assert up.returncode == 0, up.stdout + up.stderr
    try:
        yield made
    finally:
        down = made.zclab("down", "--lab", str(made.directory))
        assert down.returncode == 0, down.stdout + down.stderr


def in_second(lab: LabUnderTest, fault: Callable[[], None]) -> threading.Thread:
    """Do something in the middle of the second measurement."""

    def wait_for(there: bool) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and bool(lab.traffic("sender1")) is not there:
            time.sleep(0.02)

    def watch() -> None:
        wait_for(True)
        wait_for(False)
        wait_for(True)
        time.sleep(0.5)
        fault()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def check(lab: LabUnderTest, fault: Callable[[], None], reason: str) -> dict[str, Any]:
    """Carry the plan out with a fault in its second measurement, which has to be the one that is invalid."""
    lab.plan_of()
    thread = in_second(lab, fault)
    status, document = lab.run()
    thread.join(30)
    assert status == document["exit_code"] == 4
    measurements = document["measurements"]
    assert len(measurements) == 4, "the plan goes on"
    assert [one["valid"] for one in measurements] == [True, False, True, True]
    found: dict[str, Any] = measurements[1]
    assert re.search(reason, "; ".join(found["invalid_reasons"])), found["invalid_reasons"]
    assert lab.traffic("sender1") == lab.traffic("receiver1") == []
    return found


@pytest.mark.parametrize(
    ("host", "reason"),
    [("receiver1", r"^receiver: left no result: Killed$"), ("sender1", r"^sender: left no result: Killed$")],
)
def test_an_end_is_killed(lab: LabUnderTest, host: str, reason: str) -> None:
    def kill() -> None:
        for pid in lab.traffic(host):
            os.kill(pid, signal.SIGKILL)

    check(lab, kill, reason)


def test_the_link_goes_down_for_five_seconds(lab: LabUnderTest) -> None:
    def down_and_up() -> None:
        lab.ip("receiver1", "link", "set", "data0", "down")
        time.sleep(5)
        lab.ip("receiver1", "link", "set", "data0", "up")

    check(lab, down_and_up, r"the link of data0 went down during the measurement")


def test_the_connection_is_reset(lab: LabUnderTest) -> None:
    def reset() -> None:
        command = ["ip", "netns", "exec", lab.namespace("receiver1"), "ss", "-K", "state", "established"]
        subprocess.run(command, check=True, capture_output=True)

    found = check(lab, reset, r"(receiver|sender): cut_short: .*(reset|abort)")
    assert found["gbit_per_s"] is None or found["seconds"] is not None


def run_planted(lab: LabUnderTest, script: str) -> tuple[RunDocument, list[Record]]:
    """Measure one pair with a script in the place of both hosts' tool; the tool is beside it, as `real`."""
    tools = [namespaces.tree(lab.lab.state_dir, host) / TOOL for host in ("sender1", "receiver1")]
    for tool in tools:
        tool.rename(tool.with_name("real"))
        tool.write_text(script, encoding="utf-8")
        tool.chmod(0o755)
    try:
        return trusted_tool.measure(lab.lab, lab.plan_of(repeats=1), tools[0])
    finally:
        for tool in tools:
            tool.with_name("real").replace(tool)


SENDER = """#!/usr/bin/python3
import os, socket, struct, sys
if sys.argv[1] != "send":
    real = os.path.join(os.path.dirname(sys.argv[0]), "real")
    os.execv(real, [real, *sys.argv[1:]])
given = dict(zip(sys.argv[2:], sys.argv[3:]))
there = (given["--peer"], int(given["--port"]))
connection = socket.create_connection(there, source_address=(given["--bind"], 0))
{behaviour}
"""
HELLO = """
token = bytes.fromhex(given["--token"])
connection.sendall(struct.pack("16sBB14s32s", b"zclab-traffic/1\\n", len(token), 1, b"", token))
connection.recv(1)
"""


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("connection.sendall(b'GET / HTTP/1.0' * 1000)", r"stopped: .*waiting for the peer"),
        (HELLO + "connection.shutdown(socket.SHUT_WR)", r"without any payload"),
        (HELLO + "connection.sendall(b'x' * 100000)", r"^cut_short: "),
    ],
    ids=["garbage", "no payload", "garbage after the token"],
)
def test_a_peer_that_is_no_sender(lab: LabUnderTest, behaviour: str, reason: str) -> None:
    """The receiver ends by itself; the measurement is invalid by what explains it."""
    document, records = run_planted(lab, SENDER.replace("{behaviour}", behaviour))
    assert document.verdict == "invalid"
    assert len(records) == 2
    for one, record in zip(document.measurements, records, strict=True):
        assert one.invalid_reasons == ["sender: left no result: no message"]
        assert record.receiver is not None and record.receiver.document is not None
        assert re.search(reason, f"{record.receiver.document.outcome}: {record.receiver.document.error}")
    assert lab.traffic("receiver1") == []


def test_a_mode_that_the_kernel_lacks_is_skipped(lab: LabUnderTest) -> None:
    lab.plan_of(comparisons=[factories.comparison(a=("zerocopy", "copy"), b=("zerocopy", "map_each"))])
    status, document = lab.run()
    assert (status, document["verdict"]) == (3, "inconclusive")
    skipped = [one["skipped"] for one in document["measurements"] if one["receive_mode"] == "map_each"]
    assert len(skipped) == 1, "once is enough"
    assert "no released kernel has that" in skipped[0]
    assert not any(one["valid"] for one in document["measurements"] if one["skipped"])
    assert {one["verdict"] for one in document["comparisons"]} == {"inconclusive"}


def test_no_buffers_names_the_limit_of_locked_memory(lab: LabUnderTest) -> None:
    """Root may lock what it likes, so the sender is made another user with little to lock."""
    script = """#!/bin/sh
real=$(dirname "$0")/real
[ "$1" = send ] || exec "$real" "$@"
ulimit -l 64
exec setpriv --reuid 65534 --clear-groups "$real" "$@"
"""
    document, _ = run_planted(lab, script)
    assert document.verdict == "invalid"
    for one in document.measurements:
        (reason,) = one.invalid_reasons
        assert re.search(r"locked-memory limit \(ulimit -l\) is \d+ KiB", reason)


def test_too_little_option_memory_is_named_before_it_is_used_up(lab: LabUnderTest) -> None:
    sysctl = ["ip", "netns", "exec", lab.namespace("sender1"), "sysctl", "-n"]
    before = subprocess.run(
        [*sysctl, "net.core.optmem_max"], capture_output=True, text=True, check=True
    ).stdout
    subprocess.run([*sysctl, "-w", "net.core.optmem_max=128"], check=True)
    lab.plan_of(repeats=1)
    try:
        status, document = lab.run()
    finally:
        subprocess.run([*sysctl, "-w", f"net.core.optmem_max={before.strip()}"], check=True)
    assert status == 4
    for one in document["measurements"]:
        (reason,) = one["invalid_reasons"]
        assert re.search(r"net\.core\.optmem_max is 128, the lab needs \d+$", reason)
