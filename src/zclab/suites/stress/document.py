# SPDX-License-Identifier: Apache-2.0
"""What a stress found, and the verdict on it."""

from __future__ import annotations

from typing import Any, Literal

from zclab.base.model import Model


class Memory(Model):
    """Figures of the kernel's memory: before, after, how much each may grow, and those that grew more."""

    before: dict[str, int]
    after: dict[str, int]
    tolerance: dict[str, int]
    grown: list[str]


class Kmemleak(Model):
    """What kmemleak found: objects that nobody refers to, and the begin of its report."""

    unreferenced: int
    text: str


class Outcome(Model):
    """What a host tells of itself.

    `consumes`: whether its mmap() can take what it maps; where not, such operations count as `unsupported`.
    `transferred` are bytes by the way they came, `refusals` counts by operation and error. `mismatches` are
    the first of `mismatch_count`. `stuck`: a process hangs in the kernel and can not be killed. `memory` is
    null where the host's kernel is not the lab's, `kmemleak` where the kernel has none.
    """

    seed: int
    seconds: float
    workers: int
    kernel_release: str
    consumes: bool
    families: list[int]
    operations: dict[str, int]
    unsupported: dict[str, int]
    transferred: dict[str, int]
    refusals: dict[str, int]
    connections: int
    mismatch_count: int
    mismatches: list[dict[str, Any]]
    problems: list[str]
    stuck: bool
    memory: Memory | None
    kmemleak: Kmemleak | None


class HostStress(Model):
    """One host under stress.

    `outcome` is null if the host did not live to tell, `lost` then says how it went; `recovered` says how it
    came back, or why not. `console_reports` are the kernel's reports meanwhile.
    """

    name: str
    outcome: Outcome | None
    lost: str | None
    recovered: str | None
    console_reports: list[str]

    @property
    def problems(self) -> list[str]:
        """Return what is wrong, one line each; none if all is well."""
        found = [f"the kernel reported: {line}" for line in self.console_reports]
        if self.lost is not None:
            found.append(self.lost)
        if self.outcome is None:
            return found
        found += [f"{_where(one)}: {one.get('what')}" for one in self.outcome.mismatches]
        if (more := self.outcome.mismatch_count - len(self.outcome.mismatches)) > 0:
            found.append(f"{more} more mismatches")
        found += self.outcome.problems
        if not sum(self.outcome.operations.values()):
            found.append("nothing was done")
        if self.outcome.memory:
            found += [f"memory did not come back: {line}" for line in self.outcome.memory.grown]
        if self.outcome.kmemleak and self.outcome.kmemleak.unreferenced:
            found.append(f"kmemleak: {self.outcome.kmemleak.unreferenced} unreferenced objects")
        return found


class StressDocument(Model):
    """A stress of a lab's receivers: `zclab stress --json` prints it, runs/<run_id>/stress.json keeps it."""

    schema_version: Literal[1] = 1
    run_id: str
    lab: str
    emulated: bool
    kernel: str
    artifact_key: str | None
    kernel_release: str
    seed: int
    seconds: float
    started_at: str
    finished_at: str | None
    hosts: list[HostStress]

    @property
    def exit_code(self) -> int:
        """Return 0 if every host was stressed to the end and nothing is wrong, else 1."""
        whole = self.finished_at is not None and bool(self.hosts)
        return 0 if whole and not any(host.problems or host.outcome is None for host in self.hosts) else 1


def lines(document: StressDocument) -> list[str]:
    """Return a stress in words, the verdict last."""
    told = []
    for host in document.hosts:
        if host.outcome is not None:
            told += _counts(host.name, host.outcome)
        told += [f"{host.name}: {problem}" for problem in host.problems]
        if host.recovered is not None:
            told.append(f"{host.name}: {host.recovered}")
    where = f"lab {document.lab}{', emulated' if document.emulated else ''}"
    return [
        *told,
        f"stress: {where}, kernel {document.kernel} ({document.kernel_release}), {document.seconds:g} s, "
        f"seed {document.seed}, kept in runs/{document.run_id}",
        f"verdict: {'pass' if document.exit_code == 0 else 'fail'}",
    ]


def _counts(name: str, outcome: Outcome) -> list[str]:
    transferred = ", ".join(f"{count >> 20} MiB {how}" for how, count in sorted(outcome.transferred.items()))
    told = [
        f"{name}: {sum(outcome.operations.values())} operations on {outcome.connections} connections; "
        f"{transferred or 'nothing came'}; {sum(outcome.refusals.values())} calls refused"
    ]
    if not outcome.consumes:
        count = sum(outcome.unsupported.values())
        told.append(f"{name}: mmap() never consumes on this kernel: {count} mappings left out")
    if outcome.memory is None:
        told.append(f"{name}: memory was not watched: the kernel is not the lab's own")
    return told


def _where(mismatch: dict[str, Any]) -> str:
    return f"seed {mismatch.get('seed')}, operation {mismatch.get('operation')} ({mismatch.get('kind')})"
