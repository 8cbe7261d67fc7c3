# SPDX-License-Identifier: Apache-2.0
"""Kernel identity: the artifact, and nothing else, runs on both hosts."""

from __future__ import annotations

import pytest

from zclab.deploy import state as deploy_state
from zclab.host import state
from zclab.lab.model import Lab
from zclab.measure.guests import GUEST
from zclab.pytest_plugin import Measured, PairUnderTest


def test_running_kernel_is_the_artifact(pair: PairUnderTest, lab: Lab) -> None:
    """Release and build id of each running kernel equal the artifact's."""
    artifact = deploy_state.deployed_kernel(lab)
    if artifact is None:
        pytest.skip("these hosts run this machine's own kernel: none was built or booted")
    found = state.snapshot(
        {host.declared.name: host.remote for host in pair}, [host.declared for host in pair], lab
    )
    for name, snapshot in found.items():
        assert (snapshot.kernel_release, snapshot.kernel_build_id) == (artifact.release, artifact.build_id), (
            name
        )


def test_a_crashed_kernel_reboots_by_itself(pair: PairUnderTest, lab: Lab) -> None:
    """A panic reboots the host, so that it falls back to its default kernel."""
    if lab.kernel_variant is None:
        pytest.skip("these hosts run this machine's own kernel, which the lab does not set up")
    for host in pair:
        seconds = host.testinfra.check_output("cat /proc/sys/kernel/panic")
        assert int(seconds) == 10, host.declared.name


def test_no_kernel_report(measured: Measured, lab: Lab) -> None:
    """No BUG, WARNING, Oops, lockdep report or hung task on either console since the run began."""
    if not lab.traits.emulators and not measured.document.console_reports:
        pytest.skip("the consoles of these hosts are not logged here")
    logged = {GUEST} if lab.traits.one_guest else set(lab.pair().names)
    assert set(measured.document.console_reports) == logged
    for host, reports in measured.document.console_reports.items():
        assert not reports, f"{host}: " + "; ".join(reports)
