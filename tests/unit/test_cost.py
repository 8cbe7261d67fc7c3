# SPDX-License-Identifier: Apache-2.0
"""Instructions by function: read from what the plugin wrote, and compared between runs."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests import factories
from tests.factories import MIB, WINDOW_BYTES, changed
from tests.unit import test_one_guest as guests

from zclab.analysis import cost
from zclab.analysis.cost import CostDocument, Side
from zclab.backends.exact import instructions
from zclab.backends.exact.instructions import InstructionCounts, Names, Window
from zclab.base.errors import LabError, UsageError
from zclab.kernel.symbols import Symbol, Symbols
from zclab.report import cost as report
from zclab.suites import cost as suite

KERNEL = Symbols(
    [
        Symbol(0xFFFFFFFF81000000, 0x20, "tcp_recvmsg"),
        Symbol(0xFFFFFFFF81000020, 0x10, "tcp_ack"),
        Symbol(0xFFFFFFFF81000040, 0, "entry_label"),
        Symbol(0xFFFFFFFF81000050, 0, "end_label"),
    ]
)
NAMES = Names(KERNEL, {"zclab-traffic": [range(0x20001000, 0x20002000)]})

# ------------------------------------------------------------------------------- what the plugin wrote


def read(tmp_path: Path, text: str) -> list[Window]:
    (tmp_path / "counts").write_text(text)
    return instructions.read(tmp_path / "counts", NAMES)


def test_instructions_are_named_one_by_one(tmp_path: Path) -> None:
    """A block goes on from one function into the next; user code belongs to a program by its address."""
    text = """window sender
sender 2 20001ffe 21
end 4
window receiver
receiver 3 ffffffff8100001c 4f1
softirq 10 ffffffff81000020 1
other 1 ffffffff81000044 1
other 1 ffffffffc0000000 1
other 7 7ffff7fc1000 11
end 35
"""
    sender, receiver = read(tmp_path, text)
    assert sender.role == "sender"
    assert sender.counts.functions == {"[zclab-traffic]": {"sender": 2}, "[other user code]": {"sender": 2}}
    assert receiver.counts.functions == {
        "tcp_recvmsg": {"receiver": 3},
        "tcp_ack": {"receiver": 6, "softirq": 10},
        "entry_label": {"other": 1},
        "[no function]": {"other": 1},
        "[other user code]": {"other": 14},
    }
    assert receiver.counts.total == 35


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("window sender\nsender 2 20001000 2\nend 3\n", "line 3: the counts are 2 together, not 3"),
        ("window sender\nsender 2 20001000 2\n", "is cut off in line 2"),
        ("sender 2 20001000 2\n", "line 1 is no count"),
        ("window nobody\n", "line 1 is no count"),
        ("window sender\nidle 2 20001000 2\n", "line 2 is no count"),
        ("window sender\nsender 2 20001000 0\n", "line 2 is no count"),
        ("window sender\nend\n", "line 2: the counts are 0"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        read(tmp_path, text)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be read"):
        instructions.read(tmp_path / "none", NAMES)


def window(total: int, role: Any = "receiver") -> Window:
    return Window(role, InstructionCounts(functions={"tcp_ack": {"other": total}}))


def totals(found: list[InstructionCounts | None]) -> list[int | None]:
    return [one.total if one else None for one in found]


def test_windows_belong_to_transfers_in_order() -> None:
    windows = [window(1000), window(999, "sender"), window(3000)]
    assert totals(instructions.of_transfers(windows, "receiver", [1e-6, None, 3e-6])) == [1000, None, 3000]
    idle = instructions.of_transfers(windows, "receiver", [5e-6, 9e-6])  # the guest's clock goes on
    assert totals(idle) == [1000, 3000]


@pytest.mark.parametrize("seconds", [[1e-6], [1e-6, 3e-6, 1e-6], [1e-6, 2e-6], [3e-6, 1e-6], [None, None]])
def test_windows_that_cannot_be_the_transfers_are_nobodys(seconds: list[float | None]) -> None:
    """Another number of them, or one that executed more than its time allows."""
    found = instructions.of_transfers([window(1000), window(3000)], "receiver", seconds)
    assert totals(found) == [None] * len(seconds)


# -------------------------------------------------------------------------------------------- the comparison

#: Instructions per MiB of each function, and their spread from boot to boot.
USUAL = {"copy_user_generic_string": (131000, 3), "tcp_ack": (40000, 2000), "gup_pte_range": (20000, 30)}
PLANT = {"tcp_recvmsg_locked": (9000, 20)}


def side(
    seed: int, arm: Any = None, boots: int = 10, plan: dict[str, Any] | None = None, **planted: int
) -> Side:
    """Return a run that counted by function; planted: more instructions per MiB of a function, in arm B."""
    of = guests.manifest(plan=guests.plan(**{"boots": boots} | (plan or {})))
    draw = random.Random(seed)
    made = []
    for record in guests.records(of, {"a": 1.0, "b": 1.0}):
        functions = {}
        for name, (usual, spread) in (USUAL | PLANT).items():
            first = 500 if record.guest is not None and record.guest.place == 0 else 0
            per_mib = draw.gauss(usual, spread) + first + planted.get(name, 0) * (record.planned.arm == "b")
            each = round(per_mib * WINDOW_BYTES / MIB)
            context = "receiver" if name.startswith("tcp") else "sender"
            functions[name + (".isra.0" if seed % 2 and name == "tcp_ack" else "")] = {context: each}
        made.append(changed(record, {"guest.instructions": {"functions": functions}}))
    return Side(of, made, arm)


def found(a: Side, b: Side) -> CostDocument:
    return cost.compare(a, b)


@pytest.mark.parametrize("seed", range(10))
def test_a_planted_difference_is_named_first(seed: int) -> None:
    """0.1 % of a receiver's 226,000 instructions, smaller than what another function varies by."""
    one = side(seed, tcp_recvmsg_locked=226)
    (table,) = found(one._replace(arm="a"), one._replace(arm="b")).tables
    first = table.functions[0]
    assert (first.name, first.differs) == ("tcp_recvmsg_locked", True)
    assert abs(first.difference - 226) < 30
    assert first.a.low <= first.a.median <= first.a.high < first.b.low
    assert table.places == 2 and table.boots_a == table.boots_b == 10
    assert table.setting.startswith("copy sender, copy / map_once receiver, messages of ")


