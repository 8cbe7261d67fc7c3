# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own tests gave on one kernel, and what moved to another."""

from __future__ import annotations

from typing import Literal

from zclab.base.exit_codes import EXIT_CODES, Verdict
from zclab.base.model import Model
from zclab.kernel.spec import KernelVariant
from zclab.runs.manifest import BaseManifest, Kind
from zclab.suites.fingerprint import of_kernel
from zclab.suites.selftests import table

Result = Literal["pass", "fail", "skipped"]
#: Raise it when the same output is to be read in another way than before.
READING = 1


class Subtest(Model):
    """A subtest, as the output of the test lists it."""

    name: str
    result: Result
    reason: str | None


class TestDocument(Model):
    """A test: command, result, the reason if it did not pass, and the end of its output.

    `changed` is what of the tree's source was changed before it was compiled. Where it was not run, `seconds`
    and the output are null.
    """

    __test__ = False  # pytest: no test of this project

    name: str
    why: str
    command: str
    result: Result
    subtests: list[Subtest]
    reason: str | None
    changed: str | None
    seconds: float | None
    output_tail: str | None


class SelftestsManifest(BaseManifest):
    """What a run of the tests was.

    `tree` is what they were built from; `fingerprint` stands for everything of the project that went into
    the result; `host_problems` say which programs on the hosts were not those that were built.
    """

    kind: Literal["selftests"] = "selftests"
    tree: str
    fingerprint: str
    host_problems: list[str] = []


class SelftestsDocument(SelftestsManifest):
    """The tests on one kernel: `zclab selftests --json` prints it."""

    exit_code: int
    verdict: Verdict
    tests: list[TestDocument]

    def count(self, result: Result) -> int:
        """Return how many tests have a result."""
        return sum(test.result == result for test in self.tests)


def judge(manifest: SelftestsManifest, tests: list[TestDocument]) -> SelftestsDocument:
    """Judge a kernel: it fails if a test failed or it reported something; invalid if none could be run, or
    another program than the one that was built."""
    results = [test.result for test in tests]
    replaced: list[Verdict] = ["invalid"] if manifest.host_problems else []
    judged = manifest.judged_by(results, *replaced)
    return SelftestsDocument(**(dict(manifest) | judged), tests=tests)


SELFTESTS = Kind("selftests", SelftestsManifest, TestDocument, judge)


class Moved(Model):
    """A test, or a part of one, with another result on the second kernel; null: it was not there."""

    test: str
    subtest: str | None
    before: Result | None
    after: Result | None
    reason: str | None

    @property
    def worse(self) -> bool:
        """Whether something that passed does not any more, or fails anew."""
        return self.after == "fail" or self.before == "pass"


class Diff(Model):
    """Two kernels compared; `compared` is how many tests ran on both.

    `zclab selftests --diff A B --json` prints it.
    """

    schema_version: Literal[5] = 5
    a: SelftestsDocument
    b: SelftestsDocument
    moved: list[Moved]
    compared: int

    @property
    def exit_code(self) -> int:
        """Return 1 if B is worse than A, 4 if nothing was compared, else 0 (also for failures on both)."""
        new_reports = any(self.b.console_reports.values()) and not any(self.a.console_reports.values())
        if new_reports or any(one.worse for one in self.moved):
            return EXIT_CODES["fail"]
        return EXIT_CODES["pass" if self.compared else "invalid"]


def diff(a: SelftestsDocument, b: SelftestsDocument) -> Diff:
    """Compare what the tests gave on two kernels, test by test and part by part."""
    before, after = _results(a), _results(b)
    moved = []
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if (one and one[0]) != (other and other[0]):
            moved.append(
                Moved(
                    test=key[0],
                    subtest=key[1],
                    before=one and one[0],
                    after=other and other[0],
                    reason=(other and other[1]) or (one and one[1]),
                )
            )
    ran = [{test.name for test in document.tests if test.result != "skipped"} for document in (a, b)]
    return Diff(a=a, b=b, moved=moved, compared=len(ran[0] & ran[1]))


def _results(document: SelftestsDocument) -> dict[tuple[str, str | None], tuple[Result, str | None]]:
    found: dict[tuple[str, str | None], tuple[Result, str | None]] = {}
    for test in document.tests:
        found[test.name, None] = test.result, test.reason
        for part in test.subtests:
            found[test.name, part.name] = part.result, part.reason
    return found


def fingerprint(variant: KernelVariant | None) -> str:
    """Return a hash of the table of tests and of what a kernel is made of.

    Raises:
        UsageError: a patch or fragment that the variant names is not there.
    """
    parts = (
        READING,
        table.TESTS,
        table.PAIR_TESTS,
        table.TCP_MMAP_WRONG,
        table.FILES,
        table.CHANGES,
        table.SHARE,
    )
    return of_kernel(variant, repr(parts).encode())
