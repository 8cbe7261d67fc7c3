# SPDX-License-Identifier: Apache-2.0
"""The exact lab with real guests: a plan measured and executed twice, planted faults said as elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import factories
from tests.exact_lab import MIB, Alter, RealLab

from zclab.analysis.document import RunDocument
from zclab.analysis.verdict import MeasuringRun
from zclab.backends.exact.steps import Step
from zclab.base.c_program import CProgram
from zclab.base.paths import cache_dir, project_root
from zclab.measure import twice
from zclab.plan.plan import Plan

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]

METRIC = "guest_instructions_per_mib"


def plan(send_mode: str, b: str = "map_once", mib: int = 16, **changes: Any) -> Plan:
    """Return a plan of one boot of each arm, with one transfer in each."""
    compared = factories.comparison(a=(send_mode, "copy"), b=(send_mode, b), metrics={METRIC: []})
    in_bytes = {"seconds": None, "warmup_seconds": 0, "bytes": mib * MIB, "seed": 1}
    return factories.plan(
        **in_bytes | {"comparisons": [compared], "boots": 1, "boot_measurements": 1} | changes
    )


@pytest.fixture
def made() -> Iterator[list[MeasuringRun]]:
    """Runs that a test makes in the checkout; they go with it."""
    found: list[MeasuringRun] = []
    yield found
    for run in found:
        shutil.rmtree(run.directory)


def reasons(document: RunDocument) -> dict[str, list[str]]:
    return {one.id: one.invalid_reasons for one in document.measurements}


@pytest.mark.parametrize(("name", "send_mode"), [("exact", "zerocopy"), ("exact-e1000e", "copy")])
def test_a_plan_is_measured_and_every_measurement_counts(
    name: str, send_mode: str, tmp_path: Path, made: list[MeasuringRun]
) -> None:
    lab = RealLab(name, tmp_path)
    # Between NICs, a shorter one waits for a larger share of its time while it starts slowly.
    mib = 64 if name == "exact-e1000e" else 16
    made.append(lab.run(plan(send_mode, mib=mib, boots=1, boot_measurements=2, integrity_bytes=4 * MIB)))
    document = made[0].document()
    assert not any(reasons(document).values()), reasons(document)
    assert document.problems == []
    assert {one.integrity for one in document.measurements if one.phase == "integrity"} == {"verified"}
    for one in document.measurements:
        if one.phase == "compare":
            assert one.guest_instructions_per_mib is not None and one.guest is not None
            assert 5e5 < one.guest_instructions_per_mib < 5e6
            assert one.guest.idle_ns == 0 or name == "exact-e1000e"
            assert (one.mapped_fraction or 0) > 0.97 or one.receive_mode == "copy"


def test_a_second_execution_is_the_same(tmp_path: Path, made: list[MeasuringRun]) -> None:
    lab = RealLab("exact", tmp_path)
    made.append(lab.run(plan("zerocopy")))
    twice.compare(lab.lab, made[0], print)
    found = made[0].manifest().repetition
    assert found is not None and found.difference is None and found.digest == found.second_digest
    shutil.rmtree(made[0].directory.parent / found.run_id)


def after_setup(*planted: Step) -> Alter:
    """Return what has further steps carried out when the ends are set up, before anything is measured."""

    def alter(steps: list[Step]) -> list[Step]:
        at = next(number for number, step in enumerate(steps) if step.name.startswith("0/"))
        return [*steps[:at], *planted, *steps[at:]]

    return alter


def command(role: Any, line: str) -> list[Step]:
    return [Step(do="start", name="planted", namespace=role, command=line), Step(do="end", name="planted")]


def replaced(old: str, new: str) -> Alter:
    """Return what has another text in place of one in every command of a transfer."""

    def alter(steps: list[Step]) -> list[Step]:
        found = [
            step.model_copy(update={"command": step.command.replace(old, new)})
            if step.command and step.name in ("0/send", "0/receive")
            else step
            for step in steps
        ]
        assert found != steps
        return found

    return alter


FAULTS: list[Any] = [
    pytest.param(
        *("exact", "zerocopy", after_setup(*command("receiver", "ip link set dev data0 mtu 1500"))),
        "receiver1: MTU is 1500, the lab declares 4168",
        id="MTU 1500",
    ),
    pytest.param(
        *("exact", "zerocopy", after_setup(*command("sender", "echo 0 >/proc/sys/net/ipv4/tcp_timestamps"))),
        "sender1: net.ipv4.tcp_timestamps is 0, not 1",
        id="timestamps off",
    ),
    pytest.param(
        *("exact", "zerocopy"),
        after_setup(*command("sender", "echo cubic >/proc/sys/net/ipv4/tcp_congestion_control")),
        "sender1: net.ipv4.tcp_congestion_control is cubic, the lab declares reno",
        id="another congestion control",
    ),
    pytest.param(
        *("exact-e1000e", "copy", after_setup(*command("sender", "ethtool -K data0 tso on"))),
        "sender1: data0 has tcp-segmentation-offload on, the lab declares off",
        id="TSO on",
    ),
    pytest.param(
        *("exact", "zerocopy", replaced("--mode zerocopy", "--mode copy")),
        "sender: mode was copy, planned was zerocopy",
        id="a plain sender",
    ),
    pytest.param(
        *("exact", "zerocopy", after_setup(*command(None, "echo 1048576 >/proc/sys/net/core/rmem_max"))),
        "net.core.rmem_max is 1048576",
        id="a sysctl of the guest",
    ),
]


@pytest.mark.parametrize(("name", "send_mode", "alter", "reason"), FAULTS)
def test_a_planted_fault_is_said_as_elsewhere(
    name: str, send_mode: str, alter: Alter, reason: str, tmp_path: Path, made: list[MeasuringRun]
) -> None:
    made.append(RealLab(name, tmp_path).run(plan(send_mode), alter))
    document = made[0].document()
    assert document.verdict == "invalid"
    for found in reasons(document).values():
        assert any(reason in one for one in found), found


def test_a_copy_buffer_as_large_as_the_mapping_is_said(tmp_path: Path, made: list[MeasuringRun]) -> None:
    """The kernel then copies all that fits. The tool refuses it: another one is built that does not."""
    source = Path(shutil.copytree(project_root() / "traffic", tmp_path / "traffic"))
    file = source / "command_line.c"
    text = file.read_text(encoding="utf-8")
    small = "options->copy_buffer = page - 1;"
    assert small in text
    file.write_text(text.replace(small, "options->copy_buffer = options->chunk_bytes;"), encoding="utf-8")
    tool = CProgram(source, "zclab-traffic", "traffic tool").build(cache_dir() / "traffic").path
    made.append(RealLab("exact", tmp_path).run(plan("zerocopy", "map_once_hybrid"), tool=tool))
    hybrid = next(one for one in made[0].document().measurements if one.receive_mode == "map_once_hybrid")
    # Another program than the one that was built, and what it did.
    assert any("is not the program that was built" in reason for reason in hybrid.invalid_reasons)
    assert any("had a copy buffer of 524288 bytes" in reason for reason in hybrid.invalid_reasons)
