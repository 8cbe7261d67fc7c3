# SPDX-License-Identifier: Apache-2.0
"""The traffic tool's binary on the controller."""

from __future__ import annotations

import hashlib
from pathlib import Path

from zclab.base.c_program import Built, CProgram
from zclab.base.errors import ZclabError

NAME = "zclab-traffic"


def _tool(directory: Path) -> CProgram:
    return CProgram(directory, NAME, "traffic tool")


def binary_path(directory: Path, cache: Path) -> Path:
    """Return where the tool built from `directory` lies in the cache, whether it is there or not."""
    return _tool(directory).path(cache / "traffic")


def build(directory: Path, cache: Path) -> Built:
    """Build the tool unless it is in the cache.

    Raises:
        ZclabError: it does not compile: the first error.
    """
    return _tool(directory).build(cache / "traffic")


def built_sha256(directory: Path, cache: Path) -> str | None:
    """Return the sha256 of the tool built from `directory` in hex; null: it was not built, or cannot be.

    It is what the hosts have to have.
    """
    try:
        path = binary_path(directory, cache)
    except ZclabError:
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
