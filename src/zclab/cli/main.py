# SPDX-License-Identifier: Apache-2.0
"""The zclab command."""

from __future__ import annotations

import importlib
import sys

import click

from zclab.base.errors import LabError, ZclabError

#: Every command with the first sentence of its help, by the module of zclab.cli that has it. It is imported
#: when it is used: what a command works with (SSH, Ansible, statistics) takes seconds to import.
_MODULES = {
    "lab": {
        "cache": "Show what the caches hold: images, kernels, compiler output.",
        "console": "Show the end of a virtual host's console log.",
        "down": "Stop the virtual hosts of a lab, or remove its namespaces.",
        "kernels": "Show the kernels of a lab: source and patches of each, whether it is built, "
        "and its size.",
        "status": "Show the hosts of a lab: whether each is running, its SSH port and its accelerator.",
        "up": "Bring the hosts of a lab to the declared state: kernel booted and proven, "
        "link and limits set.",
    },
    "measure": {
        "crosscheck": "Compare the traffic tool with the kernel's tcp_mmap and with iperf3, "
        "in turn on the same link.",
        "list": "List runs of all kinds, newest first, with the kernel and verdict of each.",
        "run": "Measure a lab by a plan, keep all records in runs/<id>, and print the verdict.",
        "show": "Show a run of any kind: its results and verdict, judged from its files.",
    },
    "suites": {
        "conformance": "Test each rule of the zero-copy interfaces on the hosts; "
        "print one table per interface.",
        "lockdep": "Check the order of the socket lock and the mapping lock with lockdep.",
        "selftests": "Run the kernel's own tests of the code that zero-copy uses, "
        "built from the kernel's source tree.",
        "stress": "Run random operations on sockets and mappings of the receivers; "
        "check data, memory and consoles.",
    },
}
COMMANDS = {name: (module, text) for module, texts in _MODULES.items() for name, text in texts.items()}
#: Commands whose function has another name.
_FUNCTIONS = {"cache": "show_cache", "list": "list_runs"}


class _LazyGroup(click.Group):
    """A group whose help imports none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zclab.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command's name and the first sentence of its help."""
        limit = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, click.Command(name, help=text).get_short_help_str(limit))
                    for name, (_, text) in sorted(COMMANDS.items())
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
