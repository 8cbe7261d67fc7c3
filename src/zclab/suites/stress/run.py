# SPDX-License-Identifier: Apache-2.0
"""Carries out a stress on the receivers of a lab; a host that hangs is recovered. Or in a guest of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from zclab.backends.exact.guest import StoppedError
from zclab.backends.exact.steps import Output, Step
from zclab.base.errors import LabError, UsageError
from zclab.base.progress import Progress
from zclab.deploy import bring_up
from zclab.host.ssh import Process, Remote, RemoteError
from zclab.lab.model import Lab
from zclab.measure import guests as exact_guests
from zclab.measure.driver import begin
from zclab.measure.guests import Guests, OpenGuests, seed_of
from zclab.measure.session import Opener, Session
from zclab.probe.stress.worker import OPERATIONS
from zclab.suites import in_guest, probe_command
from zclab.suites.stress.document import STRESS, HostStress, ProbeResult, StressDocument

#: Seconds without a sign of life after which a host hangs. It gives one every few seconds.
SILENT_SECONDS = 90.0
#: Seconds beyond the stress itself: rounds before the one that counts, looks at the memory.
GRACE_SECONDS = 900.0
#: Seconds in which a host that was lost must answer, else it is reset.
ANSWER_SECONDS = 20.0
#: Seconds of the emulator's CPU for a second of the guest's clock: a billion instructions. A limit.
_CPU_SECONDS = 120.0
_BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def options_of(workers: int | None, kinds: str | None) -> list[str]:
    """Return options of the probe's command for a number of workers and some kinds of operations.

    Raises:
        UsageError: there is no such operation.
    """
    if unknown := [kind for kind in (kinds or "").split(",") if kinds and kind not in OPERATIONS]:
        raise UsageError(f"--ops: no operation is called {unknown[0]!r}: {', '.join(OPERATIONS)}")
    return [*(["--workers", str(workers)] if workers else []), *(["--ops", kinds] if kinds else [])]


def carry_out(
    lab: Lab,
    on_progress: Progress,
    seconds: float,
    seed: int,
    options: list[str],
    reset: bring_up.Act = bring_up.reset,
    boot: bring_up.Act = bring_up.boot,
    open_session: Opener | None = None,
    open_guests: OpenGuests | None = None,
) -> StressDocument:
    """Stress the receivers of a lab, all at the same time; keep what was found in runs/, and return it.

    A host that was reset runs its boot loader's default: the hosts are brought back to the lab's kernel.

    options: further options of the probe's command.

    Raises:
        LabError: the lab is not up, is in use, a host cannot be reached to begin with, or does not come back.
        InvalidError: a host runs another kernel than the lab has booted.
    """
    fields = {"seed": seed, "seconds": seconds, "programs": probe_command.programs()}
    if lab.traits.one_guest:
        with (open_guests or exact_guests.opener(on_progress=on_progress))(lab) as guests:
            run = begin(lab.name, STRESS, guests.manifest_fields() | fields)
            on_progress(f"guest: {seconds:g} s of its clock with seed {seed}; runs/{run.id} has the results")
            with guests.recording(run):
                run.append(_in_guest(guests, seconds, seed, options))
        return run.document()
    receivers = [host for host in lab.hosts if host.role == "receiver"]
    with open_session(lab) if open_session else Session.open(lab, receivers) as session:
        session.require_one_kernel()
        run = session.begin(STRESS, **fields)
        names = ", ".join(host.name for host in receivers)
        on_progress(f"{names}: {seconds:g} s with seed {seed}; runs/{run.id} has the results")
        # Other programs use the memory of a machine that is not the lab's.
        watched = [*options, "--no-memory"] if lab.traits.one_machine else options
        remotes = session.remotes.values()
        stresses = [_Stress(lab, remote, seconds, seed, watched, reset, on_progress) for remote in remotes]
        with session.recording(run), ThreadPoolExecutor(len(stresses)) as pool:
            for found in pool.map(_Stress.run, stresses):
                run.append(found)
    document = run.document()
    if lab.kernel_variant and any(host.recovered for host in document.hosts):
        boot(lab, lab.kernel_variant, on_progress)
    return document


def _in_guest(guests: Guests, seconds: float, seed: int, options: list[str]) -> HostStress:
    """Stress a guest to the end, or until it goes wrong; the same seed gives the same bytes each time."""
    receiver = guests.members[1]
    command = probe_command.in_guest(probe_command.stress_command(seconds, seed, options))
    steps = [
        Step(do="start", name="stress", namespace="receiver", command=command),
        Step(do="end", name="stress", seconds=2 * seconds + GRACE_SECONDS),
    ]
    outcome, lost, digest = None, None, None
    try:
        cpu = GRACE_SECONDS + seconds * _CPU_SECONDS
        done = in_guest.boot(guests, "stress", seed_of(seed, "stress"), steps, cpu)
        digest = done.digest
        outcome = _result(done.outputs["stress"])
    except StoppedError as error:
        lost = str(error)
    except LabError as error:
        lost, digest = str(error), digest or guests.last_digest()
    return HostStress(name=receiver.name, outcome=outcome, lost=lost, recovered=None, digest=digest)


def _result(output: Output) -> ProbeResult:
    """Return what the probe in a guest reports at its end; LabError if it did not."""
    lines = output.stdout.splitlines()
    try:
        return ProbeResult.model_validate_json(lines[-1] if lines and output.status == 0 else "")
    except ValidationError:
        said = (output.stderr.strip().splitlines() or ["no message"])[-1]
        how = "did not end in time" if output.status is None else f"ended with status {output.status}"
        raise LabError(f"the probe {how}: {said}") from None


@dataclass(frozen=True)
class _Stress:
    """The stress of one host."""

    lab: Lab
    remote: Remote
    seconds: float
    seed: int
    options: list[str]
    reset: bring_up.Act
    on_progress: Progress

    def run(self) -> HostStress:
        """Stress the host to the end, or until it hangs; then bring it back."""
        boot = self.remote.output(_BOOT_ID)
        outcome, lost, recovered = None, None, None
        try:
            outcome = self._outcome()
            if outcome.stuck:
                recovered = self._recovered(boot, "")
        except RemoteError as error:
            lost = str(error)
            self.on_progress(f"{self.remote.name}: {lost}")
            recovered = self._recovered(boot, self._boot_now())
        if recovered is not None:
            self.on_progress(f"{self.remote.name}: {recovered}")
        return HostStress(name=self.remote.name, outcome=outcome, lost=lost, recovered=recovered)

    def _outcome(self) -> ProbeResult:
        """Return what the probe reports at its end.

        Raises:
            RemoteError: no sign of life, no end in time, an end without a result. It does not name the host.
        """
        command = probe_command.stress_command(self.seconds, self.seed, self.options)
        with probe_command.started(self.remote, command) as process:
            last = self._last_line(process)
            done = process.wait(SILENT_SECONDS)
        reason = probe_command.last_message(done)
        if done.status != 0:
            raise RemoteError(f"the probe ended with status {done.status}: {reason}")
        try:
            return ProbeResult.model_validate_json(last)
        except ValidationError:
            raise RemoteError(f"the probe ended without a result: {reason}") from None

    def _last_line(self, process: Process) -> str:
        """Read what the probe prints to its end, and return the last line."""
        last = ""
        limit = 2 * self.seconds + GRACE_SECONDS
        deadline = time.monotonic() + limit
        try:
            for line in process.lines(SILENT_SECONDS):
                last = line
                if time.monotonic() > deadline:
                    raise RemoteError(f"no end within {limit:.0f} s")
        except RemoteError as error:
            if "connection was lost" in str(error):
                raise RemoteError("the connection was lost during the run") from None
            if "no end in time" in str(error):
                raise RemoteError(f"no response for {SILENT_SECONDS:.0f} s") from None
            raise
        return last

    def _boot_now(self) -> str:
        """Return the boot id of the host, "" if it does not answer."""
        self.remote.close()
        try:
            self.remote.connect(ANSWER_SECONDS)
            return self.remote.output(_BOOT_ID, ANSWER_SECONDS)
        except RemoteError:
            self.remote.close()
            return ""

    def _recovered(self, before: str, now: str) -> str:
        """Reset the host unless it answers by itself; return how it came back, or why not."""
        if now == before:
            return "it answers again, and was not reset"
        how = "it had rebooted by itself"
        if not now:
            try:
                self.reset(self.lab, self.remote.name, self.on_progress)
            except LabError as error:
                return f"it could not be brought back: {error}"
            how = "it was reset"
            if self._boot_now() in ("", before):
                return "it was reset, but does not answer from another boot: look at its console"
        return f"{how}, and {self.remote.output('uname -r').strip()} runs now"
