# SPDX-License-Identifier: Apache-2.0
"""What the check of the lock order makes of consoles and rows, without hosts."""

from __future__ import annotations

from typing import Any

import pytest
from tests import factories

from zclab.lab import inventory
from zclab.suites import lockdep, probe_command
from zclab.suites.lockdep import LockdepDocument, LockdepManifest, LockRow

LOCKS = ["sk_lock-AF_INET", "&mm->mmap_lock"]
REPORT = """\
[   31.1] ======================================================
[   31.1] WARNING: possible circular locking dependency detected
[   31.1] python3/301 is trying to acquire lock:
[   31.1] ffff888003c4 (sk_lock-AF_INET6){+.+.}-{0:0}, at: tcp_mmap_consume+0x1/0x2
[   31.1] but task is already holding lock:
[   31.1] ffff888003c5 (&mm->mmap_lock){++++}-{3:3}, at: vm_mmap_pgoff+0x1/0x2
"""
OTHER = REPORT.replace("sk_lock-AF_INET6", "rtnl_mutex")
SPLAT = "[   40.2] BUG: KASAN: use-after-free in tcp_mmap_next+0x1/0x2\n"


@pytest.mark.parametrize(
    ("expected", "receiver", "sender", "wrong"),
    [
        ([], "[    1.0] all is well\n", "", []),
        (LOCKS, REPORT, "", []),
        ([], REPORT, "", ["receiver1: [   31.1] WARNING: possible circular"]),
        (LOCKS, "", "", ["receiver1: no report of", "does not name sk_lock", "does not name &mm"]),
        (LOCKS, OTHER, "", ["receiver1: the report does not name sk_lock-AF_INET"]),
        (LOCKS, REPORT + SPLAT, "", ["receiver1: [   40.2] BUG: KASAN"]),
        (LOCKS, REPORT + REPORT, "", ["receiver1: [   31.1] WARNING: possible circular"]),
        (LOCKS, REPORT, REPORT, ["sender1: [   31.1] WARNING: possible circular"]),
    ],
    ids=["silent", "reported", "planted", "missing", "other locks", "one more", "twice", "on the sender"],
)
def test_what_is_not_as_it_should_be(
    expected: list[str], receiver: str, sender: str, wrong: list[str]
) -> None:
    found = lockdep._unexpected(expected, "receiver1", {"sender1": sender, "receiver1": receiver})
    assert len(found) == len(wrong), found
    assert all(part in line for part, line in zip(wrong, found, strict=True))


def test_a_row_that_came_out_otherwise_is_named() -> None:
    rows = {
        f"{row.name} IPv{family}": LockRow(
            row=row.name, family=family, expected=row.rule("0")[1], outcome=row.rule("0")[1]
        )
        for row in probe_command.table("lock_order").cases
        for family in probe_command.FAMILIES
    }
    assert lockdep.unlike([*rows.values()]) == []
    assert judged([*rows.values()]).verdict == "pass"
    changes = {"copying IPv4": "killed by signal 9", "pinning IPv6": None}
    for name, outcome in changes.items():
        rows[name] = rows[name].model_copy(update={"outcome": outcome})
    assert {line.split(":")[0] for line in lockdep.unlike([*rows.values()])} == set(changes)
    document = judged([*rows.values()])
    assert (document.verdict, document.exit_code, len(document.unexpected)) == ("fail", 1, 2)


def judged(rows: list[LockRow], **changes: Any) -> LockdepDocument:
    return lockdep.judge(
        LockdepManifest.model_validate(factories.common("lockdep", expected=[], **changes)), rows
    )


def test_an_unexpected_report_fails_and_an_interrupted_check_is_invalid() -> None:
    assert judged([], unexpected=["receiver1: BUG"]).verdict == "fail"
    assert judged([], finished_at=None).verdict == "invalid"
    text = "\n".join(lockdep.lines(judged([], unexpected=["receiver1: BUG"])))
    assert "not as expected: receiver1: BUG" in text and text.endswith("verdict: fail")


def test_only_the_first_version_of_the_series_is_to_be_reported() -> None:
    kernels = inventory.load("virtual").kernel_variants
    assert {name for name, kernel in kernels.items() if kernel.lock_report} == {"mmap-debug"}
    assert {"full-debug", "mmap_hook-debug"} <= set(kernels)
