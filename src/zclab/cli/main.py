# SPDX-License-Identifier: Apache-2.0
"""The zclab command."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

import click
from rich.console import Console

from zclab.analysis import verdict
from zclab.backends.namespaces import lab as namespaces
from zclab.backends.virtual import lab as virtual_hosts
from zclab.base.errors import LabError, UsageError, ZclabError
from zclab.deploy import cache, playbooks
from zclab.deploy import state as deploy_state
from zclab.deploy.playbooks import Timing
from zclab.host import console as consoles
from zclab.host.ssh import Remote
from zclab.lab import inventory
from zclab.lab.model import Lab
from zclab.measure import engine
from zclab.plan import plan as plans
from zclab.report import console as report
from zclab.report import kernels as kernel_listing
from zclab.report.terminal import print_line
from zclab.runs.folder import Run
from zclab.suites import install as crosscheck_install
from zclab.suites import lockdep
from zclab.suites.conformance import document as conformance_document
from zclab.suites.conformance import run as conformance_run
from zclab.suites.conformance import show as conformance_show
from zclab.suites.crosscheck import document as crosscheck_document
from zclab.suites.crosscheck import run as crosscheck_run
from zclab.suites.crosscheck import show as crosscheck_table
from zclab.suites.crosscheck import tools as crosscheck_tools
from zclab.suites.selftests import document as selftests_document
from zclab.suites.selftests import run as selftests_run
from zclab.suites.selftests import show as selftests_show
from zclab.suites.stress import document as stress_document
from zclab.suites.stress import run as stress_run


def _console() -> Console:
    """Return a console for stdout; wide enough for the tables where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 180)


def _say(line: str) -> None:
    click.echo(line)


class _Document(Protocol):
    """What comes of a command."""

    @property
    def exit_code(self) -> int: ...

    def model_dump_json(self, *, indent: int) -> str: ...


_D = TypeVar("_D", bound=_Document)
_C = TypeVar("_C", bound=_Document)


