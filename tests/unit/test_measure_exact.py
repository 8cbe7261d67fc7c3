# SPDX-License-Identifier: Apache-2.0
"""The driver of a lab with one guest: what it lists, what it records, and how a run goes on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests import factories
from tests.pretended_guest import PretendedGuest, options
from tests.trusted_tool import Silent

from zclab.analysis.document import RunDocument
from zclab.analysis.verdict import RUN, MeasuringRun
from zclab.backends.exact.instructions import InstructionCounts, Window
from zclab.backends.exact.steps import Output
from zclab.base.errors import LabError, UsageError
from zclab.lab.model import Lab
from zclab.measure import engine, exact, guests
from zclab.measure.session import Session
from zclab.plan.plan import Plan
from zclab.runs import query
from zclab.runs.folder import Run
from zclab.traffic.command import TRAFFIC

METRIC = "guest_instructions_per_mib"


def plan(**changes: Any) -> Plan:
    """Return a plan of two boots of each arm, with two transfers in each."""
    compared = factories.comparison(a=("zerocopy", "copy"), b=("zerocopy", "map_once"), metrics={METRIC: []})
    in_bytes = {"seconds": None, "warmup_seconds": 0, "bytes": factories.TOTAL_BYTES}
    return factories.plan(
        **{**in_bytes, "comparisons": [compared], "boots": 2, "boot_measurements": 2} | changes
    )


class Exact:
    """The lab exact, with a guest that pretends."""

    def __init__(self, state_dir: Path, name: str = "exact") -> None:
        self.lab = factories.lab(name).model_copy(update={"state_dir": state_dir})
        self.tool = state_dir.parent / "tool"
        self.tool.write_bytes(b"the traffic tool")
        sha256 = hashlib.sha256(self.tool.read_bytes()).hexdigest()
        self.guest = PretendedGuest(self.lab, {TRAFFIC: sha256})

    def open_guests(self, execute: guests.Execute | None = None) -> guests.OpenGuests:
        """Return what boots guests that pretend."""
        own = self.guest
        return guests.opener(execute=execute or own.execute, kernel_of=own.kernel_of, tool=self.tool)

    def run(self, of: Plan, resume: MeasuringRun | None = None, lab: Lab | None = None) -> MeasuringRun:
        opened = exact.opener(self.open_guests())
        return engine.execute(lab or self.lab, of, Silent(), resume, open_driver=opened)


@pytest.fixture
def lab(tmp_path: Path, runs: Path) -> Exact:
    return Exact(tmp_path / "state")


def reasons(document: RunDocument) -> list[list[str]]:
    return [one.invalid_reasons for one in document.measurements]


def test_a_run_in_guests(lab: Exact) -> None:
    run = lab.run(plan())
    document = run.document()
    assert reasons(document) == [[]] * 8
    assert (document.verdict, document.problems) == ("pass", [])
    # One guest before all says what it is; then one for each boot.
    assert len(lab.guest.boots) == 1 + 4
    manifest = run.manifest()
    assert (manifest.emulated, manifest.accelerator, manifest.kernel_variant) == (True, "tcg", "full")
    assert manifest.emulator == lab.guest.emulator
    assert [one.nic.driver for one in manifest.hosts] == ["veth", "veth"]
    records = run.records()
    assert [one.guest and one.guest.place for one in records] == [0, 1] * 4
    assert {one.n_boots for one in document.comparisons} == {2}
    # Two processes at once hold no lab: the last guest's console is where `zclab console` looks.
    assert set(lab.guest.directories) == {lab.lab.state_dir / "guest"}


def test_records_hold_what_each_receivers_window_executed(lab: Exact) -> None:
    """Two transfers in a boot: the windows of one more could be anybody's."""
    counts = [InstructionCounts(functions={"tcp_ack": {"softirq": number}}) for number in (10, 20)]
    lab.guest.windows = [Window(role, one) for one in counts for role in ("receiver", "sender")]
    made = [record.guest.instructions for record in lab.run(plan()).records() if record.guest]
    assert made == counts * 4
    lab.guest.windows.append(lab.guest.windows[0])
    assert {record.guest and record.guest.instructions for record in lab.run(plan()).records()} == {None}


def test_each_boot_has_a_seed_of_its_own_that_the_plan_decides(lab: Exact) -> None:
    seeds = [one.guest.seed for one in lab.run(plan(seed=7)).records() if one.guest]
    assert len(set(seeds)) == 4 and seeds[0::2] == seeds[1::2]
    assert [boot.seed for boot, _ in lab.guest.boots[1:]] == seeds[::2]
    again = [one.guest.seed for one in lab.run(plan(seed=7)).records() if one.guest]
    other = [one.guest.seed for one in lab.run(plan(seed=8)).records() if one.guest]
    assert seeds == again and not set(seeds) & set(other)


