# SPDX-License-Identifier: Apache-2.0
"""One guest: what it is made from, one boot of it, and what comes out."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from zclab.backends.exact import cpio, emulator, instructions, plugin, programs, steps
from zclab.backends.exact.emulator import EmulatorFacts, Ended, Limits
from zclab.backends.exact.instructions import Names, Window
from zclab.backends.exact.programs import Programs
from zclab.backends.exact.steps import Link, Output, Step
from zclab.base.c_program import CProgram
from zclab.base.errors import LabError
from zclab.base.files import full_disk, full_disk_named
from zclab.base.model import Model
from zclab.base.paths import cache_dir, project_root
from zclab.base.progress import Progress, quiet
from zclab.debian.archive import SUITE_NAME
from zclab.kernel import artifact as artifacts
from zclab.kernel import symbols

CONSOLE = "console.log"
_RESULTS = "results.jsonl"
_INITRAMFS = "initramfs.cpio"
_COUNTS = "instructions.txt"
# An emulator that could not write all has left no more than this.
_ROOM_BYTES = 1 << 16
_LAST_LINES = 5


class Guest(Model):
    """What one boot is made from: a kernel artifact, by key; the link; and the seed of its random numbers.

    suite: the Debian release that its programs come from. files: more files, by their paths in the guest,
    such as the traffic tool; each is executable. locked_memory_kib: the limit of every process, null: the
    kernel's.
    """

    artifact_key: str
    link: Link
    seed: int = Field(ge=0, lt=2**32)
    suite: str = Field(default="bookworm", pattern=SUITE_NAME)
    programs: Programs = "traffic"
    files: dict[str, Path] = {}
    locked_memory_kib: int | Literal["unlimited"] | None = None
    memory_mib: int = Field(default=1024, ge=192)


class StoppedError(LabError):
    """The emulator was stopped at a limit: where the guest was by then, this machine decided."""


class Execution(NamedTuple):
    """One boot that ended well.

    outputs: of each process that was started, by name. console: the file with what the kernel printed.
    programs: the key of the guest's programs. cpu_seconds: of the emulator's process, not part of the digest.
    digest: sha256 in hex over the console and all that init printed. windows: the instructions of each end's
    window in each transfer, in the order in which they closed; null where they were not counted.
    """

    outputs: dict[str, Output]
    console: Path
    emulator: EmulatorFacts
    programs: str
    cpu_seconds: float
    digest: str
    windows: list[Window] | None = None


def execute(
    guest: Guest,
    list_of_steps: Sequence[Step],
    directory: Path,
    limits: Limits,
    on_progress: Progress = quiet,
    *,
    by_function: bool = False,
) -> Execution:
    """Boot a guest, have its init carry out the steps, and return what came out.

    directory: gets the console and what init prints; need not exist. No process stays. by_function: count
    the instructions of transfers by function, too; no other figure changes by that.

    Raises:
        UsageError: the steps do not make a list.
        StoppedError: the guest exceeded a limit.
        LabError: no such artifact; the emulator is not fit; the guest panicked: the end of its console.
    """
    steps_file = steps.encode(list_of_steps, guest.locked_memory_kib)
    kernel = artifacts.lookup(guest.artifact_key)
    if kernel is None:
        raise LabError(
            f"exact guest: kernel artifact {guest.artifact_key}: it is not there: build the variant"
        )
    facts = emulator.facts(guest.link, guest.memory_mib)
    chosen = programs.ensure(guest.suite, guest.programs, on_progress)
    init = CProgram(project_root() / "emulator" / "guest", "init", "init of a guest")
    init_file = init.build(cache_dir() / "exact" / "init").path
    own = {
        "init": cpio.program(init_file.read_bytes()),
        "list": cpio.regular(steps_file),
        **{path.lstrip("/"): cpio.program(file.read_bytes()) for path, file in guest.files.items()},
    }
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        "kernel": kernel.vmlinux,
        "initramfs": directory / _INITRAMFS,
        "console": directory / CONSOLE,
        "results": directory / _RESULTS,
    }
    with artifacts.using(kernel):
        try:
            with full_disk_named(directory):
                files["initramfs"].write_bytes(chosen.initramfs.read_bytes() + cpio.archive(own))
            paths = {name: str(path.resolve()) for name, path in files.items()}
            arguments = emulator.options(guest.link, guest.memory_mib, paths, str(guest.seed))
            if by_function:
                functions = symbols.of_kernel(kernel.vmlinux)
                arguments += plugin.option(plugin.build(), functions, (directory / _COUNTS).resolve())
            ended = emulator.execute(arguments, limits)
            free_bytes = shutil.disk_usage(directory).free
        finally:
            files["initramfs"].unlink(missing_ok=True)
    outputs = None if ended.killed or ended.status else steps.decode(_content(files["results"]))
    if outputs is None and free_bytes < _ROOM_BYTES:
        raise full_disk(directory)
    if outputs is None:
        raise _failed(facts, ended, files["console"])
    windows = None
    if by_function:
        static = {"init": init_file, **{Path(path).name: file for path, file in guest.files.items()}}
        code = {name: symbols.code_of(file) for name, file in static.items()}
        windows = instructions.read(directory / _COUNTS, Names(functions, code))
        (directory / _COUNTS).unlink()
    return Execution(
        outputs, files["console"], facts, chosen.key, ended.cpu_seconds, digest_of(directory), windows
    )


def digest_of(directory: Path) -> str:
    """Return the digest of the guest that was executed last in a directory, also if it went wrong."""
    console, printed = (_content(directory / name) for name in (CONSOLE, _RESULTS))
    return hashlib.sha256(b"%d\n" % len(console) + console + printed).hexdigest()


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _failed(facts: EmulatorFacts, ended: Ended, path: Path) -> LabError:
    """Return the error of a guest that did not carry out its list, with the end of its console."""
    if ended.status and not ended.killed:
        return emulator.unfit(facts.version, ended)
    lines = [line.strip() for line in _content(path).decode(errors="replace").splitlines() if line.strip()]
    why = ended.killed
    if not why:
        causes = (re.search(r"(Kernel panic.*|init: error: .*)", line) for line in lines)
        why = next((cause[1] for cause in causes if cause), "it ended before its list did")
    end = " | ".join(lines[-_LAST_LINES:]) or "nothing"
    error = StoppedError if ended.killed else LabError
    return error(f"exact guest: {why}: see {path}; its console ends: {end}")
