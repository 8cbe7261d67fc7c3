# SPDX-License-Identifier: Apache-2.0
"""Kernel reports on a console: each kind is found, ordinary lines are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from zclab.host import console

REPORTS = {
    "warning": "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1234 tcp_recvmsg+0x1/0x2",
    "bug": "kernel BUG at mm/memory.c:999!",
    "null pointer": "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "sleeping": "BUG: sleeping function called from invalid context at net/core/sock.c:3000",
    "kasan": "BUG: KASAN: use-after-free in tcp_zerocopy_receive+0x1/0x2",
    "page state": "BUG: Bad page state in process zclab-traffic  pfn:12345",
    "wait context": "[ BUG: Invalid wait context ]",
    "oops": "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "panic": "Kernel panic - not syncing: Fatal exception in interrupt",
    "protection": "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
    "circular locking": "WARNING: possible circular locking dependency detected",
    "recursive locking": "WARNING: possible recursive locking detected",
    "old lockdep": "INFO: possible recursive locking detected",
    "irq inversion": "WARNING: possible irq lock inversion dependency detected",
    "lock state": "WARNING: inconsistent lock state",
    "rcu": "WARNING: suspicious RCU usage",
    "hung task": "INFO: task zclab-traffic:123 blocked for more than 120 seconds.",
    "soft lockup": "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [zclab-traffic:123]",
    "hard lockup": "watchdog: Watchdog detected hard LOCKUP on cpu 0",
    "rcu stall": "rcu: INFO: rcu_sched detected stalls on CPUs/tasks:",
    "rcu self stall": "rcu: INFO: rcu_preempt self-detected stall on CPU",
    "leak": "kmemleak: unreferenced object 0xffff888000000000 (size 64):",
    "scheduling": "bad: scheduling from the idle thread!",
    "ubsan": "UBSAN: array-index-out-of-bounds in net/ipv4/tcp.c:1:2",
    "no memory": "zclab-traffic: page allocation failure: order:0, mode:0x0",
    "divide error": "divide error: 0000 [#1] PREEMPT SMP NOPTI",
    "invalid opcode": "invalid opcode: 0000 [#1] PREEMPT SMP",
    "slab": "BUG kmalloc-64 (Not tainted): Poison overwritten",
}

ORDINARY = [
    "Linux version 6.1.192-zclab-0a1b2c3d4e (zclab@zclab) #1 SMP PREEMPT_DYNAMIC",
    "Command line: root=/dev/vda1 console=ttyS0 panic=10 oops=panic",
    "e1000e 0000:00:04.0 data0: NIC Link is Up 1000 Mbps Full Duplex, Flow Control: None",
    "EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.",
    "random: crng init done",
    "Debugging: nothing",
    "sysrq: Emergency Sync",
    "rcu: \tOffload RCU callbacks from CPUs: (none).",
    "Freeing unused kernel image (initmem) memory: 1024K",
]


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("stamp", ["[   12.345678] ", "<4>[12345.678901] ", "[   12.345678][  T123] "])
def test_a_report_of_the_kernel_is_found(kind: str, stamp: str) -> None:
    line = f"{stamp}{REPORTS[kind]}"
    text = "\n".join([f"[    1.000000] {one}" for one in ORDINARY] + [line, "[   13.000000] fine again"])
    assert console.reports(text) == [line]


@pytest.mark.parametrize("line", ORDINARY)
def test_ordinary_lines_are_none(line: str) -> None:
    assert console.reports(f"[    1.234567] {line}\n") == []


@pytest.mark.parametrize("kind", REPORTS)
def test_what_programs_print_is_none(kind: str) -> None:
    assert console.reports(f"{REPORTS[kind]}\nreceiver1 login: \n") == []


@pytest.mark.parametrize("kind", ["warning", "bug", "oops"])
@pytest.mark.parametrize("prefix", ["receiver1 login: ", "\x1b[0m", "\x1b[2J\x1b[H\r"])
def test_a_report_after_a_prompt_is_found(kind: str, prefix: str) -> None:
    """The console is shared: a kernel line begins where a program left the cursor."""
    found = console.reports(f"{prefix}[   12.345678] {REPORTS[kind]}\n")
    assert len(found) == 1
    assert REPORTS[kind] in found[0]


def test_lines_that_programs_write_to_the_kernels_log_are_none() -> None:
    assert console.reports("[   12.345678] systemd[1]: WARNING: something is deprecated\n") == []


def test_several_reports_keep_their_order() -> None:
    text = "[    1.0] WARNING: first\r\n[    2.0] quiet\r\n[    3.0] BUG: second\r\n"
    assert console.reports(text) == ["[    1.0] WARNING: first", "[    3.0] BUG: second"]


def test_only_what_came_since_is_read(tmp_path: Path) -> None:
    path = console.log_path(tmp_path, "receiver1")
    assert console.size(path) == 0
    assert console.since(path, 0) == ""
    path.parent.mkdir(parents=True)
    path.write_bytes(b"[    1.000000] WARNING: before\n")
    offset = console.size(path)
    with path.open("ab") as file:
        file.write(b"[    2.000000] BUG: after \xff\n")
    assert console.reports(console.since(path, offset)) == ["[    2.000000] BUG: after \ufffd"]
    assert len(console.reports(console.since(path, 0))) == 2
