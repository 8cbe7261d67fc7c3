# SPDX-License-Identifier: Apache-2.0
"""Plans: what is measured in which order, and impossible values as one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import factories

from zclab.analysis.statistics import FEWEST_PAIRS
from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.plan import plan as plans
from zclab.plan import schedule
from zclab.plan.plan import Plan

PLANS = sorted(path.stem for path in (project_root() / "lab_tests" / "plans").glob("*.yml"))
SLOWED = {"receive_mode": "copy", "send_mode": "copy"}
RPC_COMPARISON = {
    "name": "rpc",
    "a": "map_recvmsg",
    "b": "map_copy_buffer",
    "request_bytes": 100,
    "reply_bytes": 200,
    "metrics": {"system_calls_per_rpc": ["F9"]},
}


@pytest.mark.parametrize("repeats", [1, 2, 3, 4, 9, 10])
def test_arms_come_in_blocks(repeats: int) -> None:
    """A B B A or B A A B; each pair is whole before the next one begins."""
    planned = schedule.measurements(factories.plan(repeats=repeats, seed=7))
    assert [one.order for one in planned] == list(range(2 * repeats))
    assert [one.pair for one in planned] == [number // 2 for number in range(2 * repeats)]
    arms = "".join(one.arm for one in planned)
    blocks = [arms[start : start + 4] for start in range(0, len(arms), 4)]
    assert all(block in ("abba", "baab", "ab", "ba") for block in blocks)


def test_the_seed_draws_which_arm_begins() -> None:
    """Each seed always gives the same order, and both arms begin about as often."""
    orders = {
        seed: tuple(one.arm for one in schedule.measurements(factories.plan(repeats=20, seed=seed)))
        for seed in range(50)
    }
    assert len(set(orders.values())) > 40
    again = schedule.measurements(factories.plan(repeats=20, seed=3))
    assert tuple(one.arm for one in again) == orders[3]
    begun = [order[start] for order in orders.values() for start in range(0, 40, 4)]
    assert 0.4 < begun.count("a") / len(begun) < 0.6


def kernels(**changes: Any) -> Plan:
    """Return a plan of two comparisons of the same two kernels."""
    comparisons = [factories.comparison(name) for name in ("one", "two")]
    for comparison in comparisons:
        comparison["b"]["kernel"] = "mine"
    return factories.plan(comparisons=comparisons, **changes)


def test_kernels_are_compared_by_boots() -> None:
    """Boots come A B B A, cells with the same kernels share them, and each is another boot."""
    planned = schedule.measurements(kernels(seed=1, boots=2, boot_measurements=3))
    boots = [one.boot for one in planned]
    assert boots == [boot for boot in range(4) for _ in range(6)]
    arms = "".join(one.arm for one in planned[::6])
    assert arms in ("abba", "baab")
    assert [one.comparison.partition("-")[0] for one in planned[:6]] == ["one"] * 3 + ["two"] * 3
    assert len({one.id for one in planned}) == len(planned) == 24


def test_modes_share_no_boot_where_each_arm_has_its_own() -> None:
    """Two comparisons of two kernels share their boots there, too; two of modes on one kernel do not."""
    modes = [factories.comparison(name) for name in ("three", "four")]
    compared = [*kernels().comparisons, *modes]
    plan = factories.plan(comparisons=compared, boot_each_arm=True, boots=2, boot_measurements=3)
    names = [tuple(cell.comparison for cell in step.cells) for step in schedule.steps(plan)]
    assert names == [("one", "two"), ("three",), ("four",)]


@pytest.mark.parametrize(("at_most", "boots"), [(1, 2), (2, 4), (5, 10), (6, 12)])
def test_boots_are_counted_with_the_one_back(at_most: int, boots: int) -> None:
    plan = kernels(boots=at_most)
    assert schedule.boots(plan) == boots + 1
    without = schedule.expected_seconds(plan, 1)
    assert schedule.expected_seconds(plan, 1, 90) == pytest.approx(without + 90 * (boots + 1))
    assert schedule.boots(factories.plan()) == 0


def test_as_few_boots_as_the_interval_needs_only_with_a_precision() -> None:
    with pytest.raises(ValueError, match="precision: missing"):
        kernels(boots={"at_least": 4, "at_most": 8})


def test_equal_arms_come_first() -> None:
    plan = factories.plan(aa_pairs=8, repeats=8, integrity_bytes=2**20)
    planned = schedule.measurements(plan)
    assert [one.phase for one in planned] == ["integrity"] * 2 + ["aa"] * 16 + ["compare"] * 16
    equal = [one for one in planned if one.phase == "aa"]
    assert {(one.receive_mode, one.send_mode) for one in equal} == {("copy", "copy")}
    assert {one.arm for one in equal} == {"a", "b"}


def test_each_arm_a_is_compared_with_itself_throughout_the_run() -> None:
    """Paced and unpaced, in blocks of two pairs, each before a comparison with that arm A."""
    comparisons = [factories.comparison(name) for name in ("one", "two", "three")]
    plan = factories.plan(comparisons=comparisons, aa_pairs=8, repeats=8, pace_gbit_per_s=[None, 1.0])
    assert [cell.name for cell in schedule.aa_cells(plan)] == [
        "aa-copy-copy-262144-unpaced",
        "aa-copy-copy-262144-1gbit",
    ]
    planned = schedule.measurements(plan)
    equal = [one for one in planned if one.phase == "aa"]
    assert len(equal) == 2 * 8  # the pairs are shared among both
    starts = [at for at, one in enumerate(planned) if one.phase == "aa" and planned[at - 1].phase != "aa"]
    assert len(starts) == 4  # two blocks of each, apart
    for start in starts:
        block = planned[start : start + 4]
        assert "".join(one.arm for one in block) in ("abba", "baab")
        assert planned[start + 4].pace_gbit_per_s == block[0].pace_gbit_per_s


def test_arms_that_differ_only_by_name_are_compared_with_themselves_once() -> None:
    comparisons = [factories.comparison("one"), factories.comparison("two", a=("zerocopy", "copy"))]
    plan = factories.plan(comparisons=[*comparisons, factories.comparison("three")], aa_pairs=9, repeats=8)
    pairs = {cell.name: cell.repeats.at_most for cell in schedule.aa_cells(plan)}
    assert pairs == {"aa-copy-copy-262144-unpaced": 6, "aa-zerocopy-copy-262144-unpaced": 4}


@pytest.mark.parametrize("name", ["virtual", "namespaces", "connectx3"])
def test_equal_arms_of_a_main_job_are_enough_to_be_called_different(name: str) -> None:
    """By throughput, too, which only the unpaced ones have."""
    plan = plans.load(name)
    pairs: dict[str, int] = {}
    for cell in schedule.aa_cells(plan):
        for metric in cell.metrics:
            pairs[metric] = pairs.get(metric, 0) + cell.repeats.at_most
    assert pairs["gbit_per_s"] >= FEWEST_PAIRS
    assert min(pairs.values()) >= FEWEST_PAIRS
    equal = sum(one.phase == "aa" for one in schedule.measurements(plan))
    assert equal <= 0.3 * len(schedule.measurements(plan))


def test_equal_arms_are_not_measured_where_nothing_could_be_called() -> None:
    assert schedule.aa_cells(factories.plan(aa_pairs=8, repeats=7)) == []
    assert schedule.aa_cells(factories.plan(aa_pairs=0, repeats=8)) == []
    assert schedule.aa_cells(kernels(aa_pairs=8, repeats=8)) == []


def test_bytes_are_checked_once_for_each_combination_of_modes() -> None:
    comparisons = [factories.comparison("one"), factories.comparison("two", b=("zerocopy", "map_once"))]
    plan = factories.plan(comparisons=comparisons, integrity_bytes=2**20, message_bytes=[4096, 8192])
    checks = schedule.checks(plan)
    assert [(one.receive_mode, one.send_mode) for one in checks] == [
        ("copy", "copy"),
        ("map_once", "copy"),
        ("map_once", "zerocopy"),
    ]
    assert {(one.bytes, one.message_bytes, one.pace_gbit_per_s) for one in checks} == {(2**20, 4096, None)}


def test_each_arm_is_profiled_once_if_asked() -> None:
    assert schedule.profiles(factories.plan()) == []
    planned = schedule.profiles(factories.plan(profile_event="cycles"))
    assert [(one.phase, one.arm) for one in planned] == [("profile", "a"), ("profile", "b")]


def test_cells_of_streams_and_ip_versions() -> None:
    plan = factories.plan(streams=[1, 4], ip_versions=[6, 4])
    assert [cell.name for cell in schedule.cells(plan)] == [
        "receive-262144-unpaced",
        "receive-262144-unpaced-ipv4",
        "receive-262144-unpaced-4streams",
        "receive-262144-unpaced-4streams-ipv4",
    ]


def test_cells_of_several_chunks_and_of_readers_that_keep() -> None:
    one = factories.plan(chunk_bytes=65536)
    assert one.chunk_bytes == [65536]
    assert not any("chunk" in cell.name for cell in schedule.cells(one))
    several = factories.plan(
        chunk_bytes=[65536, 1048576],
        integrity_bytes=4096,
        comparisons=[
            {
                "name": "keep",
                "a": {"receive_mode": "copy", "send_mode": "copy"},
                "b": {"receive_mode": "copy", "send_mode": "copy", "keep_bytes": 8388608},
                "metrics": {"gbit_per_s": []},
            }
        ],
    )
    found = [
        (cell.arms["a"].chunk_bytes, cell.arms["a"].keep_bytes, cell.arms["b"].keep_bytes)
        for cell in schedule.cells(several)
    ]
    assert set(found) == {(65536, 0, 8388608), (1048576, 0, 8388608)}
    names = [cell.name for cell in schedule.cells(several)]
    assert len(set(names)) == len(names) and all("-chunk" in name for name in names)
    assert {one.keep_bytes for one in schedule.checks(several)} == {0, 8388608}


def test_a_ping_pong_is_planned() -> None:
    plan = factories.plan(rpc_comparisons=[RPC_COMPARISON], repeats=2)
    *_, cell = schedule.cells(plan)
    assert cell.name == "rpc-100-200"
    assert [one.receive_mode for one in cell.arms.values()] == ["map_recvmsg", "map_copy_buffer"]
    assert all(one.rpc is not None and one.rpc.reply_bytes == 200 for one in cell.arms.values())
    assert {one.name for one in plan.select(modes=["map_recvmsg"]).rpc_comparisons} == {"rpc"}


def test_arms_are_what_the_comparison_says() -> None:
    for one in schedule.measurements(factories.plan()):
        wanted = ("copy", "copy") if one.arm == "a" else ("map_once", "copy")
        assert (one.receive_mode, one.send_mode) == wanted


def test_ids_are_unique_and_stable() -> None:
    plan = factories.plan(message_bytes=[4096, 262144], pace_gbit_per_s=[None, 0.1])
    ids = [one.id for one in schedule.measurements(plan)]
    assert len(set(ids)) == len(ids) == 2 * 2 * 2 * 6
    assert ids[0] in ("receive-4096-unpaced-01a", "receive-4096-unpaced-01b")
    assert "receive-262144-0.1gbit-06b" in ids
    assert ids == [one.id for one in schedule.measurements(Plan.model_validate_json(plan.model_dump_json()))]


def test_cells_are_every_size_at_every_pace() -> None:
    plan = factories.plan(
        message_bytes=[4096, 8192],
        pace_gbit_per_s=[None, 10],
        comparisons=[factories.comparison("one"), factories.comparison("two")],
    )
    names = [cell.name for cell in schedule.cells(plan)]
    assert len(set(names)) == len(names) == 8
    assert names[:2] == ["one-4096-unpaced", "one-4096-10gbit"]
    assert {one.comparison for one in schedule.measurements(plan)} == set(names)


def test_throughput_is_no_metric_at_a_fixed_pace() -> None:
    unpaced, paced = schedule.cells(factories.plan(pace_gbit_per_s=[None, 0.1]))
    assert list(unpaced.metrics) == ["receiver_usec_per_mib", "gbit_per_s"]
    assert list(paced.metrics) == ["receiver_usec_per_mib"]


def test_expected_time_grows_with_the_plan() -> None:
    short, long = factories.plan(repeats=2), factories.plan(repeats=4)
    assert schedule.expected_seconds(short, 0) == 4 * (2 + 1)
    assert schedule.expected_seconds(short, 0.5) == 4 * (2 + 1 + 0.5)
    assert schedule.expected_seconds(long, 0) == 8 * (2 + 1)


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
    chosen = factories.plan().select(
        message_bytes=[8192], pace_gbit_per_s=[None, 0.5], seconds=0.5, repeats=2
    )
    assert (chosen.message_bytes, chosen.pace_gbit_per_s) == ([8192], [None, 0.5])
    assert (chosen.seconds, chosen.repeats.at_least, chosen.repeats.at_most) == (0.5, 2, 2)
    assert len(schedule.measurements(chosen)) == 2 * 2 * 2


def test_select_nothing_changes_nothing() -> None:
    assert factories.plan().select() == factories.plan()


@pytest.mark.parametrize(
    ("selection", "word"),
    [
        ({"modes": ["map_twice"]}, "no comparison uses mode 'map_twice': copy, map_once"),
        ({"modes": ["zerocopy"]}, "no comparison uses mode 'zerocopy'"),
        ({"message_bytes": [1000]}, "message_bytes: 1000 is not a multiple of a page"),
        ({"message_bytes": [0]}, "message_bytes: 0 is not a multiple"),
        ({"pace_gbit_per_s": [-1.0]}, "pace_gbit_per_s: a pace is a positive number"),
        ({"seconds": 0}, "seconds: Input should be greater than 0"),
        ({"repeats": 0}, "repeats.at_least: Input should be greater than or equal to 1"),
        ({"streams": [0]}, "streams: 0 streams: 1 to 64 are possible"),
        ({"ip_versions": [5]}, "ip_versions"),
        ({"pace_gbit_per_s": [float("nan")]}, "pace_gbit_per_s"),
        ({"pace_gbit_per_s": [float("inf")]}, "pace_gbit_per_s"),
        ({"message_bytes": [4096, 4096]}, "message_bytes"),
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
    assert schedule.measurements(plan)


@pytest.mark.parametrize("name", ["virtual", "connectx3"])
def test_the_main_job_of_a_lab(name: str) -> None:
    """Receive copy against map_once and map_each, those two, send copy against zerocopy, enough to decide."""
    plan = plans.load(factories.lab(name).plan)
    arms = {
        (one.a.receive_mode, one.b.receive_mode, one.a.send_mode, one.b.send_mode) for one in plan.comparisons
    }
    assert ("copy", "map_once", "copy", "copy") in arms
    assert ("copy", "map_each", "copy", "copy") in arms
    assert ("map_each", "map_once", "copy", "copy") in arms
    assert ("copy", "copy", "copy", "zerocopy") in arms
    assert None in plan.pace_gbit_per_s
    assert any(pace is not None for pace in plan.pace_gbit_per_s)
    assert plan.repeats.at_least >= 6


MAP_EACH = {"receive_map_each", "mapping"}


@pytest.mark.parametrize("name", ["virtual", "connectx3"])
def test_the_lab_boots_what_its_main_job_measures(name: str) -> None:
    lab = factories.lab(name)
    assert lab.kernel_variant == "full"
    plan = plans.of_lab(lab)
    assert plan.left_out == {}
    assert {one.name for one in plan.comparisons} >= MAP_EACH


@pytest.mark.parametrize("name", ["virtual", "connectx3"])
def test_what_a_kernel_is_built_without_is_left_out_and_said(name: str) -> None:
    """With --kernel, and where an inventory names that kernel."""
    plan = plans.of_lab(factories.lab(name).with_kernel("stock"))
    assert plan.left_out == dict.fromkeys(
        sorted(MAP_EACH, reverse=True), "kernel stock is built without map_each (CONFIG_TCP_MMAP_CONSUME)"
    )
    assert {one.name for one in plan.comparisons} == {
        one.name for one in plans.load(factories.lab(name).plan).comparisons
    } - MAP_EACH
    assert plan.settled(6, 1).select(seconds=1).left_out == plan.left_out


def test_the_kernel_of_an_arm_counts_for_it(tmp_path: Path) -> None:
    mapping = {"receive_mode": "map_each", "send_mode": "copy"}
    series = {"name": "hook", "a": mapping | {"kernel": "mmap"}, "b": mapping | {"kernel": "mmap_hook"}}
    series |= {"metrics": {"gbit_per_s": []}}
    lab = factories.lab().model_copy(
        update={"plan": str(_file(tmp_path, comparisons=[series])), "kernel_variant": "stock"}
    )
    assert plans.of_lab(lab).left_out == {}
    arms = {"a": {"kernel": "mmap"}, "b": {"kernel": "stock"}}
    other = {"name": "other", **{arm: mapping | kernel for arm, kernel in arms.items()}}
    comparisons = [other | {"metrics": {"gbit_per_s": []}}, factories.comparison()]
    lab = factories.lab().model_copy(update={"plan": str(_file(tmp_path, comparisons=comparisons))})
    assert plans.of_lab(lab).left_out == {
        "other": "kernel stock is built without map_each (CONFIG_TCP_MMAP_CONSUME)"
    }


def test_a_plan_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    comparisons = [factories.comparison(b=("copy", "map_each"))]
    lab = factories.lab().model_copy(update={"plan": str(_file(tmp_path, comparisons=comparisons))})
    assert plans.of_lab(lab).comparisons
    with pytest.raises(
        UsageError, match=r"nothing to measure: kernel stock is built without map_each"
    ) as said:
        plans.of_lab(lab.with_kernel("stock"))
    assert "\n" not in str(said.value)


def test_what_is_left_out_is_not_declared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="left_out: is found by zclab"):
        plans.load(str(_file(tmp_path, left_out={"receive": "I say so"})))


def test_a_plan_that_was_asked_for_by_name_is_measured_as_it_is() -> None:
    assert {one.name for one in plans.load("virtual").comparisons} >= MAP_EACH


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
        ({"repeats": {"at_least": 9, "at_most": 8}}, "repeats"),
        ({"repeats": {"at_least": 8, "at_most": 9}}, "precision: missing"),
        ({"comparisons": [factories.comparison("aa")]}, "comparisons: names must differ"),
        ({"comparisons": [factories.comparison(metrics={"rpcs_per_s": []})]}, "comparisons.0: metrics"),
        ({"message_bytes": [4096, 4096]}, "message_bytes"),
        ({"pace_gbit_per_s": [None, None]}, "pace_gbit_per_s"),
        ({"comparisons": [factories.comparison(metrics={"gbit_per_s": ["F99"]})]}, "comparisons"),
        (
            {"rpc_comparisons": [{**RPC_COMPARISON, "metrics": {"rpcs_per_s": ["F9", "F99"]}}]},
            "rpc_comparisons: rpc: rpcs_per_s: docs/claims.yml has no claim F99",
        ),
    ],
)
def test_a_faulty_file_is_one_line(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    path = _file(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        plans.load(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: {key}")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "place", "new"),
    [
        ({"a_a_pairs": 8}, "a_a_pairs", "aa_pairs"),
        (
            {"comparisons": [{**factories.comparison(), "a": {**SLOWED, "planted_usec_per_mib": 5}}]},
            "comparisons.0.a.planted_usec_per_mib",
            "inject_usec_per_mib",
        ),
    ],
)
def test_an_old_key_is_refused_by_its_new_name(
    tmp_path: Path, changes: dict[str, Any], place: str, new: str
) -> None:
    path = _file(tmp_path, **changes)
    with pytest.raises(UsageError) as caught:
        plans.load(str(path))
    assert str(caught.value) == f"{path}: {place}: this key is now called {new}: rename it"


def test_a_plan_is_found_by_its_old_name() -> None:
    assert plans.load("designs") == plans.load("receive_designs")


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
