# SPDX-License-Identifier: Apache-2.0
"""Bring the virtual hosts of a lab up and down."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from zclab.backends.virtual import accel, image, ports, qemu
from zclab.backends.virtual.accel import Accelerator
from zclab.backends.virtual.host import Host, sockets_dir
from zclab.base.errors import LabError, UsageError, ZclabError
from zclab.base.locks import lab_lock
from zclab.base.process import interruptible
from zclab.base.progress import Progress, quiet
from zclab.base.timing import Timing
from zclab.host import ssh_keys

# An emulated guest on a busy machine takes a minute; a guest that is not there after this never comes.
BOOT_SECONDS = 300.0
# A guest that runs already may be in the middle of a reboot.
REBOOT_SECONDS = 120.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", re.IGNORECASE)


@dataclass(frozen=True)
class HostSpec:
    """What a lab declares of one host. ssh_port: a fixed port of 127.0.0.1, None for any free one."""

    name: str
    nic_model: str
    peer: str | None = None
    ssh_port: int | None = None


@dataclass(frozen=True)
class LabSpec:
    """What a lab declares of its virtual hosts; sizes in MiB, `suite` is their Debian release."""

    state_dir: Path
    hosts: tuple[HostSpec, ...]
    memory_mib: int = 384
    cpus: int = 1
    disk_mib: int = 3072
    suite: str = "bookworm"

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> LabSpec:
        """Take what is needed from the resolved lab, the `zclab` fact. Raises UsageError if it lacks that."""
        try:
            hosts = tuple(
                HostSpec(host["name"], host["nic_model"], host["peer"], host.get("ssh_port"))
                for host in facts["hosts"]
            )
            sizes = {key: int(facts["virtual"][key]) for key in ("memory_mib", "cpus", "disk_mib")}
            suite = str(facts["virtual"]["suite"])
            state_dir = Path(facts["state_dir"]).resolve()
            spec = cls(state_dir, hosts, **sizes, suite=suite)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"virtual hosts: the lab's facts are incomplete: {error!r}") from error
        for host in spec.hosts:
            if not _NAME.fullmatch(host.name):
                raise UsageError(
                    f"virtual hosts: {host.name!r} cannot be a host name: use letters, digits and -"
                )
        return spec


@dataclass
class Outcome:
    """What a call changed: one line a change, and the time its parts took."""

    changes: list[str] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    accelerator: Accelerator | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.changes)


@dataclass(frozen=True)
class HostStatus:
    """A host as it is now. Fields of a process are None when none runs; uptime in seconds of the emulator."""

    name: str
    running: bool
    pid: int | None
    ssh_port: int | None
    accelerator: str | None
    uptime_s: float | None


def up(spec: LabSpec, on_progress: Progress = quiet) -> Outcome:
    """Bring the lab's hosts up, as declared and ready for SSH; what is so already is left alone.

    A host that died is started again; one whose memory, processors, NIC or keys are declared otherwise than
    they run is restarted. Raises LabError with one line that names the host and its console log.
    """
    with interruptible(), lab_lock(spec.state_dir, on_progress):
        outcome = Outcome()
        base = image.ensure(spec.disk_mib, spec.suite, on_progress)
        if base.built:
            outcome.changes.append(f"built the base image {base.key}")
            outcome.timings.append(Timing("image", base.seconds))
        outcome.accelerator = accel.choose()
        _prepare(spec, base)
        _start_all(spec, outcome, on_progress)
        return outcome


def pending(spec: LabSpec) -> list[str]:
    """Return what `up` would do, one line each, without doing any of it."""
    changes = [] if image.find(spec.disk_mib, spec.suite) else ["build the base image"]
    accelerator = accel.choose()
    for declared in spec.hosts:
        host = Host(spec.state_dir, declared.name)
        running = host.running()
        if running is None:
            changes.append(f"start {declared.name}")
        elif difference := _difference(spec, declared, host, running, accelerator):
            changes.append(f"restart {declared.name}: {difference}")
    return changes


def down(state_dir: Path, *, purge: bool = False, on_progress: Progress = quiet) -> Outcome:
    """Stop the lab's hosts; with purge remove its state directory too, with disks and keys.

    Leaves no process, socket or lock behind.
    """
    outcome = Outcome()
    state_dir = state_dir.resolve()
    if not state_dir.is_dir():
        return outcome
    with interruptible(), lab_lock(state_dir, on_progress):
        known = _known_hosts(state_dir)
        with ThreadPoolExecutor(max(1, len(known))) as pool:
            stopped = list(pool.map(lambda host: host.stop(gracefully=not purge), known))
        for host, ran in zip(known, stopped, strict=True):
            if ran:
                outcome.changes.append(f"stopped {host.name}")
                on_progress(f"{host.name}: stopped")
        shutil.rmtree(sockets_dir(state_dir), ignore_errors=True)
        if purge and (state_dir / "hosts").is_dir():
            for host in known:
                image.forget_user(host.disk)
            shutil.rmtree(state_dir)
            outcome.changes.append(f"removed {state_dir}")
        # Whoever waits for the lock notices that its file is gone, and takes a new one.
        (state_dir / "lock").unlink(missing_ok=True)
    return outcome


def status(state_dir: Path) -> list[HostStatus]:
    """Return the hosts that a lab has made, running or not."""
    found = []
    for host in _known_hosts(state_dir.resolve()):
        running = host.running()
        found.append(
            HostStatus(
                name=host.name,
                running=running is not None,
                pid=running.pid if running else None,
                ssh_port=running.ssh_port if running else host.last_port(),
                accelerator=running.accelerator if running else None,
                uptime_s=max(0.0, time.time() - running.started) if running else None,
            )
        )
    return found


def reset(state_dir: Path, name: str) -> None:
    """Reset a host, as its reset button would. Raises LabError if it does not run or does not obey."""
    host = Host(state_dir.resolve(), name)
    if host.running() is None:
        raise LabError(f"{name}: does not run: bring the lab up")
    host.mark_console("reset")
    if qemu.ask(host.qmp, "system_reset") is None or qemu.ask(host.qmp, "cont") is None:
        raise LabError(f"{name}: the emulator does not answer on {host.qmp}: bring the lab down and up")


def kill(state_dir: Path, name: str) -> None:
    """Take a host's power away: its emulator is ended. Raises LabError if it does not run."""
    host = Host(state_dir.resolve(), name)
    if not host.stop(gracefully=False):
        raise LabError(f"{name}: does not run")


