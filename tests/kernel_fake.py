# SPDX-License-Identifier: Apache-2.0
"""A kernel tree that builds in a second, and sources made of it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from tests.role_modules import write_tree

from zclab.kernel.spec import KernelVariant, TarballSource

DATA = Path(__file__).parent / "data/kernel"
PATCHES = DATA / "patches"


def tree(directory: Path) -> Path:
    """Copy the fake tree to a directory and return it."""
    return Path(shutil.copytree(DATA / "tree", directory))


def tarball(directory: Path) -> dict[str, Any]:
    """Pack the fake tree and return it as a source."""
    tree(directory / "linux-9.9")
    archive = directory / "linux-9.9.tar.xz"
    subprocess.run(["tar", "-cJf", archive, "-C", directory, "linux-9.9"], check=True)
    return {
        "kind": "tarball",
        "path": str(archive),
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }


def tarball_of(directory: Path, files: dict[str, str]) -> TarballSource:
    """Pack these files as a kernel tree that cannot be built, and return it as a source."""
    tree = write_tree(directory / "linux", {"Makefile": "", "Kconfig": "", "scripts/x": "", **files})
    archive = directory / "linux.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree, arcname="linux")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return TarballSource(kind="tarball", path=str(archive), sha256=digest)


def repository(directory: Path) -> tuple[dict[str, Any], str]:
    """Commit the fake tree, tag it v9.9 and return it as a source, with the commit."""
    tree(directory)
    git = ["git", "-C", str(directory), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-qm", "first"],
        ["tag", "-am", "x", "v9.9"],
    ):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {"kind": "git", "url": f"file://{directory}", "ref": "v9.9"}, commit


def variant(
    source: dict[str, Any], patches: list[dict[str, Any]] | None = None, **config: Any
) -> KernelVariant:
    """Return a variant of the fake tree."""
    return KernelVariant.model_validate({"source": source, "patches": patches or [], "config": config})
