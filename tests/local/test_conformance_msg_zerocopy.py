# SPDX-License-Identifier: Apache-2.0
"""The rows of MSG_ZEROCOPY on this machine, and faults that they must see."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zclab.probe import netns, zerocopy_sends
from zclab.probe import sink as sink_module
from zclab.probe import table as probe_table
from zclab.probe.completions import Completion, as_text
from zclab.probe.netns import FIRST_PROCESS, SCATTER_GATHER, TX_CHECKSUM
from zclab.probe.sink import serve
from zclab.probe.table import Bench, Peer, attempt
from zclab.probe.tables.msg_zerocopy import TABLE, completion, limits
from zclab.suites.conformance import document as documents

root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and other users need root")
families = pytest.mark.parametrize("family", [4, 6])

ROWS = {row.name: row for row in TABLE.cases}
#: Rows that this machine has not what they need for, and what that is.
NO_PEER = "there is no other host to send to"
NOT_HERE = {
    "counter-wraps": "no kernel lets a program set the counter, and 2^32 sends take hours",
    "not-copied-on-the-link": NO_PEER,
    "lengths-on-the-link": NO_PEER,
    "unaligned-on-the-link": NO_PEER,
    "unmapped-on-the-link": NO_PEER,
    "packet-socket-on-the-link": NO_PEER,
}
OVER_THE_LINK = [name for name, reason in NOT_HERE.items() if reason is NO_PEER]


@pytest.fixture
def sink(family: int) -> Iterator[Peer]:
    """A sink on loopback."""
    address = Bench(family).loopback
    reader, writer = os.pipe()
    with os.fdopen(reader) as told, os.fdopen(writer, "w") as telling:
        threading.Thread(target=serve, args=(address, address, "lo", telling), daemon=True).start()
        yield Peer(address, int(told.readline().split()[1]), "lo")


@root
@families
@pytest.mark.parametrize("row", TABLE.cases, ids=ROWS)
def test_row(row: probe_table.TestCase, family: int) -> None:
    got = attempt(row, family)
    if row.name in NOT_HERE:
        assert got == {"outcome": None, "reason": NOT_HERE[row.name]}
    else:
        assert got == {"outcome": row.rule(os.uname().release)[1], "reason": None}


def test_every_claim_has_a_row() -> None:
    tried = {claim for row in TABLE.cases if row.name not in NOT_HERE for claim in row.claims}
    assert tried == {f"Z{number}" for number in range(1, 14)}


@root
@families
@pytest.mark.parametrize("name", OVER_THE_LINK)
def test_a_link_that_loops_back_is_not_tried(name: str, family: int, sink: Peer) -> None:
    assert attempt(ROWS[name], family, sink) == {
        "outcome": None,
        "reason": "the link to the peer has no device of its own: the kernel copies what it loops back",
    }


@root
@pytest.mark.parametrize("missing", [SCATTER_GATHER, TX_CHECKSUM])
def test_a_device_that_needs_a_copy_is_not_tried(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netns, "_has_device", lambda _: True)
    monkeypatch.setattr(netns, "offload", lambda _, which: which != missing)
    reason = attempt(ROWS["not-copied-on-the-link"], 4, Peer("127.0.0.1", 1, "lo"))["reason"]
    assert reason == (
        "the device to the peer does not gather fragments and compute checksums: "
        "the kernel copies, and says so only sometimes"
    )


@root
@families
@pytest.mark.parametrize("name", OVER_THE_LINK)
def test_a_copy_on_the_link_is_seen(
    name: str, family: int, sink: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback taken for a link with a device: all arrives, but every completion says that it was copied."""
    monkeypatch.setattr(zerocopy_sends, "needs_device", lambda _: None)
    row = ROWS[name]
    expected = row.rule(os.uname().release)[1]
    outcome = attempt(row, family, sink)["outcome"]
    assert outcome is not None
    assert outcome != expected
    assert outcome.replace(" copied", "") == expected.replace(" copied", "")


@root
@families
def test_content_that_is_changed_on_the_way_to_the_sink_is_seen(
    family: int, sink: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zerocopy_sends, "needs_device", lambda _: None)
    send = zerocopy_sends.send
    monkeypatch.setattr(
        completion, "send", lambda sender, data, flags=0: send(sender, memoryview(bytes(data)[::-1]), flags)
    )
    outcome = attempt(ROWS["not-copied-on-the-link"], family, sink)["outcome"]
    assert outcome == "0 to 3 copied, content changed over the data interfaces"


