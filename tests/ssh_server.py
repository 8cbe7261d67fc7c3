# SPDX-License-Identifier: Apache-2.0
"""SSH servers on 127.0.0.1 that run commands on this machine, for tests of the channels."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED


def new_key(path: Path) -> paramiko.PKey:
    """Return a new key of the kind that labs use, kept in a file as ssh-keygen would."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return paramiko.Ed25519Key.from_private_key_file(str(path))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def openssh_server(directory: Path, *options: str) -> Iterator[Path]:
    """Run OpenSSH's sshd with these lines of sshd_config; yield the ssh_config to reach it as host1.

    It runs in a mount namespace, where /run holds nothing but its own directory (needs root).
    """
    port = free_port()
    client, host = new_key(directory / "id"), new_key(directory / "host_key")
    for path in (directory / "id", directory / "host_key"):
        path.chmod(0o600)
    (directory / "authorized_keys").write_text(f"{client.get_name()} {client.get_base64()}\n", "utf-8")
    known = f"[127.0.0.1]:{port} {host.get_name()} {host.get_base64()}\n"
    (directory / "known_hosts").write_text(known, encoding="utf-8")
    lines = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {directory}/host_key", "UsePAM no"]
    lines += [f"AuthorizedKeysFile {directory}/authorized_keys", "StrictModes no", "PidFile none", *options]
    (directory / "sshd_config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (directory / "ssh_config").write_text(
        f"Host host1\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
        f"  IdentityFile {directory}/id\n  UserKnownHostsFile {directory}/known_hosts\n",
        encoding="utf-8",
    )
    script = 'mount -t tmpfs none /run && mkdir /run/sshd && exec /usr/sbin/sshd -D -e -f "$1"'
    log = (directory / "sshd.log").open("w")
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(directory / "sshd_config")],
        stdin=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )
    try:
        while "Server listening" not in (directory / "sshd.log").read_text(encoding="utf-8"):
            assert server.poll() is None, (directory / "sshd.log").read_text(encoding="utf-8")
            time.sleep(0.02)
        yield directory / "ssh_config"
    finally:
        server.terminate()
        server.wait()
        log.close()


class _Session(paramiko.ServerInterface):
    """One connection: takes one key, and starts a shell for each command."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "root" and key == self._server.client_key
        return AUTH_SUCCESSFUL if known else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        text = command.decode()
        script = shlex.split(text)[-1]
        self._server.commands.append(re.sub(r"^echo (zclab-\w+); echo \1 >&2; ", "", script))
        # A test hands its variables to a program on the host by those of this process.
        own = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("ZCLAB_TEST_")]
        text = text.replace("exec /usr/bin/env -i ", f"exec /usr/bin/env -i {shlex.join(own)} ", 1)
        threading.Thread(target=self._server.execute, args=(channel, text), daemon=True).start()
        return True


class SshServer:
    """Listens until it is closed. `commands` holds every command that it was ever asked to run, unmarked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.commands: list[str] = []
        self.client_key = new_key(directory / "id")
        self.host_key = new_key(directory / "host_key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self.trust(self.host_key)
        self.ssh_config = directory / "ssh_config"
        self.ssh_config.write_text(
            f"Host host1\n  HostName 127.0.0.1\n  Port {self.port}\n  User root\n"
            f"  IdentityFile {directory / 'id'}\n  UserKnownHostsFile {directory / 'known_hosts'}\n",
            encoding="utf-8",
        )
        threading.Thread(target=self._accept, daemon=True).start()

    def trust(self, key: paramiko.PKey) -> None:
        """Write a key as the host's into known_hosts."""
        line = f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n"
        (self.directory / "known_hosts").write_text(line, encoding="utf-8")

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.host_key)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(event=threading.Event(), server=_Session(self))

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        """Run a command; when its channel closes, its stdin ends."""
        child = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._children.append(child)
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        copies = [
            threading.Thread(target=_copy, args=(child.stdout.fileno(), channel.sendall)),
            threading.Thread(target=_copy, args=(child.stderr.fileno(), channel.sendall_stderr)),
        ]
        threading.Thread(target=_end_stdin, args=(channel, child), daemon=True).start()
        for copy in copies:
            copy.start()
        for copy in copies:
            copy.join()
        status = child.wait()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            if status >= 0:
                channel.send_exit_status(status)
            channel.close()

    def drop_connections(self) -> None:
        """Cut every connection, as a host that crashes does."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def close(self) -> None:
        """Stop listening; end what still runs."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, too
        self._listener.close()
        self.drop_connections()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _copy(source: int, send: Callable[[bytes], object]) -> None:
    while data := os.read(source, 65536):
        with contextlib.suppress(OSError, EOFError):
            send(data)


def _end_stdin(channel: paramiko.Channel, child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    with contextlib.suppress(OSError):
        while data := channel.recv(65536):
            child.stdin.write(data)
            child.stdin.flush()
    with contextlib.suppress(OSError):
        child.stdin.close()
