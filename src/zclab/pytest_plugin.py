# SPDX-License-Identifier: Apache-2.0
"""pytest plugin for lab_tests: carries out the lab's plan once, and gives the tests the pair and the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import testinfra
from rich.console import Console

from zclab.analysis.document import RunDocument
from zclab.analysis.verdict import MeasuringRun
from zclab.base.errors import ZclabError
from zclab.base.paths import project_root
from zclab.host.ssh import Remote, connected
from zclab.lab import inventory
from zclab.lab.defaults import TWO_HOSTS
from zclab.lab.model import Host, Lab
from zclab.measure import engine
from zclab.measure.choice import opener_of
from zclab.plan import claims
from zclab.plan import plan as plans
from zclab.plan.plan import Plan
from zclab.report import console as report

_RUN = pytest.StashKey[Path]()
_JUNIT = pytest.StashKey[Path]()


class HostUnderTest(NamedTuple):
    """One host: what the inventory says of it, testinfra's view, and zclab's own channel."""

    declared: Host
    testinfra: Any
    remote: Remote


class PairUnderTest(NamedTuple):
    """The two hosts of a pair."""

    sender: HostUnderTest
    receiver: HostUnderTest


class Measured(NamedTuple):
    """The run that this test session made, judged."""

    run: MeasuringRun
    document: RunDocument


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --lab, --plan and --profile."""
    group = parser.getgroup("zclab")
    group.addoption("--lab", default=TWO_HOSTS, help="lab to test: a name under inventory/, or a directory")
    group.addoption("--plan", default=None, help="plan to carry out instead of the lab's own")
    group.addoption("--profile", default=None, help="perf event by which each arm is also profiled once")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that ties a test to its claims; have lab tests write JUnit XML."""
    config.addinivalue_line("markers", "claim(*ids): the claims of docs/claims.yml that this test serves")
    lab_tests = project_root() / "lab_tests"
    if config.option.xmlpath is None and any(
        Path(argument.partition("::")[0]).resolve().is_relative_to(lab_tests) for argument in config.args
    ):
        # The run's folder is not known yet: written aside first, and moved there at the end.
        config.stash[_JUNIT] = Path(tempfile.mkdtemp(prefix="zclab-")) / "junit.xml"
        config.option.xmlpath = str(config.stash[_JUNIT])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Move the JUnit XML into the run's folder."""
    junit, run = config.stash.get(_JUNIT, None), config.stash.get(_RUN, None)
    if junit is None:
        return
    if run is not None and junit.is_file():
        shutil.move(junit, run / "junit.xml")
    shutil.rmtree(junit.parent)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that names a claim which does not exist."""
    known = claims.load()
    for item in items:
        for marker in item.iter_markers("claim"):
            if unknown := [claim for claim in marker.args if claim not in known]:
                raise pytest.UsageError(f"{item.nodeid}: docs/claims.yml has no claim {', '.join(unknown)}")


def chosen_lab(config: pytest.Config) -> Lab:
    """Return the lab that --lab names; an impossible one is a usage error."""
    try:
        return inventory.load(config.getoption("--lab"))
    except ZclabError as error:
        raise pytest.UsageError(str(error)) from None


def chosen_plan(config: pytest.Config) -> Plan:
    """Return the plan that --plan names, or the lab's own, with profiles if --profile asks for them."""
    try:
        asked = config.getoption("--plan")
        plan = plans.load(asked) if asked else plans.of_lab(chosen_lab(config))
        return plan.select(profile_event=config.getoption("--profile"))
    except ZclabError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    """The lab under test, from its inventory."""
    return chosen_lab(pytestconfig)


def skip_unless_standing(lab: Lab) -> None:
    """Skip what needs hosts that SSH reaches."""
    if lab.traits.one_guest:
        pytest.skip(f"needs SSH: no host of {lab.name} stands between measurements")


@pytest.fixture(scope="session")
def pair(lab: Lab) -> Iterator[PairUnderTest]:
    """The sender and the receiver, connected."""
    skip_unless_standing(lab)
    ssh_config = lab.state_dir / "ssh_config"
    hosts = lab.pair()
    try:
        with connected(hosts.names, ssh_config) as remotes:
            yield PairUnderTest(
                *(
                    HostUnderTest(
                        host,
                        testinfra.get_host(f"paramiko://{host.name}", ssh_config=str(ssh_config)),
                        remotes[host.name],
                    )
                    for host in hosts
                )
            )
    except ZclabError as error:
        pytest.exit(str(error), returncode=error.exit_code)


@pytest.fixture(scope="session")
def measured(lab: Lab, pytestconfig: pytest.Config) -> Measured:
    """The lab's plan, carried out once and judged; runs/<id> holds it and this session's JUnit XML."""
    reporter = report.RunReporter(Console(force_terminal=False, width=160))
    try:
        run = engine.execute(lab, chosen_plan(pytestconfig), reporter, open_driver=opener_of(lab))
    except ZclabError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    pytestconfig.stash[_RUN] = run.directory
    return Measured(run, run.document())
