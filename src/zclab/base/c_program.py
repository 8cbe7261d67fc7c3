# SPDX-License-Identifier: Apache-2.0
"""A C program of this project on the controller: built once for each state of its source and compiler."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from zclab.base.environment import BUILD, of_child
from zclab.base.errors import ZclabError
from zclab.base.process import CommandError, run
from zclab.base.store import Store

MODE = 0o755
_COMPILER = "cc"
_KEY_LENGTH = 16


class Built(NamedTuple):
    """A program: its file, whether this call compiled it, and the seconds that it took."""

    path: Path
    changed: bool
    seconds: float


def sources(directory: Path) -> list[Path]:
    """Return the files that make a program, by name.

    Raises:
        ZclabError: there is no Makefile.
    """
    if not (directory / "Makefile").is_file():
        raise ZclabError(f"{directory}/Makefile is missing: restore the directory from the project's history")
    return sorted(
        path for path in directory.iterdir() if path.suffix in (".c", ".h") or path.name == "Makefile"
    )


def source_key(directory: Path, compiler: str) -> str:
    """Return the key of a build: a hash of each source file's name and content, and of the compiler."""
    key = hashlib.sha256(compiler.encode())
    for path in sources(directory):
        content = path.read_bytes()
        key.update(f"\0{path.name}\0{len(content)}\0".encode() + content)
    return key.hexdigest()[:_KEY_LENGTH]


def compiler_version(compiler: str) -> str:
    """Return the first line that the compiler says of itself.

    Raises:
        ZclabError: there is no such compiler.
    """
    try:
        done = subprocess.run(
            [compiler, "--version"],
            env=of_child(BUILD),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise ZclabError(f"{compiler} does not run on this machine: run playbooks/controller.yml") from None
    return done.stdout.splitlines()[0]


def first_error(output: str) -> str:
    """Return the line of a failed build that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    # Not -Werror, in the command that make prints.
    errors = [line for line in lines if re.search(r"\berror\b[:\s]|cannot find", line, re.IGNORECASE)]
    return (errors or lines or ["make said nothing"])[0]


@dataclass(frozen=True)
class CProgram:
    """A program `name` that the Makefile of a directory builds into OUT; `what` is what people call it."""

    directory: Path
    name: str
    what: str

    def path(self, store: Path) -> Path:
        """Return where the program lies in a directory of the cache, whether it is there or not.

        Raises:
            ZclabError: there is no Makefile, or no compiler.
        """
        return store / source_key(self.directory, compiler_version(_COMPILER)) / self.name

    def build(self, store: Path) -> Built:
        """Build the program unless it is in that directory of the cache.

        Two builders at once build once. The binary appears under its final name only when it is whole.

        Raises:
            ZclabError: it does not compile: the first error.
        """
        path = self.path(store)
        began = time.monotonic()
        changed = Store(store, self.what).ensure(
            path.parent.name, self._make, is_whole=lambda _: path.is_file()
        )
        return Built(path, changed, round(time.monotonic() - began, 1))

    def _make(self, out: Path) -> None:
        failed = f"{self.directory}: the {self.what} does not compile"
        with tempfile.TemporaryDirectory(dir=out) as work:
            for source in sources(self.directory):
                shutil.copy2(source, work)
            try:
                command = ["make", "--no-print-directory", f"OUT={out}", f"CC={_COMPILER}"]
                run(command, cwd=Path(work), environment=BUILD)
            except CommandError as error:
                raise ZclabError(f"{failed}: {first_error(error.output)}") from None
        if not (out / self.name).is_file():
            raise ZclabError(f"{failed}: make built no {self.name}")
        (out / self.name).chmod(MODE)
