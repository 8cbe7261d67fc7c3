# SPDX-License-Identifier: Apache-2.0
"""What a run was judged by, compared with the inventory of today: said before anything else is shown."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from tests import factories

from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.cli.main import cli
from zclab.lab.model import Crosscheck, Expectations, Lab
from zclab.runs.manifest import BaseManifest, DeclaredToday
from zclab.runs.records import Manifest
from zclab.suites.conformance.document import ConformanceManifest
from zclab.suites.crosscheck.document import CrosscheckManifest
from zclab.suites.declared_today import compared
from zclab.suites.lockdep import LockdepManifest

THRESHOLD = factories.threshold(at_most=0.6)
EXPECTED = factories.manifest(thresholds=[THRESHOLD]).expectations
LABS = {name: factories.lab(name) for name in ("virtual", "namespaces")}


class Declared:
    """A lab whose inventory expects something else; the model of a lab is only read."""

    def __init__(self, lab: Lab, expectations: Expectations) -> None:
        self.expectations = expectations
        self.crosscheck, self.kernel_variants = lab.crosscheck, lab.kernel_variants


def differences(manifest: BaseManifest, expectations: Expectations = EXPECTED, **lab: Any) -> list[str]:
    declared: Any = Declared(LABS["virtual"].model_copy(update=lab), expectations)
    found = compared(manifest, lambda directory: declared)
    assert found is not None and found.problem is None
    return found.differences


def run(**changes: Any) -> Manifest:
    return factories.manifest(thresholds=[THRESHOLD], **changes)


def expecting(change: Callable[[dict[str, Any]], object]) -> Expectations:
    data = EXPECTED.model_dump(mode="json")
    change(data)
    return Expectations.model_validate(data)


FILE = "virtual/group_vars/all/expectations.yml"
BOUND = f"zclab_thresholds: {THRESHOLD['comparison']} {THRESHOLD['metric']}"


def test_what_is_declared_as_it_was_is_no_difference() -> None:
    assert differences(run()) == []


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda data: data["thresholds"][0].update(at_most=0.5), f"{BOUND} at_most 0.6, now 0.5"),
        (lambda data: data["thresholds"].clear(), f"{BOUND} at_most 0.6, now not declared"),
        (lambda data: data["thresholds"][0].update(paced=True), f"{BOUND} at_most 0.6, now not declared"),
        (
            lambda data: data["thresholds"].append({**THRESHOLD, "message_bytes": 65536}),
            f"{BOUND} 65536 bytes at_most not declared, now 0.6",
        ),
        (lambda data: data.update(smallest_effect=0.05), "zclab_smallest_effect 0.02, now 0.05"),
        (lambda data: data["validity"].update(drops_at_most=9), "zclab_validity.drops_at_most 0, now 9"),
        (
            lambda data: data["validity"]["mapped_fraction"]["map_once"]["copy"].update(at_least=0.5),
            "zclab_validity.mapped_fraction.map_once.copy.at_least 0.99, now 0.5",
        ),
        (lambda data: data["link"].update(speed_mbps=1000), "zclab_link.speed_mbps not declared, now 1000"),
        (lambda data: data.update(rcvlowat_bytes=4096), "zclab_limits.rcvlowat_bytes 524288, now 4096"),
    ],
)
def test_a_changed_value_is_named_with_its_file_and_key(
    change: Callable[[dict[str, Any]], object], difference: str
) -> None:
    found = differences(run(), expecting(change))
    file, _, text = found[0].partition(": ")
    assert text == difference
    key = text.partition(" ")[0].partition(".")[0].rstrip(":")
    assert f"{key}:" in (project_root() / "inventory" / file).read_text(encoding="utf-8")


def test_bounds_of_a_cross_check_are_compared() -> None:
    fields = {"seed": 1, "repeats": 1, "seconds": 1, "chunk_bytes": 4096, "modes": [], "host_problems": []}
    bounds = {"throughput_at_least": 0.9}
    manifest = CrosscheckManifest.model_validate(factories.common("crosscheck") | fields | {"bounds": bounds})
    assert differences(manifest, crosscheck=Crosscheck.model_validate(bounds)) == []
    (found,) = differences(manifest, crosscheck=Crosscheck(throughput_at_least=0.8))
    assert found.endswith(": zclab_crosscheck.throughput_at_least 0.9, now 0.8")
    (found,) = differences(manifest, crosscheck=None)
    assert found.endswith(": zclab_crosscheck.throughput_at_least 0.9, now not declared")


def test_the_lock_report_that_a_kernel_is_to_give_is_compared() -> None:
    manifest = LockdepManifest.model_validate(factories.common("lockdep") | {"expected": []})
    assert differences(manifest) == []
    (found,) = differences(manifest.model_copy(update={"expected": ["sk_lock"]}))
    assert found.endswith("zclab_kernel_variants.stock.lock_report ['sk_lock'], now []")


def test_no_inventory_judges_a_conformance() -> None:
    manifest = ConformanceManifest.model_validate(factories.common("conformance") | {"fingerprint": "f"})
    assert compared(manifest) is None


def test_an_inventory_that_is_gone_or_cannot_be_read_is_said() -> None:
    gone = project_root() / "inventory" / "gone"
    assert compared(run(lab_dir="inventory/gone")) == DeclaredToday(problem=f"{gone}: no such directory")

    def unreadable(directory: Path) -> Lab:
        raise UsageError("hosts.yml: not YAML")

    assert compared(run(), unreadable) == DeclaredToday(problem="hosts.yml: not YAML")


def test_show_says_it_first(tmp_path: Path, runs: Path) -> None:
    """By the inventory that the run was made with, wherever it is."""
    directory = tmp_path / "labs" / "mine"
    shutil.copytree(project_root() / "inventory" / "namespaces", directory)
    expectations = LABS["namespaces"].expectations
    manifest = factories.manifest(lab="mine", lab_dir=str(directory))
    manifest = manifest.model_copy(update={"expectations": expectations})
    stored = factories.stored_run(runs / manifest.run_id, manifest, factories.records(manifest))

    def shown() -> list[str]:
        return CliRunner().invoke(cli, ["show", stored.id]).stdout.splitlines()

    assert shown()[0].startswith(f"run {stored.id}")
    path = directory / "group_vars" / "all" / "expect.yml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(data | {"zclab_smallest_effect": 0.07}), encoding="utf-8")
    was = f"{expectations.smallest_effect:g}"
    place = "mine/group_vars/all/expect.yml: zclab_smallest_effect"
    assert shown()[0] == f"judged by what the inventory no longer declares: {place} {was}, now 0.07"
    document = json.loads(CliRunner().invoke(cli, ["show", stored.id, "--json"]).stdout)
    assert document["declared_today"] == {"problem": None, "differences": [f"{place} {was}, now 0.07"]}
    shutil.rmtree(directory)
    first = "whether the inventory still declares what this was judged by is not known: "
    assert shown()[0] == f"{first}{directory}: no such directory"
