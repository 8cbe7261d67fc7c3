# SPDX-License-Identifier: Apache-2.0
"""What the caches hold, as lines for people, and how they are emptied."""

from __future__ import annotations

import shutil
from pathlib import Path

from zclab.backends.virtual import image
from zclab.base.paths import cache_dir
from zclab.kernel import artifact

#: Parts of the cache that are rebuilt without a word whenever they are missing.
_PLAIN_PARTS = {
    "apt": "package lists of Debian",
    "ccache": "compiler output",
    "kernel/sources": "kernel sources",
    "kernel/build": "kernel build trees",
    "kernel/logs": "kernel build logs",
    "plugin": "emulator's plugin",
    "traffic": "traffic tool",
    "crosscheck": "tools for cross-checks",
    "selftests": "the kernel's own tests",
}


def runner_dir() -> Path:
    """Return where artifacts of playbook runs go that outlive the lab's own state."""
    directory = cache_dir() / "playbooks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def listing() -> list[str]:
    """Return a line for each thing in the caches."""
    lines = [
        f"image {one.image.key}  {_size(one.size_bytes)}  {'in use' if one.in_use else 'unused'}"
        for one in image.cached()
    ]
    lines += [
        f"kernel {one.artifact.release}  variant {one.artifact.variant}  {_size(one.disk_bytes)}"
        for one in artifact.stored()
    ]
    for part, what in _PLAIN_PARTS.items():
        size = sum(path.lstat().st_size for path in (cache_dir() / part).rglob("*") if path.is_file())
        if size:
            lines.append(f"{what}  {_size(size)}  {cache_dir() / part}")
    return lines


def prune(keep: int) -> list[str]:
    """Remove images that no disk uses, all but the newest `keep` kernels, and with keep=0 all else too."""
    lines = [f"removed image {one.image.key}" for one in image.prune()]
    lines += [f"removed kernel {one.release}" for one in artifact.prune(keep)]
    if keep == 0:
        for part, what in _PLAIN_PARTS.items():
            if (cache_dir() / part).is_dir():
                shutil.rmtree(cache_dir() / part)
                lines.append(f"removed {what}")
    return lines


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
