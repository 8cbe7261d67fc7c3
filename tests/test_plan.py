# SPDX-License-Identifier: Apache-2.0
"""Plans: what is measured in which order, and impossible values as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import factories

from zclab import plan as plans
from zclab.errors import UsageError
from zclab.inventory import Metric
from zclab.paths import project_root
from zclab.plan import Plan

PLANS = sorted(path.stem for path in (project_root() / "lab_tests" / "plans").glob("*.yml"))


def test_arms_alternate() -> None:
    plan = factories.plan(repeats=4)
    assert "".join(one.arm for one in plan.measurements()) == "abbaabba"
    assert [one.order for one in plan.measurements()] == list(range(8))
    assert [one.pair for one in plan.measurements()] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_arms_are_what_the_comparison_says() -> None:
    for one in factories.plan().measurements():
        wanted = ("copy", "copy") if one.arm == "a" else ("map_once", "copy")
        assert (one.receive_mode, one.send_mode) == wanted


def test_ids_are_unique_and_stable() -> None:
    plan = factories.plan(message_bytes=[4096, 262144], pace_gbit_per_s=[None, 0.1])
    ids = [one.id for one in plan.measurements()]
    assert len(set(ids)) == len(ids) == 2 * 2 * 2 * 6
    assert ids[0] == "receive-4096-unpaced-01a"
    assert "receive-262144-0.1gbit-06b" in ids
    assert ids == [one.id for one in Plan.model_validate_json(plan.model_dump_json()).measurements()]


def test_cells_are_every_size_at_every_pace() -> None:
    plan = factories.plan(
        message_bytes=[4096, 8192],
        pace_gbit_per_s=[None, 10],
        comparisons=[factories.comparison("one"), factories.comparison("two")],
    )
    names = [name for name, *_ in plan.cells()]
    assert len(set(names)) == len(names) == 8
    assert names[:2] == ["one-4096-unpaced", "one-4096-10gbit"]
    assert {one.comparison for one in plan.measurements()} == set(names)


def test_throughput_is_no_metric_at_a_fixed_pace() -> None:
    comparison = factories.plan().comparisons[0]
    unpaced: list[Metric] = ["receiver_usec_per_mib", "gbit_per_s"]
    assert plans.metrics_of(comparison, None) == unpaced
    assert plans.metrics_of(comparison, 0.1) == unpaced[:1]


def test_expected_time_grows_with_the_plan() -> None:
    short, long = factories.plan(repeats=2), factories.plan(repeats=4)
    assert 0 < short.expected_seconds() < long.expected_seconds()
    assert short.expected_seconds() >= 4 * (2 + 1)


# --------------------------------------------------------------------------------------------------- select


def test_select_by_mode() -> None:
    plan = factories.plan(
        comparisons=[factories.comparison("receive"), factories.comparison("send", b=("zerocopy", "copy"))]
    )
    names = [one.name for one in plan.select(modes=["zerocopy"]).comparisons]
    assert names == ["send"]
    assert [one.name for one in plan.select(modes=["zerocopy", "map_once"]).comparisons] == [
        "receive",
        "send",
    ]


def test_select_replaces_values() -> None:
    chosen = factories.plan().select(sizes=[8192], paces=[None, 0.5], seconds=0.5, repeats=2)
    assert (chosen.message_bytes, chosen.pace_gbit_per_s) == ([8192], [None, 0.5])
    assert (chosen.seconds, chosen.repeats) == (0.5, 2)
    assert len(chosen.measurements()) == 2 * 2 * 2


def test_select_nothing_changes_nothing() -> None:
    assert factories.plan().select() == factories.plan()


@pytest.mark.parametrize(
    ("selection", "word"),
    [
        ({"modes": ["map_twice"]}, "no comparison uses mode 'map_twice': copy, map_once"),
        ({"modes": ["zerocopy"]}, "no comparison uses mode 'zerocopy'"),
        ({"sizes": [1000]}, "message_bytes: 1000 is not a multiple of a page"),
        ({"sizes": [0]}, "message_bytes: 0 is not a multiple"),
        ({"paces": [-1.0]}, "pace_gbit_per_s: a pace is a positive number"),
        ({"seconds": 0}, "seconds: Input should be greater than 0"),
        ({"repeats": 0}, "repeats: Input should be greater than or equal to 1"),
        ({"paces": [float("nan")]}, "pace_gbit_per_s"),
        ({"paces": [float("inf")]}, "pace_gbit_per_s"),
        ({"sizes": [4096, 4096]}, "message_bytes"),
    ],
)
def test_impossible_selection_is_one_line(selection: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError) as caught:
        factories.plan().select(**selection)
    message = str(caught.value)
    assert message.startswith("plan small: ")
    assert word in message
    assert len(message.splitlines()) == 1


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_of_the_project_loads(name: str) -> None:
    plan = plans.load(name)
    assert plan.name == name
    assert plan.measurements()


@pytest.mark.parametrize("name", ["virtual", "connectx3"])
def test_the_main_job_of_a_lab(name: str) -> None:
    """Receive copy against map_once, send copy against zerocopy, each paced and unpaced, enough to decide."""
    plan = plans.load(factories.lab(name).plan)
    arms = {
        (one.a.receive_mode, one.b.receive_mode, one.a.send_mode, one.b.send_mode) for one in plan.comparisons
    }
    assert ("copy", "map_once", "copy", "copy") in arms
    assert ("copy", "copy", "copy", "zerocopy") in arms
    assert None in plan.pace_gbit_per_s
    assert any(pace is not None for pace in plan.pace_gbit_per_s)
    assert plan.repeats >= 6


def _file(tmp_path: Path, **changes: Any) -> Path:
    data = {**factories.plan().model_dump(mode="json", exclude={"name"}), **changes}
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump({key: one for key, one in data.items() if one is not ...}))
    return path


def test_a_plan_in_a_file_is_named_after_it(tmp_path: Path) -> None:
    assert plans.load(str(_file(tmp_path))).name == "mine"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"secconds": 1}, "secconds"),
        ({"seconds": ...}, "seconds"),
        ({"chunk_bytes": 1000}, "chunk_bytes"),
        ({"message_bytes": []}, "message_bytes"),
        ({"message_bytes": [4097]}, "message_bytes"),
        ({"pace_gbit_per_s": [0]}, "pace_gbit_per_s"),
        ({"comparisons": []}, "comparisons"),
        ({"comparisons": [factories.comparison("Bad Name")]}, "comparisons.0.name"),
        ({"comparisons": [factories.comparison(b=("copy", "teleport"))]}, "comparisons.0.b.receive_mode"),
        ({"comparisons": [factories.comparison(metrics={"joy": []})]}, "comparisons.0.metrics"),
        ({"comparisons": [factories.comparison(), factories.comparison()]}, "comparisons"),
        ({"message_bytes": [4096, 4096]}, "message_bytes"),
        ({"pace_gbit_per_s": [None, None]}, "pace_gbit_per_s"),
        ({"comparisons": [factories.comparison(metrics={"gbit_per_s": ["F99"]})]}, "comparisons"),
    ],
)
def test_a_faulty_file_is_one_line(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = _file(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        plans.load(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: {key}")
    assert len(message.splitlines()) == 1


def test_no_such_plan() -> None:
    with pytest.raises(UsageError, match=r"^nosuch: no such plan: name one of .*virtual"):
        plans.load("nosuch")


@pytest.mark.parametrize(("text", "word"), [("[1, 2", "not YAML"), ("- 1", "a mapping"), ("", "a mapping")])
def test_a_file_that_is_no_plan(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        plans.load(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
