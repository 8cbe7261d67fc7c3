# SPDX-License-Identifier: Apache-2.0
"""Every rule of every zero-copy interface, on the kernel that the hosts run."""

from __future__ import annotations

import pytest

from zclab.suites.conformance.document import ConformanceDocument


def test_row(suite: ConformanceDocument, abi: str, row: str, family: int) -> None:
    """The outcome of a row is the expected one on this kernel."""
    (found,) = (one for one in suite.rows if (one.abi, one.row, one.family) == (abi, row, family))
    if found.verdict == "skipped":
        pytest.skip(str(found.reason))
    assert found.outcome is not None, found.reason
    assert found.outcome == found.expected, found.setup


def test_the_kernels_report_nothing(suite: ConformanceDocument) -> None:
    """No row makes a kernel report anything on its console."""
    if not suite.console_reports:
        pytest.skip("the consoles of these hosts are not logged here")
    assert not any(suite.console_reports.values()), suite.console_reports
