# SPDX-License-Identifier: Apache-2.0
"""Conformance and stress in a guest of an exact lab, which only pretends."""

from __future__ import annotations

import json
import shlex
import zipfile
from pathlib import Path

import pytest
from tests import factories
from tests.unit.test_measure_exact import Exact

from zclab.backends.exact.guest import StoppedError
from zclab.backends.exact.steps import Output
from zclab.base.errors import InvalidError, LabError
from zclab.measure.guests import OpenGuests
from zclab.suites import on_kernel, probe_command
from zclab.suites.conformance import run as conformance
from zclab.suites.conformance.document import ConformanceDocument
from zclab.suites.stress import run as stress
from zclab.suites.stress.document import StressDocument, lines

RELEASE = factories.RELEASE


def rows(abi: str, family: int, **outcomes: str | None) -> str:
    """Return what the probe prints of a table of which each row does as expected, but for these."""
    said = [{"table": abi}]
    for case in probe_command.table(abi).cases:
        got = outcomes.get(case.name.replace("-", "_"), case.rule(RELEASE)[1])
        said.append({"row": case.name, "family": family, "outcome": got, "reason": None})  # type: ignore[dict-item]
    return "".join(f"{json.dumps(one)}\n" for one in said)


@pytest.fixture
def lab(tmp_path: Path, runs: Path) -> Exact:
    made = Exact(tmp_path / "state")
    for abi in probe_command.ABIS:
        for family in probe_command.FAMILIES:
            name = f"{abi}/{family}"
            made.guest.printed[name] = Output(status=0, stdout=rows(abi, family), stderr="")
            made.guest.printed[f"{name}/peer"] = Output(status=None, stdout="", stderr="listening 4711\n")
    return made


def opened(lab: Exact) -> OpenGuests:
    return lab.open_guests()


def conform(lab: Exact) -> ConformanceDocument:
    return conformance.carry_out(lab.lab, lambda line: None, open_guests=opened(lab))


def test_all_tables_are_one_list_of_one_guest(lab: Exact) -> None:
    document = conform(lab)
    assert document.verdict == "pass"
    cases = sum(len(probe_command.table(abi).cases) for abi in probe_command.ABIS)
    assert len(document.rows) == 2 * cases
    assert (document.lab, document.kernel_variant, document.emulated) == ("exact", "full", True)
    ((guest, steps),) = lab.guest.boots
    assert guest.programs == "probes"
    started = {step.name: step for step in steps if step.do == "start"}
    for abi, role in probe_command.ABIS.items():
        for family in probe_command.FAMILIES:
            step = started[f"{abi}/{family}"]
            assert step.namespace == role
            words = shlex.split(step.command or "")
            assert words[:5] == ["exec", "python3", "-I", "-B", "-c"]
            assert probe_command.IN_GUEST in words[5]
            wanted = [abi, "--family", str(family), "--json", "--watch-stdin"]
            assert words[6 : 6 + len(wanted)] == wanted
            if role == "sender":
                _, receiver = lab.lab.pair()
                address = lab.lab.pair().sender.endpoints(family)[1]
                assert words[-4:] == ["--peer", address, "{port}", receiver.data_interface]
                assert started[f"{abi}/{family}/peer"].namespace == "receiver"


def test_the_package_is_a_file_of_the_guest(lab: Exact) -> None:
    names: list[str] = []

    def execute(guest, steps, directory, limits, by_function=False):  # type: ignore[no-untyped-def]
        with zipfile.ZipFile(guest.files[probe_command.IN_GUEST]) as archive:
            names.extend(archive.namelist())
        return lab.guest.execute(guest, steps, directory, limits, by_function=by_function)

    lab.guest.printed["stress"] = Output(status=0, stdout=json.dumps(RESULT), stderr="")
    opening = lab.open_guests(execute)
    stress.carry_out(lab.lab, lambda line: None, 5, 3, [], open_guests=opening)
    assert "probe/__main__.py" in names


def test_a_row_that_fails_and_a_probe_that_was_killed_at_a_row(lab: Exact) -> None:
    name = probe_command.table("map_each").cases[2].name
    text = rows("map_each", 6, **{name.replace("-", "_"): "something else"})
    lab.guest.printed["map_each/6"] = Output(status=0, stdout=text, stderr="")
    whole = rows("zerocopy_receive", 4).splitlines()
    cut = "\n".join([*whole[:4], whole[4][:20]])
    lab.guest.printed["zerocopy_receive/4"] = Output(status=None, stdout=cut, stderr="")
    lab.guest.console = "[    9.000000] BUG: x\n"
    document = conform(lab)
    assert (document.verdict, document.console_reports) == ("fail", {"guest": ["[    9.000000] BUG: x"]})
    found = [one for one in document.rows if (one.abi, one.family) == ("zerocopy_receive", 4)]
    assert [one.verdict for one in found[:4]] == ["pass"] * 3 + ["fail"]
    assert found[3].reason == "the probe did not end in time, and was killed"
    assert {one.verdict for one in found[4:]} == {"skipped"}
    failed = [(one.row, one.family) for one in document.rows if one.verdict == "fail"]
    assert failed == [(name, 6), (found[3].row, 4)]


