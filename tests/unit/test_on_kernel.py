# SPDX-License-Identifier: Apache-2.0
"""Each suite on the kernels of a lab: booted and left again, and two compared by their latest results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import factories

from zclab.base.errors import LabError, UsageError
from zclab.base.paths import from_checkout
from zclab.base.progress import Progress, quiet
from zclab.lab.model import Lab
from zclab.probe import table
from zclab.runs.folder import Run
from zclab.suites import on_kernel, probe_command
from zclab.suites.conformance import document as conformance
from zclab.suites.conformance import run as conformance_run
from zclab.suites.on_kernel import Suite
from zclab.suites.selftests import run as selftests_run
from zclab.suites.selftests.document import Result, TestDocument


class Hosts:
    """A virtual lab that runs its stock kernel; what is booted on it, in order."""

    def __init__(self, directory: Path) -> None:
        self.lab = factories.lab().model_copy(update={"state_dir": directory})
        self.booted: list[str] = []
        self.boot(self.lab, "stock", quiet)

    def boot(self, lab: Lab, variant: str, on_progress: Progress) -> None:
        """Have the hosts run a kernel, as the role kernel_boot records it."""
        self.booted.append(variant)
        artifact = factories.ARTIFACT.model_copy(update={"variant": variant})
        definition = lab.kernel_variants[variant].model_dump(mode="json")
        recorded = {"artifact": artifact.model_dump(mode="json"), "definition": definition}
        (lab.state_dir / "kernel.json").write_text(json.dumps(recorded), encoding="utf-8")

    def carry_out(self, suite: Suite[Any, Any], variant: str | None = None, lab: Lab | None = None) -> Any:
        return on_kernel.carry_out(lab or self.lab, variant, suite.carry_out, quiet, self.boot)

    def compare(self, suite: Suite[Any, Any], *variants: str) -> Any:
        (a, b) = variants
        return on_kernel.compare(self.lab, (a, b), suite, quiet, self.boot)


@pytest.fixture
def hosts(tmp_path: Path, runs: Path) -> Hosts:
    return Hosts(tmp_path)


def rows(variant: str) -> list[Any]:
    """Return a row of each interface that no series may move; they pass."""
    case = table.TestCase("a-row", "given", "x", ("S1",), None, lambda bench: "")
    families = probe_command.FAMILIES
    return [
        conformance.judged(abi, case, family, "6.1", "x", None)
        for abi in conformance.FIXED
        for family in families
    ]


def two_tests(variant: str) -> list[Any]:
    """Return two tests; on another kernel than stock the second fails."""
    common: dict[str, Any] = dict.fromkeys(("reason", "changed", "seconds", "output_tail"))
    common |= {"why": "", "command": "", "subtests": []}
    result: Result = "pass" if variant == "stock" else "fail"
    return [TestDocument(name="a", result="pass", **common), TestDocument(name="b", result=result, **common)]


@pytest.fixture(params=["conformance", "selftests"])
def suite(request: pytest.FixtureRequest) -> Suite[Any, Any]:
    """A suite that looks at the kernel only by its name."""
    real: Suite[Any, Any]
    if request.param == "conformance":
        real, records, fields = conformance_run.SUITE, rows, {}
    else:
        real, records, fields = selftests_run.SUITE, two_tests, {"tree": "tree"}

    def carry_out(lab: Lab, on_progress: Progress) -> Any:
        variant = str(lab.kernel_variant)
        run: Run[Any, Any, Any] = Run.create(lab.name, real.kind)
        fingerprint = real.fingerprint(lab.kernel_variants[variant])
        manifest = factories.common(
            real.kind.name,
            run_id=run.id,
            lab_dir=from_checkout(lab.lab_dir),
            kernel_variant=variant,
            fingerprint=fingerprint,
            **fields,
        )
        run.write_manifest(real.kind.manifest.model_validate(manifest))
        for record in records(variant):
            run.append(record)
        return run.document()

    return real._replace(carry_out=carry_out)


def exit_code(suite: Suite[Any, Any], of_full: bool) -> int:
    """Return that of a kernel, or of stock compared with it."""
    return 1 if of_full and suite.kind.name == "selftests" else 0


def test_the_hosts_are_tried_as_they_run(suite: Suite[Any, Any], hosts: Hosts) -> None:
    document = hosts.carry_out(suite)
    assert (document.exit_code, document.kernel_variant, hosts.booted) == (0, "stock", ["stock"])
    hosts.boot(hosts.lab, "full", quiet)
    assert hosts.carry_out(suite).kernel_variant == "full"
    assert hosts.booted == ["stock", "full"]


def test_a_kernel_is_booted_and_left_again(suite: Suite[Any, Any], hosts: Hosts) -> None:
    document = hosts.carry_out(suite, "full")
    assert (document.exit_code, document.kernel_variant) == (exit_code(suite, of_full=True), "full")
    assert hosts.booted == ["stock", "full", "stock"]


def test_a_kernel_is_left_after_an_error_too(suite: Suite[Any, Any], hosts: Hosts) -> None:
    def fail(lab: Lab, on_progress: Progress) -> Any:
        raise LabError("no")

    with pytest.raises(LabError, match=r"^no$"):
        hosts.carry_out(suite._replace(carry_out=fail), "full")
    assert hosts.booted == ["stock", "full", "stock"]


def test_diff_tries_what_is_missing_only(suite: Suite[Any, Any], hosts: Hosts) -> None:
    for _ in range(2):
        diff = hosts.compare(suite, "stock", "full")
        assert (diff.exit_code, hosts.booted) == (exit_code(suite, of_full=True), ["stock", "full", "stock"])
    assert [one.test for one in diff.moved] == (["b"] if suite.kind.name == "selftests" else [])
    assert hosts.compare(suite, "full", "stock").exit_code == 0
    assert hosts.booted == ["stock", "full", "stock"]


def test_diff_leaves_out_results_of_another_lab_of_the_same_name(
    suite: Suite[Any, Any], hosts: Hosts, tmp_path: Path
) -> None:
    hosts.compare(suite, "stock", "full")
    hosts.lab = hosts.lab.model_copy(update={"lab_dir": tmp_path / "virtual"})
    hosts.compare(suite, "stock", "full")
    assert hosts.booted == ["stock", "full", "stock", "full", "stock"]


def test_an_unknown_kernel_is_refused_before_anything_is_booted(suite: Suite[Any, Any], hosts: Hosts) -> None:
    with pytest.raises(UsageError, match="no kernel variant is called 'nosuch': stock, "):
        hosts.carry_out(suite, "nosuch")
    with pytest.raises(UsageError, match="no kernel variant is called 'nosuch': stock, "):
        hosts.compare(suite, "full", "nosuch")
    with pytest.raises(UsageError, match="no kernel variant is called 'stock': none"):
        hosts.carry_out(suite, "stock", factories.lab("namespaces"))
    assert hosts.booted == ["stock"]
