# SPDX-License-Identifier: Apache-2.0
"""Commands that bring up, show and stop the hosts of a lab."""

from __future__ import annotations

import json
import time

import click

from zclab.backends.choice import backend_of
from zclab.base.errors import UsageError
from zclab.cli import output
from zclab.cli.options import json_option, kernel_option, lab_option
from zclab.deploy import bring_up, cache
from zclab.host import console as consoles
from zclab.lab import inventory
from zclab.lab.defaults import TWO_HOSTS
from zclab.report import console as report
from zclab.report import kernels as kernel_listing


@click.command()
@lab_option(TWO_HOSTS)
@kernel_option
@click.option("--promote", is_flag=True, help="Make the lab's kernel the default of each host's boot loader.")
def up(lab_name: str, kernel: str | None, promote: bool) -> None:
    """Bring the hosts of a lab to the declared state: kernel booted and proven, link and limits set.

    Builds the kernel first if it is not in the cache. A second time it changes nothing. The same as
    playbooks/site.yml.

    Example: zclab up --lab inventory/connectx3
    """
    lab = inventory.load(lab_name).with_kernel(kernel)
    started = time.monotonic()
    timings = bring_up.bring_up(lab, click.echo, **({"zclab_promote": True} if promote else {}))
    report.show_timings(output.console_for_stdout(), timings, time.monotonic() - started)


@click.command()
@lab_option(TWO_HOSTS)
def status(lab_name: str) -> None:
    """Show the hosts of a lab: whether each is running, its SSH port and its accelerator.

    Example: zclab status --lab virtual
    """
    lab = inventory.load(lab_name)
    report.show_status(output.console_for_stdout(), lab.name, backend_of(lab).status())


@click.command()
@lab_option(TWO_HOSTS)
@click.argument("host")
@click.option(
    "--lines", default=50, type=click.IntRange(min=1), show_default=True, help="Number of lines to show."
)
@click.option("--follow", is_flag=True, help="Keep printing as the log grows, until Ctrl-C.")
def console(lab_name: str, host: str, lines: int, follow: bool) -> None:
    """Show the end of a virtual host's console log.

    Example: zclab console receiver1 --follow
    """
    lab = inventory.load(lab_name)
    if host not in {one.name for one in lab.hosts}:
        raise UsageError(f"{lab.name}: has no host {host!r}: {', '.join(one.name for one in lab.hosts)}")
    path = backend_of(lab).console(host)
    if not path.is_file():
        raise UsageError(f"{path}: no console log: the lab was never up, or its consoles are not logged here")
    shown = consoles.read(path, 0)
    click.echo("\n".join(shown.decode(errors="replace").splitlines()[-lines:]))
    offset = len(shown)
    while follow:
        if consoles.size(path) < offset:
            offset = 0  # the host was started again, with a new log
        more = consoles.read(path, offset)
        click.echo(more, nl=False)
        offset += len(more)
        time.sleep(0.5)


@click.command()
@lab_option(TWO_HOSTS)
@click.option(
    "--purge",
    is_flag=True,
    help="Also remove disks, keys and caches, except kernels used within the last hour.",
)
def down(lab_name: str, purge: bool) -> None:
    """Stop the virtual hosts of a lab, or remove its namespaces.

    Disks and keys are kept for the next start, unless --purge is given.

    Example: zclab down --purge
    """
    lab = inventory.load(lab_name)
    bring_up.take_down(lab, click.echo, purge=purge)
    if purge:
        for line in cache.prune(keep=0):
            click.echo(line)


@click.command()
@lab_option(TWO_HOSTS)
@json_option
def kernels(lab_name: str, as_json: bool) -> None:
    """Show the kernels of a lab: source and patches of each, whether it is built, and its size.

    Reads the cache only and builds nothing.

    Example: zclab kernels --json
    """
    lab = inventory.load(lab_name)
    found = kernel_listing.entries(lab)
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    else:
        kernel_listing.show(output.console_for_stdout(), lab, found)


@click.command(name="cache")
@click.option("--prune", is_flag=True, help="Remove what no lab uses, except the newest kernels.")
@click.option(
    "--keep",
    default=3,
    type=click.IntRange(min=0),
    show_default=True,
    help="Number of newest kernels that --prune keeps.",
)
def show_cache(prune: bool, keep: int) -> None:
    """Show what the caches hold: images, kernels, compiler output.

    Everything in them is rebuilt when it is needed.

    Example: zclab cache --prune
    """
    lines = cache.prune(keep) if prune else cache.listing()
    for line in lines or ["nothing"]:
        click.echo(line)
