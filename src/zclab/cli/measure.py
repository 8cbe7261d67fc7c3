# SPDX-License-Identifier: Apache-2.0
"""Commands that measure, and show what was measured."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import click

from zclab.cli.options import drawn, json_option, kernel_option, lab_option, list_option, plan_lab_option
from zclab.cli.output import Output, console_for_stdout
from zclab.lab import inventory
from zclab.lab.defaults import ONE_GUEST, TWO_HOSTS
from zclab.measure import pin
from zclab.measure import run as measure_run
from zclab.report import console as report
from zclab.report import cost as cost_report
from zclab.runs import query
from zclab.runs.manifest import KIND_NAMES, check_kind
from zclab.suites import cost as cost_suite
from zclab.suites import kinds
from zclab.suites.crosscheck import run as crosscheck_run


def _pace(text: str) -> float | None:
    return None if text == "none" else float(text)


@click.command()
@plan_lab_option
@click.argument("plan_name", metavar="[PLAN]", required=False)
@kernel_option
@click.option("--up", "with_up", is_flag=True, help="Bring the lab up first.")
@list_option("--modes", str, "Only comparisons that use one of these modes, such as map_once,zerocopy.")
@list_option(
    "--sizes",
    int,
    "Message sizes in bytes, instead of the plan's, such as 65536,262144.",
    field="message_bytes",
)
@list_option(
    "--paces", _pace, "Paces in Gbit/s, instead of the plan's, such as none,0.1.", field="pace_gbit_per_s"
)
@click.option("--seconds", type=float, help="Length of each measurement in seconds, instead of the plan's.")
@click.option("--repeats", type=int, help="Measurements of each arm, instead of the plan's.")
@list_option("--streams", int, "Numbers of parallel streams, instead of the plan's, such as 1,4.")
@list_option("--ip-versions", int, "IP versions, instead of the lab's own, such as 4,6.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed for the order of arms.")
@click.option(
    "--profile",
    "profile_event",
    metavar="EVENT",
    help="Also profile each arm once, by a perf event such as cycles.",
)
@click.option(
    "--pilot",
    is_flag=True,
    help="Measure a few pairs only, and say how many the plan needs for its precision.",
)
@click.option(
    "--twice",
    is_flag=True,
    help="Execute the plan a second time, elsewhere, and compare byte by byte (exact labs).",
)
@click.option("--resume", metavar="RUN", help="Continue an interrupted run: its id, or latest.")
@click.option("--since", type=float, hidden=True, help="When the whole began (seconds since 1970).")
def run(
    lab_name: str | None,
    kernel: str | None,
    plan_name: str | None,
    with_up: bool,
    resume: str | None,
    pilot: bool,
    twice: bool,
    since: float | None,
    **selectors: Any,
) -> None:
    """Measure a lab by a plan, keep all records in runs/<id>, and print the verdict.

    PLAN is a name in lab_tests/plans or a file; the default is the lab's own. A plan may name the lab that it
    is made for. A namespaces lab comes up by itself.

    A pilot exits with 0 if the plan's limits suffice, 3 if one does not, else with the code of the verdict.

    Example: zclab run --modes map_once --seconds 2
    """
    began = since or time.time()
    console = console_for_stdout()
    lab = inventory.load(lab_name or measure_run.lab_for(plan_name)).with_kernel(kernel)
    document, timings = measure_run.carry_out(
        lab,
        plan_name,
        selectors,
        resume,
        with_up,
        report.RunReporter(console),
        click.echo,
        _warn,
        pilot,
        twice,
    )
    kinds.KINDS["run"].show(console, document)
    code = document.exit_code
    if pilot:
        plan, needs, code = measure_run.judge_pilot(lab, plan_name, selectors, document)
        report.show_pilot(console, plan, needs)
    if timings:
        report.show_timings(console, timings, time.time() - began)
    sys.exit(code)


@click.command()
@lab_option(TWO_HOSTS)
@list_option(
    "--modes", str, "Receive modes to compare, such as copy,map_once (default: all that the lab can map)."
)
@click.option(
    "--repeats", default=10, type=click.IntRange(1, 1000), show_default=True, help="Executions of each tool."
)
@click.option(
    "--seconds",
    default=1,
    type=click.IntRange(1, 3600),
    show_default=True,
    help="Length of each execution in seconds.",
)
@click.option("--seed", type=click.IntRange(min=0), callback=drawn, help="Seed for the order of tools.")
@json_option
def crosscheck(
    lab_name: str, modes: list[str] | None, repeats: int, seconds: int, seed: int, as_json: bool
) -> None:
    """Compare the traffic tool with the kernel's tcp_mmap and with iperf3, in turn on the same link.

    Prints the ratios of throughput and of receiver CPU per MiB. Installs what it needs on the hosts.

    Example: zclab crosscheck --lab namespaces --modes copy --json
    """
    out = Output(as_json)
    lab = inventory.load(lab_name)
    document = crosscheck_run.carry_out(lab, modes, repeats, seconds, seed, out.on_progress)
    out.end(document, kinds.KINDS["crosscheck"].show)


@click.command()
@click.argument("action", type=click.Choice(["set"]))
@lab_option(ONE_GUEST, "An exact lab.")
@kernel_option
@click.option("--reason", required=True, help="Why the counts are different from now on, in a few words.")
@click.option(
    "--boots", default=6, type=click.IntRange(1, 100), show_default=True, help="Boots that are measured."
)
def baseline(action: str, lab_name: str, kernel: str | None, reason: str, boots: int) -> None:
    """Set the pinned counts of an exact lab: measure its baseline's plan, and write them into its inventory.

    `zclab run` compares that plan with them. The entry of this emulator and compiler is replaced, others
    stay. Commit the file with the change that made the counts different.

    Example: zclab baseline set --lab exact --reason "a later kernel source"
    """
    console = console_for_stdout()
    lab = inventory.load(lab_name).with_kernel(kernel)
    run, path = pin.renew(lab, reason, boots, report.RunReporter(console), click.echo)
    click.echo(f"{path}: the counts of run {run.id} are pinned")


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option(
    "--top",
    default=15,
    type=click.IntRange(min=1),
    show_default=True,
    help="How many functions to show; --json has all.",
)
@json_option
def cost(a: str, b: str, top: int, as_json: bool) -> None:
    """Compare the instructions of two runs of an exact lab by kernel function, per MiB, over their boots.

    A and B are runs, each as `zclab show` takes it, or one arm of a run: RUN:a, RUN:b. Functions that differ
    by more than chance come first, by the size of the difference. Instructions of an emulated CPU are a cost
    beside a baseline's, and no time.

    Example: zclab cost latest:a latest:b --top 10
    """
    Output(as_json).end(cost_suite.compared(a, b, _warn), partial(cost_report.show, top=top))


_lab_filter = click.option("--lab", metavar="LAB", help="Only runs of this lab.")
_kind_filter = click.option(
    "--kind", metavar="KIND", help=f"Only runs of this kind: {', '.join(KIND_NAMES)}."
)


@click.command()
@click.argument("run_name", metavar="[RUN]", default=query.LATEST)
@_lab_filter
@_kind_filter
@json_option
def show(run_name: str, lab: str | None, kind: str | None, as_json: bool) -> None:
    """Show a run of any kind: its results and verdict, judged from its files.

    RUN is a run's id, its directory, or latest. Exits with the code of the verdict.

    Example: zclab show latest --lab virtual --kind conformance
    """
    found = query.find(run_name, _warn, query.check_lab(lab, inventory.names()), check_kind(kind))
    document = kinds.document_of(found)
    if found.summary.finished_at is None and document.verdict == "invalid":
        _warn(f"{found.directory.name}: did not finish")
    Output(as_json).end(document, kinds.KINDS[found.summary.kind].show)


@click.command(name="list")
@_lab_filter
@_kind_filter
@json_option
def list_runs(lab: str | None, kind: str | None, as_json: bool) -> None:
    """List runs of all kinds, newest first, with the kernel and verdict of each.

    Example: zclab list --lab virtual --json
    """
    known = query.check_lab(lab, inventory.names())
    Output(as_json).end(kinds.listed(_warn, known, check_kind(kind)), kinds.show_list)


def _warn(line: str) -> None:
    click.echo(f"zclab: {line}", err=True)
