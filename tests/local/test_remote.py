# SPDX-License-Identifier: Apache-2.0
"""zclab's own SSH channels, against a real server in this process: each command once, within its time."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.ssh_server import SshServer, new_key, openssh_server

from zclab.host.ssh import Completed, Remote, RemoteError, connected

#: Seconds after which a test counts as hung. Nothing depends on its being reached.
LIMIT = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    started = SshServer(tmp_path)
    yield started
    started.close()


@pytest.fixture
def remote(server: SshServer) -> Iterator[Remote]:
    with Remote("host1", server.ssh_config) as opened:
        yield opened


def problem_of(remote: Remote, seconds: float = LIMIT) -> str:
    """Return the one line that says why a host cannot be reached."""
    with pytest.raises(RemoteError) as caught:
        remote.connect(seconds)
    message = str(caught.value)
    assert caught.value.exit_code == 5
    assert len(message.splitlines()) == 1
    assert message.startswith(remote.name)
    return message


# ------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("echo one; echo two >&2", Completed(0, "one\n", "two\n")),
        ("exit 3", Completed(3, "", "")),
        ("printf 'no newline'", Completed(0, "no newline", "")),
        ("kill -9 $$", Completed(None, "", "")),
        ("printf '\\377'", Completed(0, "\ufffd", "")),
    ],
)
def test_what_a_command_leaves(remote: Remote, command: str, left: Completed) -> None:
    assert remote.run(command, LIMIT) == left


def test_much_output_on_both_streams(remote: Remote) -> None:
    done = remote.run(
        "i=0; while [ $i -lt 40 ]; do printf %050000d 1; printf %050000d 2 >&2; i=$((i+1)); done"
    )
    assert (done.status, len(done.stdout), len(done.stderr)) == (0, 2_000_000, 2_000_000)


def test_a_slow_command_is_waited_for(remote: Remote) -> None:
    assert remote.run("echo early; sleep 0.7; echo late", LIMIT).stdout == "early\nlate\n"


def test_output_of_a_command_that_must_succeed(remote: Remote) -> None:
    assert remote.output("echo fine") == "fine\n"
    with pytest.raises(RemoteError, match=r"^host1: `echo no >&2; exit 2` failed with status 2: no$"):
        remote.output("echo no >&2; exit 2")
    with pytest.raises(RemoteError, match="no message"):
        remote.output("false")


def test_one_connection_serves_all_commands(remote: Remote, server: SshServer) -> None:
    client = remote.connect()
    for number in range(3):
        assert remote.output(f"echo {number}") == f"{number}\n"
    assert remote.connect() is client
    assert server.commands == [f"echo {number}" for number in range(3)]


def test_two_commands_at_once(remote: Remote) -> None:
    first = remote.start("read line; echo first")
    second = remote.start("echo second")
    assert second.wait(LIMIT).stdout == "second\n"
    first.close()


def test_closing_a_process_ends_its_stdin(remote: Remote, tmp_path: Path) -> None:
    """What runs on a host stops by itself when its channel goes."""
    fifo = tmp_path / "ended"
    assert remote.run(f"mkfifo {fifo}").status == 0
    process = remote.start(f"cat; echo ended > {fifo}")
    process.close()
    assert remote.run(f"cat {fifo}", LIMIT).stdout == "ended\n"


# ------------------------------------------------------------------------------------------- time and lines


def test_a_command_that_takes_too_long(remote: Remote) -> None:
    process = remote.start("cat")
    with pytest.raises(RemoteError) as caught:
        process.wait(0.2)
    assert str(caught.value).startswith("host1: no end in time: cat: ")
    assert len(str(caught.value).splitlines()) == 1
    # The connection goes on.
    assert remote.output("echo fine") == "fine\n"


def test_a_line_on_stderr_is_waited_for(remote: Remote) -> None:
    process = remote.start("echo starting >&2; sleep 0.3; echo 'listening 4711' >&2; cat; echo done")
    assert process.wait_for_stderr_line("listening ", LIMIT) == "listening 4711"
    process.close()


def test_a_line_that_does_not_come(remote: Remote) -> None:
    process = remote.start("echo 'cannot bind' >&2; exit 1")
    assert process.wait_for_stderr_line("listening ", LIMIT) is None
    assert process.wait(LIMIT) == Completed(1, "", "cannot bind\n")


def test_a_line_that_does_not_come_in_time(remote: Remote) -> None:
    process = remote.start("cat")
    with pytest.raises(RemoteError, match="no end in time"):
        process.wait_for_stderr_line("listening ", 0.2)


# ----------------------------------------------------------------------------------------- lost connections


def test_a_connection_that_is_lost_during_a_command(remote: Remote, server: SshServer) -> None:
    process = remote.start("echo begun >&2; cat")
    assert process.wait_for_stderr_line("begun", LIMIT) == "begun"
    threading.Timer(0.2, server.drop_connections).start()
    with pytest.raises(RemoteError) as caught:
        process.wait(LIMIT)
    assert str(caught.value) == "host1: the connection was lost during: echo begun >&2; cat"


def _lost(remote: Remote, server: SshServer) -> None:
    """Cut the connection, and return when this end knows."""
    transport = remote.connect().get_transport()
    assert transport is not None
    server.drop_connections()
    transport.join(LIMIT)
    assert not transport.is_active()


def test_a_connection_that_was_lost_before_the_wait(remote: Remote, server: SshServer) -> None:
    process = remote.start("cat")
    _lost(remote, server)
    with pytest.raises(RemoteError, match="the connection was lost"):
        process.wait(LIMIT)


def test_a_connection_that_is_lost_before_a_line(remote: Remote, server: SshServer) -> None:
    process = remote.start("cat")
    _lost(remote, server)
    with pytest.raises(RemoteError, match="the connection was lost"):
        process.wait_for_stderr_line("listening ", LIMIT)


def test_no_command_runs_twice(remote: Remote, server: SshServer) -> None:
    process = remote.start("echo once >&2; cat")
    assert process.wait_for_stderr_line("once", LIMIT)
    _lost(remote, server)
    assert remote.output("echo next") == "next\n"  # a new connection, for a new command
    assert server.commands == ["echo once >&2; cat", "echo next"]


def test_a_host_that_does_not_come_back(remote: Remote, server: SshServer) -> None:
    assert remote.output("echo one") == "one\n"
    server.close()
    with pytest.raises(RemoteError, match=r"^host1.*cannot (connect|start)"):
        remote.output("echo two")
    assert server.commands == ["echo one"]


# ------------------------------------------------------------------------- servers that allow few sessions


@pytest.fixture
def one_session(tmp_path: Path) -> Iterator[Remote]:
    """A host whose sshd allows one session on a connection."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with openssh_server(tmp_path, "MaxSessions 1") as config, Remote("host1", config) as opened:
        yield opened