def test_equal_arms_differ_in_no_function() -> None:
    called = 0
    for seed in range(20):
        one = side(seed)
        (table,) = found(one._replace(arm="a"), one._replace(arm="b")).tables
        called += any(row.differs for row in table.functions)
    assert called <= 1


def test_what_the_compiler_calls_otherwise_is_the_same_function() -> None:
    """As between two runs: one has tcp_ack.isra.0, the other tcp_ack."""
    (table,) = found(side(1, "b"), side(2, "b")).tables
    assert sorted(row.name for row in table.functions) == sorted(USUAL | PLANT)
    (row,) = (row for row in table.functions if row.name == "tcp_ack")
    assert row.differs is False and abs(row.difference) < 3000
    assert table.setting.startswith("copy sender, map_once receiver, ")


def test_functions_and_contexts_add_up_to_all() -> None:
    (table,) = found(side(2, "a"), side(4, "a")).tables
    one = side(2, "a", boots=4)
    (alone,) = found(one, one).tables
    assert sum(row.a.median for row in alone.contexts) == pytest.approx(alone.total.a.median, rel=1e-3)
    assert sum(row.a.low for row in table.functions) <= table.total.a.low
    assert table.total.a.high <= sum(row.a.high for row in table.functions)
    assert [row.name for row in table.contexts] == ["sender", "receiver", "softirq", "other"]
    assert table.contexts[2].a.high == 0


def test_a_boot_that_lost_a_place_is_not_taken_for_a_cheaper_one() -> None:
    """Its first transfer, which costs 500 more of each function, is invalid."""
    one = side(3, "a", boots=4)
    of_first_boot = [
        at for at, record in enumerate(one.records) if record.planned.boot == one.records[0].planned.boot
    ]
    made = [*one.records]
    made[of_first_boot[0]] = changed(made[of_first_boot[0]], {"guest.instructions": None})
    (whole,) = found(one, one).tables
    (table,) = found(one, one._replace(records=made)).tables
    copied = [row for row in table.functions if row.name.startswith("copy")]
    assert copied[0].b.high - copied[0].b.low < 20 < 250
    assert whole.places == table.places == 2