def test_a_guest_that_panics_fails(lab: Exact) -> None:
    lab.guest.fails = {0: LabError("exact guest: Kernel panic - not syncing: x: its console ends: y")}
    document = conform(lab)
    assert document.verdict == "fail"
    assert "Kernel panic" in str(document.rows[0].reason)


def test_a_guest_without_python_did_not_start(lab: Exact) -> None:
    lab.guest.printed["map_each/4"] = Output(status=127, stdout="", stderr="sh: python3: not found\n")
    with pytest.raises(LabError, match=r"the probe did not start: .* status 127: sh: python3: not found"):
        conform(lab)


def test_another_kernel_is_not_tested(lab: Exact) -> None:
    def alter(outputs: dict[str, Output], boot: int) -> None:
        text = outputs["look"].stdout.replace(RELEASE, "6.1.0-other")
        outputs["look"] = outputs["look"].model_copy(update={"stdout": text})

    lab.guest.alter = alter
    with pytest.raises(InvalidError, match=rf"exact: the guest runs 6\.1\.0-other .*, not {RELEASE}"):
        conform(lab)


@pytest.mark.parametrize(("variant", "booted"), [(None, "full"), ("stock", "stock")])
def test_a_kernel_of_the_lab_is_tried_by_booting_it(variant: str | None, booted: str, lab: Exact) -> None:
    """No host is booted before, and none goes back afterwards."""
    lab.guest.printed["stress"] = Output(status=0, stdout=json.dumps(RESULT), stderr="")

    def suite(of, on_progress):  # type: ignore[no-untyped-def]
        return stress.carry_out(of, on_progress, 5, 3, [], open_guests=opened(lab))

    def boot(*_: object) -> None:
        raise AssertionError("no host stands")

    document = on_kernel.carry_out(lab.lab, variant, suite, lambda line: None, boot)
    assert document.kernel_variant == booted


# ---------------------------------------------------------------------------------------------------- stress

RESULT = {
    "seed": 3,
    "seconds": 5.0,
    "workers": 4,
    "kernel_release": RELEASE,
    "consumes": True,
    "families": [4, 6],
    "operations": {"map": 10},
    "unsupported": {},
    "transferred": {},
    "refusals": {},
    "connections": 1,
    "mismatch_count": 0,
    "mismatches": [],
    "problems": [],
    "stuck": False,
    "memory": None,
    "kmemleak": None,
}


def stressed(lab: Exact, text: str, status: int | None = 0) -> StressDocument:
    lab.guest.printed["stress"] = Output(status=status, stdout=text, stderr="")
    return stress.carry_out(lab.lab, lambda line: None, 5, 3, [], open_guests=opened(lab))


def test_a_stress_in_a_guest(lab: Exact) -> None:
    document = stressed(lab, f"{{}}\n{json.dumps(RESULT)}\n")
    assert (document.verdict, document.seed) == ("pass", 3)
    (guest, steps) = lab.guest.boots[0]
    (command,) = [step.command for step in steps if step.do == "start" and step.name == "stress"]
    assert shlex.split(command or "")[6:] == [*("stress", "--watch-stdin", "--seconds", "5", "--seed", "3")]
    again = stressed(lab, f"{{}}\n{json.dumps(RESULT)}\n")
    assert lab.guest.boots[1][1] == steps and lab.guest.boots[1][0].seed == guest.seed
    assert again.hosts == document.hosts and document.hosts[0].digest is not None
    lab.guest.console += "one more line\n"
    assert stressed(lab, json.dumps(RESULT), 1).hosts[0].digest != document.hosts[0].digest


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", None, "the probe did not end in time: no message"),
        ("{}", 0, "the probe ended with status 0: no message"),
        (json.dumps(RESULT), 1, "the probe ended with status 1: no message"),
    ],
)
def test_a_stress_that_did_not_end_fails(text: str, status: int | None, reason: str, lab: Exact) -> None:
    document = stressed(lab, text, status)
    assert (document.verdict, document.hosts[0].lost) == ("fail", reason)


def test_a_stress_that_crashes_the_guest_fails(lab: Exact) -> None:
    lab.guest.fails = {0: LabError("exact guest: Kernel panic: its console ends: y")}
    document = stressed(lab, json.dumps(RESULT))
    (host,) = document.hosts
    assert (document.verdict, host.lost) == ("fail", "exact guest: Kernel panic: its console ends: y")
    assert host.digest is not None and any(host.digest in line for line in lines(document))
    lab.guest.fails = {1: LabError("exact guest: Kernel panic: its console ends: y")}
    assert stressed(lab, json.dumps(RESULT)).hosts == document.hosts
    lab.guest.console += "elsewhere\n"
    lab.guest.fails = {2: LabError("exact guest: Kernel panic: its console ends: y")}
    assert stressed(lab, json.dumps(RESULT)).hosts[0].digest != host.digest


def test_a_guest_that_a_limit_stopped_has_no_digest(lab: Exact) -> None:
    """Where it was by then, this machine decided."""
    lab.guest.fails = {0: StoppedError("exact guest: it used more than 10 s of CPU")}
    (host,) = stressed(lab, json.dumps(RESULT)).hosts
    assert (host.lost, host.digest) == ("exact guest: it used more than 10 s of CPU", None)