def test_two_commands_at_once_where_a_connection_has_one_session(one_session: Remote) -> None:
    first = one_session.start("read line; echo $line")
    assert one_session.run("echo second", LIMIT) == Completed(0, "second\n", "")
    first.send(b"first\n")
    assert first.wait(LIMIT) == Completed(0, "first\n", "")


def test_a_session_that_the_server_is_still_closing(one_session: Remote, tmp_path: Path) -> None:
    """It counts as open for a moment after both ends have closed it."""
    for number in range(20):
        assert one_session.output(f"echo {number}") == f"{number}\n"
    logins = (tmp_path / "sshd.log").read_text(encoding="utf-8").count("Accepted publickey")
    assert 1 <= logins <= 3, "further connections are kept"


def test_a_server_that_allows_no_session(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with (
        openssh_server(tmp_path, "MaxSessions 0") as config,
        Remote("host1", config) as remote,
        pytest.raises(RemoteError, match=r"^host1: cannot start `true`: .*Connect failed"),
    ):
        remote.output("true")


# ------------------------------------------------------------------------------- hosts that are not reached


def test_a_host_key_that_changed(remote: Remote, server: SshServer) -> None:
    server.trust(new_key(server.directory / "other_key"))
    message = problem_of(remote)
    assert "its host key is not the one in " in message
    assert str(server.directory / "known_hosts") in message
    assert server.commands == []


def test_a_host_key_that_nobody_knows(remote: Remote, server: SshServer) -> None:
    (server.directory / "known_hosts").write_text("", encoding="utf-8")
    assert "known_hosts" in problem_of(remote)


def test_no_known_hosts(remote: Remote, server: SshServer) -> None:
    (server.directory / "known_hosts").unlink()
    assert "known_hosts" in problem_of(remote)


def test_a_port_where_nothing_listens(remote: Remote, server: SshServer) -> None:
    server.close()
    message = problem_of(remote)
    assert f"127.0.0.1 port {server.port}" in message
    assert "run `zclab up`" in message


def test_no_ssh_config(tmp_path: Path) -> None:
    message = problem_of(Remote("host1", tmp_path / "ssh_config"))
    assert f"{tmp_path / 'ssh_config'} is missing: run `zclab up`" in message


def test_a_key_that_the_host_does_not_take(remote: Remote, server: SshServer) -> None:
    server.client_key = new_key(server.directory / "other_key")
    assert "Authentication failed" in problem_of(remote)


def test_a_listener_that_never_answers(remote: Remote, server: SshServer) -> None:
    """The port of a virtual host accepts connections long before its guest does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = server.ssh_config.read_text(encoding="utf-8")
        port = silent.getsockname()[1]
        server.ssh_config.write_text(text.replace(str(server.port), str(port)), encoding="utf-8")
        assert f"port {port}" in problem_of(remote, 0.3)


def test_a_refused_host_is_one_line_on_the_terminal(server: SshServer) -> None:
    """The library's own messages, with their tracebacks, are not for people."""
    with socket.create_server(("127.0.0.1", 0)) as rude:
        text = server.ssh_config.read_text(encoding="utf-8")
        port = rude.getsockname()[1]
        server.ssh_config.write_text(text.replace(str(server.port), str(port)), encoding="utf-8")
        threading.Thread(target=lambda: rude.accept()[0].close(), daemon=True).start()
        # A process of its own: pytest takes what is logged in this one.
        script = (
            "import sys, pathlib; from zclab.host.ssh import *\n"
            "try: Remote('host1', pathlib.Path(sys.argv[1])).connect()\n"
            "except RemoteError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(server.ssh_config)],
            capture_output=True,
            text=True,
            check=True,
            timeout=LIMIT,
        )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_paths_with_spaces(remote: Remote, server: SshServer) -> None:
    spaced = server.directory / "my lab"
    spaced.mkdir()
    for name in ("id", "known_hosts"):
        (server.directory / name).rename(spaced / name)
    text = server.ssh_config.read_text(encoding="utf-8")
    for name in ("id", "known_hosts"):
        text = text.replace(str(server.directory / name), f'"{spaced / name}"')
    server.ssh_config.write_text(text, encoding="utf-8")
    assert remote.output("echo fine") == "fine\n"


def test_all_hosts_are_connected_or_none(server: SshServer, tmp_path: Path) -> None:
    with connected(["host1"], server.ssh_config) as remotes:
        assert remotes["host1"].output("echo fine") == "fine\n"
    text = server.ssh_config.read_text(encoding="utf-8")
    server.ssh_config.write_text(f"{text}Host host2\n  HostName 127.0.0.1\n  Port 1\n", encoding="utf-8")
    with pytest.raises(RemoteError, match=r"^host2 "), connected(["host1", "host2"], server.ssh_config):
        pytest.fail("host2 is not there")


# ------------------------------------------------------------------------------------------ behind a command

#: Joins stdin and stdout to a port, as a ProxyCommand does, and ends when either side does.
RELAY = """
import os, socket, sys, threading
other = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while data := other.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    other.sendall(data)
"""


def behind(server: SshServer, command: str) -> None:
    """Have the host reached through a command."""
    text = server.ssh_config.read_text(encoding="utf-8")
    # Nothing listens at port 22 of this address: only the command leads to the host.
    text = text.replace(f"Port {server.port}", "Port 22").replace("127.0.0.1", "host1.invalid")
    server.ssh_config.write_text(f"{text}  ProxyCommand {command}\n", encoding="utf-8")
    known = server.directory / "known_hosts"
    known.write_text(
        known.read_text(encoding="utf-8").replace(f"[127.0.0.1]:{server.port}", "host1.invalid"),
        encoding="utf-8",
    )


def relay(server: SshServer) -> str:
    script = server.directory / "the relay.py"
    script.write_text(RELAY, encoding="utf-8")
    return f"{sys.executable} '{script}' {server.port}"


def children() -> list[str]:
    """Return the commands of this process's children, zombies too."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # Threads and children of an earlier test may end while they are read.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for pid in (task / "children").read_text(encoding="ascii").split():
                command = Path(f"/proc/{pid}/cmdline")
                found.append(command.read_text(encoding="utf-8", errors="replace"))
    return found


def test_a_host_behind_a_command(server: SshServer, remote: Remote) -> None:
    behind(server, relay(server))
    before = children()
    assert remote.output("echo fine") == "fine\n"
    assert len(remote.output("head -c 3000000 /dev/zero | tr '\\0' x")) == 3_000_000
    assert len(children()) > len(before)
    remote.close()
    assert children() == before


def test_the_key_of_a_host_behind_a_command_is_checked(server: SshServer, remote: Remote) -> None:
    behind(server, relay(server))
    other = new_key(server.directory / "other")
    (server.directory / "known_hosts").write_text(
        f"host1.invalid {other.get_name()} {other.get_base64()}\n", encoding="utf-8"
    )
    before = children()
    assert "its host key is not the one in" in problem_of(remote)
    assert children() == before


@pytest.mark.parametrize("command", ["sh -c 'echo the door is shut >&2; exit 1'", "sh -c 'exit 1'"])
def test_a_command_that_reaches_nothing(server: SshServer, remote: Remote, command: str) -> None:
    behind(server, command)
    message = problem_of(remote)
    assert ("the door is shut" in message) == ("door" in command)
    assert "run `zclab up`" in message


def test_a_command_that_does_not_end_by_itself_is_ended(
    server: SshServer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zclab.host.ssh._PROXY_SECONDS", 0.2)
    behind(server, "sh -c 'trap \"\" TERM; exec sleep 1000 </dev/null >/dev/null'")
    before = children()
    problem_of(remote, 1)
    assert children() == before


# ------------------------------------------------------------------------------- what a login shell may do

#: What a user's .bashrc or the like may hold on a host: it is read before each command.
LOGIN_FILES = {
    "prints": "echo hello; echo 'watch out' >&2",
    "prints no newline": "printf hello; printf 'watch out' >&2",
    "prints what looks like a document": "echo '{\"bytes_received\": 1}'",
    "prints when it ends": "trap 'echo bye; echo bye >&2' EXIT",
    "traces": "set -x",
    "stops at errors": "set -eu; set -o noglob -o noclobber",
    "has another PATH": "export PATH=/nowhere",
    "has another locale": "export LC_ALL=tr_TR.UTF-8 LANG=de_DE.UTF-8 LC_NUMERIC=de_DE.UTF-8",
    "steers Python": "export PYTHONPATH=/nowhere PYTHONHOME=/nowhere PYTHONWARNINGS=error",
    "steers shells": "export CDPATH=/ BASH_ENV=/nowhere ENV=/nowhere POSIXLY_CORRECT=1",
    "has functions": "cd() { false; }; grep() { false; }; export -f cd grep",
    "has aliases": "shopt -s expand_aliases; alias echo='echo -n'",
    "goes elsewhere": "cd /nowhere 2>/dev/null; cd /",
    "hides files": "umask 077; umask 022",
}
#: Prints what its environment does to it.
LOOKS = "echo {}; echo said >&2; command -v ip >/dev/null && echo ip; python3 -c 'print(1.5)'; cat; exit 3"


@pytest.fixture
def shell_files(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Starts OpenSSH's server for a login shell that reads these lines first; returns the ssh_config."""
    with contextlib.ExitStack() as stack:

        def start(lines: str) -> Path:
            script = tmp_path / "login"
            script.write_text(f'{lines}\neval "$SSH_ORIGINAL_COMMAND"\n', encoding="utf-8")
            # As bash reads .bashrc: in the shell that then runs the command.
            options = [f"ForceCommand exec bash --norc {script}"]
            return stack.enter_context(openssh_server(tmp_path, *options))

        yield start


@pytest.mark.parametrize("lines", LOGIN_FILES.values(), ids=LOGIN_FILES)
def test_what_a_login_shell_does_is_not_the_commands(lines: str, shell_files: Callable[[str], Path]) -> None:
    with Remote("host1", shell_files(lines)) as remote:
        process = remote.start(LOOKS)
        assert process.wait_for_stderr_line("said", LIMIT) == "said"
        process.send(b"to stdin\n")
        process.ask_to_end(0)
        assert process.wait(LIMIT) == Completed(3, "{}\nip\n1.5\nto stdin\n", "said\n")
        assert list(remote.start("echo 1; echo 2").lines(LIMIT)) == ["1", "2"]
        assert remote.output("echo fine") == "fine\n"


def test_a_login_shell_that_starts_nothing_is_an_error(shell_files: Callable[[str], Path]) -> None:
    """Its output is not taken for the command's, nor its success."""
    reason = "the login shell ended before this was started: true: see what"
    with (
        Remote("host1", shell_files("echo hello; exit 0")) as remote,
        pytest.raises(RemoteError, match=reason),
    ):
        remote.run("true", LIMIT)


def test_a_login_shell_that_refuses_says_why(shell_files: Callable[[str], Path]) -> None:
    config = shell_files("echo 'This account is closed.' >&2; exit 1")
    reason = "failed with status 1: This account is closed"
    with Remote("host1", config) as remote, pytest.raises(RemoteError, match=reason):
        remote.output("true", LIMIT)