def test_too_few_boots_say_nothing_of_chance() -> None:
    one = side(1, boots=2)
    records = [record for record in one.records if record.planned.boot in (0, 1)]
    (table,) = found(one._replace(records=records, arm="a"), one._replace(records=records, arm="b")).tables
    assert table.boots_a == table.boots_b == 1
    assert {(row.differs, row.apart) for row in table.functions} == {(None, None)}


def test_a_planted_difference_comes_first_of_few_boots_too() -> None:
    """Three boots of each cannot say what is chance: they lie apart, and others may do so as well."""
    one = side(5, boots=3, tcp_recvmsg_locked=226)
    (table,) = found(one._replace(arm="a"), one._replace(arm="b")).tables
    first = table.functions[0]
    assert (first.name, first.differs, first.apart) == ("tcp_recvmsg_locked", None, True)
    assert not table.functions[-1].apart


def test_the_published_shares_stand_beside_the_senders() -> None:
    compared = factories.comparison(metrics={guests.METRIC: []}, b=("zerocopy", "copy"))
    one = side(2, boots=4, plan={"message_bytes": [MIB], "comparisons": [compared]})
    (table,) = found(one._replace(arm="a"), one._replace(arm="b")).tables
    plain, zerocopy = table.shares
    assert plain.percent.median == pytest.approx(100 * 131250 / 151500, abs=0.1)
    assert (plain.side, plain.claim, plain.published_percent) == ("A", "F7", 79.41)
    assert zerocopy.percent.median == pytest.approx(100 * 20250 / 151500, abs=0.1)
    assert (zerocopy.side, zerocopy.published_percent) == ("B", 30.36)
    (smaller,) = found(side(2, "a", boots=4), side(4, "a", boots=4)).tables
    assert smaller.shares == []


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ({}, {"emulator": {"version": "QEMU emulator version 10.0.13", "options": []}}, "never compared"),
        ({}, {"plan": guests.plan(chunk_bytes=65536)}, "has no valid measurement with instructions"),
        ({"run_id": "other"}, {"emulator": None}, "in a guest that counts instructions, the other was not"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: dict[str, Any], b: dict[str, Any], said: str) -> None:
    one = side(2, "a", boots=4)
    sides = [one._replace(manifest=changed(one.manifest, changes)) for changes in (a, b)]
    with pytest.raises(UsageError, match=said):
        found(*sides)


def test_other_settings_without_arms_to_compare_are_refused() -> None:
    one = side(2, "a", boots=4)
    other = factories.comparison(name="other", metrics={guests.METRIC: []}, a=("copy", "map_once"))
    with pytest.raises(UsageError, match="no setting in common: name an arm of each"):
        found(one, side(2, "a", boots=4, plan={"comparisons": [other]}))


def test_a_run_that_counted_nothing_by_function_is_refused() -> None:
    one = side(2, "a", boots=4)
    without = [changed(record, {"guest.instructions": None}) for record in one.records]
    with pytest.raises(UsageError, match="`zclab run --lab exact"):
        found(one, one._replace(records=without))


def test_tables_for_people_name_the_first_functions() -> None:
    one = side(2, boots=6, tcp_recvmsg_locked=5000)
    console = Console(width=150, file=io.StringIO(), record=True)
    report.show(console, found(one._replace(arm="a"), one._replace(arm="b")), top=2)
    text = console.export_text()
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if "tcp_recvmsg_locked" in line)
    assert ("yes" in lines[first] and "+5,0" in lines[first]) or "+4,9" in lines[first]
    assert "[all]" in text and "[in softirq]" in text
    assert "2 more functions differ by" in text
    assert "no time" in text and "saving" not in text


@pytest.mark.parametrize("name", ["latest:a", "{id}:a", "{directory}:a"])
def test_runs_are_found_by_name_and_arm(runs: Path, name: str) -> None:
    one = side(2, boots=4)
    stored = factories.stored_run(runs / one.manifest.run_id, one.manifest, [*one.records])
    named = name.format(id=stored.id, directory=stored.directory)
    document = suite.compared(named, f"{stored.id}:b", pytest.fail)
    assert (document.a, document.b) == (f"{stored.id}:a", f"{stored.id}:b")


def test_a_run_that_is_not_there_is_refused(runs: Path) -> None:
    with pytest.raises(UsageError, match="2020:c: no such run"):
        suite.compared("2020:c", "latest", pytest.fail)
