# SPDX-License-Identifier: Apache-2.0
"""The kernel series: interfaces, locks, memory, what it leaves alone. One guest tells all but the locks."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.exact_lab import MIB, RealLab
from tests.virtual_lab import LabUnderTest

from zclab.analysis.document import MeasurementDocument
from zclab.backends.exact.steps import Step
from zclab.base.paths import runs_dir
from zclab.plan import claims
from zclab.plan.plan import Plan
from zclab.probe.sysctl import CONSUME
from zclab.suites import probe_command
from zclab.suites.conformance import run as conformance
from zclab.suites.stress import run as stress
from zclab.suites.stress.document import StressDocument

pytestmark = pytest.mark.kernel

#: Claims of the interfaces, but for what a lock report and a comparison of designs show.
CLAIMS = {name for name, claim in claims.load().items() if claim.kind == "semantic"} - {"M12", "M14"}


def compared(name: str, keep_bytes: int) -> dict[str, Any]:
    """Return map_once beside map_each, for a reader that keeps so many bytes."""
    arms = {
        arm: {"receive_mode": mode, "send_mode": "copy", "keep_bytes": keep_bytes}
        for arm, mode in (("a", "map_once"), ("b", "map_each"))
    }
    return {"name": name, **arms, "metrics": {"guest_instructions_per_mib": []}}


PLAN = {
    "name": "mapping",
    "bytes": 64 * MIB,  # both ends wait for a moment while a connection starts: less than 0.2 % of it
    "repeats": 1,
    "integrity_bytes": 4 * MIB,
    "message_bytes": [MIB],
    "chunk_bytes": [65536, MIB],
    "pace_gbit_per_s": [None],
    "comparisons": [compared("mapping", 0), compared("keeping", 4 * MIB)],
}


def test_mmap_that_consumes_maps_what_the_link_brings(tmp_path: Path) -> None:
    lab = RealLab("exact-e1000e", tmp_path)
    consumes = [
        Step(do="start", name="consumes", namespace="receiver", command=f"cat {CONSUME}"),
        Step(do="end", name="consumes"),
    ]
    run = lab.run_in_one_guest(Plan.model_validate(PLAN), lambda steps: [*steps, *consumes])
    document = run.document()
    shutil.rmtree(run.directory)
    checked = [one for one in document.measurements if one.phase == "integrity"]
    assert {one.receive_mode for one in checked} == {"map_each", "map_once"}
    assert {one.integrity for one in checked} == {"verified"}
    best: dict[str, float] = {}
    for one in document.measurements:
        assert one.valid, one.invalid_reasons
        best[one.receive_mode] = max(best.get(one.receive_mode, 0), one.mapped_fraction or 0)
        if one.phase == "compare":
            agree(one)
    assert best["map_each"] >= 0.95 and best["map_once"] >= 0.99
    assert lab.executed[-1].outputs["consumes"].stdout == "0\n"  # only for the tool's own sockets


def agree(one: MeasurementDocument) -> None:
    """See that the kernel has counted as mapped what the tool has, but for a chunk at either end."""
    assert one.zerocopy_stat is not None and one.mapped_bytes is not None
    assert abs(one.zerocopy_stat.mapped - one.mapped_bytes) <= 2 * one.chunk_bytes


def test_every_rule_of_every_interface_holds(tmp_path: Path) -> None:
    """What is expected does not depend on the variant: where stock passes too, nothing else moved."""
    lab = RealLab("exact-e1000e", tmp_path)  # a veth pair has no device of its own: its rows would be skipped
    document = conformance.carry_out(lab.lab, print, open_guests=lab.opened())
    shutil.rmtree(runs_dir() / document.run_id)
    rows = document.rows
    assert document.verdict == "pass", [one for one in rows if one.verdict == "fail"]
    assert {claim for row in rows if row.verdict == "pass" for claim in row.claim_ids} >= CLAIMS
    skipped = {(row.abi, row.row) for row in rows if row.verdict == "skipped"}
    assert skipped == {("map_each", "in-a-sockmap"), ("msg_zerocopy", "counter-wraps")}


# ------------------------------------------------------------------------------------------ what takes longer


def archive_with(right: str, planted: str) -> bytes:
    """Return the probe's package with another text in place of one."""
    held, found = io.BytesIO(), False
    with zipfile.ZipFile(io.BytesIO(probe_command.archive())) as whole, zipfile.ZipFile(held, "w") as made:
        for name in whole.namelist():
            text = whole.read(name).decode()
            found = found or right in text
            made.writestr(zipfile.ZipInfo(name), text.replace(right, planted))
    assert found
    return held.getvalue()


@pytest.mark.nightly
def test_a_seed_that_fails_fails_again_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a worker that takes some right bytes for wrong ones. Which come is the kernel's doing."""

    def stressed(place: str, seed: int) -> StressDocument:
        lab = RealLab("exact", tmp_path / place)
        options = stress.options_of(2, None)
        document = stress.carry_out(lab.lab, print, 1, seed, options, open_guests=lab.opened())
        shutil.rmtree(runs_dir() / document.run_id)
        return document

    whole = stressed("whole", 7)
    assert whole.verdict == "pass" and whole.hosts[0].digest is not None
    right, planted = (
        "if got != self.pattern.at(position, len(got)):",
        "if got != self.pattern.at(position, len(got)) or (got and len(got) % 4096 == position % 11):",
    )
    archive = archive_with(right, planted)
    monkeypatch.setattr(probe_command, "archive", lambda: archive)
    first, second = stressed("first", 7), stressed("a longer name", 7)
    other = stressed("other", 8)
    assert first.verdict == "fail"
    outcome = first.hosts[0].outcome
    assert outcome is not None and outcome.mismatch_count > 0
    assert second.hosts == first.hosts and first.hosts[0].digest != whole.hosts[0].digest
    assert other.hosts[0].digest != first.hosts[0].digest


@pytest.mark.lab
@pytest.mark.nightly
def test_locks_and_memory_hold_on_a_kernel_that_checks_them(shared_lab: LabUnderTest) -> None:
    """On hosts with two CPUs, where threads are in the kernel at the same time."""
    virtual = {**shared_lab.lab.model_dump(mode="json")["virtual"], "cpus": 2}
    shared_lab.set("lab.yml", "zclab_virtual", virtual)
    shared_lab.set("kernel.yml", "zclab_kernel_variant", "full-debug")
    shared_lab.up()
    assert shared_lab.shell("receiver1", "nproc").strip() == "2"
    done = shared_lab.zclab("lockdep", "--json")
    assert done.status == 0, str(done)
    found = json.loads(done.stdout)
    assert (found["kernel_variant"], found["expected"], found["verdict"]) == ("full-debug", [], "pass")
    assert not any(found["console_reports"].values())
    done = shared_lab.zclab("stress", "--seconds", "60", "--json")
    assert done.status == 0, str(done)
    (told,) = (one["outcome"] for one in json.loads(done.stdout)["hosts"])
    assert told["consumes"] and told["transferred"]["mapped"] > 0 and told["transferred"]["moved"] > 0
    assert not told["mismatch_count"] and not told["memory"]["grown"]
