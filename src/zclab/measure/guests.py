# SPDX-License-Identifier: Apache-2.0
"""The guests of an exact lab in use: held for one run, each boot a new one, their consoles kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from zclab.backends.exact import guest, kernel
from zclab.backends.exact.backend import directory as guest_directory
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import Execution, Guest
from zclab.backends.exact.programs import Programs
from zclab.backends.exact.steps import Step, check_setup, setup_steps
from zclab.base.clock import now
from zclab.base.paths import cache_dir, project_root
from zclab.base.progress import Progress, quiet
from zclab.deploy import state as deploy_state
from zclab.host import console
from zclab.kernel.artifact import BuiltArtifact
from zclab.kernel.identity import KernelIdentity
from zclab.lab.model import ExactGuest, Host, Lab
from zclab.measure.driver import common_fields
from zclab.runs.folder import Run
from zclab.runs.manifest import D, M, R
from zclab.traffic import binary
from zclab.traffic.command import TRAFFIC

#: The host under whose name the console of the guest is kept, which is both hosts'.
GUEST = "guest"
#: Seconds of the guest's clock for an answer: a limit, not an expectation.
ANSWER_SECONDS = 60.0
#: Limits, not expectations: the emulator's CPU time for a boot with its set-up, and how much more real time a
#: busy machine takes.
_BOOT_CPU_SECONDS, _REAL_FACTOR = 120, 10


class Execute(Protocol):
    """Boots a guest, as `zclab.backends.exact.guest.execute` does."""

    def __call__(
        self, made: Guest, steps: Sequence[Step], into: Path, limits: Limits, /, *, by_function: bool = False
    ) -> Execution:
        """Return what came out."""


#: Returns the artifact of a lab's kernel, built if it has to be.
Kernel = Callable[[Lab, str], BuiltArtifact]


def seed_of(seed: int | None, what: str) -> int:
    """Return the seed of the random numbers of one boot: of what it is for, by the seed of the whole."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{what}".encode()).digest()[:4], "big")


def run_command(
    name: str, command: str, host: Host | None = None, seconds: float = ANSWER_SECONDS
) -> list[Step]:
    """Return the steps that run a command to its end, on a host or beside them."""
    role = host.role if host else None
    return [
        Step(do="start", name=name, namespace=role, command=command),
        Step(do="end", name=name, seconds=seconds),
    ]


class Guests:
    """Boots guests of a lab, and keeps what their consoles say in the folder of a run."""

    def __init__(self, lab: Lab, directory: Path, execute: Execute, kernel_of: Kernel, tool: Path) -> None:
        assert lab.exact is not None and lab.kernel_variant is not None
        self.lab = lab
        self._declared: ExactGuest = lab.exact
        self._own: str = lab.kernel_variant
        self._directory = directory
        self._execute = execute
        self._kernel_of = kernel_of
        self._artifacts: dict[str, BuiltArtifact] = {}
        self._tool = tool
        self.programs = {TRAFFIC: hashlib.sha256(self._tool.read_bytes()).hexdigest()}
        self._run: Run[Any, Any, Any] | None = None
        self._reports: list[str] = []

    @property
    def members(self) -> list[Host]:
        """The sender and the receiver."""
        return [*self.lab.pair()]

    def artifact(self, variant: str | None = None) -> BuiltArtifact:
        """Return a kernel of the lab, null: its own; it is built if it has to be."""
        name = variant or self._own
        if name not in self._artifacts:
            self._artifacts[name] = self._kernel_of(self.lab, name)
        return self._artifacts[name]

    def boot(
        self,
        label: str,
        seed: int,
        steps: Sequence[Step],
        *,
        cpu_seconds: float,
        variant: str | None = None,
        programs: Programs = "traffic",
        files: Mapping[str, Path] = MappingProxyType({}),
        by_function: bool = False,
    ) -> Execution:
        """Boot a guest, set it up as the lab declares, and have it carry out the steps.

        label: the name under which a run keeps the console. cpu_seconds: what the steps may take of CPU.
        by_function: count instructions by function, too.

        Raises:
            LabError: the guest did not carry out its list, or could not be set up.
        """
        name = variant or self._own
        made = Guest(
            artifact_key=self.artifact(name).key,
            link=self._declared.link,
            seed=seed,
            suite=self._declared.suite,
            programs=programs,
            files={TRAFFIC: self._tool, **files},
            locked_memory_kib=self.lab.limits.locked_memory_kib,
            memory_mib=max(self._declared.memory_mib, self.lab.kernel_variants[name].memory_mib or 0),
        )
        cpu = _BOOT_CPU_SECONDS + round(cpu_seconds)
        limits = Limits(cpu_seconds=cpu, real_seconds=_REAL_FACTOR * cpu)
        try:
            listed = [*setup_steps(self.lab, self._declared.link), *steps]
            done = self._execute(made, listed, self._directory, limits, by_function=by_function)
        finally:
            self._keep_console(label)
        check_setup(done.outputs)
        return done

    def last_digest(self) -> str:
        """Return the digest of the last guest, also of one that went wrong."""
        return guest.digest_of(self._directory)

    def manifest_fields(self, variant: str | None = None) -> dict[str, Any]:
        """Return the manifest fields that all kinds of runs share; the run sets run_id."""
        kernel_identity = KernelIdentity.of(self.artifact(variant))
        return common_fields(
            self.lab, kernel_identity, emulated=True, accelerator="tcg", programs=self.programs
        )

    def recording(self, run: Run[M, R, D]) -> AbstractContextManager[None]:
        """Keep what the console of each guest says; if nothing goes wrong, the run is finished.

        Its manifest then has the verdict, unless the kind is judged again from its records.
        """
        return self._recording(run)

    @contextmanager
    def _recording(self, run: Run[Any, Any, Any]) -> Iterator[None]:
        self._run, self._reports = run, [*run.manifest().console_reports.get(GUEST, [])]
        try:
            yield
        finally:
            run.update(console_reports={GUEST: self._reports})
            self._run = None
        run.update(finished_at=now())
        if not run.kind.judged_again:
            document = run.document()
            run.update(verdict=document.verdict, exit_code=document.exit_code)

    def _keep_console(self, label: str) -> None:
        """Keep what the guest's console said, and the kernel reports in it."""
        text = console.since(self._directory / guest.CONSOLE, 0)
        self._reports += console.reports(text)
        if self._run is not None:
            self._run.write_file(f"console/{label}.log", text)


#: Opens the guests of a lab for one run.
OpenGuests = Callable[[Lab], AbstractContextManager[Guests]]


def opener(
    directory: Path | None = None,
    execute: Execute = guest.execute,
    kernel_of: Kernel | None = None,
    on_progress: Progress = quiet,
    tool: Path | None = None,
) -> OpenGuests:
    """Return what holds a lab and boots guests of it.

    directory: gets the files of the guest, null: a folder in the lab's state directory, where `zclab console`
    looks. kernel_of: null builds a kernel that is missing. tool: the traffic tool, null: it is built.
    """

    @contextmanager
    def opened(lab: Lab) -> Iterator[Guests]:
        lab.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with deploy_state.exclusive(lab):
            chosen = tool or binary.build(project_root() / "traffic", cache_dir()).path
            kernels = kernel_of or _built(on_progress)
            yield Guests(lab, directory or guest_directory(lab), execute, kernels, chosen)

    return opened


def _built(on_progress: Progress) -> Kernel:
    def built(lab: Lab, variant: str) -> BuiltArtifact:
        return kernel.ensure(variant, lab.kernel_variants[variant], on_progress).artifact

    return built
