# SPDX-License-Identifier: Apache-2.0
"""One guest: what it is made from, the list of steps that its init carries out, and what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from zclab.base.model import Model, Role
from zclab.debian.archive import SUITE_NAME

#: What joins the two network namespaces: a veth pair, or two e1000e NICs on one hub.
Link = Literal["veth", "e1000e"]
#: The programs that a guest has: what a transfer and the state around it need; or those, and Python.
Programs = Literal["traffic", "probes"]


class Step(Model):
    """One step of the list that init carries out, in order.

    do: "start" a process, "await" a line of what it prints, "write" a line to its standard input, or "end":
    close its standard input and wait until it ends. What the list does not end is killed after the last step.
    """

    do: Literal["start", "await", "write", "end"]
    #: The process that the step is about: chosen by the caller, unique within the list.
    name: str = Field(pattern=r"^[A-Za-z0-9_.:/-]{1,80}$")
    #: start: the network namespace to run in; null: neither end's.
    namespace: Role | None = None
    #: start: a shell command line; "{port}" in it is the number that the last awaited line ended with.
    command: str | None = None
    #: await: where the line is printed.
    stream: Literal["stdout", "stderr"] | None = None
    #: await: how the line begins; write: the line to write, without its end.
    prefix: str | None = None
    #: await, end: seconds of the guest's clock that it may take; then the process is killed, its status null.
    seconds: float | None = Field(default=None, gt=0)


class Output(Model):
    """What one process printed, and its exit status: 128 + N if signal N ended it, null if init killed it."""

    status: int | None
    stdout: str
    stderr: str


class EmulatorFacts(Model):
    """The emulator: its version as it prints it, and all of its options, files by names instead of paths.

    Figures of two guests can be compared only where these are equal.
    """

    version: str
    options: list[str]


class Limits(Model):
    """How long a guest may take: seconds of CPU of the emulator's process, and seconds of real time."""

    cpu_seconds: float = Field(gt=0)
    real_seconds: float = Field(gt=0)


class Guest(Model):
    """What one boot is made from: a kernel artifact, by key; the link; and the seed of its random numbers.

    suite: the Debian release that its programs come from. files: more files, by their paths in the guest, such
    as the traffic tool; each is executable. locked_memory_kib: the limit of every process, null: the kernel's.
    """

    artifact_key: str
    link: Link
    seed: int = Field(ge=0, lt=2**32)
    suite: str = Field(default="bookworm", pattern=SUITE_NAME)
    programs: Programs = "traffic"
    files: dict[str, Path] = {}
    locked_memory_kib: int | Literal["unlimited"] | None = None
    memory_mib: int = Field(default=1024, ge=192)


class Execution(NamedTuple):
    """One boot that ended well.

    outputs: of each process that was started, by name. console: the file with what the kernel printed.
    programs: the key of the guest's programs. cpu_seconds: of the emulator's process, not part of the digest.
    digest: sha256 in hex over the console and all that init printed.
    """

    outputs: dict[str, Output]
    console: Path
    emulator: EmulatorFacts
    programs: str
    cpu_seconds: float
    digest: str


def execute(guest: Guest, steps: list[Step], directory: Path, limits: Limits) -> Execution:
    """Boot a guest, have its init carry out the steps, and return what came out.

    directory: gets the console and the guest's files; need not exist. No process stays.

    Raises:
        UsageError: the steps do not make a list.
        LabError: no such artifact; the emulator is not fit; the guest panicked, hung or exceeded a limit: the
            end of its console.
    """
    raise NotImplementedError
