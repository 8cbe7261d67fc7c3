# SPDX-License-Identifier: Apache-2.0
"""Write docs/commands.md from the help of the commands themselves.

`make docs` runs it: python -m zclab.cli.command_docs
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from zclab.base.paths import project_root
from zclab.cli.main import cli

PATH = project_root() / "docs" / "commands.md"


def document() -> str:
    """Return the text of docs/commands.md."""
    context = click.Context(cli, info_name="zclab")
    commands = {name: _command(context, name) for name in cli.list_commands(context)}
    parts = [
        "# Commands",
        "<!-- Written by `make docs` from the commands' own help: edit that. -->",
        *_help(cli),
    ]
    rows = [f"| [zclab {name}](#zclab-{name}) | {_first(command)} |" for name, command in commands.items()]
    parts.append("\n".join(["| command | what it does |", "| --- | --- |", *rows]))
    for name, command in commands.items():
        inner = click.Context(command, info_name=name, parent=context)
        usage = " ".join([inner.command_path, *command.collect_usage_pieces(inner)])
        parts += [f"## zclab {name}", f"    {usage}", *_help(command)]
        options = [_option(inner, one) for one in command.params if isinstance(one, click.Option)]
        if shown := [row for row in options if row]:
            parts.append("\n".join(["| option | meaning |", "| --- | --- |", *shown]))
    return "\n\n".join(parts) + "\n"


def _command(context: click.Context, name: str) -> click.Command:
    command = cli.get_command(context, name)
    assert command is not None
    return command


def _help(command: click.Command) -> Iterator[str]:
    """Yield the paragraphs of a command's help, each on one line, as Markdown."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        before, example, line = " ".join(paragraph.split()).partition("Example: ")
        text = before.replace("<", "\\<")
        yield f"{text}{example}`{line}`" if example else text


def _first(command: click.Command) -> str:
    """Return the first paragraph of a command's help without its full stop."""
    return next(_help(command)).removesuffix(".")


def _option(context: click.Context, option: click.Option) -> str | None:
    """Return an option as a row of a table; None for a hidden one."""
    record = option.get_help_record(context)
    return "| `{}` | {} |".format(*(cell.replace("|", "\\|") for cell in record)) if record else None


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
