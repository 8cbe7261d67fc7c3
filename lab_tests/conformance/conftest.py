# SPDX-License-Identifier: Apache-2.0
"""The conformance suite, carried out once for all tests; each row over each address family is one."""

from __future__ import annotations

import pytest

from zclab.base.errors import ZclabError
from zclab.lab.model import Lab
from zclab.suites import probe_command
from zclab.suites.conformance import run
from zclab.suites.conformance.document import ConformanceDocument


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "row" in metafunc.fixturenames:
        metafunc.parametrize(
            ("abi", "row", "family"),
            [
                pytest.param(
                    abi,
                    row.name,
                    family,
                    id=f"{abi}-{row.name}-{family}",
                    marks=pytest.mark.claim(*row.claims),
                )
                for abi in probe_command.ABIS
                for row in probe_command.table(abi).cases
                for family in probe_command.FAMILIES
            ],
        )


@pytest.fixture(scope="session")
def suite(lab: Lab) -> ConformanceDocument:
    """What the suite finds on the hosts as they run."""
    try:
        return run.carry_out(lab, print)
    except ZclabError as error:
        pytest.exit(str(error), returncode=error.exit_code)
