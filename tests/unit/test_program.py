# SPDX-License-Identifier: Apache-2.0
"""Exit codes: what happens to the output, a signal or an accident never looks like a verdict."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests import factories

from zclab.base import errors, program
from zclab.base.errors import LabError
from zclab.base.exit_codes import EXIT_CODES
from zclab.base.files import write_whole
from zclab.cli import main as cli
from zclab.lab import inventory
from zclab.runs.folder import Run

ZCLAB = Path(sys.executable).with_name("zclab")
FULL = "zclab: stdout: No space left on device: output is missing; without that, exit code 0\n"
#: More than a pipe and Python's buffers hold together.
MUCH = 300_000


def program_text(work: str) -> str:
    """Return a program whose work is these Python statements."""
    return f"""
import os, sys
from zclab.base import program
def work():
{textwrap.indent(work, "    ")}
sys.exit(program.run("zclab", work))
"""


def run_program(work: str, redirect: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a program with this work, its streams redirected as a shell does."""
    code = program_text(work)
    script = f'"$0" -c "$1" {redirect}; exit "${{PIPESTATUS[0]}}"'
    command = ["bash", "-c", script, sys.executable, code]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)


def piped_to_head(command: list[str]) -> tuple[int, str, str]:
    """Run `command | head -n 1`; return the exit code of the command, the line, and stderr."""
    script = '"$@" | head -n 1; exit "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


# ----------------------------------------------------------------------------------- what stdout may be


def a_run(directory: Path, ratio: float) -> Path:
    """Return the folder of a run whose document does not fit into a pipe; its gate wants half the CPU."""
    manifest = factories.manifest(thresholds=[factories.threshold()])
    records = factories.records(manifest, ratio=ratio)
    return factories.stored_run(directory / "20260101T000000Z-virtual-abcd", manifest, records).directory


@pytest.mark.parametrize(("ratio", "code"), [(0.4, 0), (0.9, 1)])
def test_show_piped_to_head_exits_with_the_verdict(ratio: float, code: int, tmp_path: Path) -> None:
    run = a_run(tmp_path, ratio)
    assert piped_to_head([str(ZCLAB), "show", str(run), "--json"]) == (code, "{\n", "")


