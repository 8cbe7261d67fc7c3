# SPDX-License-Identifier: Apache-2.0
"""What the suite found on one kernel, and what moved between two kernels."""

from __future__ import annotations

from typing import Literal

from zclab.base.exit_codes import EXIT_CODES, Verdict
from zclab.base.model import Model
from zclab.kernel.spec import KernelVariant
from zclab.probe.table import Link, TestCase
from zclab.runs.manifest import BaseManifest, Kind
from zclab.suites import probe_command
from zclab.suites.fingerprint import of_kernel

#: Interfaces that this project's series leaves as they are.
FIXED = ("zerocopy_receive", "msg_zerocopy")


class RowDocument(Model):
    """A row, tried over one address family.

    `expected` is what this kernel should show, `since` the first release that behaves so (null: all do),
    `document` what the claim's text says where kernels do something else. `outcome` is null, with the
    `reason`, where the row was not tried or its end is not known. `link` is what its packets crossed; runs
    that did not record it have null.
    """

    abi: str
    row: str
    family: probe_command.Family
    setup: str
    expected: str
    since: str | None
    document: str | None
    outcome: str | None
    verdict: Literal["pass", "fail", "skipped"]
    reason: str | None
    claim_ids: list[str]
    link: Link | None = None

    @property
    def deviates(self) -> bool:
        """Whether this kernel does what it should by the row, which is not what the claim's document says."""
        return self.verdict == "pass" and self.document is not None and self.since != "0"


class ConformanceManifest(BaseManifest):
    """What a run of the suite was; `fingerprint` stands for everything of the project that went into it."""

    kind: Literal["conformance"] = "conformance"
    fingerprint: str


class ConformanceDocument(ConformanceManifest):
    """The suite on one kernel: `zclab conformance --json` prints it."""

    exit_code: int
    verdict: Verdict
    rows: list[RowDocument]


def counted(rows: list[RowDocument]) -> dict[str, int]:
    """Return how many rows passed, failed and were skipped, by these words."""
    words = {"passed": "pass", "failed": "fail", "skipped": "skipped"}
    return {word: sum(row.verdict == verdict for row in rows) for word, verdict in words.items()}


def judge(manifest: ConformanceManifest, rows: list[RowDocument]) -> ConformanceDocument:
    """Judge a kernel: it fails if a row failed or it reported something; invalid if no row could be tried."""
    judged = manifest.judged_by(row.verdict for row in rows)
    return ConformanceDocument(**(dict(manifest) | judged | {"rows": rows}))


CONFORMANCE = Kind("conformance", ConformanceManifest, RowDocument, judge)


class Moved(Model):
    """A row whose outcome is another on the second kernel."""

    before: RowDocument
    after: RowDocument


class Diff(Model):
    """What --diff prints: rows that moved, and how many rows of each fixed interface both kernels tried."""

    schema_version: Literal[5] = 5
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
            return EXIT_CODES["invalid"]
        failed = self.moved_but_fixed or "fail" in (self.a.verdict, self.b.verdict)
        return EXIT_CODES["fail" if failed else "pass"]


def judged(
    abi: str,
    row: TestCase,
    family: probe_command.Family,
    release: str,
    outcome: str | None,
    reason: str | None,
) -> RowDocument:
    """Return the judged outcome of a row on a kernel of this release; no outcome is a skipped row."""
    since, expected = row.rule(release)
    verdict: Literal["pass", "fail", "skipped"] = "skipped"
    if outcome is not None:
        verdict = "pass" if outcome == expected else "fail"
    return RowDocument(
        abi=abi,
        row=row.name,
        family=family,
        setup=row.setup,
        expected=expected,
        since=since,
        document=row.document,
        outcome=outcome,
        verdict=verdict,
        reason=reason,
        claim_ids=list(row.claims),
        link=row.link,
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


def fingerprint(variant: KernelVariant | None) -> str:
    """Return a hash of the probe and, where the lab builds the kernel, of what that is made of.

    Raises:
        UsageError: a patch or fragment that the variant names is not there.
    """
    return of_kernel(variant, probe_command.archive())
