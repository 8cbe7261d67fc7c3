# SPDX-License-Identifier: Apache-2.0
"""The progress callback: it takes one line of text for people."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def quiet(_line: str) -> None:
    """Take a line and drop it."""
