# SPDX-License-Identifier: Apache-2.0
"""The stress: its workers on this machine's kernel, faults planted; hosts that hang, crash and report."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from tests import factories
from tests.pretended_session import session_on
from tests.ssh_server import SshServer

from zclab.backends.namespaces import lab as namespaces
from zclab.base.errors import InvalidError, LabError
from zclab.base.progress import Progress
from zclab.cli import main as cli
from zclab.deploy.bring_up import Act
from zclab.host import console, state
from zclab.kernel.identity import Artifact
from zclab.lab import inventory
from zclab.lab.model import Lab
from zclab.measure.session import Session
from zclab.probe.stress import main
from zclab.probe.stress.worker import OPERATIONS, Worker
from zclab.runs.folder import Run
from zclab.suites import probe_command
from zclab.suites.stress import document as documents
from zclab.suites.stress import run
from zclab.suites.stress.document import STRESS, HostStress, ProbeResult, StressDocument

SEED = 4168
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a worker makes a network namespace")

# ----------------------------------------------------------------------------------------------- the workers


@needs_root
def test_a_short_stress_of_this_kernel() -> None:
    arguments = ["stress", "--seconds", "2", "--workers", "2", "--seed", str(SEED), "--no-memory"]
    command = [sys.executable, "-m", "zclab.probe", *arguments, "--watch-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        *going_on, last = process.stdout.read().splitlines()  # it ends by itself, with stdin open
        assert process.wait() == 0
    assert going_on and all("goes_on" in line for line in going_on)
    outcome = ProbeResult.model_validate_json(last)
    assert (outcome.problems, outcome.mismatches, outcome.stuck) == ([], [], False)
    assert sum(outcome.operations.values()) > 100 and outcome.transferred["copied"]
    assert outcome.consumes or outcome.unsupported["map"]


@needs_root
def test_a_stress_ends_with_its_channel() -> None:
    arguments = ["stress", "--seconds", "3600", "--no-memory", "--watch-stdin"]
    command = [sys.executable, "-m", "zclab.probe", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline()
        process.stdin.close()
        assert process.stdout.read() is not None  # to the end: no worker holds it any more
        assert process.wait() == 1


@needs_root
@pytest.mark.parametrize(
    ("planted", "wrong", "stuck"),
    [
        (lambda worker: os.kill(os.getpid(), signal.SIGUSR1), "killed by signal 10", False),
        (lambda worker: time.sleep(3600), "killed by signal 9", False),
        (lambda worker: 1 / 0, "ZeroDivisionError", False),
        (lambda worker: os._exit(0), "ended", False),
        (lambda worker: time.sleep(3600), "hangs and cannot be killed", True),
    ],
    ids=["killed", "hangs", "raises", "ends", "cannot be killed"],
)
def test_a_worker_that_does_not_end_as_it_should(
    planted: Callable[[Worker], None], wrong: str, stuck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATIONS, "read", (1.0, planted))
    monkeypatch.setattr(main, "_GRACE_SECONDS", 1.0)
    held: list[int] = []
    if stuck:
        monkeypatch.setattr(main, "KILLED_SECONDS", 0.1)
        monkeypatch.setattr(os, "kill", lambda pid, number: held.append(pid))
    done = main._round(0.1, SEED, 1, ["read"])
    monkeypatch.undo()
    for pid in held:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert len(done.problems) == 1 and done.stuck == stuck
    assert done.problems[0].startswith(f"worker with seed {SEED}: at operation 1, read: ")
    assert wrong in done.problems[0]


# ------------------------------------------------------------------------------------------------ the memory


# --------------------------------------------------------------------------------------------- the controller

OUTCOME: dict[str, Any] = {
    "seed": SEED,
    "seconds": 1.0,
    "workers": 2,
    "kernel_release": "6.1.90-zclab",
    "consumes": True,
    "families": [4, 6],
    "operations": {"map": 10},
    "unsupported": {},
    "transferred": {"mapped": 1 << 20},
    "refusals": {"map EAGAIN": 3},
    "connections": 4,
    "mismatch_count": 0,
    "mismatches": [],
    "problems": [],
    "stuck": False,
    "memory": {"before": {"x": 1}, "after": {"x": 1}, "tolerance": {"x": 0}, "grown": []},
    "kmemleak": {"unreferenced": 0, "text": ""},
}
MISMATCH = {
    "seed": SEED,
    "operation": 7,
    "kind": "map",
    "taken": 4096,
    "what": "4096 bytes are not those at 4096",
}
REPORT = "[   12.3] BUG: KASAN: use-after-free in tcp_mmap_next+0x1/0x2\n"


class Bench:
    """A lab whose receiver is this machine, by a server that can go and come back; its probe is planted."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.monkeypatch = monkeypatch
        self.resets: list[str] = []
        self.booted: list[str | None] = []
        self.told: list[str] = []
        self.boot = directory / "boot_id"
        self.server = self.serve("first")
        self.lab: Lab = factories.lab("namespaces").model_copy(update={"state_dir": directory})
        self.console = console.log_path(directory, "receiver1")
        self.console.parent.mkdir(parents=True)
        self.console.write_text("[    0.1] before\n" + REPORT, encoding="utf-8")
        monkeypatch.setattr(run, "_BOOT_ID", f"cat {self.boot}")
        self.artifact: Artifact | None = None

    def serve(self, boot: str) -> SshServer:
        """Have the host answer, from this boot on."""
        self.boot.write_text(boot + "\n", encoding="ascii")
        server = SshServer(self.directory)
        text = server.ssh_config.read_text(encoding="utf-8").replace("Host host1", "Host receiver1")
        server.ssh_config.write_text(text, encoding="utf-8")
        self.server = server
        return server

    def boot_kernel(self, lab: Lab, variant: str, on_progress: Progress) -> None:
        """Bring the hosts to a kernel of the lab."""
        self.booted.append(variant)

    def reset(self, lab: Lab, name: str, on_progress: Progress) -> None:
        """Cycle the host's power."""
        self.resets.append(name)
        self.serve("second")

    def plant(self, code: str) -> None:
        """Have the probe do something else."""
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w") as file:
            file.writestr("probe/__init__.py", "")
            file.writestr("probe/__main__.py", f"import json, os, sys, time\nOUTCOME = {OUTCOME!r}\n{code}")
        self.monkeypatch.setattr(probe_command, "archive", held.getvalue)

    def tell(self, **changes: Any) -> None:
        """Have the probe tell an outcome."""
        self.plant(f"print(json.dumps({{'goes_on': 1}})); print(json.dumps({{**OUTCOME, **{changes!r}}}))")

    def carry_out(self, reset: Act | None = None) -> StressDocument:
        """Stress the host."""
        return run.carry_out(
            self.lab,
            self.told.append,
            1.0,
            SEED,
            [],
            reset or self.reset,
            self.boot_kernel,
            self.open_session,
        )

    def open_session(self, lab: Lab) -> AbstractContextManager[Session]:
        """Open a session with the host."""
        return session_on(lab, {"receiver1": ("6.1.90-zclab", "b")}, self.artifact, "tcg")


