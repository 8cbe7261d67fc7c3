# SPDX-License-Identifier: Apache-2.0
"""Unit tests need no root, no compiler and no host: a test that starts one does not find it, and fails."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

#: What every Debian machine with git and make has, and what a unit test may start.
PROGRAMS = """
    awk bash cat chmod cp cut dpkg-deb echo env false git grep head kill ln ls make mkdir mktemp mv
    printf rm sed sh sha256sum sleep sort tail tar tee touch tr true uname wc
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with links to the programs that a unit test may start."""
    directory = tmp_path_factory.mktemp("programs")
    for name in PROGRAMS.split():
        if found := shutil.which(name):
            (directory / name).symlink_to(found)
    return directory


@pytest.fixture(autouse=True)
def _few_programs(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(programs))