@pytest.mark.parametrize(("redirect", "code", "said"), [("<&- >&- 2>&-", 0, ""), (">/dev/full", 6, FULL)])
def test_show_without_a_place_for_its_output(redirect: str, code: int, said: str, tmp_path: Path) -> None:
    run = a_run(tmp_path, 0.4)
    command = ["bash", "-c", f'exec "$0" show "$1" {redirect}', str(ZCLAB), str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
@pytest.mark.parametrize("arguments", ["--help", "--version", "show --help"])
def test_help_without_a_place_for_its_output(redirect: str, arguments: str) -> None:
    command = ["bash", "-c", f'exec "$0" {arguments} {redirect}', str(ZCLAB)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (6 if "full" in redirect else 0)
    assert "Traceback" not in done.stderr


#: Prints much in each way that commands print, then leaves a mark, and ends as a failed verdict does.
WORK = f"""
import click
from rich.console import Console
for _ in range({MUCH} // 100):
    print("x" * 100)
click.echo("x" * {MUCH})
console = Console(width=200)
for _ in range({MUCH} // 1000):
    console.print("x" * 100)
click.echo(b"x" * {MUCH}, nl=False)
print("said", file=sys.stderr)
print("done", file=open(os.environ["MARK"], "w"))
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("redirect", "code"),
    [
        ("| head -c 1 >/dev/null", 1),
        (">/dev/full", 6),
        (">&-", 1),
        (">&- 2>&-", 1),
        ("<&- >&-", 1),
        ("2>/dev/full >&-", 1),
    ],
)
def test_work_goes_on_without_its_output(redirect: str, code: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    done = run_program(WORK, redirect, env={**os.environ, "MARK": str(mark)})
    assert done.returncode == code, done
    assert mark.read_text() == "done\n"
    assert "Traceback" not in done.stderr


def test_output_that_is_read_is_whole(tmp_path: Path) -> None:
    done = run_program(WORK, env={**os.environ, "MARK": str(tmp_path / "mark")})
    assert (done.returncode, done.stderr) == (1, "said\n")
    assert done.stdout.count("x") == 3 * MUCH + MUCH // 10


def test_a_file_that_is_opened_first_is_not_taken_for_stdout(tmp_path: Path) -> None:
    """Where stdout is closed, the next file would have its number, and get all that is printed."""
    path = tmp_path / "record"
    done = run_program(
        f"file = open({str(path)!r}, 'w')\nprint('lost')\nos.system('echo child')\n"
        "file.write('kept')\nfile.close()",
        "<&- >&- 2>&-",
    )
    assert done.returncode == 0
    assert path.read_text() == "kept"


def test_a_pipe_that_another_program_made_non_blocking(tmp_path: Path) -> None:
    """ssh and others do that to a terminal or pipe that they share."""
    done = run_program(f"os.set_blocking(1, False)\nprint('x' * {MUCH})")
    assert (done.returncode, done.stderr, len(done.stdout)) == (0, "", MUCH + 1)


@pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "POSIX"}, {"LANG": "xx"}])
def test_letters_that_the_locale_lacks_are_printed(settings: dict[str, str]) -> None:
    done = run_program("print('µs \\udcff')", env={**os.environ, **settings}, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "µs \\udcff\n")


# -------------------------------------------------------------------------------------------- accidents


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        AssertionError(),
        EOFError(),
        RecursionError("deep"),
        MemoryError(),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        OSError(errno.EIO, "Input/output error"),
        UnicodeEncodeError("ascii", "µ", 0, 1, "no such letter"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unexpected_exception_is_a_failure_of_zclab(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(inventory, "load", fail)
    monkeypatch.setattr(sys, "argv", ["zclab", "run"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 6
    said = capsys.readouterr().err
    assert said.startswith(f"zclab: unexpected {type(error).__name__} in src/zclab/cli/measure.py:")
    assert said.endswith(f": its traceback is in {cache / 'traceback.txt'}\n")
    assert len(said.splitlines()) == 1
    traceback = (cache / "traceback.txt").read_text()
    assert traceback.startswith("Traceback") and type(error).__name__ in traceback.splitlines()[-1]


def test_a_traceback_for_which_there_is_no_room_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "file" / "cache"))
    assert program.run("zclab", lambda: int("x")) == 6
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].endswith("'x': its traceback is above")


def test_a_module_that_cannot_be_imported_is_a_failure_of_zclab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    monkeypatch.setitem(sys.modules, "zclab.cli.measure", None)
    monkeypatch.setattr(sys, "argv", ["zclab", "show"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 6
    assert "unexpected ModuleNotFoundError in src/zclab/cli/main.py:" in capsys.readouterr().err


def test_a_full_disk_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a record, and of a file that is written whole: write() itself does not say which."""
    manifest = factories.manifest(thresholds=[])
    run: Run[Any, Any, Any] = factories.stored_run(tmp_path / "run", manifest, [])
    (record,) = factories.records(manifest)[:1]
    run.records_path.unlink(missing_ok=True)
    run.records_path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as full:
        run.append(record)
    assert full.value.filename == str(run.records_path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left") as full:
        write_whole(tmp_path / "file", "x")
    assert full.value.filename == str(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --------------------------------------------------------------------------------------------- signals

WAIT = """
import time
try:
    print("ready")
    time.sleep(60)
finally:
    print("cleaned up")
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "zclab: interrupted"),
        (signal.SIGTERM, 143, "zclab: ended by SIGTERM"),
        (signal.SIGHUP, 129, "zclab: ended by SIGHUP"),
    ],
)
@pytest.mark.parametrize("ignored", [False, True], ids=["taken", "nohup"])
def test_a_signal_ends_the_work_and_cleans_up(
    number: signal.Signals, code: int, said: str, ignored: bool
) -> None:
    """An ignored signal stays ignored: nohup ignores SIGHUP, a shell ignores SIGINT in the background."""
    text = program_text(WAIT.replace("sleep(60)", "sleep(0.5)") if ignored else WAIT)

    def prepare() -> None:
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)

    with subprocess.Popen(
        [sys.executable, "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(number)
        assert child.stdout.read() == "cleaned up\n"
        assert child.stderr.read().strip() == ("" if ignored else said)
    assert child.returncode == (0 if ignored else code)


def test_errors_for_people_keep_their_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise LabError("receiver1: is down: start it")

    assert program.run("nightly", fail) == 5
    assert capsys.readouterr().err == "nightly: receiver1: is down: start it\n"


@pytest.mark.parametrize("error", [errors.ZclabError, errors.UsageError, errors.LabError])
def test_no_error_for_people_has_the_exit_code_of_a_pass_or_fail(error: type[errors.ZclabError]) -> None:
    """InvalidError alone stands for a verdict."""
    assert error.exit_code not in EXIT_CODES.values()
