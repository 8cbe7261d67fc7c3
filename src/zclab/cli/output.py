# SPDX-License-Identifier: Apache-2.0
"""Where commands write: progress for people, or one JSON document on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn, Protocol, TypeVar

import click
from rich.console import Console

from zclab.report.terminal import print_line


def console_for_stdout() -> Console:
    """Return a console for stdout; wide enough for the tables where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 180)


class Printed(Protocol):
    """What prints itself as one JSON document, and gives the command its exit code."""

    @property
    def exit_code(self) -> int:
        """The exit code."""

    def model_dump_json(self, *, indent: int) -> str:
        """Return the document as JSON."""


_D = TypeVar("_D", bound=Printed)


class Output:
    """Where a command reports its progress and its result; with --json stdout has the result alone."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.console = Console(stderr=True) if as_json else console_for_stdout()

    def on_progress(self, line: str) -> None:
        """Print a line of progress."""
        print_line(self.console, line)

    def end(self, document: _D, show: Callable[[Console, _D], None]) -> NoReturn:
        """Show a document, or print it, and exit with its exit code."""
        if self._as_json:
            click.echo(document.model_dump_json(indent=2))
        else:
            show(self.console, document)
        sys.exit(document.exit_code)