def test_the_list_depends_on_what_is_measured_and_on_the_seed_alone(lab: Exact) -> None:
    """No name of the plan is in it: comparisons with long names would be longer lists."""
    named = factories.comparison(
        "a_very_long_name", a=("zerocopy", "copy"), b=("zerocopy", "map_once"), metrics={METRIC: []}
    )
    lab.run(plan())
    lab.run(plan(comparisons=[named]))
    of_boots = [[step.model_dump_json() for step in steps] for _, steps in lab.guest.boots if len(steps) > 40]
    assert len(of_boots) == 8
    assert {len("".join(steps)) for steps in of_boots} == {len("".join(steps)) for steps in of_boots[:4]}
    tokens = [
        options(step.command or "")["--token"]
        for _, steps in lab.guest.boots
        for step in steps
        if step.do == "start" and TRAFFIC in (step.command or "") and "--token" in (step.command or "")
    ]
    assert len(tokens) == 32 and len(set(tokens)) == 16  # one for both ends of a transfer


def test_a_transfer_lies_between_two_looks(lab: Exact) -> None:
    lab.run(plan())
    _, steps = lab.guest.boots[1]
    found = [(step.do, step.name) for step in steps if step.name.startswith("0/")]
    assert found == [
        ("start", "0/sender"),
        ("await", "0/sender"),
        ("start", "0/receiver"),
        ("await", "0/receiver"),
        ("start", "0/machine/before"),
        ("end", "0/machine/before"),
        ("start", "0/idle/before"),
        ("end", "0/idle/before"),
        ("start", "0/receive"),
        ("await", "0/receive"),
        ("start", "0/send"),
        ("end", "0/send"),
        ("end", "0/receive"),
        ("start", "0/idle/after"),
        ("end", "0/idle/after"),
        ("write", "0/sender"),
        ("write", "0/receiver"),
        ("end", "0/sender"),
        ("end", "0/receiver"),
        ("start", "0/machine/after"),
        ("end", "0/machine/after"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seconds": 1, "bytes": None}, "counts instructions: give bytes in place of seconds"),
        ({"profile_event": "cycles"}, "an emulated CPU has no perf events"),
    ],
)
def test_a_plan_that_no_guest_can_carry_out(changes: dict[str, Any], reason: str, lab: Exact) -> None:
    with pytest.raises(UsageError, match=reason):
        lab.run(plan(**changes))
    assert lab.guest.boots == []


def test_a_ping_pong_lasts_seconds_of_the_guests_clock(lab: Exact) -> None:
    rpc = {
        "name": "rpc",
        "a": "map_recvmsg",
        "b": "map_copy_buffer",
        "request_bytes": 100,
        "reply_bytes": 200,
    }
    of = plan(
        comparisons=[],
        bytes=None,
        seconds=0.5,
        rpc_comparisons=[rpc | {"metrics": {"guest_instructions_per_rpc": []}}],
    )
    with lab.open_guests()(lab.lab) as opened:
        assert exact.Exact(opened).settled(of).boot_each_arm


def test_integrity_is_checked_in_a_boot_of_its_own(lab: Exact) -> None:
    document = lab.run(plan(integrity_bytes=factories.TOTAL_BYTES)).document()
    checks = [one for one in document.measurements if one.phase == "integrity"]
    assert [(one.integrity, one.invalid_reasons) for one in checks] == [("verified", [])] * 2
    assert len(lab.guest.boots) == 1 + 2 + 4


def test_kernels_are_booted_one_after_the_other(lab: Exact) -> None:
    compared = factories.comparison(a=("zerocopy", "copy"), b=("zerocopy", "copy"), metrics={METRIC: []})
    compared["a"]["kernel"] = "stock"
    run = lab.run(plan(comparisons=[compared]))
    assert reasons(run.document()) == [[]] * 8
    assert list(run.manifest().other_kernels) == ["stock"]


# ----------------------------------------------------------------------------------------- what goes wrong


