# SPDX-License-Identifier: Apache-2.0
"""A lab in use: held for one run, a channel to each host, the kernel that they run, their consoles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from zclab.backends.choice import backend_of
from zclab.base.clock import now
from zclab.base.errors import InvalidError
from zclab.base.paths import cache_dir, project_root
from zclab.deploy import state as deploy_state
from zclab.host import console
from zclab.host import state as hoststate
from zclab.host.snapshot import Snapshot
from zclab.host.ssh import Completed, Process, Remote, connected
from zclab.kernel.identity import Artifact, KernelIdentity
from zclab.lab.model import Host, Lab
from zclab.measure.driver import begin, common_fields
from zclab.runs.folder import Run
from zclab.runs.manifest import D, Kind, M, R
from zclab.traffic import binary
from zclab.traffic.command import TRAFFIC

#: Seconds that either end may take beyond its own time: start, connect, drain. A limit, not an expectation.
_GRACE_SECONDS = 30.0
#: Seconds that a receiver has to say what it saw of a sender that failed.
_FAILED_SECONDS = 3.0


class Ends(NamedTuple):
    """What both ends of a transfer left; the sender's is null if it was not started.

    `controller_cpu_share` is the CPU that this process used while the sender ran, as a share of one core.
    """

    receiver: Completed
    sender: Completed | None
    controller_cpu_share: float | None = None


class Watched:
    """The hosts of a session while something is measured."""

    def __init__(self, watches: dict[str, hoststate.Watch]) -> None:
        self._watches = watches

    def before(self) -> dict[str, Snapshot]:
        """Return the state of each host before the measurement; RemoteError if one is gone."""
        return {name: watch.before() for name, watch in self._watches.items()}

    def after(self) -> dict[str, Snapshot]:
        """Return the state of each host now, and what changed since `before`; RemoteError if one is gone."""
        for watch in self._watches.values():
            watch.finish()
        return {name: watch.after() for name, watch in self._watches.items()}


class ConsoleWatch(NamedTuple):
    """The console logs of hosts, by name, and how long each was in bytes when watching began."""

    logs: dict[str, Path]
    offsets: dict[str, int]

    @classmethod
    def begin(cls, lab: Lab, hosts: Sequence[Host]) -> ConsoleWatch:
        """Watch the hosts whose console is logged, from now on."""
        logs = {host.name: console.log_path(lab.state_dir, host.name) for host in hosts}
        return cls(logs, {name: console.size(path) for name, path in logs.items() if path.is_file()})

    def texts(self) -> dict[str, str]:
        """Return what each watched console said since then."""
        return {name: console.since(self.logs[name], at) for name, at in self.offsets.items()}


@dataclass(frozen=True)
class Session:
    """A lab in use.

    artifact: the kernel that the hosts were last made to boot; null where they run this machine's own.
    state: what each host said of itself when the session began.
    accelerator: what runs virtual hosts, "kvm" or "tcg"; null elsewhere.
    programs: the sha256 (hex) of the programs that the hosts have to have, by their path there.
    """

    lab: Lab
    members: list[Host]
    remotes: dict[str, Remote]
    artifact: Artifact | None
    state: dict[str, Snapshot]
    accelerator: str | None
    console: ConsoleWatch
    programs: dict[str, str]

    @classmethod
    @contextmanager
    def open(cls, lab: Lab, members: Sequence[Host] | None = None) -> Iterator[Session]:
        """Hold a lab, whichever of its kernels it boots, and connect to `members`, null for its first pair.

        Raises:
            UsageError: no host of the lab stands.
            LabError: the lab is not up, is in use, or a host cannot be reached.
        """
        deploy_state.require_hosts(lab)
        hosts = list(members if members is not None else lab.pair())
        artifact = deploy_state.running_kernel(lab)
        with deploy_state.exclusive(lab), cls.connect(lab, hosts) as remotes:
            watch = ConsoleWatch.begin(lab, hosts)
            programs = cls.built_programs()
            session = cls(lab, hosts, remotes, artifact, {}, backend_of(lab).accelerator(), watch, programs)
            yield replace(session, state=session.snapshot())

    @classmethod
    def open_declared(cls, lab: Lab) -> AbstractContextManager[Session]:
        """Do the same for a lab that boots the kernel which `lab` names; LabError if it boots another."""
        deploy_state.require_hosts(lab)
        deploy_state.deployed_kernel(lab)
        return cls.open(lab)

    @staticmethod
    def built_programs() -> dict[str, str]:
        """Return the traffic tool that this source gives: its path on hosts, its sha256; if it was built."""
        found = binary.built_sha256(project_root() / "traffic", cache_dir())
        return {TRAFFIC: found} if found else {}

    @staticmethod
    def connect(lab: Lab, hosts: Sequence[Host]) -> AbstractContextManager[dict[str, Remote]]:
        """Return the channels to hosts of a lab, by host."""
        return connected([host.name for host in hosts], lab.state_dir / "ssh_config")

    def snapshot(self) -> dict[str, Snapshot]:
        """Return the state of each host now.

        Raises:
            RemoteError: a host is gone.
        """
        return hoststate.snapshot(self.remotes, self.members, self.lab, self.programs)

    def with_programs(self, programs: dict[str, str]) -> Session:
        """Return the session with further programs (sha256 by path); they are read with the hosts' state."""
        session = replace(self, programs=self.programs | programs)
        return replace(session, state=session.snapshot())

    @contextmanager
    def watching(self) -> Iterator[Watched]:
        """Watch all hosts from before to after a measurement; what reads their state ends with it.

        Raises:
            RemoteError: a host is gone.
        """
        with ExitStack() as stack:
            watches = {
                host.name: stack.enter_context(
                    closing(hoststate.Watch(self.remotes[host.name], host, self.lab, self.programs))
                )
                for host in self.members
            }
            yield Watched(watches)

    def require_one_kernel(self) -> None:
        """Require that all hosts run the artifact, or where there is none, all the same kernel.

        Raises:
            InvalidError: a host runs another kernel.
        """
        found = {name: (one.kernel_release, one.kernel_build_id) for name, one in self.state.items()}
        artifact = self.artifact
        wanted = (artifact.release, artifact.build_id) if artifact else next(iter(found.values()))
        for name, identity in found.items():
            if identity != wanted:
                raise InvalidError(
                    f"{name}: runs {identity[0]} (build id {identity[1]}), not {wanted[0]} ({wanted[1]}): "
                    "run `zclab up`"
                )

    @property
    def kernel(self) -> KernelIdentity:
        """The kernel that the hosts are to run; where there is no artifact, the one that all run."""
        if self.artifact is not None:
            return KernelIdentity.of(self.artifact)
        same = {(one.kernel_release, one.kernel_build_id) for one in self.state.values()}
        release, build_id = next(iter(same)) if len(same) == 1 else (None, None)
        return KernelIdentity(
            kernel_variant=None, kernel_release=release, kernel_build_id=build_id, artifact_key=None
        )

    @property
    def emulated(self) -> bool:
        """Whether an emulator executes a host: as the lab started it, else as the hosts themselves show."""
        if self.accelerator is not None:
            return self.accelerator == "tcg"
        return any(state.emulated for state in self.state.values())

    def manifest_fields(self) -> dict[str, Any]:
        """Return the manifest fields that all kinds share for this session; the run sets run_id."""
        common = common_fields(
            self.lab,
            self.kernel,
            emulated=self.emulated,
            accelerator=self.accelerator,
            programs=self.programs,
        )
        return common | {"console_offsets": self.console.offsets}

    def begin(self, kind: Kind[M, R, D], **fields: Any) -> Run[M, R, D]:
        """Make the folder of a run, with its manifest."""
        return begin(self.lab.name, kind, self.manifest_fields() | fields)

    @contextmanager
    def recording(self, run: Run[M, R, D]) -> Iterator[None]:
        """Keep what the consoles say meanwhile in a run's folder; if nothing went wrong, the run is finished.

        Its manifest then has the verdict, unless the kind is judged again from its records.
        """
        watch = ConsoleWatch(self.console.logs, run.manifest().console_offsets)
        try:
            yield
        except BaseException:
            _keep_consoles(run, watch)
            raise
        _keep_consoles(run, watch)
        run.update(finished_at=now())
        if not run.kind.judged_again:
            document = run.document()
            run.update(verdict=document.verdict, exit_code=document.exit_code)

    def transfer(
        self, receive: str, send: Callable[[int], str], seconds: float, failed: Callable[[Completed], bool]
    ) -> Ends:
        """Run a command that listens on the pair's receiver, and one that connects on its sender, to the end.

        A receiver whose sender `failed` is asked to end. Whatever happens, both channels are closed, which
        ends what still runs.

        Raises:
            RemoteError: a host cannot be reached, or an end did not end within `seconds` and _GRACE_SECONDS.
        """
        sending, receiving = (self.remotes[host.name] for host in self.members)
        receiver = receiving.start(receive)
        sender: Process | None = None
        try:
            listening = receiver.wait_for_stderr_line("listening ", _GRACE_SECONDS)
            if listening is None:
                return Ends(receiver.wait(_GRACE_SECONDS), None)
            command = send(int(listening.split()[-1]))
            clocks = time.process_time(), time.monotonic()
            sender = sending.start(command)
            sent = sender.wait(seconds + _GRACE_SECONDS)
            busy, elapsed = time.process_time() - clocks[0], time.monotonic() - clocks[1]
            if failed(sent):
                receiver.ask_to_end(_FAILED_SECONDS)  # nothing more will come
            return Ends(receiver.wait(_GRACE_SECONDS), sent, busy / elapsed)
        finally:
            receiver.close()
            if sender is not None:
                sender.close()

    def disconnect(self) -> None:
        """Close every channel. Each opens again with the next command over it."""
        for remote in self.remotes.values():
            remote.close()


#: Opens a session on a lab; a test passes one that pretends.
Opener = Callable[[Lab], AbstractContextManager[Session]]


def _keep_consoles(run: Run[M, R, D], watch: ConsoleWatch) -> None:
    """Write what each console said into a run's folder, and the kernel reports in it into the manifest."""
    texts = watch.texts()
    for host, text in texts.items():
        run.write_file(f"console/{host}.log", text)
    run.update(console_reports={host: console.reports(text) for host, text in texts.items()})