@pytest.fixture
def bench(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.server.close()


def only(document: StressDocument) -> HostStress:
    (host,) = document.hosts
    return host


def problems_of(document: StressDocument) -> list[str]:
    return documents.problems(document, only(document))


def test_all_is_well(bench: Bench) -> None:
    bench.tell()
    document = bench.carry_out()
    assert document.exit_code == 0 and problems_of(document) == []
    directory = bench.directory / "runs" / document.run_id
    kept = Run(directory, STRESS)
    assert kept.document() == document and kept.manifest().seed == SEED
    assert (kept.manifest().verdict, kept.manifest().exit_code) == ("pass", 0)
    assert (directory / "console" / "receiver1.log").read_text(encoding="utf-8") == ""
    assert documents.lines(document)[-1] == "verdict: pass"
    command = next(one for one in bench.server.commands if "stress" in one)
    assert f"--seed {SEED}" in command and "--no-memory" in command  # the machine is not the lab's


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"mismatch_count": 1, "mismatches": [MISMATCH]},
            f"seed {SEED}, operation 7 (map): 4096 bytes are not",
        ),
        ({"mismatch_count": 3, "mismatches": [MISMATCH]}, "2 more mismatches"),
        ({"problems": ["worker with seed 1: killed by signal 7"]}, "killed by signal 7"),
        ({"operations": {}}, "nothing was done"),
        (
            {"memory": {**OUTCOME["memory"], "grown": ["slab TCP: 1 before"]}},
            "memory was not freed: slab TCP",
        ),
        ({"kmemleak": {"unreferenced": 2, "text": ""}}, "kmemleak: 2 unreferenced objects"),
    ],
    ids=["mismatch", "more mismatches", "worker", "nothing", "memory", "kmemleak"],
)
def test_what_a_host_tells_is_judged(bench: Bench, changes: dict[str, Any], problem: str) -> None:
    bench.tell(**changes)
    document = bench.carry_out()
    assert document.exit_code == 1 and only(document).recovered is None
    assert any(problem in line for line in problems_of(document))
    assert any(problem in line for line in documents.lines(document))
    assert documents.lines(document)[-1] == "verdict: fail"