def _known_hosts(state_dir: Path) -> list[Host]:
    directory = state_dir / "hosts"
    names = sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []
    return [Host(state_dir, name) for name in names]


def _prepare(spec: LabSpec, base: image.Image) -> None:
    """Make directories and disks, so that a start has nothing left to make."""
    for directory in (spec.state_dir, spec.state_dir / "hosts", spec.state_dir / "keys"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets = sockets_dir(spec.state_dir)
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    sockets.chmod(0o700)
    for declared in spec.hosts:
        host = Host(spec.state_dir, declared.name)
        host.directory.mkdir(mode=0o700, exist_ok=True)
        host.ensure_disk(base)


def _difference(
    spec: LabSpec, declared: HostSpec, host: Host, running: qemu.Running, accelerator: Accelerator
) -> str:
    """Return how a running host differs from what is declared, empty if it does not."""
    port = declared.ssh_port or running.ssh_port
    wanted = _emulator(spec, declared, host).command(accelerator, port)
    for has, shall in zip_longest(_options(running.command), _options(wanted), fillvalue="nothing more"):
        if has != shall:
            return f"runs with {has}, declared is {shall}"
    return ""


def _emulator(spec: LabSpec, declared: HostSpec, host: Host) -> qemu.Emulator:
    return host.emulator(
        memory_mib=spec.memory_mib, cpus=spec.cpus, nic_model=declared.nic_model, peer=declared.peer
    )


def _options(command: Sequence[str]) -> list[str]:
    """Return the options of a command line, each with its value, without the program's own name."""
    return re.split(r" (?=-[a-z])", " ".join(command))[1:]


def _start_all(spec: LabSpec, outcome: Outcome, on_progress: Progress) -> None:
    assert outcome.accelerator is not None
    client_key = spec.state_dir / "keys" / "id_ed25519"
    authorized = ssh_keys.ensure_key(client_key, f"zclab {spec.state_dir.parent.parent.name}")
    fresh: dict[str, float] = {}
    current: dict[str, int] = {}
    stop = threading.Event()
    try:
        for declared in spec.hosts:
            host = Host(spec.state_dir, declared.name)
            new_identity = host.write_identity(authorized)
            running = host.running()
            if running is not None:
                difference = _difference(spec, declared, host, running, outcome.accelerator)
                if not difference and new_identity:
                    difference = "its keys were made anew"
                if not difference and not _is_executing(host, outcome):
                    difference = "its emulator does not answer"
                if difference:
                    on_progress(f"{declared.name}: stopping it: {difference}")
                    host.stop(gracefully=True)
                    outcome.changes.append(f"stopped {declared.name}: {difference}")
                    running = None
            if running is None:
                on_progress(f"{declared.name}: starting, {outcome.accelerator}")
                fresh[declared.name] = time.monotonic()
                current[declared.name] = _start(spec, declared, host, outcome.accelerator)
                outcome.changes.append(f"started {declared.name}")
            else:
                current[declared.name] = running.ssh_port
        endpoints = {
            name: (
                ssh_keys.Endpoint(ports.LOOPBACK, port),
                Host(spec.state_dir, name).host_key.with_suffix(".pub").read_text(),
            )
            for name, port in current.items()
        }
        ssh_keys.write_files(spec.state_dir, client_key, endpoints)
        _wait_all(spec, fresh, current, outcome, on_progress, stop)
    except BaseException:
        # Hosts that this call started and that did not get ready are half-made.
        stop.set()
        ready = {timing.part.removeprefix("boot ") for timing in outcome.timings}
        for name in fresh:
            if name not in ready:
                Host(spec.state_dir, name).stop(gracefully=False)
        raise


def _is_executing(host: Host, outcome: Outcome) -> bool:
    """Return whether the guest's processor runs, after letting it go on if a full disk had stopped it."""
    answer = qemu.ask(host.qmp, "query-status")
    if answer is None:
        return False
    if answer.get("status") in ("io-error", "paused"):
        qemu.ask(host.qmp, "cont")
        outcome.changes.append(f"{host.name}: let it go on ({answer['status']})")
        time.sleep(0.5)
        answer = qemu.ask(host.qmp, "query-status") or {}
        if answer.get("status") == "io-error":
            raise LabError(
                f"{host.name}: stopped, as it could not write to {host.disk}: see whether the disk is full"
            )
    return bool(answer.get("status") == "running")


def _start(spec: LabSpec, declared: HostSpec, host: Host, accelerator: Accelerator) -> int:
    """Start the emulator on a free port and return that port."""
    emulator = _emulator(spec, declared, host)
    for attempt in range(5):
        port = _choose_port(declared, host, first=attempt == 0)
        host.mark_console(f"started, {accelerator}")
        host.data_socket.unlink(missing_ok=True)
        try:
            qemu.launch(emulator, emulator.command(accelerator, port))
        except LabError as error:
            # Another program was faster: the next attempt takes another port.
            if "forwarding" in str(error) and declared.ssh_port is None and attempt < 4:
                continue
            raise
        ssh_keys.write_private(host.portfile, f"{port}\n")
        return port
    raise AssertionError("the last attempt returns or raises")


def _choose_port(declared: HostSpec, host: Host, *, first: bool) -> int:
    if declared.ssh_port is not None:
        if not ports.is_free(declared.ssh_port):
            raise LabError(
                f"{declared.name}: port {declared.ssh_port} of {ports.LOOPBACK} is in use by "
                f"{ports.owner(declared.ssh_port)}: end that, or declare another ssh_port"
            )
        return declared.ssh_port
    last = host.last_port()
    return last if first and last is not None and ports.is_free(last) else ports.any_free()


def _wait_all(
    spec: LabSpec,
    fresh: dict[str, float],
    current: dict[str, int],
    outcome: Outcome,
    on_progress: Progress,
    stop: threading.Event,
) -> None:
    """Wait for all hosts at once; raise what the first of them fails with, once the others are done too."""
    lock = threading.Lock()

    def wait(name: str) -> ZclabError | None:
        host = Host(spec.state_dir, name)
        try:
            if name not in fresh:
                _wait_again(host, current[name], outcome, lock, stop)
                return None
            _wait_ready(host, current[name], BOOT_SECONDS, stop)
            if problem := host.login_problem():
                raise LabError(f"{name}: SSH does not let us in: {problem}: see {host.console}")
        except ZclabError as error:
            return error
        seconds = time.monotonic() - fresh[name]
        with lock:
            outcome.timings.append(Timing(f"boot {name}", seconds))
            on_progress(f"{name}: ready after {seconds:.0f} s")
        return None

    with ThreadPoolExecutor(len(current) or 1) as pool:
        futures = [pool.submit(wait, name) for name in current]
        try:
            errors = [error for future in futures if (error := future.result()) is not None]
        except BaseException:
            stop.set()
            raise
    if errors:
        raise errors[0]


def _wait_again(host: Host, port: int, outcome: Outcome, lock: threading.Lock, stop: threading.Event) -> None:
    """See that a host that runs already answers; one that hangs is reset."""
    try:
        _wait_ready(host, port, REBOOT_SECONDS, stop)
    except LabError:
        if stop.is_set() or host.running() is None:
            raise
        reset(host.state_dir, host.name)
        with lock:
            outcome.changes.append(f"reset {host.name}: it did not answer")
        _wait_ready(host, port, BOOT_SECONDS, stop)


def _wait_ready(
    host: Host, port: int, seconds: float, stop: threading.Event, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait until the guest's SSH server speaks. Raises LabError: the emulator ended, or the time is over."""
    deadline = clock() + seconds
    while not host.banner(port):
        if host.running() is None:
            raise LabError(
                f"{host.name}: the emulator ended: {host.last_words()}: see {host.console} and qemu.log"
            )
        if stop.wait(0.2):
            raise LabError(f"{host.name}: given up")
        if clock() > deadline:
            state = (qemu.ask(host.qmp, "query-status") or {}).get("status", "unknown")
            raise LabError(
                f"{host.name}: no SSH after {seconds:.0f} s (guest {state}): {host.last_words()}: "
                f"see {host.console}"
            )