@root
@families
@pytest.mark.parametrize("name", OVER_THE_LINK)
@pytest.mark.parametrize("direction", ["tx", "rx"])
def test_bytes_that_the_data_interface_did_not_carry_are_seen(
    direction: str, name: str, family: int, sink: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything arrives, by another interface than the one that is counted."""
    monkeypatch.setattr(zerocopy_sends, "needs_device", lambda _: None)
    monkeypatch.setattr(netns, "COUNTER_SECONDS", 0.05)
    count = netns.byte_count
    monkeypatch.setattr(
        netns, "byte_count", lambda interface, which: 0 if which == direction else count(interface, which)
    )
    monkeypatch.setattr(zerocopy_sends, "byte_count", netns.byte_count)
    monkeypatch.setattr(sink_module, "byte_count", netns.byte_count)
    outcome = str(attempt(ROWS[name], family, sink)["outcome"])
    word = "sent" if direction == "tx" else "received"
    assert f"content whole, but the data interface {word} 0 of " in outcome


@root
@families
@pytest.mark.parametrize("name", OVER_THE_LINK)
def test_a_route_by_another_interface_fails(name: str, family: int, sink: Peer) -> None:
    outcome = str(attempt(ROWS[name], family, sink._replace(interface="data0"))["outcome"])
    assert f"the route to {sink.address} leaves by lo, not by data0" in outcome


@root
@families
def test_sends_without_the_flag_are_seen(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a kernel that takes every send for a plain one: no completion ever comes."""
    monkeypatch.setattr(zerocopy_sends, "MSG_ZEROCOPY", 0)
    outcome = attempt(ROWS["adjacent-completions-merge"], family)["outcome"]
    assert outcome == "None; then none"


@root
@pytest.mark.parametrize("name", [row.name for row in TABLE.cases if row.document])
def test_a_wrong_expectation_is_seen(name: str) -> None:
    """What the document says, as if this kernel did so."""
    row = ROWS[name]
    outcome, reason = attempt(row, 4).values()
    planted = replace(row, expected=str(row.document), document=None)
    verdicts = [
        documents.judged("msg_zerocopy", one, 4, os.uname().release, outcome, reason).verdict
        for one in (row, planted)
    ]
    assert verdicts == ["pass", "fail"]


@root
def test_option_memory_of_the_host_is_left_alone() -> None:
    before = limits.OPTMEM_MAX.read_text(encoding="ascii")
    row = ROWS["option-memory-is-bounded"]
    assert attempt(row, 4)["outcome"] == row.expected
    assert limits.OPTMEM_MAX.read_text(encoding="ascii") == before


@root
@pytest.mark.parametrize("ours", [True, False])
def test_a_sysctl_that_only_the_first_network_namespace_shows(ours: bool) -> None:
    """As optmem_max before 6.8: a guest's is opened from another namespace, another machine's is not."""
    program = (
        "from pathlib import Path; import os; from zclab.probe.netns import enter_new_netns, opened_for_all\n"
        "path = Path('/proc/sys/net/core/netdev_budget'); enter_new_netns(); assert not path.exists()\n"
        "print(os.pread(opened_for_all(path), 32, 0).decode().strip())\n"
        "assert not path.exists()\n"
    )
    environment = os.environ | ({FIRST_PROCESS: str(os.getpid())} if ours else {})
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    if ours:
        assert done.stdout == Path("/proc/sys/net/core/netdev_budget").read_text(encoding="ascii")
    else:
        assert "FileNotFoundError" in done.stderr


def test_option_memory_is_put_back_after_a_row_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On kernels where it is of the whole host."""
    setting = tmp_path / "optmem_max"
    setting.write_text("20480\n", encoding="ascii")
    monkeypatch.setattr(limits, "OPTMEM_MAX", setting)
    with TABLE.around():
        setting.write_text("4096\n", encoding="ascii")
    assert setting.read_text(encoding="ascii") == "20480\n"


@pytest.mark.parametrize(
    ("completions", "text"),
    [
        ([], "none"),
        ([Completion(2, 3, True), Completion(0, 1, True)], "0 to 3 copied"),
        ([Completion(0, 1, True), Completion(3, 3, True)], "0 to 1 copied, 3 to 3 copied"),
        ([Completion(0, 1, True), Completion(2, 2, False)], "0 to 1 copied, 2 to 2"),
        ([Completion(0, 1, False), Completion(1, 2, False)], "0 to 1, 1 to 2"),
    ],
)
def test_completions_are_told_with_their_gaps(completions: list[Completion], text: str) -> None:
    assert as_text(completions) == text
