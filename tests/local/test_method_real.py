# SPDX-License-Identifier: Apache-2.0
"""Can the figures be trusted? Equal arms, injected slowdowns and the cost of measuring, on real namespaces.

Nightly it is what the documentation claims (equal arms 40 times, an injected slowdown of 5 % ten times, every
mode at five sizes), which takes half an hour and an idle machine. Otherwise the same is done fewer times, and
with a slowdown that no neighbour on the machine can hide.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.namespaces_lab import NamespacesLab

from zclab.base.paths import runs_dir
from zclab.plan import plan as plans
from zclab.plan import schedule
from zclab.plan.plan import Plan

pytestmark = [
    pytest.mark.lab,
    pytest.mark.alone,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


class LabUnderTest(NamespacesLab):
    """A copy of the namespaces inventory with a state of its own."""

    def zclab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("zclab")), *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def measure(self, plan: Plan) -> tuple[dict[str, Any], float]:
        """Carry a plan out; return the run's document and how many seconds the measurements took."""
        path = self.directory.parent / f"{plan.name}.yml"
        path.write_text(yaml.safe_dump(plan.model_dump(mode="json")), encoding="utf-8")
        begun = time.monotonic()
        done = self.zclab("run", str(path), "--lab", str(self.directory))
        seconds = time.monotonic() - begun
        found = re.search(r"^run (\S+): ", done.stdout, re.MULTILINE)
        assert found, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(self.zclab("show", found[1], "--json").stdout)
        shutil.rmtree(runs_dir() / found[1])
        assert done.returncode in (0, 3), done.stdout[-5000:]
        return document, seconds


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    made = LabUnderTest(tmp_path_factory.mktemp("lab"))
    up = made.zclab("up", "--lab", str(made.directory))
    assert up.returncode == 0, up.stdout + up.stderr
    try:
        yield made
    finally:
        made.zclab("down", "--lab", str(made.directory))


def comparisons_of(*changes: dict[str, Any]) -> Plan:
    """Return the default plan with other comparisons: its first arm A, and the same with a change."""
    plan = plans.load("namespaces")
    arm = plan.comparisons[0].a
    return plan.model_copy(
        update={
            "comparisons": [
                plan.comparisons[0].model_copy(
                    update={
                        "name": f"same{number:02d}",
                        "b": arm.model_copy(update=change),
                        "metrics": {"receiver_usec_per_mib": []},
                    }
                )
                for number, change in enumerate(changes)
            ]
        }
    )


def effects(document: dict[str, Any]) -> list[str | None]:
    return [one["effect"] for one in document["comparisons"] if one["name"] != "aa"]


@pytest.mark.nightly  # hundreds of measurements, which a machine with other work may disturb in one arm
@pytest.mark.parametrize(("comparisons", "most"), [(3, 1), (40, 2)])
def test_equal_arms_are_rarely_called_different(lab: LabUnderTest, comparisons: int, most: int) -> None:
    document, _ = lab.measure(comparisons_of(*[{}] * comparisons))
    found = effects(document)
    print("equal arms:", {effect: found.count(effect) for effect in sorted(set(map(str, found)))})
    assert len(found) == comparisons
    assert None not in found
    assert sum(effect in ("higher", "lower") for effect in found) <= most


@pytest.mark.parametrize(
    ("runs", "least", "slowdown"), [(1, 1, 0.4), pytest.param(10, 9, 0.05, marks=pytest.mark.nightly)]
)
def test_a_planted_slowdown_is_called(lab: LabUnderTest, runs: int, least: int, slowdown: float) -> None:
    document, _ = lab.measure(comparisons_of({}))
    cost = next(one["median_a"] for one in document["comparisons"] if one["name"] == "aa")
    called = []
    for _ in range(runs):
        document, _ = lab.measure(comparisons_of({"inject_usec_per_mib": slowdown * cost}))
        (one,) = (one for one in document["comparisons"] if one["name"] != "aa")
        print(
            f"planted {slowdown:.0%}: {one['effect']}, "
            f"ratio {one['ratio_median']:.3f} {one['ratio_ci95']}, n {one['n']}, "
            f"p {one['p_value']:.4f}, resolution {one['resolution']:.3f}"
        )
        called.append(one["effect"])
    assert called.count("higher") >= least


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_measuring_costs_little(lab: LabUnderTest, *, whole: bool) -> None:
    """Time beside windows and warm-ups, and the controller's CPU meanwhile."""
    plan = plans.load("modes")
    if not whole:
        plan = plan.select(message_bytes=[262144], repeats=2)
    document, seconds = lab.measure(plan)
    made = [one for one in document["measurements"] if not one["skipped"]]
    windows = sum(one["seconds"] for one in made) + plan.warmup_seconds * len(made)
    share = sorted(one["controller_cpu_share"] for one in made)[len(made) // 2]
    print(f"{len(made)} measurements: {seconds:.1f} s, windows and warm-ups {windows:.1f} s")
    print(f"ratio {seconds / windows:.3f}")
    print(f"controller: median {share:.2%} of one core")
    assert len(made) >= len(schedule.measurements(plan)) / 2
    assert share < 0.02
    # Starting the command and reading the inventory count, too, and weigh more the shorter the plan is.
    assert seconds / windows < (1.15 if whole else 1.6)
