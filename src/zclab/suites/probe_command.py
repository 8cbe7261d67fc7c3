# SPDX-License-Identifier: Apache-2.0
"""The tables of the suite, the host that each is tried on, and how they get there.

The package `probe` is sent over the channel that its command has, and is loaded from memory: nothing is
written to a host, so that nothing stays behind there.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from zclab.base.model import Role
from zclab.host.ssh import Completed, Process, Remote
from zclab.probe import tables
from zclab.probe.netns import FIRST_PROCESS
from zclab.probe.table import Peer, Table

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
#: The interfaces, each with the end of the pair that tries it.
ABIS: dict[str, Role] = {"map_each": "receiver", "zerocopy_receive": "receiver", "msg_zerocopy": "sender"}
_LOADER = """\
import os, runpy, sys
archive = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
memory = os.memfd_create("probe")
os.write(memory, archive)
sys.path.insert(0, f"/proc/self/fd/{memory}")
runpy.run_module("probe", run_name="__main__")
"""


def table(abi: str) -> Table:
    """Return the table of an interface."""
    found: Table = importlib.import_module(f"{tables.__name__}.{abi}").TABLE
    return found


@cache
def archive() -> bytes:
    """Return the package `probe` as a zip file; the same files give the same bytes."""
    directory = Path(tables.__path__[0]).parent
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(directory.rglob("*.py")):
            name = f"probe/{path.relative_to(directory)}"
            file.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return held.getvalue()


def programs() -> dict[str, str]:
    """Return the sha256 (hex) of what is sent to hosts, by name, as manifests have it."""
    return {"probe": hashlib.sha256(archive()).hexdigest()}


def rows_command(abi: str, family: Family, peer: Peer | tuple[str, str, str] | None) -> str:
    """Return the command that tries a table over a family; it wants `handed_over()` on its stdin.

    peer: with what stands for its port, where that is not known yet.
    """
    options = [abi, "--family", str(family), "--json", "--watch-stdin"]
    return _command(*options, *(["--peer", *map(str, peer)] if peer else []))


def stress_command(seconds: float, seed: int, options: list[str]) -> str:
    """Return the command that stresses a host's kernel; it wants `handed_over()` on its stdin."""
    return _command("stress", "--watch-stdin", "--seconds", f"{seconds:g}", "--seed", str(seed), *options)


def sink_command(address: str, allowed: str, interface: str) -> str:
    """Return the command that serves as a peer on `address`, which is one of `interface`.

    It wants `handed_over()` on its stdin.
    """
    return _command("sink", address, allowed, interface)


def handed_over() -> bytes:
    """Return what a command of this module reads before it begins. It ends when its stdin does."""
    return f"{len(archive())}\n".encode() + archive()


@contextmanager
def started(remote: Remote, command: str) -> Iterator[Process]:
    """Start a command of this module on a host, with what it reads; its channel is closed at the end."""
    process = remote.start(command)
    try:
        process.send(handed_over())
        yield process
    finally:
        process.close()


#: Where a guest has the package, which it cannot be sent: its standard input takes lines only.
IN_GUEST = "/usr/lib/zclab/probe.zip"
_IN_GUEST_LOADER = f"""\
import os, runpy, sys
os.environ[{FIRST_PROCESS!r}] = "1"  # a guest is ours alone
sys.path.insert(0, {IN_GUEST!r})
runpy.run_module("probe", run_name="__main__")
"""


def in_guest(command: str) -> str:
    """Return a command of this module as a guest runs it, which has the package in a file."""
    return command.replace(shlex.quote(_LOADER), shlex.quote(_IN_GUEST_LOADER))


def last_message(done: Completed) -> str:
    """Return the last line that a command left on its stderr."""
    return (done.stderr.strip() or "no message").splitlines()[-1]


def _command(*arguments: str) -> str:
    return "exec " + shlex.join(["python3", "-I", "-B", "-c", _LOADER, *arguments])
