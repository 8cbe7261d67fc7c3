# SPDX-License-Identifier: Apache-2.0
"""The store of built kernels: one directory per key, complete or not there at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from zclab.base.errors import LabError
from zclab.base.locks import locked_if_free
from zclab.base.model import Model
from zclab.base.paths import kernel_cache
from zclab.base.store import Store
from zclab.kernel.identity import Artifact

# Raise it when the same inputs are to give another kernel or package than before.
RECIPE = 2

#: The uncompressed kernel in the directory of an artifact: ELF, with symbols, without debug data.
VMLINUX = "vmlinux"

# A play that got an artifact copies it to its hosts a little later, in another process.
_JUST_USED_SECONDS = 3600.0


class PatchRecord(Model):
    """A patch that went into an artifact: its name at that time and the sha256 of its diff."""

    name: str
    sha256: str


class BuiltArtifact(Artifact):
    """An artifact and everything about its build; the content of artifact.json."""

    deb: str
    deb_sha256: str
    size_bytes: int
    source: str
    patches: tuple[PatchRecord, ...]
    config_sha256: str
    compiler: str
    linker: str
    recipe: int
    objects: int
    build_seconds: float
    built_at: str

    @property
    def directory(self) -> Path:
        """Return where the package, the uncompressed kernel, the configuration and the build log lie."""
        return artifacts().path(self.key)

    @property
    def vmlinux(self) -> Path:
        """Return the uncompressed kernel."""
        return self.directory / VMLINUX


@dataclass(frozen=True)
class Stored:
    """An artifact in the store: its bytes on disk, and when it was last asked for (seconds since 1970)."""

    artifact: BuiltArtifact
    disk_bytes: int
    used_at: float


def artifacts() -> Store:
    """Return the store of artifacts."""
    return Store(kernel_cache() / "artifacts", "kernel artifact")


def build_lock(digest: str) -> Path:
    """Return the lock of the build directory for inputs of this digest."""
    return kernel_cache() / "locks" / f"build-{digest}.lock"


def artifact_key(
    source: str,
    patches: tuple[PatchRecord, ...],
    config: str,
    compiler: str,
    linker: str,
    recipe: int = RECIPE,
) -> str:
    """Return the key of the kernel that source, diffs in order, configuration and compiler make.

    Names do not count: the same kernel by another name is the same artifact.
    """
    parts = {
        "recipe": recipe,
        "source": source,
        "patches": [patch.sha256 for patch in patches],
        "config": config,
        "compiler": compiler,
        "linker": linker,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def lookup(key: str) -> BuiltArtifact | None:
    """Return the artifact of a key and note that it was used now, or None when it is not there whole."""
    artifact = read(artifacts().path(key))
    if artifact is not None:
        os.utime(artifact.directory)
    return artifact


def stored() -> list[Stored]:
    """Return all artifacts, the last used first."""
    found = []
    for directory in artifacts().entries():
        if artifact := read(directory):
            size = sum(file.stat().st_size for file in directory.iterdir())
            found.append(Stored(artifact, size, directory.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.used_at, reverse=True)


def write(directory: Path, artifact: BuiltArtifact) -> None:
    """Write artifact.json into a directory that is being made."""
    (directory / "artifact.json").write_text(artifact.model_dump_json(indent=2) + "\n", encoding="utf-8")


def prune(keep: int) -> list[BuiltArtifact]:
    """Remove all but the `keep` last used artifacts, and what killed builds left behind.

    Returns what was removed. An artifact that is in use, or was asked for within the last hour, stays. Raises
    LabError when keep is negative.
    """
    if keep < 0:
        raise LabError(f"kernel artifacts: cannot keep {keep} of them: give a number that is not negative")
    removed = []
    for entry in stored()[keep:]:
        if time.time() - entry.used_at < _JUST_USED_SECONDS:
            continue
        if artifacts().remove(entry.artifact.key):
            (kernel_cache() / "logs" / f"{entry.artifact.key}.log").unlink(missing_ok=True)
            removed.append(entry.artifact)
    remove_abandoned_builds()
    return removed


@contextmanager
def using(artifact: BuiltArtifact) -> Iterator[BuiltArtifact]:
    """Keep an artifact from being pruned within the block; raise LabError when it is gone already."""
    with artifacts().using(artifact.key):
        if read(artifact.directory) is None:
            raise LabError(f"kernel artifact {artifact.directory}: it was removed: build the variant again")
        yield artifact


def read(directory: Path) -> BuiltArtifact | None:
    """Return the artifact that lies in a directory of the store, or None when it is not there whole."""
    try:
        artifact = BuiltArtifact.model_validate_json((directory / "artifact.json").read_bytes())
        whole = (directory / artifact.deb).stat().st_size == artifact.size_bytes
    except (OSError, ValidationError):
        return None
    return artifact if whole and artifact.key == directory.name else None


def remove_abandoned_builds() -> None:
    """Remove the build directories that killed processes left behind."""
    for directory in (kernel_cache() / "build").glob("*"):
        if directory.name.startswith("."):
            shutil.rmtree(directory, ignore_errors=True)
            continue
        with locked_if_free(build_lock(directory.name)) as idle:
            if idle:
                shutil.rmtree(directory, ignore_errors=True)
