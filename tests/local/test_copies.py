# SPDX-License-Identifier: Apache-2.0
"""What counts copies to a program, for real: on this machine's kernel, and where it may not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zclab.traffic.copies import Copies, copies, counted, rest

RECEIVES = """
import socket, sys, threading
listening = socket.create_server(("127.0.0.1", 0))
def send():
    with socket.create_connection(listening.getsockname()) as sending:
        sending.sendall(bytes(int(sys.argv[1])))
threading.Thread(target=send).start()
receiving, _ = listening.accept()
def receive():
    while receiving.recv(int(sys.argv[2])):
        pass
thread = threading.Thread(target=receive)  # threads are counted, too
thread.start()
thread.join()
"""
MIB = 2**20


def run(command: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, "sh", "-c", counted(command)],
        input="typed\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def received(sent: int, at_once: int) -> Copies:
    done = run(f"{sys.executable} -c '{RECEIVES}' {sent} {at_once}")
    assert done.returncode == 0, done.stderr
    found = copies(done.stderr)
    assert found is not None
    return found


needs_tracing = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/sys/kernel/tracing").is_dir(), reason="needs root and tracepoints"
)


@needs_tracing
@pytest.mark.parametrize("at_once", [1024, 65536, MIB])
def test_copies_are_counted(at_once: int) -> None:
    """Never more than was received, and not much less than a size class allows."""
    least = received(16 * MIB, at_once).at_least_bytes
    assert least is not None and MIB <= least <= 16 * MIB


@needs_tracing
def test_who_receives_nothing_is_copied_nothing() -> None:
    found = received(0, MIB)
    assert found.at_least_bytes == 0 and found.counts is not None


@needs_tracing
def test_the_command_is_as_without() -> None:
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    done = run("cat; echo said >&2; exit 7")
    assert (done.returncode, done.stdout, rest(done.stderr)) == (7, "typed\n", "said")
    found = copies(done.stderr)
    assert found is not None and found.counts is not None
    assert Path("/proc/self/mounts").read_text(encoding="utf-8") == mounts


def test_a_signal_is_passed_on() -> None:
    done = run("kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert copies(done.stderr) is not None


@needs_tracing
def test_who_may_not_count_runs_the_command_and_says_why() -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")
    done = run("cat; exit 3", nobody)
    found = copies(done.stderr)
    assert (done.returncode, done.stdout) == (3, "typed\n")
    assert found is not None and found.counts is None and found.unavailable
    assert "not permitted" in found.unavailable or "ermission denied" in found.unavailable
