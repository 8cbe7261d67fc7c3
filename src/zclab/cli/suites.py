# SPDX-License-Identifier: Apache-2.0
"""Commands that check a kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import click
from rich.console import Console

from zclab.base.errors import UsageError
from zclab.base.progress import Progress
from zclab.cli.options import boot_option, diff_option, drawn, json_option, lab_option
from zclab.cli.output import Output
from zclab.deploy import bring_up
from zclab.lab import inventory
from zclab.lab.model import Lab
from zclab.runs.manifest import Judged
from zclab.suites import kinds
from zclab.suites import lockdep as lockdep_suite
from zclab.suites.conformance import document as conformance_document
from zclab.suites.conformance import run as conformance_run
from zclab.suites.conformance import show as conformance_show
from zclab.suites.selftests import document as selftests_document
from zclab.suites.selftests import run as selftests_run
from zclab.suites.selftests import show as selftests_show
from zclab.suites.stress import run as stress_run


@click.command()
@lab_option
@boot_option
@diff_option
@json_option
def conformance(**options: Any) -> None:
    """Test each rule of the zero-copy interfaces on the hosts; print one table per interface.

    Without --kernel the hosts are tested as they run. --diff uses the latest result of each kernel, and
    boots and tests those that have none; a changed row of TCP_ZEROCOPY_RECEIVE or MSG_ZEROCOPY is a failure.

    Example: zclab conformance --diff stock full
    """
    suite = _Suite(
        conformance_run.carry_out,
        conformance_document.latest,
        conformance_document.diff,
        conformance_show.show,
        conformance_show.show_diff,
    )
    _try_or_compare(suite, **options)


@click.command()
@lab_option
@boot_option
@json_option
def lockdep(lab_name: str, variant: str | None, as_json: bool) -> None:
    """Check the order of the socket lock and the mapping lock with lockdep.

    The kernel's entry in the inventory declares the report that is expected (lock_report), or none. lockdep
    reports once per boot.

    Example: zclab lockdep --kernel mmap-debug
    """
    lab = inventory.load(lab_name)
    lab.check_kernels(variant)
    out = Output(as_json)
    with bring_up.booted(lab, variant, out.on_progress) as booted:
        found = lockdep_suite.carry_out(lab.with_kernel(booted))
    out.result(found, kinds.KINDS["lockdep"].show)
    sys.exit(found.exit_code)


@click.command()
@lab_option
@boot_option
@diff_option
@json_option
def selftests(**options: Any) -> None:
    """Run the kernel's own tests of the code that zero-copy uses, built from the kernel's source tree.

    Without --kernel the hosts are tested as they run. --diff uses the latest result of each kernel, and
    boots and tests those that have none; what is worse on B is a failure.

    Example: zclab selftests --diff stock full
    """
    suite = _Suite(
        selftests_run.carry_out,
        selftests_document.latest,
        selftests_document.diff,
        selftests_show.show,
        selftests_show.show_diff,
    )
    _try_or_compare(suite, **options)


@click.command()
@lab_option
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
    """Run random operations on sockets and mappings of the receivers; check data, memory and consoles.

    A host that hangs is reset, and the run fails. Seed and console logs are kept in runs/<id>.

    Example: zclab stress --kernel full-debug --seconds 600
    """
    lab = inventory.load(lab_name)
    lab.check_kernels(variant)
    options = stress_run.options_of(workers, ops)
    out = Output(as_json)

    def reset(host: str) -> None:
        bring_up.reset(lab, host, out.on_progress)

    bring_up.bring_up_missing(lab, out.on_progress)
    with bring_up.booted(lab, variant, out.on_progress) as booted:
        document = stress_run.carry_out(lab, seconds, seed, options, reset, out.on_progress)
        out.result(document, kinds.KINDS["stress"].show)
        if booted and any(host.recovered for host in document.hosts):
            bring_up.boot(lab, booted, out.on_progress)
    sys.exit(document.exit_code)


_D = TypeVar("_D", bound=Judged)
_C = TypeVar("_C", conformance_document.Diff, selftests_document.Diff)


class _Suite(NamedTuple, Generic[_D, _C]):
    """What is tried on a kernel and compared between two."""

    carry_out: Callable[[Lab, Progress], _D]
    latest: Callable[[Lab, str], _D | None]
    compare: Callable[[_D, _D], _C]
    show: Callable[[Console, _D], None]
    show_comparison: Callable[[Console, _C], None]


def _try_or_compare(
    suite: _Suite[_D, _C], lab_name: str, variant: str | None, diff: tuple[str, str] | None, as_json: bool
) -> NoReturn:
    """Carry a suite out on a kernel of a lab, or compare two by their latest results; show it and exit."""
    lab = inventory.load(lab_name)
    if diff and variant:
        raise UsageError("--diff names its two kernels itself: leave --kernel out")
    lab.check_kernels(variant, *(diff or ()))
    out = Output(as_json)
    bring_up.bring_up_missing(lab, out.on_progress)

    def tried(name: str | None) -> _D:
        with bring_up.booted(lab, name, out.on_progress):
            return suite.carry_out(lab, out.on_progress)

    if diff:
        a, b = (suite.latest(lab, name) or tried(name) for name in diff)
        compared = suite.compare(a, b)
        out.result(compared, suite.show_comparison)
        sys.exit(compared.exit_code)
    document = tried(variant)
    out.result(document, suite.show)
    sys.exit(document.exit_code)