def test_a_kernel_without_it_and_without_figures_passes_and_says_so(bench: Bench) -> None:
    bench.tell(consumes=False, unsupported={"map": 5}, memory=None, kmemleak=None)
    document = bench.carry_out()
    assert document.exit_code == 0
    told = "\n".join(documents.lines(document))
    assert "never consumes on this kernel: 5 mappings left out" in told and "memory was not checked" in told


def test_a_kernel_report_fails_it_and_is_kept(bench: Bench) -> None:
    bench.plant(f"open({str(bench.console)!r}, 'a').write({REPORT!r}); print(json.dumps(OUTCOME))")
    document = bench.carry_out()
    assert document.console_reports["receiver1"] == [REPORT.strip()]  # not the one from before
    assert document.exit_code == 1
    kept = bench.directory / "runs" / document.run_id / "console" / "receiver1.log"
    assert kept.read_text(encoding="utf-8") == REPORT


def test_a_host_that_hangs_is_reset(bench: Bench) -> None:
    """It says nothing any more, and answers nobody."""
    dead = bench.directory / "dead"
    bench.plant(f"print('{{}}', flush=True); open({str(dead)!r}, 'w'); sys.stdin.read()")
    bench.monkeypatch.setattr(run, "SILENT_SECONDS", 1.0)
    real = run._Stress._boot_now

    def boot_now(self: run._Stress) -> str:
        if not bench.resets:
            bench.server.close()
        return real(self)

    bench.monkeypatch.setattr(run._Stress, "_boot_now", boot_now)
    document = bench.carry_out()
    host = only(document)
    assert dead.exists() and bench.resets == ["receiver1"]
    assert host.outcome is None and host.lost == "no response for 1 s"
    assert host.recovered is not None and host.recovered.startswith("it was reset, and ")
    assert document.exit_code == 1 and documents.lines(document)[-1] == "verdict: fail"
    directory = bench.directory / "runs" / document.run_id
    assert json.loads((directory / "manifest.json").read_text(encoding="utf-8"))["seed"] == SEED
    assert (directory / "console" / "receiver1.log").exists()


def test_a_host_that_can_not_be_reset_ends_as_a_failure(bench: Bench) -> None:
    bench.plant("sys.stdin.read()")
    bench.monkeypatch.setattr(run, "SILENT_SECONDS", 0.5)
    bench.monkeypatch.setattr(run._Stress, "_boot_now", lambda self: "")

    def reset(lab: Lab, name: str, on_progress: Progress) -> None:
        raise LabError(f"{name}: no command is known that resets it")

    document = bench.carry_out(reset)
    assert document.exit_code == 1
    assert only(document).recovered == (
        "it could not be brought back: receiver1: no command is known that resets it"
    )


def test_a_host_that_was_reset_and_stays_away(bench: Bench) -> None:
    bench.plant("sys.stdin.read()")
    bench.monkeypatch.setattr(run, "SILENT_SECONDS", 0.5)
    bench.monkeypatch.setattr(run._Stress, "_boot_now", lambda self: "")
    document = bench.carry_out()
    assert document.exit_code == 1
    assert (
        only(document).recovered == "it was reset, but does not answer from another boot: look at its console"
    )


