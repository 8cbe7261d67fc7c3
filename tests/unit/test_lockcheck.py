# SPDX-License-Identifier: Apache-2.0
"""What a lock check makes of consoles and rows, without hosts."""

from __future__ import annotations

import pytest

from zclab.lab import inventory
from zclab.suites import lockdep, probe_command

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
        f"{row.name} IPv{family}": row.rule("0")[1]
        for row in probe_command.table("lock_order").cases
        for family in probe_command.FAMILIES
    }
    assert lockdep._unlike(rows) == []
    rows["copying IPv4"] = "killed by signal 9"
    del rows["pinning IPv6"]
    assert [line.split(":")[0] for line in lockdep._unlike(rows)] == ["copying IPv4", "pinning IPv6"]


def test_only_the_first_version_of_the_series_is_to_be_reported() -> None:
    kernels = inventory.load("virtual").kernel_variants
    assert {name for name, kernel in kernels.items() if kernel.lock_report} == {"mmap-debug"}
    assert {"full-debug", "mmap_hook-debug"} <= set(kernels)
