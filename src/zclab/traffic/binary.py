# SPDX-License-Identifier: Apache-2.0
"""The traffic tool's binary on the controller: built once for each state of its source and compiler."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from zclab.base.environment import BUILD, of_child
from zclab.base.errors import ZclabError
from zclab.base.process import CommandError, run
from zclab.base.store import Store

NAME = "zclab-traffic"
MODE = 0o755
_COMPILER = "cc"
KEY_LENGTH = 16


def sources(directory: Path) -> list[Path]:
    """Return the files that make the tool, by name.

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
    return key.hexdigest()[:KEY_LENGTH]


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


def binary_path(directory: Path, cache: Path) -> Path:
    """Return where the tool built from `directory` lies in the cache, whether it is there or not."""
    return cache / "traffic" / source_key(directory, compiler_version(_COMPILER)) / NAME


def build(directory: Path, cache: Path) -> dict[str, Any]:
    """Build the tool unless it is in the cache, and return {path, changed, seconds}.

    Two builders at once build once. The binary appears under its final name only when it is whole.

    Raises:
        ZclabError: it does not compile: the first error.
    """
    path = binary_path(directory, cache)
    began = time.monotonic()

    def make(out: Path) -> None:
        with tempfile.TemporaryDirectory(dir=out) as work:
            for source in sources(directory):
                shutil.copy2(source, work)
            try:
                command = ["make", "--no-print-directory", f"OUT={out}", f"CC={_COMPILER}"]
                run(command, cwd=Path(work), environment=BUILD)
            except CommandError as error:
                reason = first_error(error.output)
                raise ZclabError(f"{directory}: the traffic tool does not compile: {reason}") from None
        if not (out / NAME).is_file():
            raise ZclabError(f"{directory}: the traffic tool does not compile: make built no {NAME}")
        (out / NAME).chmod(MODE)

    store = Store(path.parent.parent, "traffic tool")
    changed = store.ensure(path.parent.name, make, is_whole=lambda _: path.is_file())
    return {"path": path, "changed": changed, "seconds": round(time.monotonic() - began, 1)}


def built_sha256(directory: Path, cache: Path) -> str | None:
    """Return the sha256 of the tool built from `directory` in hex; null: it was not built, or cannot be.

    It is what the hosts have to have.
    """
    try:
        path = binary_path(directory, cache)
    except ZclabError:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
