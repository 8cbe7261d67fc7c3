# SPDX-License-Identifier: Apache-2.0
"""The zclab command."""

from __future__ import annotations

import ast
import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import click

from zclab.base import program
from zclab.base.errors import UsageError

#: Every command, by the module of zclab.cli that has it. It is imported when it is used: what a command works
#: with (SSH, Ansible, statistics) takes seconds to import.
_MODULES = {
    "lab": ("cache", "console", "down", "kernels", "status", "up"),
    "measure": ("baseline", "cost", "crosscheck", "list", "run", "show"),
    "suites": ("conformance", "lockdep", "selftests", "stress"),
}
COMMANDS = {name: module for module, names in _MODULES.items() for name in names}
#: Commands whose function has another name.
_FUNCTIONS = {"cache": "show_cache", "list": "list_runs"}


@cache
def _help_texts(module: str) -> dict[str, str | None]:
    """Return the docstring of each function of a module of zclab.cli, which is not imported."""
    source = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    functions = [one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef)]
    return {one.name: ast.get_docstring(one) for one in functions}


class _UnexpectedError(Exception):
    """Carries an exception of a command past click."""


class _LazyGroup(click.Group):
    """A group whose help imports none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zclab.cli.{COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. click takes EOFError for Ctrl-C, and each EPIPE for that of stdout (exit code 1)."""
        try:
            return super().invoke(ctx)
        except (EOFError, BrokenPipeError) as error:
            raise _UnexpectedError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's name and the first sentence of its help."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            texts = {
                name: _help_texts(COMMANDS[name])[_FUNCTIONS.get(name, name)] for name in sorted(COMMANDS)
            }
            short = [click.Command(None, help=text).get_short_help_str(limit) for text in texts.values()]
            formatter.write_dl([*zip(texts, short, strict=True)])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zclab")
def cli() -> None:
    """Prove TCP zero-copy on two hosts.

    Exit codes: 0 pass, 1 fail, 2 usage error, 3 inconclusive, 4 invalid (what was to be measured is not what
    ran), 5 the lab could not be brought up, 6 zclab itself failed, 130 interrupted.

    Example: zclab run --up
    """


def _invoke() -> int:
    """Run the command and return its exit code; say what click itself finds wrong."""
    try:
        cli.main(prog_name="zclab", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except _UnexpectedError as carried:
        raise carried.__cause__ or carried from None
    return 0


def main() -> None:
    """Run the command and exit with its code."""
    sys.exit(program.run("zclab", _invoke))
