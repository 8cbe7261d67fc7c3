# SPDX-License-Identifier: Apache-2.0
"""zclab's own SSH channels: persistent connections, a time limit for each command, and no command run twice.

testinfra's channels have no time limit and run a command again after a reconnect, which would spoil a
measurement; so traffic is driven over these.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import select
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from zclab.base.environment import SYSTEM_PATH, of_child
from zclab.base.errors import LabError

if TYPE_CHECKING:  # paramiko takes a third of a second to import: it is imported where a host is reached
    import paramiko

# The library logs what it also raises, with a traceback; people get the one line of a RemoteError.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

#: Seconds that a host may take to answer, and to log in.
_CONNECT_SECONDS = 20.0
#: Seconds that a proxy command may take to end once its connection is closed.
_PROXY_SECONDS = 10


class Completed(NamedTuple):
    """What a command left: exit status (null if it was killed by a signal or lost), stdout, stderr."""

    status: int | None
    stdout: str
    stderr: str


class RemoteError(LabError):
    """A host could not be reached, or a command on it did not end in time."""


def marked(command: str, mark: str) -> str:
    """Return what a login shell is given to run a command, whatever shell it is and has read before.

    The login shell replaces itself: nothing of it prints later, and none of its variables goes on. On both
    streams the mark comes first: what is before it was printed by the shell's own files, such as .bashrc.
    """
    script = f"echo {mark}; echo {mark} >&2; {command}"
    return f'exec /usr/bin/env -i HOME="$HOME" PATH={SYSTEM_PATH} LC_ALL=C sh -c {shlex.quote(script)}'


class _Stream:
    """What a command prints on one of its streams: all that comes after the mark."""

    def __init__(self, mark: str) -> None:
        self._mark: bytes | None = f"{mark}\n".encode()
        self.data = bytearray()

    def add(self, data: bytes) -> None:
        self.data += data
        if self._mark is not None and (at := self.data.find(self._mark)) >= 0:
            del self.data[: at + len(self._mark)]
            self._mark = None

    @property
    def begun(self) -> bool:
        """Whether the mark has come: the command was started."""
        return self._mark is None

    @property
    def own(self) -> bytearray:
        """What the command printed; nothing as long as the mark has not come."""
        return self.data if self._mark is None else bytearray()


class Process:
    """A command that runs on a host. Closing it closes its channel, which ends the command's stdin.

    `mark` is what `marked` printed before the command's own output.
    """

    def __init__(self, host: str, command: str, channel: paramiko.Channel, mark: str) -> None:
        self.host = host
        self.command = command
        self._channel = channel
        self._stdout = _Stream(mark)
        self._stderr = _Stream(mark)

    def _drain(self) -> None:
        while self._channel.recv_ready():
            self._stdout.add(self._channel.recv(65536))
        while self._channel.recv_stderr_ready():
            self._stderr.add(self._channel.recv_stderr(65536))

    def _check_connection(self) -> None:
        """Raise RemoteError if the connection went away before the command's exit status arrived."""
        transport = self._channel.get_transport()
        if (transport is None or not transport.is_active()) and self._channel.exit_status < 0:
            raise RemoteError(f"{self.host}: the connection was lost during: {self.command}")

    def _wait_readable(self, deadline: float) -> None:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise RemoteError(
                f"{self.host}: no end in time: {self.command}: see what holds it, then try again"
            )
        select.select([self._channel], [], [], min(remaining, 0.5))
        self._drain()

    def wait_for_stderr_line(self, start: str, seconds: float) -> str | None:
        """Return the first stderr line that begins with `start`, or None if the command ends without it.

        Raises:
            RemoteError: neither happened within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = self._channel.exit_status_ready()
            self._drain()
            for line in self._stderr.own.decode(errors="replace").splitlines():
                if line.startswith(start):
                    return line
            if ended:
                self._check_connection()
                return None
            self._wait_readable(deadline)

    def send(self, data: bytes) -> None:
        """Write to the command's stdin.

        Raises:
            RemoteError: the command or the connection has gone.
        """
        try:
            self._channel.sendall(data)
        except (OSError, EOFError) as error:
            raise RemoteError(f"{self.host}: cannot write to: {self.command}: {error}") from None

    def lines(self, seconds: float) -> Iterator[str]:
        """Yield each line of stdout as it comes, until the command ends.

        Raises:
            RemoteError: none came within `seconds`, or the connection went away.
        """
        at = 0
        deadline = time.monotonic() + seconds
        while True:
            ended = self._channel.exit_status_ready() and self._channel.eof_received
            self._drain()
            printed = self._stdout.own
            while (end := printed.find(b"\n", at)) >= 0:
                yield printed[at:end].decode(errors="replace")
                at, deadline = end + 1, time.monotonic() + seconds
            if ended or self._channel.closed:
                self._check_connection()
                return
            self._wait_readable(deadline)

    def wait(self, seconds: float) -> Completed:
        """Return what the command left.

        Raises:
            RemoteError: it did not end within `seconds`, or was never started; its channel is closed.
        """
        deadline = time.monotonic() + seconds
        try:
            while not (self._channel.exit_status_ready() and self._channel.eof_received):
                if self._channel.closed:
                    break
                self._wait_readable(deadline)
            self._drain()
            self._check_connection()
            status = self._channel.recv_exit_status() if self._channel.exit_status_ready() else None
            if status == 0 and not self._stdout.begun:
                raise RemoteError(
                    f"{self.host}: the login shell ended before this was started: {self.command}: see what "
                    "its files (.bashrc, .profile) or sshd's ForceCommand do"
                )
            return Completed(
                status if status is not None and status >= 0 else None,
                self._stdout.own.decode(errors="replace"),
                # If the command was never started, what the login shell says instead is the reason.
                self._stderr.data.decode(errors="replace"),
            )
        finally:
            self._channel.close()

    def ask_to_end(self, patience: float) -> None:
        """Give the command `patience` seconds to end by itself, then end its stdin; it may still print."""
        deadline = time.monotonic() + patience
        while not self._channel.exit_status_ready() and not self._channel.closed:
            if time.monotonic() >= deadline:
                with contextlib.suppress(OSError):
                    self._channel.shutdown_write()
                return
            self._wait_readable(time.monotonic() + 1)

    def close(self) -> None:
        """Close the channel; the command sees its stdin end."""
        self._channel.close()


class _Proxy:
    """A command that reaches a host's SSH server, as ssh_config's ProxyCommand does; it ends with its socket.

    paramiko's own ends it by a signal, which a command that sudo runs does not get, and does not wait for it.
    """

    def __init__(self, command: str) -> None:
        self.socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                shlex.split(command),
                env=of_child(),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
            )

    def close(self) -> str:
        """Close the socket, wait for the command's end, and return the last line that it wrote to stderr."""
        self.socket.close()
        try:
            _, printed = self._process.communicate(timeout=_PROXY_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(PermissionError):  # sudo runs it: it ends when it next reads
                self._process.kill()
                self._process.communicate()
            return ""
        lines = printed.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class _Connection(NamedTuple):
    """An SSH connection, and the command that it goes through if there is one."""

    client: paramiko.SSHClient
    proxy: _Proxy | None

    @property
    def active(self) -> bool:
        transport = self.client.get_transport()
        return transport is not None and transport.is_active()

    def close(self) -> str:
        """Close the connection; return the last line that its command wrote to stderr."""
        self.client.close()
        return self.proxy.close() if self.proxy else ""


def _session_on(connection: _Connection) -> paramiko.Channel:
    transport = connection.client.get_transport()
    if transport is None:
        raise EOFError("no transport")
    return transport.open_session(timeout=_CONNECT_SECONDS)


class Remote:
    """One host, reached as the lab's ssh_config says, with its host key checked.

    One connection carries all commands, unless the host's sshd refuses another session on it (MaxSessions, or
    an earlier session that it has not closed yet): then a further connection is made, and kept.
    """

    def __init__(self, name: str, ssh_config: Path) -> None:
        self.name = name
        self._ssh_config = ssh_config
        self._connections: list[_Connection] = []

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; commands still running on them see their stdin end."""
        while self._connections:
            self._connections.pop().close()

    def connect(self, seconds: float = _CONNECT_SECONDS) -> paramiko.SSHClient:
        """Return the first live connection, making a new one if there is none.

        Raises:
            RemoteError: the host does not answer within `seconds`, or its host key is not the known one.
        """
        for connection in [one for one in self._connections if not one.active]:
            self._connections.remove(connection)
            connection.close()
        return (self._connections or [self._add_connection(seconds)])[0].client

    def _add_connection(self, seconds: float) -> _Connection:
        import paramiko

        if not self._ssh_config.is_file():
            raise RemoteError(
                f"{self.name}: {self._ssh_config} is missing: run `zclab up` for this lab first"
            )
        options = paramiko.SSHConfig.from_path(str(self._ssh_config)).lookup(self.name)
        proxy = _Proxy(options["proxycommand"]) if "proxycommand" in options else None
        connection = _Connection(paramiko.SSHClient(), proxy)
        client = connection.client
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        address = f"{options['hostname']} port {options.get('port', 22)}"
        try:
            # One file, as the lab writes it; its path may hold spaces.
            if known_hosts := options.get("userknownhostsfile", "").strip('"'):
                client.load_host_keys(known_hosts)
            client.connect(
                options["hostname"],
                port=int(options.get("port", 22)),
                username=options.get("user"),
                sock=proxy.socket if proxy else None,
                key_filename=next((key.strip('"') for key in options.get("identityfile", [])), None),
                timeout=seconds,
                banner_timeout=seconds,
                auth_timeout=seconds,
                look_for_keys="identityfile" not in options,
                allow_agent="identityfile" not in options,
            )
        except paramiko.BadHostKeyException:
            connection.close()
            raise RemoteError(
                f"{self.name} ({address}): its host key is not the one in {options['userknownhostsfile']}: "
                "find out why it changed before trusting it"
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            reason = connection.close() or str(error)
            raise RemoteError(
                f"{self.name} ({address}): cannot connect: {reason}: run `zclab up` to bring it up again"
            ) from None
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(5)
        self._connections.append(connection)
        return connection

    def start(self, command: str) -> Process:
        """Start a command. It is never run a second time, whatever happens to the connection.

        Raises:
            RemoteError: the host cannot be reached, or refuses a session even on a new connection.
        """
        import paramiko

        self.connect()
        mark = f"zclab-{secrets.token_hex(8)}"
        try:
            channel = self._open_session()
            channel.exec_command(marked(command, mark))
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            raise RemoteError(f"{self.name}: cannot start `{command}`: {error}") from None
        return Process(self.name, command, channel, mark)

    def _open_session(self) -> paramiko.Channel:
        """Open a session on the first connection on which the host allows one, at last on a new one."""
        import paramiko

        for connection in self._connections:
            with contextlib.suppress(paramiko.ChannelException):
                return _session_on(connection)
        return _session_on(self._add_connection(_CONNECT_SECONDS))

    def run(self, command: str, seconds: float = 30) -> Completed:
        """Run a command to its end.

        Raises:
            RemoteError: the host cannot be reached, or the command did not end within `seconds`.
        """
        return self.start(command).wait(seconds)

    def output(self, command: str, seconds: float = 30) -> str:
        """Return the stdout of a command that must succeed.

        Raises:
            RemoteError: as `run`, or the command failed.
        """
        done = self.run(command, seconds)
        if done.status != 0:
            reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise RemoteError(f"{self.name}: `{command}` failed with status {done.status}: {reason}")
        return done.stdout


@contextlib.contextmanager
def connected(names: list[str], ssh_config: Path) -> Iterator[dict[str, Remote]]:
    """Yield one open connection per host; close them at the end."""
    with contextlib.ExitStack() as stack:
        remotes = {name: stack.enter_context(Remote(name, ssh_config)) for name in names}
        for remote in remotes.values():
            remote.connect()
        yield remotes
