# SPDX-License-Identifier: Apache-2.0
"""Lines for people on a console."""

from __future__ import annotations

from rich.console import Console


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: not wrapped, and nothing in it taken for markup or coloured by itself."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