def test_a_guest_that_goes_wrong_costs_its_own_boot_only(lab: Exact) -> None:
    lab.guest.fails = {2: LabError("exact guest: Kernel panic - not syncing: its console ends: x")}
    document = lab.run(plan()).document()
    assert [bool(found) for found in reasons(document)] == [
        False,
        False,
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert "Kernel panic" in reasons(document)[2][0]
    assert document.verdict == "invalid"
    assert len(lab.guest.boots) == 5  # it would go wrong again


def test_a_guest_that_cannot_be_set_up(lab: Exact) -> None:
    def alter(outputs: dict[str, Output], boot: int) -> None:
        if boot == 1:
            outputs["setup/link"] = Output(status=2, stdout="", stderr="+ ip link add\nRTNETLINK: no\n")

    lab.guest.alter = alter
    document = lab.run(plan()).document()
    assert "link cannot be set up as the inventory declares it: ip link add: RTNETLINK: no" in str(
        reasons(document)[0]
    )
    assert [bool(found) for found in reasons(document)] == [True, True] + [False] * 6


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("0/receiver", "data0/mtu:4168", "data0/mtu:1500", "receiver1: MTU is 1500, the lab declares 4168"),
        (
            "0/sender",
            "ipv4/tcp_timestamps:1",
            "ipv4/tcp_timestamps:0",
            "sender1: net.ipv4.tcp_timestamps is 0, not 1",
        ),
        (
            "0/sender",
            "tcp-segmentation-offload: off",
            "tcp-segmentation-offload: on",
            "sender1: data0 has tcp-segmentation-offload on, the lab declares off",
        ),
        ("0/send", '"zerocopy"', '"copy"', "sender: mode was copy, planned was zerocopy"),
        (
            "0/receive",
            '"copy_buffer_bytes": null',
            '"copy_buffer_bytes": 524288',
            "receiver: had a copy buffer of 524288 bytes, mode copy has none",
        ),
        (
            "0/machine/after",
            "rmem_max:16777216",
            "rmem_max:1",
            "net.core.rmem_max is 1, the lab needs 16777216",
        ),
        ("0/idle/after", "5000", "5001", "the guest was idle for 1 ns"),
        ("0/idle/after", "5000", "", "it is not known for how long the guest was idle"),
        ("0/receiver", "@before", "@never", "receiver1: cannot read its state: no message"),
    ],
)
def test_a_fault_is_said_by_the_same_lines_as_elsewhere(
    name: str, old: str, new: str, reason: str, lab: Exact
) -> None:
    def alter(outputs: dict[str, Output], boot: int) -> None:
        if boot == 1:
            found = outputs[name]
            assert old in found.stdout
            outputs[name] = found.model_copy(update={"stdout": found.stdout.replace(old, new)})

    lab.guest.alter = alter
    document = lab.run(plan(seed=1)).document()
    assert any(reason in one for one in reasons(document)[0]), reasons(document)[0]
    assert reasons(document)[1:] == [[]] * 7


def test_an_end_that_was_killed(lab: Exact) -> None:
    def alter(outputs: dict[str, Output], boot: int) -> None:
        if boot == 1:
            outputs["0/send"] = Output(status=None, stdout="", stderr="")

    lab.guest.alter = alter
    assert reasons(lab.run(plan()).document())[0] == [
        "sender: left no result: it did not end in time, and was killed"
    ]


def test_another_emulator_in_the_middle(lab: Exact) -> None:
    """QEMU was upgraded meanwhile: its figures are never compared with the earlier ones."""
    lab.guest.fails = {3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        lab.run(plan())
    lab.guest.emulator = lab.guest.emulator.model_copy(update={"version": "QEMU emulator version 10.0.2"})
    run = lab.run(plan(), Run(query.find("latest", pytest.fail).directory, RUN))
    document = run.document()
    assert [bool(found) for found in reasons(document)] == [False] * 4 + [True] * 4
    assert "figures of two emulators are never compared" in reasons(document)[4][0]
    assert document.verdict == "invalid"


def test_a_report_of_the_kernel_fails_the_run(lab: Exact) -> None:
    lab.guest.console = "[    9.000000] WARNING: CPU: 0 PID: 1 at x\n"
    run = lab.run(plan())
    document = run.document()
    assert document.verdict == "fail"
    assert document.console_reports == {"guest": ["[    9.000000] WARNING: CPU: 0 PID: 1 at x"] * 4}
    assert len(list((run.directory / "console").iterdir())) == 4


def test_an_interrupted_boot_is_made_again_and_recorded_once(lab: Exact) -> None:
    class Interrupting(Silent):
        left = 3

        def measured(self, *_: Any) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    opened = exact.opener(lab.open_guests())
    with pytest.raises(KeyboardInterrupt):
        engine.execute(lab.lab, plan(), Interrupting(), open_driver=opened)
    run = Run(query.find("latest", pytest.fail).directory, RUN)
    assert len(run.records()) == 3
    lab.run(plan(), run)
    records = run.records()
    assert len({one.planned.id for one in records}) == len(records) == 8
    assert [one.guest and one.guest.place for one in records] == [0, 1] * 4
    assert run.document().verdict == "pass"
    seeds = [boot.seed for boot, _ in lab.guest.boots]
    assert records[2].guest is not None and seeds.count(records[2].guest.seed) == 2


def test_what_needs_ssh_is_refused(lab: Exact) -> None:
    refused = pytest.raises(
        UsageError, match=r"exact: this needs hosts that SSH reaches, and here none stands"
    )
    with refused, Session.open(lab.lab):
        pass
