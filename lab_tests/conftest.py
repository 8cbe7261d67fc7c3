# SPDX-License-Identifier: Apache-2.0
"""Lab tests: each comparison of the plan becomes a test of its own."""

from __future__ import annotations

import pytest

from zclab.plan import metrics_of
from zclab.pytest_plugin import chosen_plan


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        plan = chosen_plan(metafunc.config)
        cells = [
            (name, metric)
            for name, comparison, _, pace in plan.cells()
            for metric in metrics_of(comparison, pace)
        ]
        metafunc.parametrize("cell", cells, ids=[f"{name}-{metric}" for name, metric in cells])
