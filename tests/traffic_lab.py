# SPDX-License-Identifier: Apache-2.0
"""Runs of the traffic tool for its tests; the fixtures that give them out are in conftest.py."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAFFIC = Path(__file__).resolve().parents[1] / "traffic"
TOKEN = "00112233445566778899aabbccddeeff"
PAGE = os.sysconf("SC_PAGESIZE")
LIMIT = 60  # seconds after which a session counts as hung; no test depends on its being reached
Document = dict[str, Any]


@dataclass
class End:
    """One running end of a session; its standard error goes to a file, so that it can be read meanwhile."""

    process: subprocess.Popen[str]
    stderr_file: Path

    @property
    def stderr(self) -> str:
        return self.stderr_file.read_text()

    def finish(self) -> Document:
        """Wait for the end and return its document, with the exit code as `exit`."""
        stdout, _ = self.process.communicate(timeout=LIMIT)
        assert "Sanitizer" not in self.stderr and "runtime error" not in self.stderr, self.stderr
        assert stdout.count("\n") == 1, (stdout, self.stderr)
        document: Document = json.loads(stdout)
        document["exit"] = self.process.returncode
        assert (document["exit"] == 0) == (document["outcome"] == "complete")
        assert (document["error"] is None) == (document["outcome"] == "complete")
        assert document["exit"] in (0, 3)
        return document

    def wait_for_line(self, start: str) -> list[str]:
        """Wait until standard error has a line that begins so; return its words."""
        while True:
            for line in self.stderr.splitlines(keepends=True):
                if line.startswith(start) and line.endswith("\n"):
                    return line.split()
            assert self.process.poll() is None, self.stderr
            time.sleep(0.01)

    def wait_until_moving(self) -> None:
        """Wait until this end has spent a tenth of a second of CPU: payload is moving."""
        while True:
            assert self.process.poll() is None, self.stderr
            after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            if int(after_name[11]) + int(after_name[12]) >= os.sysconf("SC_CLK_TCK") / 10:
                return
            time.sleep(0.01)


class Lab:
    """Starts ends and makes sure that none of them outlives the test."""

    def __init__(self, directory: Path, binary: str) -> None:
        self.directory = directory
        self.binary = binary
        self.ends: list[End] = []
        self.receive_prefix: list[str] = []
        self.send_prefix: list[str] = []

    def start(self, command: list[str], preexec: Callable[[], None] | None = None) -> End:
        path = self.directory / f"stderr-{len(self.ends)}"
        with path.open("w") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                preexec_fn=preexec,
            )
        self.ends.append(End(process, path))
        return self.ends[-1]

    def receive(
        self,
        address: str = "127.0.0.1",
        peer: str = "",
        options: str = "",
        mode: str = "copy",
        preexec: Callable[[], None] | None = None,
    ) -> End:
        """Start a receiver and wait until it listens."""
        own = ["receive", "--bind", address, "--peer", peer or address, "--token", TOKEN, "--mode", mode]
        end = self.start([*self.receive_prefix, self.binary, *own, *options.split()], preexec)
        end.wait_for_line("listening ")
        return end

    def send(
        self,
        receiver: End,
        options: str = "",
        mode: str = "copy",
        bind: str = "",
        token: str = TOKEN,
        preexec: Callable[[], None] | None = None,
    ) -> End:
        _, address, port = receiver.wait_for_line("listening ")
        own = ["send", "--bind", bind or address, "--peer", address, "--port", port, "--token", token]
        own += ["--mode", mode]
        if "--message-bytes" not in options:
            own += ["--message-bytes", "65536"]
        return self.start([*self.send_prefix, self.binary, *own, *options.split()], preexec)

    def close(self) -> None:
        for end in self.ends:
            if end.process.poll() is None:
                end.process.kill()
            end.process.wait()
            for pipe in (end.process.stdin, end.process.stdout):
                if pipe:
                    pipe.close()


def port_of(receiver: End) -> int:
    return int(receiver.wait_for_line("listening ")[2])


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def veth_transfer(veth: Lab, receive: str, send: str, modes: tuple[str, str]) -> tuple[Document, Document]:
    receiver = veth.receive("fd00:7a63::1", "fd00:7a63::2", receive, mode=modes[0])
    sender = veth.send(receiver, send, mode=modes[1], bind="fd00:7a63::2")
    return sender.finish(), receiver.finish()


def refuse_calls(calls: Iterable[int], error: int, third: int | None = None) -> Callable[[], None]:
    """Return a function for a child process: from then on these system calls fail.

    `third`: only if that is the lower half of their third argument.
    """
    load, equal, answer = 0x20, 0x15, 0x06
    program: list[tuple[int, int, int, int]] = []
    for call in calls:
        program += [(load, 0, 0, 0), (equal, 0, 1 if third is None else 3, call)]
        if third is not None:
            program += [(load, 0, 0, 16 + 2 * 8), (equal, 0, 1, third)]
        program.append((answer, 0, 0, 0x00050000 | error))
    program.append((answer, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("HL", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def install() -> None:
        assert code  # keeps the program alive as long as its address is used
        if prctl(38, 1, 0, 0, 0) or prctl(22, 2, header):
            raise OSError(ctypes.get_errno(), "seccomp")

    return install


def refuse_option(call: int, option: int, error: int) -> Callable[[], None]:
    """Return a function for a child process: from then on that socket option call fails."""
    return refuse_calls([call], error, option)


def hello(token: str = TOKEN, stream: int = 0, streams: int = 1) -> bytes:
    """Return what the sender of a session says first on each connection."""
    secret = bytes.fromhex(token)
    numbers = bytes([len(secret), streams]) + bytes(13) + bytes([stream])
    return b"zclab-traffic/1\n" + numbers + secret.ljust(32, b"\0")


def connect_as_sender(receiver: End) -> socket.socket:
    """Connect to a receiver on loopback as its sender, up to its go."""
    _, address, port = receiver.wait_for_line("listening ")
    client = socket.create_connection((address, int(port)), timeout=LIMIT)
    client.sendall(hello())
    assert client.recv(1) == b"G"
    return client
