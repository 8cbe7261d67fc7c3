# SPDX-License-Identifier: Apache-2.0
"""Carries out a stress on the receivers of a lab; a host that hangs is recovered.

runs/stress-<id>/stress.json        what was asked, from the begin; what was found, at the end
runs/stress-<id>/console/<host>.log what each console said since the begin
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.base.files import write_whole
from zclab.base.paths import runs_dir
from zclab.deploy import state as deploy_state
from zclab.host import console, facts
from zclab.host.ssh import Process, Remote, RemoteError, connected
from zclab.lab.model import Host, Lab
from zclab.probe.stress.worker import OPERATIONS
from zclab.suites import probe_command
from zclab.suites.stress.document import HostStress, Outcome, StressDocument

#: Seconds without a sign of life after which a host hangs. It gives one every few seconds.
SILENT_SECONDS = 90.0
#: Seconds beyond the stress itself: rounds before the one that counts, looks at the memory.
GRACE_SECONDS = 900.0
#: Seconds in which a host that was lost must answer, else it is reset.
ANSWER_SECONDS = 20.0
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


#: Cycles the power of a host and waits until it answers; raises LabError.
Reset = Callable[[str], None]
#: Is told how it goes on.
Told = Callable[[str], None]


def options_of(workers: int | None, kinds: str | None) -> list[str]:
    """Return options of the probe's command for a number of workers and some kinds of operations.

    Raises:
        UsageError: no operation is called so.
    """
    if unknown := [kind for kind in (kinds or "").split(",") if kinds and kind not in OPERATIONS]:
        raise UsageError(f"--ops: no operation is called {unknown[0]!r}: {', '.join(OPERATIONS)}")
    return [*(["--workers", str(workers)] if workers else []), *(["--ops", kinds] if kinds else [])]


def carry_out(
    lab: Lab,
    seconds: float,
    seed: int,
    options: list[str],
    reset: Reset,
    told: Told,
) -> StressDocument:
    """Stress the receivers of a lab, all at the same time; keep what was found in runs/, and return it.

    options: further options of the probe's command.

    Raises:
        LabError: the lab is not up, is in use, or a host can not be reached to begin with.
        InvalidError: a host runs another kernel than the lab has booted.
    """
    receivers = [host for host in lab.hosts if host.role == "receiver"]
    names = [host.name for host in receivers]
    with deploy_state.exclusive(lab), connected(names, lab.state_dir / "ssh_config") as remotes:
        document, directory = _begin(lab, receivers, remotes, seconds, seed)
        told(
            f"{', '.join(names)}: {seconds:g} s with seed {seed}; runs/{document.run_id} keeps what is found"
        )
        logs = {name: console.log_path(lab.state_dir, name) for name in names}
        offsets = {name: console.size(path) for name, path in logs.items() if path.is_file()}
        # Other programs use the memory of a machine that is not the lab's.
        watched = [*options, "--no-memory"] if lab.traits.one_machine else options
        stresses = [_Stress(remotes[name], seconds, seed, watched, reset, told) for name in names]
        try:
            with ThreadPoolExecutor(len(stresses)) as pool:
                found = list(pool.map(_Stress.run, stresses))
        finally:
            said = _keep_consoles(directory, logs, offsets)
        hosts = [
            one.model_copy(update={"console_reports": console.reports(said.get(one.name, ""))})
            for one in found
        ]
        document = document.model_copy(update={"hosts": hosts, "finished_at": now()})
        _write(directory, document)
    return document


def _begin(
    lab: Lab, receivers: list[Host], remotes: dict[str, Remote], seconds: float, seed: int
) -> tuple[StressDocument, Path]:
    """Make the folder of a stress, and write there what is asked: it has to be known whatever happens."""
    artifact = deploy_state.running_kernel(lab)
    state = facts.snapshot(remotes, receivers)
    for name, found in state.items():
        if artifact and (found.kernel_release, found.kernel_build_id) != (
            artifact.release,
            artifact.build_id,
        ):
            raise InvalidError(f"{name}: runs {found.kernel_release}, not {artifact.release}: run `zclab up`")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory = runs_dir() / f"stress-{stamp}-{lab.name}-{secrets.token_hex(2)}"
    directory.mkdir(parents=True)
    document = StressDocument(
        run_id=directory.name,
        lab=lab.name,
        emulated=backend_of(lab).accelerator() == "tcg",
        kernel=artifact.variant if artifact else "machine",
        artifact_key=artifact.key if artifact else None,
        kernel_release=next(iter(state.values())).kernel_release,
        seed=seed,
        seconds=seconds,
        started_at=now(),
        finished_at=None,
        hosts=[],
    )
    _write(directory, document)
    return document, directory


def _write(directory: Path, document: StressDocument) -> None:
    write_whole(directory / "stress.json", document.model_dump_json(indent=2) + "\n")


def _keep_consoles(directory: Path, logs: dict[str, Path], offsets: dict[str, int]) -> dict[str, str]:
    """Keep and return what each console said since the begin."""
    kept = directory / "console"
    kept.mkdir()
    said = {name: console.since(logs[name], at) for name, at in offsets.items()}
    for name, text in said.items():
        (kept / f"{name}.log").write_text(text, encoding="utf-8")
    return said


class _Stress:
    """The stress of one host."""

    def __init__(
        self, remote: Remote, seconds: float, seed: int, options: list[str], reset: Reset, told: Told
    ) -> None:
        self._remote = remote
        self._name = remote.name
        self._command = probe_command.stress_command(seconds, seed, options)
        self._limit = 2 * seconds + GRACE_SECONDS
        self._reset = reset
        self._told = told

    def run(self) -> HostStress:
        """Stress the host to the end, or until it hangs; then bring it back."""
        boot = self._remote.output(_BOOT_ID)
        outcome, lost, recovered = None, None, None
        try:
            outcome = self._outcome()
            if outcome.stuck:
                recovered = self._recovered(boot, "")
        except RemoteError as error:
            lost = str(error)
            self._told(f"{self._name}: {lost}")
            recovered = self._recovered(boot, self._boot_now())
        if recovered is not None:
            self._told(f"{self._name}: {recovered}")
        return HostStress(
            name=self._name, outcome=outcome, lost=lost, recovered=recovered, console_reports=[]
        )

    def _outcome(self) -> Outcome:
        """Return what the probe tells at its end.

        Raises:
            RemoteError: no sign of life, no end in time, an end without a result. It does not name the host.
        """
        process = self._remote.start(self._command)
        try:
            process.send(probe_command.handed_over())
            last = self._last_line(process)
            done = process.wait(SILENT_SECONDS)
        finally:
            process.close()
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        if done.status != 0:
            raise RemoteError(f"the probe ended with status {done.status}: {reason}")
        try:
            return Outcome.model_validate_json(last)
        except ValidationError:
            raise RemoteError(f"the probe ended without a result: {reason}") from None

    def _last_line(self, process: Process) -> str:
        """Read what the probe tells to its end, and return the last line."""
        last = ""
        deadline = time.monotonic() + self._limit
        try:
            for line in process.lines(SILENT_SECONDS):
                last = line
                if time.monotonic() > deadline:
                    raise RemoteError(f"no end within {self._limit:.0f} s")
        except RemoteError as error:
            if "connection was lost" in str(error):
                raise RemoteError("the connection was lost during the stress") from None
            if "no end in time" in str(error):
                raise RemoteError(f"no sign of life for {SILENT_SECONDS:.0f} s") from None
            raise
        return last

    def _boot_now(self) -> str:
        """Return the boot id of the host, "" if it does not answer."""
        self._remote.close()
        try:
            self._remote.connect(ANSWER_SECONDS)
            return self._remote.output(_BOOT_ID, ANSWER_SECONDS)
        except RemoteError:
            self._remote.close()
            return ""

    def _recovered(self, before: str, now: str) -> str:
        """Reset the host unless it answers by itself; say how it came back, or why not."""
        if now == before:
            return "it answers again, and was not reset"
        how = "it had rebooted by itself"
        if not now:
            try:
                self._reset(self._name)
            except LabError as error:
                return f"it could not be brought back: {error}"
            how = "it was reset"
            if self._boot_now() in ("", before):
                return "it was reset, but does not answer from another boot: look at its console"
        return f"{how}, and {self._remote.output('uname -r').strip()} runs now"
