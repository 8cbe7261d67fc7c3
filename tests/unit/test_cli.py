# SPDX-License-Identifier: Apache-2.0
"""The command: help with an example, documented, errors as one line, exit codes as promised."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import yaml
from rich.console import Console
from tests import factories
from tests.factories import changed

from zclab.analysis.document import RunDocument
from zclab.analysis.verdict import MeasuringRun
from zclab.backends.virtual import lab as hosts
from zclab.base.errors import InvalidError, LabError, UsageError, ZclabError
from zclab.base.paths import project_root
from zclab.base.timing import Timing
from zclab.cli import main as cli
from zclab.cli.output import Output
from zclab.deploy import cache, playbooks
from zclab.deploy.playbooks import Outcome
from zclab.host import console
from zclab.lab import inventory
from zclab.lab.model import Lab
from zclab.measure import run as measuring
from zclab.plan.plan import Plan
from zclab.report.console import RunReporter
from zclab.runs.records import Manifest, Record

COMMANDS = sorted(cli.COMMANDS)
#: Libraries and modules of the project that take long to import, and that no help needs.
COSTLY = (
    "ansible_runner",
    "filelock",
    "hdrh",
    "numpy",
    "paramiko",
    "pydantic",
    "qemu",
    "rich",
    "scipy",
    "yaml",
)


class Done(NamedTuple):
    """How the command ended and what it printed."""

    status: int
    out: str
    err: str


Zclab = Callable[..., Done]


@pytest.fixture
def zclab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zclab:
    """Runs `zclab ARGUMENTS` as the installed command does; no lab is touched."""
    labs = project_root() / "inventory"

    def load(name: str | Path) -> Lab:
        directory = labs / name if (labs / name).is_dir() else Path(name)
        if not directory.is_dir():
            raise UsageError(f"{name}: no such lab: name one of virtual, or a directory")
        return inventory.parse(directory, factories.listing(directory))

    monkeypatch.setattr(inventory, "load", load)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["zclab", *arguments])
        try:
            cli.main()
            status: Any = 0
        except SystemExit as end:
            status = end.code or 0
        printed = capsys.readouterr()
        return Done(int(status), printed.out, printed.err)

    return run


# -------------------------------------------------------------------------------------------- help and docs


def command_named(name: str) -> click.Command:
    """Return a command, imported."""
    found = cli.cli.get_command(click.Context(cli.cli), name)
    assert found is not None
    return found


def test_the_commands_are_these() -> None:
    assert {"up", "run", "show", "down", "status", "console", "cache"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_it_does_with_an_example(command: str, zclab: Zclab) -> None:
    done = zclab(command, "--help")
    assert done.status == 0
    text = " ".join(done.out.split())
    assert f"Example: zclab {command}" in text
    for parameter in command_named(command).params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{command}: {parameter.name} has no help"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_lab_of_a_command_that_names_none(command: str, zclab: Zclab) -> None:
    option = next((one for one in command_named(command).params if one.name == "lab_name"), None)
    if option is None:
        return
    others = {
        "baseline": "exact",
        "conformance": "exact-e1000e",
        "run": "the plan's own, else virtual",
        "stress": "exact",
    }
    shown = others.get(command, "virtual")
    assert re.search(
        rf"--lab LAB .*\[default: \(?{shown}\)?\]", " ".join(zclab(command, "--help").out.split())
    )


@pytest.mark.parametrize(
    ("arguments", "lab"),
    [
        ([], "virtual"),
        (["modes"], "virtual"),
        (["exact_short"], "exact"),
        (["receive_designs"], "exact-e1000e"),
        (["receive_designs", "--lab", "virtual"], "virtual"),
    ],
)
def test_a_plan_names_the_lab_that_it_is_made_for(
    arguments: list[str], lab: str, zclab: Zclab, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []

    def carry_out(lab: Lab, *_: object) -> None:
        chosen.append(lab.name)
        raise LabError("enough")

    monkeypatch.setattr(measuring, "carry_out", carry_out)
    assert zclab("run", *arguments).status == 5
    assert chosen == [lab]


@pytest.mark.parametrize("command", ["lockdep", "selftests", "crosscheck"])
def test_what_needs_hosts_says_so_where_none_stands(command: str, zclab: Zclab) -> None:
    done = zclab(command, "--lab", "exact")
    assert (done.status, done.out) == (2, "")
    assert (
        done.err
        == "zclab: exact: this needs hosts that SSH reaches, and here none stands: use --lab virtual\n"
    )


def test_help_of_the_whole(zclab: Zclab) -> None:
    done = zclab("--help")
    assert done.status == 0
    assert "Example: zclab" in done.out
    for code in ("0 pass", "1 fail", "2 usage error", "3 inconclusive", "4 invalid", "5 the lab"):
        assert code in " ".join(done.out.split())


def test_help_of_the_whole_is_that_of_each_command() -> None:
    context = click.Context(cli.cli)
    assert [command_named(name).name for name in COMMANDS] == COMMANDS
    for width in (60, 80, 200):
        shown, commands_own = click.HelpFormatter(width=width), click.HelpFormatter(width=width)
        cli.cli.format_commands(context, shown)
        click.Group.format_commands(cli.cli, context, commands_own)
        assert shown.getvalue() == commands_own.getvalue()


def test_help_of_the_whole_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys; from zclab.cli import main; sys.argv = ['zclab', *sys.argv[1:]]\n"
        "try: main.main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )

    def imported(*arguments: str) -> set[str]:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Usage: zclab" in done.stdout
        return set(done.stderr.split())

    assert not imported("--help") & set(COSTLY)
    # The modules of a command are seen where it is imported, so that the line above can fail.
    assert {"pydantic", "rich", "yaml"} <= imported("run", "--help")
    assert not imported("run", "--help") & {"ansible_runner", "scipy"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    pages = (project_root() / "docs").glob("*.md")
    assert any(re.search(rf"`zclab {command}\b", page.read_text(encoding="utf-8")) for page in pages)


def test_documented_commands_exist() -> None:
    text = (project_root() / "docs" / "commands.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`zclab ([a-z]+)", text)) <= set(COMMANDS)


def test_version(zclab: Zclab) -> None:
    done = zclab("--version")
    assert (done.status, done.out.startswith("zclab, version ")) == (0, True)


# --------------------------------------------------------------------------------------------- usage errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["up", "--nosuch"],
        ["up", "more"],
        ["run", "--sizes", "many"],
        ["run", "--sizes", "1000"],
        ["run", "--paces", "fast"],
        ["run", "--paces", "-1"],
        ["run", "--modes", "teleport"],
        ["run", "--seconds", "0"],
        ["run", "--seconds", "soon"],
        ["run", "--repeats", "0"],
        ["run", "nosuchplan"],
        ["run", "--lab", "nosuch"],
        ["run", "--resume", "nosuch"],
        ["show", "nosuch"],
        ["show"],
        ["console", "nosuch"],
        ["console", "receiver1", "--lab", "connectx3"],
        ["console", "cx3-receiver1", "--lab", "connectx3"],
        ["console"],
        ["down", "--lab", "connectx3"],
        ["status", "--lab", "nosuch"],
        ["cache", "--keep", "few"],
        ["conformance", "--kernel", "full", "--diff", "stock", "full"],
        ["selftests", "--kernel", "full", "--diff", "stock", "full"],
        ["conformance", "--kernel", "nosuch"],
        ["conformance", "--diff", "stock", "nosuch"],
        ["conformance", "--lab", "namespaces", "--kernel", "stock"],
        ["selftests", "--kernel", "nosuch"],
        ["lockdep", "--kernel", "nosuch"],
        ["stress", "--kernel", "nosuch"],
        ["stress", "--ops", "nosuch"],
        ["crosscheck", "--modes", "nosuch"],
    ],
    ids=" ".join,
)
def test_a_usage_error_exits_2(arguments: list[str], zclab: Zclab, runs: Path) -> None:
    done = zclab(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.splitlines()[-1].startswith(("zclab: ", "Error: "))
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["cache", "--prune", "--keep", "-1"], "keep"), (["console", "receiver1", "--lines", "0"], "lines")],
)
def test_impossible_numbers_exit_2(arguments: list[str], word: str, zclab: Zclab) -> None:
    done = zclab(*arguments)
    assert done.status == 2
    assert f"--{word}" in done.err


def test_no_command_shows_the_commands(zclab: Zclab) -> None:
    done = zclab()
    assert done.status == 2
    assert "Commands:" in done.err + done.out


@pytest.mark.parametrize(
    ("error", "status"), [(ZclabError, 6), (UsageError, 2), (InvalidError, 4), (LabError, 5)]
)
def test_errors_for_people_are_one_line(
    error: type[ZclabError], status: int, zclab: Zclab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error("receiver1: no such thing: make one")

    monkeypatch.setattr(playbooks, "run", fail)
    assert zclab("up") == Done(status, "", "zclab: receiver1: no such thing: make one\n")


def test_ctrl_c(zclab: Zclab, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(playbooks, "run", interrupt)
    done = zclab("up")
    assert done.status == 130
    assert done.err.strip() == "zclab: interrupted"


def test_a_full_disk_is_one_line(zclab: Zclab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "/var/x")

    monkeypatch.setattr(measuring, "carry_out", full)
    done = zclab("run")
    assert done.status == 6
    assert len(done.err.splitlines()) == 1
    assert "/var/x" in done.err and "No space left" in done.err


# ----------------------------------------------------------------------------------------------------- show


def _verdicts() -> dict[str, tuple[Manifest, list[Record], int]]:
    gate = factories.manifest(thresholds=[factories.threshold()])
    records = factories.records(gate)
    rebooted = [changed(records[0], {"after.sender1.boot_id": "new"}), *records[1:]]
    skipped = [changed(one, {"skipped": "no such call"}) for one in records]
    return {
        "pass": (gate, records, 0),
        "fail": (gate, factories.records(gate, ratio=0.9), 1),
        "inconclusive": (gate, skipped, 3),
        "invalid": (gate, rebooted, 4),
    }


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive", "invalid"])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["table", "json"])
def test_show_exits_with_the_verdict(verdict: str, flags: list[str], zclab: Zclab, runs: Path) -> None:
    manifest, records, status = _verdicts()[verdict]
    run = factories.stored_run(runs / "20260101T000000Z-virtual-abcd", manifest, records)
    done = zclab("show", *flags)
    assert done.status == status
    assert done.err == ""
    if flags:
        document = json.loads(done.out)
        assert (document["verdict"], document["exit_code"]) == (verdict, status)
        assert document["run_id"] == run.id
    else:
        assert f"verdict: {verdict}" in done.out


def test_show_takes_an_id_or_a_directory(zclab: Zclab, runs: Path) -> None:
    manifest, records, _ = _verdicts()["pass"]
    first = factories.stored_run(runs / "20260101T000000Z-virtual-aaaa", manifest, records)
    factories.stored_run(runs / "20260102T000000Z-virtual-aaaa", manifest, records)
    for name in (first.id, str(first.directory)):
        assert json.loads(zclab("show", name, "--json").out)["run_id"] == first.id
    assert json.loads(zclab("show", "latest", "--json").out)["run_id"] == "20260102T000000Z-virtual-aaaa"


def test_show_of_a_damaged_run(zclab: Zclab, runs: Path) -> None:
    manifest, records, _ = _verdicts()["pass"]
    run = factories.stored_run(runs / "20260101T000000Z-virtual-aaaa", manifest, records)
    text = run.records_path.read_text(encoding="utf-8")
    run.records_path.write_text("damage\n" + text, encoding="utf-8")
    done = zclab("show")
    assert done.status == 2
    assert done.err == f"zclab: {run.records_path}: line 1 is damaged\n"


# ----------------------------------------------------------------------------------------------- run and up


class Engine:
    """Stands for the engine: keeps what it was asked for and gives a run that is there already."""

    def __init__(self, run: MeasuringRun) -> None:
        self.run = run
        self.plan: Plan | None = None
        self.resumed: MeasuringRun | None = None

    def execute(
        self,
        lab: Lab,
        plan: Plan,
        reporter: object,
        resume: MeasuringRun | None = None,
        *,
        open_driver: object,
    ) -> MeasuringRun:
        self.plan = plan
        self.resumed = resume
        return self.run

    def carry_out(
        self, plan: str | None = None, resume: str | None = None, with_up: bool = False, **selectors: Any
    ) -> tuple[RunDocument, list[Timing]]:
        """Carry out a plan on a virtual lab that takes no time to come up."""
        return measuring.carry_out(
            factories.lab(),
            plan,
            selectors,
            resume,
            with_up,
            RunReporter(Console(quiet=True)),
            lambda line: None,
            lambda line: None,
            up=lambda lab, on_progress: [Timing("image", 90.0)],
            execute=self.execute,
        )


@pytest.fixture
def engine(runs: Path) -> Engine:
    manifest, records, _ = _verdicts()["fail"]
    return Engine(factories.stored_run(runs / "20260101T000000Z-virtual-abcd", manifest, records))


def test_run_carries_out_the_labs_plan(engine: Engine) -> None:
    document, timings = engine.carry_out()
    assert (document.exit_code, document.verdict, timings) == (1, "fail", [])
    assert engine.plan is not None
    assert engine.plan.name == "virtual"
    assert engine.resumed is None


def test_run_narrows_a_plan(engine: Engine, zclab: Zclab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "carry_out", partial(measuring.carry_out, execute=engine.execute))
    lists = ["--modes", "map_once", "--sizes", "4096, 65536", "--paces", "none,0.5"]
    done = zclab("run", *lists, "--seconds", "2", "--repeats", "3")
    assert done.status == 1
    assert "verdict: fail" in done.out
    assert engine.plan is not None
    assert engine.plan.message_bytes == [4096, 65536]
    assert engine.plan.pace_gbit_per_s == [None, 0.5]
    assert (engine.plan.seconds, engine.plan.repeats.at_most) == (2, 3)
    assert {one.name for one in engine.plan.comparisons} == {"receive", "mapping", "both"}


def test_run_takes_a_plan(engine: Engine) -> None:
    engine.carry_out("connectx3")
    assert engine.plan is not None
    assert engine.plan.name == "connectx3"


def test_run_resumes(engine: Engine) -> None:
    engine.carry_out(resume="latest")
    assert engine.resumed is not None
    assert engine.resumed.id == engine.run.id


def test_a_resumed_run_keeps_its_plan(engine: Engine) -> None:
    """What would be ignored is refused."""
    for plan, seconds in (("connectx3", None), (None, 9)):
        with pytest.raises(UsageError, match="--resume goes on with the run's own plan"):
            engine.carry_out(plan, "latest", seconds=seconds)
    assert engine.plan is None


@pytest.mark.parametrize(
    "changes",
    [
        {"comparison": "recieve"},
        {"metric": "sender_usec_per_mib"},
        {"metric": "gbit_per_s", "paced": True},
        {"claims": ["F99"]},
    ],
    ids=["comparison", "metric", "paced", "claim"],
)
def test_a_threshold_that_gates_nothing_is_refused(
    changes: dict[str, Any], zclab: Zclab, tmp_path: Path
) -> None:
    """A misspelled threshold would be passed over in silence, and the verdict be a pass."""
    mine = Path(shutil.copytree(project_root() / "inventory" / "virtual", tmp_path / "inventory" / "mine"))
    expect = factories.read_yaml(mine / "group_vars/all/expect.yml")
    expect["zclab_thresholds"] = [factories.threshold(**changes)]
    (mine / "group_vars/all/expect.yml").write_text(yaml.safe_dump(expect), encoding="utf-8")
    done = zclab("run", "--lab", str(mine))
    assert done.status == 2
    assert len(done.err.splitlines()) == 1
    assert "zclab_thresholds" in done.err


def test_up(zclab: Zclab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(playbook: str, lab_dir: Path, artifacts: Path, on_progress: Any, extra: Any = None) -> Outcome:
        asked.append((playbook, lab_dir.name, extra.pop("zclab")["kernel"]["variant"], extra))
        return Outcome(artifacts, [Timing("kernel compile", 300.0)], {"receiver1": 0, "sender1": 2})

    monkeypatch.setattr(playbooks, "run", run)
    done = zclab("up")
    assert done.status == 0
    assert "virtual is up; changed: receiver1 0, sender1 2" in done.out
    assert "kernel compile" in done.out
    zclab("up", "--promote", "--lab", "connectx3")
    zclab("up", "--kernel", "stock")
    assert asked == [
        ("site", "virtual", "full", {}),
        ("site", "connectx3", "full", {"zclab_promote": True}),
        ("site", "virtual", "stock", {}),
    ]


def test_run_with_up_shows_where_the_time_went(
    zclab: Zclab, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = engine.carry_out(with_up=True)
    monkeypatch.setattr(measuring, "carry_out", lambda *_: found)
    done = zclab("run", "--up")
    assert done.status == 1
    assert "image" in done.out and "measurements" in done.out and "whole / parts" in done.out


@pytest.mark.parametrize("as_json", [True, False])
def test_a_document_is_shown_and_gives_its_exit_code(
    as_json: bool, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    document, _ = engine.carry_out()
    with pytest.raises(SystemExit) as end:
        Output(as_json).end(document, lambda console, document: console.print(f"it is {document.verdict}"))
    printed = capsys.readouterr().out
    assert end.value.code == document.exit_code == 1
    if as_json:
        assert json.loads(printed)["verdict"] == "fail"
    else:
        assert printed == "it is fail\n"


# -------------------------------------------------------------------------------------------------- console


def test_console_shows_the_end_of_a_log(
    zclab: Zclab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "console.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)), encoding="utf-8")
    monkeypatch.setattr(console, "log_path", lambda state, host: log)
    done = zclab("console", "receiver1", "--lines", "2")
    assert done == Done(0, "line 98\nline 99\n", "")


def test_console_follows_without_losing_a_line(
    zclab: Zclab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "console.log"
    log.write_text("line 0\n", encoding="utf-8")
    monkeypatch.setattr(console, "log_path", lambda state, host: log)
    written = 1

    def grow() -> None:
        nonlocal written
        if written > 20:
            raise KeyboardInterrupt
        with log.open("a", encoding="utf-8") as file:
            file.write(f"line {written}\n")
        written += 1

    # The guest writes at the worst of times: whenever the log was just read, and while nobody looks.
    read = console.read
    reads = 0

    def read_and_grow(path: Path, offset: int) -> bytes:
        nonlocal reads
        reads += 1
        data = read(path, offset)
        grow()
        return data

    monkeypatch.setattr(console, "read", read_and_grow)
    monkeypatch.setattr(time, "sleep", lambda seconds: grow())
    done = zclab("console", "receiver1", "--follow")
    assert done.status == 130
    numbers = [int(line.split()[1]) for line in done.out.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 18
    assert reads >= 9  # the log grew behind each


def test_console_of_a_lab_that_was_never_up(
    zclab: Zclab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "log_path", lambda state, host: tmp_path / "console.log")
    done = zclab("console", "receiver1")
    assert (done.status, done.out) == (2, "")
    assert f"{tmp_path / 'console.log'}: no console log" in done.err


# ------------------------------------------------------------------------------------------ down and caches


@pytest.mark.parametrize("purge", [True, False])
def test_down(purge: bool, zclab: Zclab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    asked: list[Any] = []
    pruned: list[int] = []

    def run(playbook: str, lab_dir: Path, artifacts: Path, on_progress: Any, extra: Any = None) -> None:
        asked.append((playbook, extra))

    def prune(keep: int) -> list[str]:
        pruned.append(keep)
        return ["removed image abc"]

    monkeypatch.setattr(playbooks, "run", run)
    monkeypatch.setattr(cache, "prune", prune)
    done = zclab("down", *(["--purge"] if purge else []))
    assert done.status == 0
    [(playbook, extra)] = asked
    assert (playbook, extra.pop("zclab")["name"], extra) == ("hosts_down", "virtual", {"purge": purge})
    assert pruned == ([0] if purge else [])
    assert ("removed image abc" in done.out) == purge


def test_an_empty_cache(zclab: Zclab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    assert zclab("cache") == Done(0, "nothing\n", "")
    assert zclab("cache", "--prune") == Done(0, "nothing\n", "")


def test_plain_parts_of_the_cache(zclab: Zclab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    part = tmp_path / "cache" / "ccache"
    part.mkdir(parents=True)
    (part / "object").write_bytes(b"x" * 2048)
    assert zclab("cache") == Done(0, f"compiler output  2 KiB  {part}\n", "")
    assert part.exists()
    zclab("cache", "--prune")
    assert part.exists()
    assert "removed compiler output" in zclab("cache", "--prune", "--keep", "0").out
    assert not part.exists()


def test_status_of_a_virtual_lab(zclab: Zclab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "status", lambda state: [])
    done = zclab("status")
    assert done.status == 0
    assert done.out.count("down") == 2
