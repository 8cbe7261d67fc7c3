# SPDX-License-Identifier: Apache-2.0
"""What the output of a test says: KTAP, plain words, and problems that it only prints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from zclab.suites.crosscheck.programs import TCP_MMAP_RESULT
from zclab.suites.selftests.document import Result, Subtest
from zclab.suites.selftests.table import SHARE, TCP_MMAP_WRONG, TOTAL_MIB, PairTest, Selftest, Wrong

#: kselftest's exit status of a test that cannot be run here.
SKIPPED = 4
#: That of a test whose time was up.
KILLED = 137
_PLAN = re.compile(r"^1\.\.(\d+)(?: # SKIP(?: (?P<why>.*))?)?$")
_RESULT = re.compile(r"^(?P<no>not )?ok (?P<number>\d+)(?: - | )?(?P<name>[^#]*)(?:# (?P<directive>.*))?$")
_RUN = re.compile(r"^#\s+RUN\s+(\S+) \.\.\.$")
_PLAIN: dict[str, Result] = {"[PASS]": "pass", "[FAIL]": "fail", "[SKIP]": "skipped"}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Read(NamedTuple):
    """A test that ran, as read: its parts, and every reason for which it did not pass."""

    subtests: list[Subtest]
    reasons: list[str]
    skipped: str | None = None

    @property
    def result(self) -> Result:
        """Return what the test as a whole gave."""
        if self.reasons:
            return "fail"
        return "pass" if self.skipped is None else "skipped"

    @property
    def reason(self) -> str | None:
        """Return why it did not pass, in one line."""
        return "; ".join(self.reasons) or self.skipped


class _Part(NamedTuple):
    """A part of a test, and what it printed."""

    reported: Subtest
    said: list[str]


def read(test: Selftest, status: int | None, output: str, options: set[str]) -> Read:
    """Read a test that ended by itself, with an exit status (null: a signal), on a kernel with options."""
    lines = [_ESCAPES.sub("", line).rstrip() for line in output.splitlines()]
    if any(_PLAN.match(line) or _RESULT.match(line) for line in lines):
        parts, reasons = _ktap(lines)
    else:
        parts, reasons = _sections(test, lines, status), []
    subtests = [_excused(test, part, options) for part in parts]
    excused = any(part.reported != subtest for part, subtest in zip(parts, subtests, strict=True))
    if status == KILLED:
        reasons.insert(0, f"no end within {test.seconds} s")
    reasons += printed(test.wrong, lines)
    if failed := [part.name for part in subtests if part.result == "fail"]:
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        reasons.append(f"failed: {', '.join(failed[:5])}{more}")
    if status == SKIPPED and not reasons:
        return Read(subtests, [], skipped=_last(lines))
    if status is None:
        reasons.append("it was ended by a signal")
    elif status not in (0, SKIPPED) and not reasons and not excused:
        reasons.append(f"exit status {status}: {_last(lines)}")
    if test.says and not reasons and not any(re.search(test.says, line) for line in lines):
        reasons.append(f"exit status {status}, but it did not print {test.says}")
    if subtests and not reasons and all(part.result == "skipped" for part in subtests):
        return Read(subtests, [], skipped="all of its parts were skipped")
    return Read(subtests, reasons)


def printed(wrong: Iterable[Wrong], lines: list[str]) -> list[str]:
    """Return the first line of each kind that means failure, with its meaning."""
    return [
        f"printed {line!r}: {one.meaning}"
        for one in wrong
        if (line := next((line for line in lines if re.search(one.pattern, line)), None)) is not None
    ]


def read_pair(test: PairTest, received: str, complaints: str, at_least: float | None) -> Read:
    """Read what tcp_mmap's receiver printed, and what both ends complained of.

    It ignores errors of single calls, and ends with 0 whatever was transferred: so everything has to have
    come, and no less than `at_least` of it mapped, the share that the lab expects of this link.
    """
    reasons = printed(TCP_MMAP_WRONG, complaints.splitlines())
    found = TCP_MMAP_RESULT.search(received)
    if found is None:
        return Read([], [*reasons, "the receiver printed no result"])
    mib, share = float(found["mib"]), float(found["mapped"]) / 100
    # It prints six digits.
    if abs(mib - TOTAL_MIB) > TOTAL_MIB * 1e-5:
        reasons.append(f"{mib:g} MiB were received of {TOTAL_MIB}")
    if test.maps and at_least is not None and share < at_least * SHARE:
        reasons.append(f"{share:.2%} was mapped, at least {at_least * SHARE:.0%} should be on this link")
    if not test.maps and share:
        reasons.append(f"{share:.2%} was mapped by a reader that copies")
    return Read([], reasons)


def _ktap(lines: list[str]) -> tuple[list[_Part], list[str]]:
    """Read the outermost level of KTAP; what is nested in it counts through its own result there."""
    parts: list[_Part] = []
    reasons: list[str] = []
    planned: int | None = None
    running, said = "", list[str]()
    for line in lines:
        said.append(line)
        if found := _PLAN.match(line):
            planned = int(found[1])
        elif found := _RUN.match(line):
            running = found[1]
        elif line.startswith("Bail out!"):
            reasons.append(line)
        elif found := _RESULT.match(line):
            word, _, why = (found["directive"] or "").strip().partition(" ")
            name = found["name"].strip() or running or f"number {found['number']}"
            result: Result = "fail" if found["no"] else "pass"
            if word.upper() == "SKIP":
                result = "skipped"
            elif word.upper() in ("XFAIL", "TODO"):
                result = "pass"
            parts.append(_Part(Subtest(name=name, result=result, reason=why or None), said))
            running, said = "", []
    if planned is None:
        reasons.append("it printed no plan")
    elif planned != len(parts):
        reasons.append(f"{planned} parts were planned, {len(parts)} reported their result")
    return parts, reasons


def _sections(test: Selftest, lines: list[str], status: int | None) -> list[_Part]:
    """Read the subtests that plain output lists by line; the last is where a failed test ended."""
    if test.section is None:
        return []
    parts: list[tuple[str, list[str]]] = []
    for line in lines:
        if found := re.search(test.section, line):
            parts.append((found[1], []))
        elif parts:
            parts[-1][1].append(line)
    reported = []
    for at, (name, said) in enumerate(parts):
        verdict = next((_PLAIN[word] for line in said if (word := line[:6]) in _PLAIN), None)
        problems = printed(test.wrong, said)
        ended_here = at == len(parts) - 1 and status not in (0, SKIPPED)
        if verdict is None and not problems and ended_here:
            problems = [f"exit status {status}: {_last(said)}"]
        result: Result = "fail" if problems else verdict or "pass"
        reason = "; ".join(problems) or (_last(said) if result != "pass" else None)
        reported.append(_Part(Subtest(name=name, result=result, reason=reason), said))
    return reported


def _excused(test: Selftest, part: _Part, options: set[str]) -> Subtest:
    """Return a part, as skipped if it failed for want of what its kernel does not have."""
    for one in test.excuses:
        if (
            part.reported.result == "fail"
            and one.option not in options
            and re.search(one.part, part.reported.name)
            and any(re.search(one.printed, line) for line in part.said)
        ):
            reason = f"the kernel has no CONFIG_{one.option}"
            return part.reported.model_copy(update={"result": "skipped", "reason": reason})
    return part.reported


def _last(lines: list[str]) -> str:
    """Return the last line that says more than a verdict."""
    return next(
        (line for line in reversed(lines) if line.strip(" -") and line[:6] not in _PLAIN), "no message"
    )
