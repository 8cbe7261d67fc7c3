# SPDX-License-Identifier: Apache-2.0
"""Where kernels are made and kept: directories that appear whole, locks, and room on the disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zclab.base.errors import LabError
from zclab.base.process import NO_SPACE, CommandError


def remove_tree(path: Path) -> None:
    """Remove a directory so that it is gone at once: out of the way first, then piece by piece."""
    if not path.exists():
        return
    aside = Path(tempfile.mkdtemp(prefix=".gone-", dir=path.parent))
    path.rename(aside / path.name)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Yield an empty directory: it becomes `target` if the block ends well and is removed if it does not.

    Hold the lock of what the target stands for: what killed processes left behind is cleared away here.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".making-{target.name}-"
    for stale in (*target.parent.glob(f"{prefix}*"), *target.parent.glob(".gone-*")):
        shutil.rmtree(stale, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        making.chmod(0o755)
        yield making
        remove_tree(target)
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def require_space(directory: Path, needed_bytes: int, what_for: str) -> None:
    """Raise LabError when the file system of `directory` has less free space than needed."""
    directory.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < needed_bytes:
        raise LabError(
            f"{directory}: {what_for} needs {needed_bytes} bytes free, {free_bytes} are: make room there, "
            "`zclab cache prune` removes old artifacts"
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
        "`zclab cache prune` removes old artifacts"
    )
