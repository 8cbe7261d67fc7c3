# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from zclab import results


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty runs directory in place of the project's own."""
    directory = tmp_path / "runs"
    monkeypatch.setattr(results, "runs_dir", lambda: directory)
    return directory
