# SPDX-License-Identifier: Apache-2.0
"""The claims as data: complete, and each served by a check."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from tests import factories

from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.plan import claims
from zclab.plan import plan as plans
from zclab.probe import table as probe_table
from zclab.suites import probe_command

WANTED = {
    f"{letter}{number}"
    for letter, last in (("M", 14), ("Z", 13), ("S", 4), ("F", 10))
    for number in range(1, last + 1)
}
LABS = sorted(path.parent.name for path in (project_root() / "inventory").glob("*/hosts.yml"))


def served_by_plans() -> set[str]:
    """Return the claims that metrics of the project's plans serve."""
    return {
        claim
        for path in (project_root() / "lab_tests" / "plans").glob("*.yml")
        for comparison in plans.load(path.stem).every()
        for ids in comparison.metrics.values()
        for claim in ids
    }


def served_by_thresholds() -> set[str]:
    """Return the claims that thresholds of the project's labs serve."""
    return {
        claim for name in LABS for one in factories.lab(name).expectations.thresholds for claim in one.claims
    }


def marked(source: str) -> set[str]:
    """Return the claims that tests in a source file are marked with."""
    return {
        argument.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "claim"
        for argument in node.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def served_by_tests() -> set[str]:
    """Return the claims that lab tests are marked with."""
    files = (project_root() / "lab_tests").rglob("*.py")
    return {claim for path in files for claim in marked(path.read_text(encoding="utf-8"))}


def served_by_rows() -> set[str]:
    """Return the claims that rows of the conformance suite serve."""
    return {
        claim for abi in probe_command.ABIS for row in probe_command.table(abi).cases for claim in row.claims
    }


@functools.cache
def served() -> set[str]:
    return served_by_plans() | served_by_thresholds() | served_by_tests() | served_by_rows()


def test_every_claim_is_there_once() -> None:
    text = (project_root() / "docs" / "claims.yml").read_text(encoding="utf-8")
    ids = [claim["id"] for claim in yaml.safe_load(text)["claims"]]
    assert sorted(ids) == sorted(WANTED)
    assert set(claims.load()) == WANTED


@pytest.mark.parametrize("claim", sorted(WANTED))
def test_a_claim_is_checked(claim: str) -> None:
    assert claim in served()


@pytest.mark.parametrize("lab", LABS)
def test_each_figure_is_gated_or_the_inventory_says_why_not(lab: str) -> None:
    expected = factories.lab(lab).expectations
    gated = {claim for one in expected.thresholds for claim in one.claims}
    figures = {name for name, claim in claims.load().items() if claim.kind == "figure"}
    assert figures == (gated & figures) | {*expected.not_gated}
    assert not gated & {*expected.not_gated}
    plans.of_lab(factories.lab(lab))


def test_a_threshold_that_no_plan_of_the_lab_measures_gates_nothing() -> None:
    """What `gated` above counts is bound to a comparison of the plan by `of_lab`."""
    expected = factories.lab("connectx3").expectations
    plan = plans.of_lab(factories.lab("connectx3"))
    assert {one.comparison for one in expected.thresholds} <= {one.name for one in plan.every()}


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("F99", "zclab_not_gated.F99: docs/claims.yml has no claim F99"),
        ("F4", "zclab_not_gated.F4: a threshold names the claim"),
    ],
)
def test_what_is_said_not_to_be_gated_is_checked(claim: str, words: str) -> None:
    lab = factories.lab("connectx3")
    expected = lab.expectations.model_copy(update={"not_gated": {claim: "no"}})
    with pytest.raises(UsageError, match=words):
        plans.of_lab(lab.model_copy(update={"expectations": expected}))


def test_checks_name_claims_that_exist() -> None:
    assert served() <= WANTED


def undeclared(rows: Iterable[probe_table.TestCase], noted: set[str]) -> list[str]:
    """Return the rows that deviate from a document while none of their claims has a note."""
    return [row.name for row in rows if row.document is not None and not noted & set(row.claims)]


def test_every_deviation_from_a_document_has_a_note() -> None:
    noted = {name for name, claim in claims.load().items() if claim.note}
    rows = [row for abi in probe_command.ABIS for row in probe_command.table(abi).cases]
    assert undeclared(rows, noted) == []
    deviating = {row.name for row in rows if row.document is not None}
    assert "datagram-lengths" in deviating
    assert set(undeclared(rows, noted - {"Z11"})) == {"datagram-lengths"}
    assert set(undeclared(rows, set())) == deviating


def test_markers_are_seen() -> None:
    source = (
        '@pytest.mark.claim("Z1", "Z3")\ndef test_x(): pass\n\n@pytest.mark.other("M1")\ndef test_y(): pass'
    )
    assert marked(source) == {"Z1", "Z3"}
    assert served_by_tests()


def test_kinds_follow_the_letter() -> None:
    for name, claim in claims.load().items():
        assert claim.kind == ("figure" if name.startswith("F") else "semantic")
        assert claim.text


def test_published_figures_are_kept() -> None:
    known = claims.load()
    assert known["F4"].reference["receiver_usec_per_mib_ratio"] == 0.37
    assert len(known["F2"].reference["usec_per_mib"]) == len(known["F3"].reference["usec_per_mib"]) == 4
    for name in ("F2", "F3"):
        published = known[name].reference
        mib = known["F1"].reference["mib_per_run"]
        per_mib = [round(count / mib, 4) for count in published["context_switches"]]
        assert published["context_switches_per_mib"] == per_mib


@pytest.mark.parametrize("key", ["unchecked", "source"])
def test_an_unknown_key_is_refused(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    text = yaml.safe_dump({"claims": [{"id": "M1", "kind": "semantic", "text": "x", key: "y"}]})
    (tmp_path / "docs" / "claims.yml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(claims, "project_root", lambda: tmp_path)
    with pytest.raises(ValueError, match=key):
        claims.load()
