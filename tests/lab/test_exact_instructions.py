# SPDX-License-Identifier: Apache-2.0
"""Instructions by function of a real exact guest: they are its clock, and counting changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import exact_lab
from tests.exact_lab import transfer

from zclab.backends.exact import instructions
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import Execution, Guest, execute
from zclab.backends.exact.instructions import InstructionCounts
from zclab.traffic.command import TRAFFIC

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]

LIMITS = Limits(cpu_seconds=300, real_seconds=1800)
TRANSFERS = ("copy", "map_once")
TRANSFER_MIB = 16
#: Between the reading of a clock and the mark beside it: what the vDSO does after reading the counter.
BESIDE_THE_MARKS = 1000
#: How far the guest's clock, calibrated when it boots, is off from its counter.
CLOCK_ERROR = 1e-4


def run(guest: Guest, directory: Path, *, by_function: bool) -> Execution:
    listed = exact_lab.setup("veth")
    for name in TRANSFERS:
        listed += transfer(name, name, "zerocopy", TRANSFER_MIB)
    return execute(guest, listed, directory, LIMITS, print, by_function=by_function)


@pytest.fixture(scope="module")
def guest() -> Guest:
    return exact_lab.guest("veth")


@pytest.fixture(scope="module")
def counted(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Execution:
    return run(guest, tmp_path_factory.mktemp("counted"), by_function=True)


def windows(done: Execution) -> list[tuple[float, InstructionCounts]]:
    """Return the seconds of each receiver's window by the guest's clock, and its counts."""
    documents = [json.loads(done.outputs[f"{name}/receiver"].stdout) for name in TRANSFERS]
    seconds = [document["window"]["seconds"] for document in documents]
    assert done.windows is not None
    found = instructions.of_transfers(done.windows, "receiver", seconds)
    assert all(found)
    return [(one, counts) for one, counts in zip(seconds, found, strict=True) if counts is not None]


def test_the_functions_together_are_the_guests_clock(counted: Execution) -> None:
    for seconds, counts in windows(counted):
        off = seconds * 1e9 - counts.total
        assert abs(off) < BESIDE_THE_MARKS + CLOCK_ERROR * counts.total


def test_counting_changes_nothing_of_the_guest(guest: Guest, counted: Execution, tmp_path: Path) -> None:
    assert run(guest, tmp_path, by_function=False).digest == counted.digest


def test_the_marks_change_nothing_of_the_guest(guest: Guest, counted: Execution, tmp_path: Path) -> None:
    """Planted: a tool whose marks are other no-ops of the same length. Nothing else is different."""
    tool = guest.files[TRAFFIC].read_bytes()
    other = tmp_path / "zclab-traffic"
    other.write_bytes(tool.replace(b"\x62\x6c\x7a", b"\x62\x6c\x7b"))
    assert other.read_bytes() != tool
    without = run(guest.model_copy(update={"files": {TRAFFIC: other}}), tmp_path / "guest", by_function=True)
    assert without.windows == [] and without.digest == counted.digest


def test_instructions_are_where_the_modes_differ(counted: Execution) -> None:
    """A copied byte is copied in the receiver's thread, and hardly one where it is mapped."""
    of_mode = dict(zip(TRANSFERS, (counts for _, counts in windows(counted)), strict=True))

    def per_mib(mode: str, *parts: str) -> float:
        functions = of_mode[mode].functions.items()
        return (
            sum(
                counts.get("receiver", 0) for name, counts in functions if any(part in name for part in parts)
            )
            / TRANSFER_MIB
        )

    copied = [per_mib(mode, "copy_user", "rep_movs", "copy_to_iter") for mode in TRANSFERS]
    assert copied[0] > 100_000 > 1000 > copied[1]
    mapped = [per_mib(mode, "tcp_zerocopy_receive") for mode in TRANSFERS]
    assert mapped[0] == 0 < mapped[1]
    for counts in of_mode.values():
        contexts = {context for one in counts.functions.values() for context in one}
        assert contexts >= {"sender", "receiver", "softirq"}
        assert counts.functions["[zclab-traffic]"]["receiver"] > 0
        assert "[no function]" not in counts.functions