class _Output:
    """Where a command tells of its work and what came of it; with --json stdout has that alone."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self.console = Console(stderr=True) if as_json else _console()

    def say(self, line: str) -> None:
        """Tell a line."""
        print_line(self.console, line)

    def result(self, document: _D, show: Callable[[Console, _D], None]) -> None:
        """Show a document, or print it."""
        if self._as_json:
            click.echo(document.model_dump_json(indent=2))
        else:
            show(self.console, document)


def _in_lines(lines: Callable[[_D], list[str]]) -> Callable[[Console, _D], None]:
    """Return what shows a document that is told in lines."""

    def show(console: Console, document: _D) -> None:
        for line in lines(document):
            print_line(console, line)

    return show


def _lab_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--lab",
        "lab_name",
        default="virtual",
        show_default=True,
        metavar="LAB",
        help="A name under inventory/, or an inventory directory.",
    )(command)


def _kernel_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--kernel", metavar="VARIANT", help="One of the lab's kernels instead of the one that it boots."
    )(command)


_boot_option = click.option(
    "--kernel", "variant", metavar="VARIANT", help="Boot this kernel of the lab first."
)
_diff_option = click.option(
    "--diff", nargs=2, metavar="A B", help="Show what moved from one kernel of the lab to another."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="zclab")
def cli() -> None:
    """Prove TCP zero-copy on two hosts.

    Exit codes: 0 pass, 1 fail, 2 usage error, 3 inconclusive, 4 invalid (what was to be measured is not what
    ran), 5 the lab could not be brought up.

    Example: zclab run --up
    """


def _bring_up(lab: Lab, **extra_vars: Any) -> list[Timing]:
    if lab.kernel_variant:
        extra_vars["zclab_variant"] = lab.kernel_variant
    outcome = playbooks.run("site", lab.lab_dir, lab.state_dir / "playbooks", _say, extra_vars)
    changed = ", ".join(f"{host} {count}" for host, count in outcome.changed.items())
    _say(f"{lab.name} is up; changed: {changed}")
    return outcome.timings


def _lacks_namespaces(lab: Lab) -> bool:
    """Return whether a lab is one of network namespaces that are not all there: they are in seconds."""
    return lab.kind == "namespaces" and not namespaces.ready(lab.state_dir, _names(lab))


def _namespaces_up(lab: Lab, say: Callable[[str], None]) -> None:
    """Bring a lab of network namespaces up, if that is what it is."""
    if _lacks_namespaces(lab):
        playbooks.run("site", lab.lab_dir, lab.state_dir / "playbooks", say)


def _names(lab: Lab) -> list[str]:
    return [host.name for host in lab.hosts]


def _boot(lab: Lab, variant: str, say: Callable[[str], None] = _say) -> None:
    """Have the hosts of a lab run one of its kernels, with link and limits set again.

    Virtual hosts are started anew first if that kernel needs another amount of memory.
    """
    for playbook in ("hosts_up", "kernel", "tune"):
        playbooks.run(playbook, lab.lab_dir, lab.state_dir / "playbooks", say, {"zclab_variant": variant})


@cli.command()
@_lab_option
@_kernel_option
@click.option("--promote", is_flag=True, help="Make the lab's kernel the default of each host's boot loader.")
def up(lab_name: str, kernel: str | None, promote: bool) -> None:
    """Make the hosts of a lab so: kernel built, booted and proven, link and limits set.

    Doing it twice changes nothing. Example: zclab up --lab inventory/connectx3
    """
    lab = inventory.load(lab_name).with_kernel(kernel)
    started = time.monotonic()
    timings = _bring_up(lab, **({"zclab_promote": True} if promote else {}))
    report.show_timings(_console(), timings, time.monotonic() - started)


@cli.command()
@_lab_option
@click.argument("plan_name", metavar="[PLAN]", required=False)
@_kernel_option
@click.option("--up", "bring_up", is_flag=True, help="Bring the lab up first.")
@click.option("--modes", help="Only comparisons that use one of these modes, such as map_once,zerocopy.")
@click.option("--sizes", help="Message sizes in bytes instead of the plan's, such as 65536,262144.")
@click.option("--paces", help="Paces in Gbit/s instead of the plan's, such as none,0.1.")
@click.option("--seconds", type=float, help="Measured seconds each instead of the plan's.")
@click.option("--repeats", type=int, help="Measurements of each arm instead of the plan's.")
@click.option("--streams", help="Numbers of parallel streams instead of the plan's, such as 1,4.")
@click.option("--ip-versions", help="IP versions instead of the lab's own, such as 4,6.")
@click.option("--seed", type=click.IntRange(min=0), help="Draw the order of arms from this seed.")
@click.option(
    "--profile",
    metavar="EVENT",
    help="Also record once for each arm where its CPU goes, by a perf event such as cycles.",
)
@click.option("--resume", metavar="RUN", help="Continue an interrupted run: its id, or latest.")
@click.option("--since", type=float, hidden=True, help="When the whole began (seconds since 1970).")
def run(
    lab_name: str,
    kernel: str | None,
    plan_name: str | None,
    bring_up: bool,
    modes: str | None,
    sizes: str | None,
    paces: str | None,
    seconds: float | None,
    repeats: int | None,
    streams: str | None,
    ip_versions: str | None,
    seed: int | None,
    profile: str | None,
    resume: str | None,
    since: float | None,
) -> None:
    """Measure a lab by a plan, keep everything in runs/<id>, and say the verdict.

    PLAN is a name in lab_tests/plans or a file; without it the lab's own. Example: zclab run --modes
    map_once --seconds 2
    """
    began = since or time.time()
    lab = inventory.load(lab_name).with_kernel(kernel)
    selectors = (plan_name, modes, sizes, paces, seconds, repeats, streams, ip_versions, seed, profile)
    if resume and any(value is not None for value in selectors):
        raise UsageError("--resume goes on with the run's own plan: leave PLAN and its selectors out")
    plan = (plans.load(plan_name) if plan_name else plans.of_lab(lab)).select(
        modes=_list(modes, str, "--modes"),
        sizes=_list(sizes, int, "--sizes"),
        paces=_list(paces, lambda text: None if text == "none" else float(text), "--paces"),
        seconds=seconds,
        repeats=repeats,
        streams=_list(streams, int, "--streams"),
        ip_versions=_list(ip_versions, int, "--ip-versions"),
        seed=seed,
        profile_event=profile,
    )
    unfinished = Run.find(resume) if resume else None
    bring_up = bring_up or _lacks_namespaces(lab)  # nobody should have to ask for these
    timings = _bring_up(lab) if bring_up else []
    console = _console()
    started = time.monotonic()
    result = engine.execute(lab, plan, report.RunReporter(console), unfinished, _boot)
    document = verdict.judge(result.manifest(), result.records())
    report.show(console, document)
    if bring_up:
        timings.append(Timing("measurements", time.monotonic() - started))
        report.show_timings(console, timings, time.time() - began)
    sys.exit(document.exit_code)


def _list(text: str | None, convert: Callable[[str], Any], option: str) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [convert(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint=option) from None


@cli.command()
@_lab_option
@click.option("--modes", help="Receive modes, such as copy,map_once, instead of all that the lab can map.")
@click.option(
    "--repeats", default=10, type=click.IntRange(1, 1000), show_default=True, help="Executions of each tool."
)
@click.option(
    "--seconds", default=1, type=click.IntRange(1, 3600), show_default=True, help="Seconds of each execution."
)
@click.option("--seed", type=click.IntRange(min=0), help="Draw the order of tools from this seed.")
@_json_option
def crosscheck(
    lab_name: str, modes: str | None, repeats: int, seconds: int, seed: int | None, as_json: bool
) -> None:
    """Compare the traffic tool with the kernel's tcp_mmap and with iperf3, in turn on the same link.

    Prints ratios of throughput and of the receiver's CPU per MiB.

    Example: zclab crosscheck --lab namespaces --modes copy --json
    """
    lab = inventory.load(lab_name)
    chosen = crosscheck_run.modes_of(lab, _list(modes, str, "--modes"))
    out = _Output(as_json)
    tools = crosscheck_tools.prepare(lab, out.say)
    _namespaces_up(lab, out.say)
    crosscheck_install.install(lab, tools.files, out.say)
    drawn = secrets.randbelow(2**32) if seed is None else seed
    total = len(crosscheck_run.order(chosen, repeats, drawn))
    progress = crosscheck_table.Progress(out.console, total)
    settings, observations = crosscheck_run.carry_out(
        lab, chosen, repeats, seconds, drawn, tools.versions, progress.told
    )
    document = crosscheck_document.judge(settings, observations)
    out.result(document, crosscheck_table.show)
    sys.exit(document.exit_code)


@cli.command()
@_lab_option
@_boot_option
@_diff_option
@_json_option
def conformance(lab_name: str, variant: str | None, diff: tuple[str, str] | None, as_json: bool) -> None:
    """Try the rules of each zero-copy interface on the hosts, and show a table an interface.

    Without --kernel the hosts are tried as they run. --diff takes the kept results of both kernels, and boots
    and tries those that have none; a row of TCP_ZEROCOPY_RECEIVE or MSG_ZEROCOPY that moved is a failure.
    A kernel that was booted for this is left again afterwards.

    Example: zclab conformance --diff stock full
    """
    _try_or_compare(
        lab_name,
        variant,
        diff,
        as_json,
        _Suite(
            conformance_run.carry_out,
            conformance_document.kept,
            conformance_document.diff,
            conformance_show.show,
            conformance_show.show_diff,
        ),
    )


@cli.command()
@_lab_option
@_boot_option
@_json_option
def locks(lab_name: str, variant: str | None, as_json: bool) -> None:
    """Have lockdep watch everything that takes a socket's lock and the mapping lock.

    What it has to report, or that it has to be silent, the kernel's declaration in the inventory says. It
    reports once a boot. A kernel that was booted for this is left again afterwards.

    Example: zclab locks --kernel mmap-debug
    """
    lab = inventory.load(lab_name)
    lab.check_kernels(variant)
    out = _Output(as_json)
    with _booted(lab, variant, out.say) as booted:
        found = lockdep.carry_out(lab.with_kernel(booted))
    out.result(found, _in_lines(lockdep.lines))
    sys.exit(found.exit_code)


@cli.command()
@_lab_option
@_boot_option
@_diff_option
@_json_option
def selftests(lab_name: str, variant: str | None, diff: tuple[str, str] | None, as_json: bool) -> None:
    """Run the kernel's own tests of what zero-copy touches, built from the kernel's own tree.

    Without --kernel the hosts are tried as they run. --diff takes the kept results of both kernels, and boots
    and tries those that have none; what is worse on B is a failure. A kernel that was booted for this is left
    again afterwards.

    Example: zclab selftests --diff stock full
    """
    _try_or_compare(
        lab_name,
        variant,
        diff,
        as_json,
        _Suite(
            selftests_run.carry_out,
            selftests_document.kept,
            selftests_document.diff,
            selftests_show.show,
            selftests_show.show_diff,
        ),
    )


@cli.command()
@_lab_option
@_boot_option
@click.option(
    "--seconds", default=60.0, type=click.FloatRange(1, 86400), show_default=True, help="How long it takes."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32), help="Draw the operations from this seed, as an earlier stress."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that work at the same time.")
@click.option("--ops", help="Only these kinds of operations, such as map,read,send_zerocopy.")
@_json_option
def stress(
    lab_name: str,
    variant: str | None,
    seconds: float,
    seed: int | None,
    workers: int | None,
    ops: str | None,
    as_json: bool,
) -> None:
    """Do random things to sockets and mappings on the receivers, and watch their bytes, memory and consoles.

    A host that hangs is reset, and the stress fails. Seed and consoles are kept in runs/stress-<id>. A kernel
    that was booted for this is left again afterwards.

    Example: zclab stress --kernel full-debug --seconds 600
    """
    lab = inventory.load(lab_name)
    lab.check_kernels(variant)
    options = stress_run.options_of(workers, ops)
    out = _Output(as_json)

    def reset(host: str) -> None:
        playbooks.run("reset", lab.lab_dir, lab.state_dir / "playbooks", out.say, {"zclab_host": host})

    _namespaces_up(lab, out.say)
    drawn = secrets.randbelow(2**32) if seed is None else seed
    with _booted(lab, variant, out.say) as booted:
        document = stress_run.carry_out(lab, seconds, drawn, options, reset, out.say)
        out.result(document, _in_lines(stress_document.lines))
        if booted and any(host.recovered for host in document.hosts):
            _boot(lab, booted, out.say)
    sys.exit(document.exit_code)


@contextlib.contextmanager
def _booted(lab: Lab, variant: str | None, say: Callable[[str], None]) -> Iterator[str | None]:
    """Have the hosts of a lab run one of its kernels, and leave them with the kernel they had."""
    before = deploy_state.running_kernel(lab)
    if variant is None or before is None or before.variant == variant:
        yield before.variant if before else None
        return
    try:
        _boot(lab, variant, say)
        yield variant
    finally:
        _boot(lab, before.variant, say)


class _Suite(NamedTuple, Generic[_D, _C]):
    """What is tried on a kernel and compared between two."""

    carry_out: Callable[[Lab, Callable[[str], None]], _D]
    kept: Callable[[Lab, str], _D | None]
    compare: Callable[[_D, _D], _C]
    show: Callable[[Console, _D], None]
    show_comparison: Callable[[Console, _C], None]


def _try_or_compare(
    lab_name: str,
    variant: str | None,
    diff: tuple[str, str] | None,
    as_json: bool,
    suite: _Suite[_D, _C],
) -> NoReturn:
    """Carry a suite out on a kernel of a lab, or compare two by what is kept, else tried; show and exit."""
    lab = inventory.load(lab_name)
    if diff and variant:
        raise UsageError("--diff names its two kernels itself: leave --kernel out")
    lab.check_kernels(variant, *(diff or ()))
    out = _Output(as_json)
    _namespaces_up(lab, out.say)

    def tried(name: str | None) -> _D:
        with _booted(lab, name, out.say):
            return suite.carry_out(lab, out.say)

    if diff:
        a, b = (suite.kept(lab, name) or tried(name) for name in diff)
        compared = suite.compare(a, b)
        out.result(compared, suite.show_comparison)
        sys.exit(compared.exit_code)
    document = tried(variant)
    out.result(document, suite.show)
    sys.exit(document.exit_code)


@cli.command()
@click.argument("run_name", metavar="[RUN]", default="latest")
@click.option("--json", "as_json", is_flag=True, help="Print the run as one JSON document.")
def show(run_name: str, as_json: bool) -> None:
    """Show a run: its measurements, comparisons and verdict, judged again from its files.

    RUN is a run's id, its directory, or latest. Example: zclab show latest --json
    """
    found = Run.find(run_name)
    document = verdict.judge(found.manifest(), found.records())
    _Output(as_json).result(document, report.show)
    sys.exit(document.exit_code)


@cli.command()
@_lab_option
def status(lab_name: str) -> None:
    """Show each host of a lab: whether it runs, where SSH answers, what runs it.

    Example: zclab status --lab virtual
    """
    lab = inventory.load(lab_name)
    if lab.kind == "virtual":
        report.show_hosts(_console(), lab, virtual_hosts.status(lab.state_dir))
        return
    if lab.kind == "namespaces":
        for one in namespaces.status(lab.state_dir, _names(lab)):
            state = f"up, {one.processes} processes" if one.running else "down"
            click.echo(f"{one.name}: {state}")
        return
    for host in lab.hosts:
        with Remote(host.name, lab.state_dir / "ssh_config") as remote:
            click.echo(f"{host.name}: {host.role}, runs {remote.output('uname -r').strip()}")


@cli.command()
@_lab_option
@click.argument("host")
@click.option(
    "--lines", default=50, type=click.IntRange(min=1), show_default=True, help="How many of its last lines."
)
@click.option("--follow", is_flag=True, help="Go on as it grows, until Ctrl-C.")
def console(lab_name: str, host: str, lines: int, follow: bool) -> None:
    """Show the end of a virtual host's console log.

    Example: zclab console receiver1 --follow
    """
    lab = inventory.load(lab_name)
    if host not in {one.name for one in lab.hosts}:
        raise UsageError(f"{lab.name}: has no host {host!r}: {', '.join(one.name for one in lab.hosts)}")
    if lab.kind == "namespaces":
        raise UsageError(
            f"{lab.name}: its hosts have no console: they run this machine's kernel, which reports to dmesg"
        )
    path = consoles.log_path(lab.state_dir, host)
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


@cli.command()
@_lab_option
@click.option(
    "--purge",
    is_flag=True,
    help="Also remove disks, keys and caches; kernels used within the last hour stay.",
)
def down(lab_name: str, purge: bool) -> None:
    """Stop the hosts that a lab has made. Nothing of them stays behind but their disks and keys.

    Example: zclab down --purge
    """
    lab = inventory.load(lab_name)
    if lab.kind == "hardware":
        raise UsageError(
            f"{lab.name}: hardware hosts can not be taken down: playbooks/restore.yml undoes the rest"
        )
    playbooks.run("hosts_down", lab.lab_dir, cache.runner_dir(), _say, {"purge": purge})
    if purge:
        for line in cache.prune(keep=0):
            click.echo(line)


@cli.command()
@_lab_option
@_json_option
def kernels(lab_name: str, as_json: bool) -> None:
    """Show the kernels of a lab: what each is made from, whether it is built, and how big it is.

    Looks into the cache only, and builds nothing. Example: zclab kernels --json
    """
    lab = inventory.load(lab_name)
    found = kernel_listing.entries(lab)
    if as_json:
        click.echo(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    else:
        kernel_listing.show(_console(), lab, found)


@cli.command(name="cache")
@click.option("--prune", is_flag=True, help="Remove what no lab uses, but the newest kernels.")
@click.option(
    "--keep",
    default=3,
    type=click.IntRange(min=0),
    show_default=True,
    help="How many of the newest kernels --prune keeps.",
)
def show_cache(prune: bool, keep: int) -> None:
    """Show what the caches hold: images, kernels, compiler output. All of it can be made again.

    Example: zclab cache --prune
    """
    lines = cache.prune(keep) if prune else cache.listing()
    for line in lines or ["nothing"]:
        click.echo(line)


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
