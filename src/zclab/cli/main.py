# SPDX-License-Identifier: Apache-2.0
"""The zclab command."""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

import click

from zclab.base.errors import LabError, ZclabError


class _Lazy(NamedTuple):
    """A command that is imported when it is used: a function in a module of zclab.cli.

    `help` is the first sentence of its help, which `zclab --help` shows.
    """

    module: str
    function: str
    help: str


#: Importing a command brings in what it works with (SSH, Ansible, statistics), which takes seconds.
COMMANDS = {
    "cache": _Lazy("lab", "show_cache", "Show what the caches hold: images, kernels, compiler output."),
    "conformance": _Lazy(
        "suites",
        "conformance",
        "Test each rule of the zero-copy interfaces on the hosts; print one table per interface.",
    ),
    "console": _Lazy("lab", "console", "Show the end of a virtual host's console log."),
    "crosscheck": _Lazy(
        "measure",
        "crosscheck",
        "Compare the traffic tool with the kernel's tcp_mmap and with iperf3, in turn on the same link.",
    ),
    "down": _Lazy("lab", "down", "Stop the virtual hosts of a lab, or remove its namespaces."),
    "kernels": _Lazy(
        "lab",
        "kernels",
        "Show the kernels of a lab: source and patches of each, whether it is built, and its size.",
    ),
    "list": _Lazy(
        "measure", "list_runs", "List runs of all kinds, newest first, with the kernel and verdict of each."
    ),
    "lockdep": _Lazy(
        "suites", "lockdep", "Check the order of the socket lock and the mapping lock with lockdep."
    ),
    "run": _Lazy(
        "measure", "run", "Measure a lab by a plan, keep all records in runs/<id>, and print the verdict."
    ),
    "selftests": _Lazy(
        "suites",
        "selftests",
        "Run the kernel's own tests of the code that zero-copy uses, built from the kernel's source tree.",
    ),
    "show": _Lazy(
        "measure",
        "show",
        "Show a run of any kind: its results and verdict, judged from its files.",
    ),
    "status": _Lazy(
        "lab", "status", "Show the hosts of a lab: whether each is running, its SSH port and its accelerator."
    ),
    "stress": _Lazy(
        "suites",
        "stress",
        "Run random operations on sockets and mappings of the receivers; check data, memory and consoles.",
    ),
    "up": _Lazy(
        "lab",
        "up",
        "Bring the hosts of a lab to the declared state: kernel booted and proven, link and limits set.",
    ),
}


class _LazyGroup(click.Group):
    """A group whose help imports none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if (lazy := COMMANDS.get(cmd_name)) is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"zclab.cli.{lazy.module}"), lazy.function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's name and the first sentence of its help."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=COMMANDS[name].help).get_short_help_str(limit))
                    for name in self.list_commands(ctx)
                ]
            )


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zclab")
def cli() -> None:
    """Prove TCP zero-copy on two hosts.

    Exit codes: 0 pass, 1 fail, 2 usage error, 3 inconclusive, 4 invalid (what was to be measured is not what
    ran), 5 the lab could not be brought up.

    Example: zclab run --up
    """


def main() -> None:
    """Run the command; print an error that is meant for people as one line."""
    try:
        cli.main(prog_name="zclab", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except click.Abort:
        click.echo("zclab: interrupted", err=True)
        sys.exit(130)
    except ZclabError as error:
        click.echo(f"zclab: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a file of another user
        click.echo(f"zclab: {error}", err=True)
        sys.exit(LabError.exit_code)
