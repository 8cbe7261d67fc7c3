# SPDX-License-Identifier: Apache-2.0
"""Lab tests: each comparison of the plan becomes a test of its own."""

from __future__ import annotations

import pytest

from zclab.plan import schedule
from zclab.pytest_plugin import chosen_plan


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        plan = chosen_plan(metafunc.config)
        compared = [cell for step in schedule.whole_steps(plan) for cell in step.cells]
        cells = [(cell.name, metric) for cell in compared for metric in cell.metrics]
        metafunc.parametrize("cell", cells, ids=[f"{name}-{metric}" for name, metric in cells])
