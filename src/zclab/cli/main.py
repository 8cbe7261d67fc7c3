# SPDX-License-Identifier: Apache-2.0
"""The zclab command."""

from __future__ import annotations

import sys

import click

from zclab.base.errors import LabError, ZclabError
from zclab.cli import lab, measure, suites


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zclab")
def cli() -> None:
    """Prove TCP zero-copy on two hosts.

    Exit codes: 0 pass, 1 fail, 2 usage error, 3 inconclusive, 4 invalid (what was to be measured is not what
    ran), 5 the lab could not be brought up.

    Example: zclab run --up
    """


for _command in (
    lab.up,
    measure.run,
    measure.crosscheck,
    suites.conformance,
    suites.locks,
    suites.selftests,
    suites.stress,
    measure.show,
    lab.status,
    lab.console,
    lab.down,
    lab.kernels,
    lab.show_cache,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command; print an error that is meant for people as one line."""
    try:
        cli.main(standalone_mode=False)
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
