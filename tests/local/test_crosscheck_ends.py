# SPDX-License-Identifier: Apache-2.0
"""The ends of a cross-check die with their channels."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ssh_server import SshServer

from zclab.host.ssh import Remote
from zclab.suites.crosscheck import programs

LIMIT = 30


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    server = SshServer(tmp_path)
    with Remote("host1", server.ssh_config) as opened:
        yield opened
    server.close()


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def gone(mark: str) -> bool:
    """Wait until no process has `mark` on its command line; false if one stays."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if subprocess.run(["pgrep", "-f", mark], capture_output=True, check=False).returncode == 1:
            return True
        time.sleep(0.05)
    return False


def listener(port: int) -> str:
    """Return a command that listens on a port, and never ends."""
    code = f"import socket,time; s=socket.create_server(('127.0.0.1',{port})); time.sleep(1000)"
    return f'python3 -c "{code}"'


def test_a_receiver_says_when_it_listens_and_dies_with_its_channel(remote: Remote) -> None:
    port = free_port()
    process = remote.start(programs.guarded_receiver(listener(port), port))
    assert process.wait_for_stderr_line("listening ", LIMIT) == f"listening {port}"
    process.close()
    assert gone(f"127.0.0.1',{port}")


def test_a_sender_dies_with_its_channel(remote: Remote) -> None:
    process = remote.start(programs.guarded_sender("timeout --foreground -k 5 987.125 sleep 1000.75"))
    assert remote.run("until pgrep -f '^sleep 1000.75$'; do sleep 0.05; done", LIMIT).status == 0
    process.close()
    assert gone("987[.]125") and gone("1000[.]75")


def test_nothing_is_left_of_ends_that_end_by_themselves(remote: Remote) -> None:
    done = remote.run(programs.guarded_sender("sh -c 'exit 7' guarded.27"), LIMIT)
    assert done.status == 7
    port = free_port()
    done = remote.run(programs.guarded_receiver("echo result; echo why >&2; true guarded.27", port), LIMIT)
    assert done.stdout == "result\n"
    assert "why\n" in done.stderr
    assert gone("guarded[.]27")


def test_a_receivers_result_ends_a_server_that_never_does(remote: Remote) -> None:
    port = free_port()
    server = f"{{ echo one; echo two; echo three; {listener(port)}; }} | {{ head -n 2; kill -KILL 0; }}"
    assert remote.run(programs.guarded_receiver(server, port), LIMIT).stdout == "one\ntwo\n"
    assert gone(f"127.0.0.1',{port}")