def test_a_host_that_crashes_and_comes_back_is_not_reset(bench: Bench) -> None:
    bench.plant(
        f"open({str(bench.boot)!r}, 'w').write('second'); print('{{}}', flush=True); time.sleep(3600)"
    )

    real = probe_command.handed_over

    def handed_over() -> bytes:
        """Cut the connection once the probe has begun."""
        data = real()

        def cut() -> None:
            while bench.boot.read_text(encoding="ascii") != "second":
                time.sleep(0.02)
            bench.server.drop_connections()

        threading.Thread(target=cut, daemon=True).start()
        return data

    bench.monkeypatch.setattr(probe_command, "handed_over", handed_over)
    document = bench.carry_out()
    host = only(document)
    assert bench.resets == [] and document.exit_code == 1
    assert host.lost == "the connection was lost during the run"
    assert host.recovered is not None and host.recovered.startswith("it had rebooted by itself, and ")


def test_a_host_with_a_process_that_can_not_be_killed_is_reset(bench: Bench) -> None:
    bench.tell(problems=["worker with seed 1: hangs and cannot be killed"], stuck=True)
    document = bench.carry_out()
    assert bench.resets == ["receiver1"] and document.exit_code == 1
    assert str(only(document).recovered).startswith("it was reset, and ")
    assert bench.booted == []  # the lab boots no kernel of its own


def test_hosts_go_back_to_the_labs_kernel_after_a_reset(bench: Bench) -> None:
    """A host that was reset runs its boot loader's default."""
    bench.lab = bench.lab.model_copy(update={"kernel_variant": "full"})
    bench.tell()
    assert bench.carry_out().exit_code == 0
    assert bench.booted == []
    bench.tell(problems=["worker with seed 1: hangs and cannot be killed"], stuck=True)
    assert bench.carry_out().exit_code == 1
    assert bench.booted == ["full"]


@pytest.mark.parametrize(
    ("code", "lost"),
    [
        ("sys.exit('no room here')", "the probe ended with status 1: no room here"),
        ("print(json.dumps(OUTCOME)); sys.exit(3)", "the probe ended with status 3: no message"),
        ("print('nonsense')", "the probe ended without a result: no message"),
        ("", "the probe ended without a result: no message"),
    ],
)
def test_a_probe_without_a_result_is_a_failure(bench: Bench, code: str, lost: str) -> None:
    bench.plant(code)
    document = bench.carry_out()
    host = only(document)
    assert document.exit_code == 1 and bench.resets == []
    assert host.lost == lost
    assert host.recovered == "it answers again, and was not reset"


def test_a_probe_that_goes_on_for_ever_is_ended(bench: Bench) -> None:
    bench.plant("while True: print('{}', flush=True); time.sleep(0.05)")
    bench.monkeypatch.setattr(run, "GRACE_SECONDS", -1.0)
    document = bench.carry_out()
    assert document.exit_code == 1 and "no end within 1 s" in str(only(document).lost)


def test_another_kernel_than_the_labs_is_not_stressed(bench: Bench) -> None:
    artifact = Artifact(variant="full", key="k", release="6.1.91-zclab", build_id="b")
    bench.artifact = artifact
    with pytest.raises(InvalidError, match=r"receiver1: runs 6\.1\.90-zclab .*, not 6\.1\.91-zclab"):
        bench.carry_out()


def test_the_command(bench: Bench) -> None:
    bench.monkeypatch.setattr(inventory, "load", lambda name: bench.lab)
    bench.monkeypatch.setattr(namespaces, "ready", lambda state_dir, names: True)
    found = {"receiver1": SimpleNamespace(kernel_release="6.1.90-zclab", kernel_build_id="b", emulated=None)}
    bench.monkeypatch.setattr(state, "snapshot", lambda *_: found)
    bench.tell()
    done = CliRunner().invoke(cli.cli, ["stress", "--seed", str(SEED), "--seconds", "1", "--json"])
    assert done.exit_code == 0, done.output
    assert StressDocument.model_validate_json(done.stdout).seed == SEED
    bench.tell(mismatch_count=1, mismatches=[MISMATCH])
    done = CliRunner().invoke(cli.cli, ["stress", "--seed", str(SEED), "--seconds", "1"])
    assert done.exit_code == 1 and "verdict: fail" in done.output
