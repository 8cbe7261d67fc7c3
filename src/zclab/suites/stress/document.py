# SPDX-License-Identifier: Apache-2.0
"""What a stress found, and the verdict on it."""

from __future__ import annotations

from typing import Any, Literal

from zclab.base.exit_codes import Verdict
from zclab.base.model import Model
from zclab.runs.manifest import BaseManifest, Kind


class Memory(Model):
    """Figures of the kernel's memory: before, after, how much each may grow, and those that grew more."""

    before: dict[str, int]
    after: dict[str, int]
    tolerance: dict[str, int]
    grown: list[str]


class Kmemleak(Model):
    """What kmemleak found: objects that nobody refers to, and the start of its report."""

    unreferenced: int
    text: str


class ProbeResult(Model):
    """What the probe on a host reports at its end.

    `consumes`: whether the kernel has the consuming mmap() of 2018; without it such operations count as
    `unsupported`.
    `transferred` are bytes by the way they came, `refusals` counts by operation and error. `mismatches` are
    the first of `mismatch_count`. `stuck`: a process hangs in the kernel and cannot be killed. `memory` is
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

    `outcome` is null if the host did not live to report, `lost` then says how it went; `recovered` says how
    it came back, or why not. `digest`: sha256 (hex) of all that the guest of an exact lab printed, which the
    same seed, kernel and emulator give again; null elsewhere, and where a limit stopped the guest.
    """

    name: str
    outcome: ProbeResult | None
    lost: str | None
    recovered: str | None
    digest: str | None = None


class StressManifest(BaseManifest):
    """What a stress was: the seed that its operations were drawn from, and how long it was to take."""

    kind: Literal["stress"] = "stress"
    seed: int
    seconds: float


class StressDocument(StressManifest):
    """A stress of a lab's receivers: `zclab stress --json` prints it."""

    exit_code: int
    verdict: Verdict
    hosts: list[HostStress]


def judge(manifest: StressManifest, hosts: list[HostStress]) -> StressDocument:
    """Judge a stress: it passes if each host was stressed to the end and nothing is wrong."""
    whole = bool(hosts) and all(host.outcome is not None for host in hosts)
    wrong = any(problems(manifest, host) for host in hosts) or any(manifest.console_reports.values())
    verdict = manifest.judged("pass" if whole and not wrong else "fail")
    return StressDocument(**(dict(manifest) | verdict), hosts=hosts)


STRESS = Kind("stress", StressManifest, HostStress, judge)


def problems(manifest: StressManifest, host: HostStress) -> list[str]:
    """Return what is wrong with a host, one line each; none if all is well."""
    found = [f"the kernel reported: {line}" for line in manifest.console_reports.get(host.name, [])]
    if host.lost is not None:
        found.append(host.lost)
    if host.outcome is None:
        return found
    outcome = host.outcome
    found += [f"{_where(one)}: {one.get('what')}" for one in outcome.mismatches]
    if (more := outcome.mismatch_count - len(outcome.mismatches)) > 0:
        found.append(f"{more} more mismatches")
    found += outcome.problems
    if not sum(outcome.operations.values()):
        found.append("nothing was done")
    if outcome.memory:
        found += [f"memory was not freed: {line}" for line in outcome.memory.grown]
    if outcome.kmemleak and outcome.kmemleak.unreferenced:
        found.append(f"kmemleak: {outcome.kmemleak.unreferenced} unreferenced objects")
    return found


def lines(document: StressDocument) -> list[str]:
    """Return a stress in words, the verdict last."""
    found = []
    for host in document.hosts:
        if host.outcome is not None:
            found += _counts(host.name, host.outcome)
        found += [f"{host.name}: {problem}" for problem in problems(document, host)]
        if host.recovered is not None:
            found.append(f"{host.name}: {host.recovered}")
        if host.digest is not None:
            found.append(f"{host.name}: this seed gives digest {host.digest} each time")
    where = f"lab {document.lab}{', emulated' if document.emulated else ''}"
    return [
        *found,
        f"stress: {where}, kernel {document.kernel}, {document.seconds:g} s, "
        f"seed {document.seed}, kept in runs/{document.run_id}",
        f"verdict: {document.verdict}",
    ]


def _counts(name: str, outcome: ProbeResult) -> list[str]:
    transferred = ", ".join(f"{count >> 20} MiB {how}" for how, count in sorted(outcome.transferred.items()))
    lines = [
        f"{name}: {sum(outcome.operations.values())} operations on {outcome.connections} connections; "
        f"{transferred or 'nothing received'}; {sum(outcome.refusals.values())} calls refused"
    ]
    if not outcome.consumes:
        count = sum(outcome.unsupported.values())
        lines.append(f"{name}: mmap() never consumes on this kernel: {count} mappings left out")
    if outcome.memory is None:
        lines.append(f"{name}: memory was not checked: the kernel is not the lab's own")
    return lines


def _where(mismatch: dict[str, Any]) -> str:
    return f"seed {mismatch.get('seed')}, operation {mismatch.get('operation')} ({mismatch.get('kind')})"
