# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole, directories that are gone at once, and room on the disk."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zclab.base.errors import LabError
from zclab.base.process import NO_SPACE, CommandError

GONE = ".gone-"
"""What the name of a directory starts with while it is being removed."""


def remove_tree(path: Path) -> None:
    """Remove a directory so that it is gone at once: out of the way first, then piece by piece.

    Raises:
        LabError: something is mounted in it, which would lose its content.
    """
    if not path.exists():
        return
    refuse_mounts(path)
    aside = path.with_name(f"{GONE}{path.name}-{secrets.token_hex(4)}")
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def refuse_mounts(path: Path) -> None:
    """Raise LabError when something is mounted in a directory."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4].replace("\\040", " ")
        if point.startswith(f"{path}/"):
            raise LabError(f"{point} is mounted: unmount it, and remove {path}")


def write_whole(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file so that no reader ever sees half of it, nor one with more rights than `mode`."""
    with named_in_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            Path(name).chmod(mode)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Have an error within the block, such as that of a full disk, name the file that was to be written."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def require_space(directory: Path, needed_bytes: int, what_for: str) -> None:
    """Raise LabError when the file system of `directory` has less free space than needed."""
    directory.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise LabError(
            f"{directory}: {what_for} needs {needed_bytes} bytes free, {free_bytes} are: make room there "
            "(`zclab cache --prune` removes old artifacts), or set ZCLAB_CACHE to a directory with room"
        )


@contextmanager
def full_disk_named(directory: Path) -> Iterator[None]:
    """Turn "no space left", here or in a command, into one line that names the directory and what is free."""
    try:
        yield
    except CommandError as error:
        if NO_SPACE not in error.output:
            raise
        raise full_disk(directory) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full_disk(directory) from error


def full_disk(directory: Path) -> LabError:
    """Return the error of a disk that ran full while something was made in `directory`."""
    free_bytes = shutil.disk_usage(directory).free
    return LabError(
        f"{directory}: the disk ran full, {free_bytes} bytes are free now: make room there, "
        "`zclab cache --prune` removes old artifacts"
    )
