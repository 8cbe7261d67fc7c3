# SPDX-License-Identifier: Apache-2.0
"""Lines for people on a console, and the colours of results."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_STYLES = {"pass": "green", "fail": "red", "invalid": "red", "inconclusive": "yellow", "skipped": "yellow"}


def print_line(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: not wrapped, and nothing in it taken for markup or coloured by itself."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def new_table(
    title: str | None, left: Iterable[str], right: Iterable[str] = (), *, fold: bool = False
) -> Table:
    """Return an empty table with columns of text and then of figures, by their headings.

    fold: text that is too long for its column goes on in the next line, instead of being cut.
    """
    table = Table(title=title, title_justify="left")
    for heading in left:
        table.add_column(heading, overflow="fold" if fold else "ellipsis")
    for heading in right:
        table.add_column(heading, justify="right")
    return table


def styled(result: str, text: str | None = None) -> str:
    """Return a verdict or result, or the text that stands for it, as markup in its colour."""
    return f"[{_STYLES[result]}]{escape(result if text is None else text)}[/]"


def print_reports(console: Console, reports: dict[str, list[str]], kernel: str = "") -> None:
    """Print the kernel reports of each host's console."""
    for host, lines in reports.items():
        for line in lines:
            print_line(console, f"{kernel}{host}: the kernel reported: {line}", "red")
