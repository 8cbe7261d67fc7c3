# SPDX-License-Identifier: Apache-2.0
"""Commands that check a kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import click
from rich.console import Console

from zclab.base.errors import UsageError
from zclab.cli.options import boot_option, diff_option, drawn, json_option, lab_option
from zclab.cli.output import Output
from zclab.lab import inventory
from zclab.lab.defaults import ONE_GUEST, ONE_GUEST_WITH_NICS, TWO_HOSTS
from zclab.suites import kinds, on_kernel
from zclab.suites import lockdep as lockdep_suite
from zclab.suites.conformance import run as conformance_run
from zclab.suites.conformance import show as conformance_show
from zclab.suites.selftests import run as selftests_run
from zclab.suites.selftests import show as selftests_show
from zclab.suites.stress import run as stress_run


def _compared(default_lab: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return what makes the command of a suite whose results on two kernels of a lab can be compared."""

    def made(command: Callable[..., None]) -> click.Command:
        return click.command()(lab_option(default_lab)(boot_option(diff_option(json_option(command)))))

    return made


@_compared(ONE_GUEST_WITH_NICS)
def conformance(**options: Any) -> None:
    """Test each rule of the zero-copy interfaces on a kernel; print one table per interface.

    Without --kernel the lab's own kernel is tested, or the hosts as they run. --diff uses the lab's latest
    result of each kernel, and boots and tests those that have none; a changed row of TCP_ZEROCOPY_RECEIVE or
    MSG_ZEROCOPY is a failure.

    Example: zclab conformance --diff stock full
    """
    _carry_out_or_compare(conformance_run.SUITE, conformance_show.show_diff, **options)


@click.command()
@lab_option(TWO_HOSTS)
@boot_option
@json_option
def lockdep(lab_name: str, variant: str | None, as_json: bool) -> None:
    """Check the order of the socket lock and the mapping lock with lockdep.

    The kernel's entry in the inventory declares the report that is expected (lock_report), or none. lockdep
    reports once per boot. It needs hosts; each of the lab virtual-smp has two CPUs.

    Example: zclab lockdep --kernel mmap-debug
    """
    out = Output(as_json)
    lab = inventory.load(lab_name)
    found = on_kernel.carry_out(lab, variant, lambda lab, _: lockdep_suite.carry_out(lab), out.on_progress)
    out.end(found, kinds.KINDS["lockdep"].show)


@_compared(TWO_HOSTS)
def selftests(**options: Any) -> None:
    """Run the kernel's own tests of the code that zero-copy uses, built from the kernel's source tree.

    Without --kernel the hosts are tested as they run. --diff uses the lab's latest result of each kernel, and
    boots and tests those that have none; what is worse on B is a failure. They are installed over SSH.

    Example: zclab selftests --diff stock full
    """
    _carry_out_or_compare(selftests_run.SUITE, selftests_show.show_diff, **options)


@click.command()
@lab_option(ONE_GUEST)
@boot_option
@click.option(
    "--seconds", default=60.0, type=click.FloatRange(1, 86400), show_default=True, help="Duration in seconds."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32),
    callback=drawn,
    help="Seed for the operations, to repeat an earlier stress run.",
)
@click.option("--workers", type=click.IntRange(1, 64), help="Number of worker processes per host.")
@click.option("--ops", help="Only these kinds of operations, such as map,read,send_zerocopy.")
@json_option
def stress(
    lab_name: str,
    variant: str | None,
    seconds: float,
    seed: int,
    workers: int | None,
    ops: str | None,
    as_json: bool,
) -> None:
    """Run random operations on sockets and mappings of a kernel; check data, memory and consoles.

    In a guest of an exact lab a seed gives the same bytes each time, and --seconds are those of its clock.
    Elsewhere a host that hangs is reset, and the run fails. Seed and console logs are kept in runs/<id>.

    Example: zclab stress --lab virtual --kernel full-debug --seconds 600
    """
    out = Output(as_json)
    lab = inventory.load(lab_name)
    options = stress_run.options_of(workers, ops)
    suite = partial(stress_run.carry_out, seconds=seconds, seed=seed, options=options)
    out.end(on_kernel.carry_out(lab, variant, suite, out.on_progress), kinds.KINDS["stress"].show)


def _carry_out_or_compare(
    suite: on_kernel.Suite[Any, Any],
    show_comparison: Callable[[Console, Any], None],
    lab_name: str,
    variant: str | None,
    diff: tuple[str, str] | None,
    as_json: bool,
) -> NoReturn:
    """Carry a suite out on a kernel of a lab, or compare two by their latest results; show it and exit."""
    if diff and variant:
        raise UsageError("--diff names its two kernels itself: leave --kernel out")
    out = Output(as_json)
    lab = inventory.load(lab_name)
    if diff:
        out.end(on_kernel.compare(lab, diff, suite, out.on_progress), show_comparison)
    document = on_kernel.carry_out(lab, variant, suite.carry_out, out.on_progress)
    out.end(document, kinds.KINDS[suite.kind.name].show)
