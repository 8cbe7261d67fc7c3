# SPDX-License-Identifier: Apache-2.0
"""Documents: what is generated is current, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from zclab.base.paths import project_root
from zclab.cli import command_docs
from zclab.cli.main import cli

ROOT = project_root()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_commands_md_is_what_the_commands_say() -> None:
    text = command_docs.PATH.read_text(encoding="utf-8")
    assert text == command_docs.document(), "docs/commands.md is not current: run `make docs`"


def test_every_command_and_visible_option_is_in_it() -> None:
    text = command_docs.document()
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None and f"\n## zclab {name}\n" in text
        section = text.partition(f"\n## zclab {name}\n")[2].partition("\n## ")[0]
        assert "Example: `zclab" in section
        for option in command.params:
            if isinstance(option, click.Option):
                assert (f"`{option.opts[0]}" in section) == (not option.hidden)


def test_no_line_of_commands_md_stands_twice() -> None:
    rows = [line for line in command_docs.document().splitlines() if line.startswith("| [")]
    assert len(rows) == len(set(rows)) > 10


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("| package |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| ([a-z]+) \|", table, re.MULTILINE)
    packages = {path.parent.name for path in (ROOT / "src" / "zclab").glob("*/__init__.py")}
    assert set(named) == packages and len(named) == len(packages)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(path: Path) -> None:
    """Paths of the repository in backticks or commands; those of hosts and run folders begin otherwise."""
    text = path.read_text(encoding="utf-8")
    named = (
        r"(?<![\w./-])(?:src|tests|lab_tests|playbooks|roles|scripts|inventory|kernel|traffic)/[\w./-]*[\w]"
    )
    for name in re.findall(named, text):
        assert (ROOT / name).exists() or "mylab" in name, name
