# SPDX-License-Identifier: Apache-2.0
"""What the suite found on one kernel, kept in the lab's state, and what moved between two kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from zclab.base.model import Model
from zclab.kernel.spec import KernelVariant
from zclab.lab.model import Lab
from zclab.probe.table import TestCase
from zclab.suites import probe_command
from zclab.suites import result_store as results

#: The name of a kernel that the lab has not booted: the hosts run this machine's own.
MACHINE = "machine"
_KIND = "conformance"
#: Interfaces that this project's series leaves as they are.
FIXED = ("zerocopy_receive", "msg_zerocopy")


class RowDocument(Model):
    """A row, tried over one address family.

    `expected` is what this kernel should show, `since` the first release that behaves so (null: all do),
    `document` what the claim's text says where kernels do something else. `outcome` is null, with the
    `reason`, where the row was not tried or its end was not told.
    """

    abi: str
    row: str
    family: probe_command.Family
    given: str
    expected: str
    since: str | None
    document: str | None
    outcome: str | None
    verdict: Literal["pass", "fail", "skipped"]
    reason: str | None
    claim_ids: list[str]


class ConformanceDocument(Model):
    """The suite on one kernel: `zclab conformance --json` prints it.

    `kernel` is the variant that ran, or "machine"; `made_of` stands for everything of the project that went
    into the result. `console_reports` are what the kernel reported meanwhile, by host.
    """

    schema_version: Literal[1] = 1
    lab: str
    emulated: bool
    kernel: str
    artifact_key: str | None
    kernel_release: str
    kernel_build_id: str | None
    made_of: str
    started_at: str
    console_reports: dict[str, list[str]]
    rows: list[RowDocument]

    def count(self, verdict: str) -> int:
        """Return how many rows have a verdict."""
        return sum(row.verdict == verdict for row in self.rows)

    @property
    def exit_code(self) -> int:
        """Return 1 if a row failed or the kernel reported something, 4 if nothing could be tried, else 0."""
        if self.count("fail") or any(self.console_reports.values()):
            return 1
        return 0 if self.count("pass") else 4


class Moved(Model):
    """A row whose outcome is another on the second kernel."""

    before: RowDocument
    after: RowDocument


class Diff(Model):
    """Two kernels compared: rows that moved, and how many rows of each fixed interface both tried.

    `zclab conformance --diff A B --json` prints it.
    """

    schema_version: Literal[1] = 1
    a: ConformanceDocument
    b: ConformanceDocument
    moved: list[Moved]
    compared: dict[str, int]

    @property
    def moved_but_fixed(self) -> list[Moved]:
        """Return the moved rows of interfaces that no series may move."""
        return [one for one in self.moved if one.before.abi in FIXED]

    @property
    def exit_code(self) -> int:
        """Return 4 if a fixed interface could not be compared, 1 if one moved or a row failed, else 0."""
        if not all(self.compared.values()):
            return 4
        return 1 if self.moved_but_fixed or 1 in (self.a.exit_code, self.b.exit_code) else 0


def judged(
    abi: str,
    row: TestCase,
    family: probe_command.Family,
    release: str,
    outcome: str | None,
    reason: str | None,
) -> RowDocument:
    """Return what came of a row on a kernel of this release, judged; no outcome is a skipped row."""
    since, expected = row.rule(release)
    verdict: Literal["pass", "fail", "skipped"] = "skipped"
    if outcome is not None:
        verdict = "pass" if outcome == expected else "fail"
    return RowDocument(
        abi=abi,
        row=row.name,
        family=family,
        given=row.setup,
        expected=expected,
        since=since,
        document=row.document,
        outcome=outcome,
        verdict=verdict,
        reason=reason,
        claim_ids=list(row.claims),
    )


def diff(a: ConformanceDocument, b: ConformanceDocument) -> Diff:
    """Compare what the suite found on two kernels, row by row."""
    after = {(row.abi, row.row, row.family): row for row in b.rows}
    both = [(row, after[key]) for row in a.rows if (key := (row.abi, row.row, row.family)) in after]
    tried = [(one, other) for one, other in both if one.outcome is not None and other.outcome is not None]
    return Diff(
        a=a,
        b=b,
        moved=[Moved(before=one, after=other) for one, other in both if one.outcome != other.outcome],
        compared={abi: sum(one.abi == abi for one, _ in tried) for abi in FIXED},
    )


def made_of(variant: KernelVariant | None) -> str:
    """Return a hash of the probe and, where the lab builds the kernel, of what that is made of.

    Raises:
        UsageError: a patch or fragment that the variant names is not there.
    """
    return results.made_of(variant, probe_command.archive())


def keep(lab: Lab, document: ConformanceDocument) -> Path:
    """Write a result where `kept` finds it, in place of an earlier one of the same kernel."""
    return results.keep(lab, _KIND, document.kernel, document)


def kept(lab: Lab, kernel: str) -> ConformanceDocument | None:
    """Return the kept result of a kernel; None if there is none, or if rows or kernel are others now."""
    found = results.kept(lab, _KIND, kernel, ConformanceDocument)
    return found if found and found.made_of == made_of(lab.kernel_variants.get(kernel)) else None
