# SPDX-License-Identifier: Apache-2.0
"""The cross-check: what other tools print, how they are started and ended, what the ratios say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests import factories

from zclab.analysis.statistics import Interval, decide
from zclab.base.errors import UsageError
from zclab.host.ssh import Completed
from zclab.lab.model import Crosscheck, Lab
from zclab.suites.crosscheck import document, programs, run
from zclab.suites.crosscheck.document import CrosscheckManifest, Mode, Observation
from zclab.suites.crosscheck.programs import Sample, Task, ToolError

COPY = Mode(receive_mode="copy", send_mode="copy")
MAP = Mode(receive_mode="map_once", send_mode="zerocopy")
BOUNDS = Crosscheck(throughput_at_least=0.98, receiver_usec_per_mib_at_most=1.02)

# ------------------------------------------------------------------------------------------ what tools print

TCP_MMAP = (
    "received 1024.5 MB (99.5 % mmap'ed) in 0.5 s, 17.1882 Gbit\n"
    "  cpu usage user:0.02 sys:0.08245, 100.049 usec per MB, 2051 c-switches\n"
)
STOPPED = Completed(124, "", "")


def iperf3_document(**end: Any) -> str:
    """Return what iperf3's receiver prints with -J, less what nobody reads."""
    figures = {
        "sum_sent": {"bytes": 0, "seconds": 2.0, "bits_per_second": 0},
        "sum_received": {"bytes": 2000 * 2**20, "seconds": 2.0, "bits_per_second": 8.388608e9},
        "cpu_utilization_percent": {"host_total": 25.0, "host_user": 1.0, "host_system": 24.0},
    }
    return json.dumps({"start": {"version": "iperf 3.12"}, "intervals": [], "end": figures | end})


def test_what_tcp_mmap_says() -> None:
    sample = programs.tcp_mmap_sample(Completed(None, TCP_MMAP, "listening 8787\n"), STOPPED)
    assert sample.gbit_per_s == 17.1882
    assert sample.receiver_usec_per_mib == pytest.approx(0.10245e6 / 1024.5)
    assert sample.mapped_fraction == pytest.approx(0.995)


def test_its_units_fit_each_other() -> None:
    """Its MB are 2^20 bytes, its Gbit are 10^9 bits a second: only so do its own figures agree."""
    sample = programs.tcp_mmap_sample(Completed(None, TCP_MMAP, ""), STOPPED)
    assert sample.gbit_per_s == pytest.approx(1024.5 * 2**20 * 8 / 0.5 / 1e9, rel=1e-4)


def test_tcp_mmap_may_have_sent_all_it_meant_to() -> None:
    assert programs.tcp_mmap_sample(Completed(None, TCP_MMAP, ""), Completed(0, "", ""))


@pytest.mark.parametrize(
    ("received", "sent", "reason"),
    [
        (Completed(None, "", "bind: Address already in use\n"), STOPPED, "left no result: bind: Address al"),
        (Completed(None, "", "listening 8787\n"), STOPPED, "left no result: no message"),
        (Completed(None, TCP_MMAP.splitlines()[0] + "\n", ""), STOPPED, "left no result"),
        (Completed(None, TCP_MMAP.replace("17.1882", "nan?"), ""), STOPPED, "makes no sense"),
        (Completed(None, TCP_MMAP.replace("1024.5", "0"), ""), STOPPED, "makes no sense"),
        (
            Completed(None, "", ""),
            Completed(1, "", "connect: Connection refused\n"),
            "status 1: connect: Con",
        ),
        (Completed(None, TCP_MMAP, ""), Completed(None, "", ""), "status None"),
    ],
)
def test_a_tcp_mmap_that_failed(received: Completed, sent: Completed, reason: str) -> None:
    with pytest.raises(ToolError, match=reason) as caught:
        programs.tcp_mmap_sample(received, sent)
    assert len(str(caught.value).splitlines()) == 1


def test_what_iperf3_says() -> None:
    sample = programs.iperf3_sample(Completed(None, iperf3_document(), ""), Completed(0, "{}", ""))
    assert sample.gbit_per_s == pytest.approx(8.388608)
    assert sample.receiver_usec_per_mib == pytest.approx(250.0)  # a quarter of 2 s for 2000 MiB
    assert sample.mapped_fraction is None


@pytest.mark.parametrize(
    ("received", "sent", "reason"),
    [
        ("", Completed(1, '{"error": "unable to connect to server: no"}', ""), "sender: unable to connect"),
        ('{"error": "the client has terminated"}', Completed(0, "{}", ""), "receiver: the client has"),
        ("", Completed(127, "", "env: 'iperf3': No such file\n"), "status 127: env: 'iperf3': No such file"),
        ("", Completed(0, "{}", ""), "left no result"),
        ("[1]", Completed(0, "{}", ""), "left no result"),
        (iperf3_document(sum_received={}), Completed(0, "{}", ""), "left no result"),
        (iperf3_document(sum_received=None), Completed(0, "{}", ""), "left no result"),
    ],
)
def test_an_iperf3_that_failed(received: str, sent: Completed, reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        programs.iperf3_sample(Completed(None, received, ""), sent)


# ----------------------------------------------------------------------------------- how they run and end


def task(lab: Lab, maps: bool = True) -> Task:
    sender, receiver = lab.pair()
    return Task(maps, "zerocopy" if maps else "copy", 524288, 2, sender, receiver)


def test_the_tools_get_the_same_task() -> None:
    lab = factories.lab("namespaces")
    sender, receiver = lab.pair()
    mapping, streaming = programs.OTHERS
    commands = [one(task(lab)) for one in (mapping.receive, mapping.send, streaming.receive, streaming.send)]
    for command, host in zip(commands, (receiver, sender, receiver, sender), strict=True):
        assert receiver.ip in command
        if host.traffic_cpus:
            assert f"taskset -c {host.traffic_cpus[0]} " in command
    assert all("524288" in command for command in (*commands[:2], commands[3]))
    assert " -z" in commands[0] and " -z" in commands[1]
    plain = task(lab, maps=False)
    assert " -z" not in mapping.receive(plain) + mapping.send(plain)
    assert "timeout --foreground -k 5 2 " in commands[1] and "-t 2 " in commands[3]
    assert f"-B {sender.ip}" in commands[3]


# ------------------------------------------------------------------------------------------ order and modes


def test_each_block_has_each_tool_once_in_an_order_drawn_from_the_seed() -> None:
    slots = run.order([COPY, MAP], 20, seed=4168)
    assert slots == run.order([COPY, MAP], 20, seed=4168)
    assert slots != run.order([COPY, MAP], 20, seed=4169)
    blocks = [slots[at : at + 3] for at in range(0, len(slots), 3)]
    assert len(blocks) == 40
    for block in blocks:
        assert {slot.tool for slot in block} == set(document.TOOLS)
        assert len({(slot.mode.receive_mode, slot.block) for slot in block}) == 1
    assert {block[0].tool for block in blocks} == set(document.TOOLS)


def test_a_mode_gets_the_sender_that_it_can_map() -> None:
    assert run.modes_of(factories.lab("namespaces"), None) == [COPY, MAP]
    plain = Mode(receive_mode="map_once", send_mode="copy")
    assert run.modes_of(factories.lab("virtual"), ["map_once"]) == [plain]


def test_modes_that_can_not_be_compared() -> None:
    lab = factories.lab("namespaces")
    with pytest.raises(UsageError, match="tcp_mmap has copy, map_once"):
        run.modes_of(lab, ["map_once_hybrid"])
    validity = lab.expectations.validity.model_copy(update={"mapped_fraction": {}})
    expected = lab.expectations.model_copy(update={"validity": validity})
    nothing = lab.model_copy(update={"expectations": expected})
    assert run.modes_of(nothing, None) == [COPY]
    with pytest.raises(UsageError, match="no mapped bytes of map_once"):
        run.modes_of(nothing, ["map_once"])


# ----------------------------------------------------------------------------------------- ratios and verdict


def settings(**changes: Any) -> CrosscheckManifest:
    data = factories.common(
        "crosscheck",
        lab="namespaces",
        accelerator=None,
        seed=1,
        repeats=10,
        seconds=1,
        chunk_bytes=524288,
        modes=[COPY],
        versions={"tcp_mmap": "debian linux-source-6.1 6.1.1"},
        bounds=BOUNDS,
        host_problems=[],
    )
    return CrosscheckManifest.model_validate(data | changes)


def observed(
    of: CrosscheckManifest, own_rate: float = 1.0, own_cost: float = 1.0, **others: float
) -> list[Observation]:
    """Return all observations of a cross-check in which every tool but zclab's does 10 Gbit/s at 100 µs/MiB.

    From block to block all drift alike by half, as a busy machine does; each varies by a percent besides.
    """
    made = []
    for slot in run.order(of.modes, of.repeats, of.seed):
        drift = 1 + slot.block / (2 * of.repeats)
        noise = 1 + 0.01 * ((slot.block * 7 + len(slot.tool) * 3) % 5 - 2) / 2
        own = slot.tool == "zclab"
        made.append(
            Observation(
                tool=slot.tool,
                mode=slot.mode,
                block=slot.block,
                position=slot.position,
                started_at="2026-01-01T00:00:00.000+00:00",
                sample=Sample(
                    gbit_per_s=10 * (own_rate if own else others.get(slot.tool, 1.0)) / drift * noise,
                    receiver_usec_per_mib=100 * (own_cost if own else 1.0) * drift / noise,
                    mapped_fraction=None if slot.tool == "iperf3" else 0.0,
                ),
                problems=[],
                receiver=None,
                sender=None,
            )
        )
    return made


def verdicts(of: CrosscheckManifest, observations: list[Observation]) -> dict[tuple[str, str], str | None]:
    (mode,) = document.judge(of, observations).modes
    return {(one.against, one.metric): one.verdict for one in mode.ratios}


def test_as_good_as_the_others_passes() -> None:
    judged = document.judge(settings(), observed(settings()))
    assert (judged.verdict, judged.exit_code, judged.problems) == ("pass", 0, [])
    ratio = judged.modes[0].ratios[0]
    assert (ratio.against, ratio.metric, ratio.n) == ("tcp_mmap", "gbit_per_s", 10)
    assert ratio.ratio_median == pytest.approx(1, abs=0.01)
    assert [one.tool for one in judged.modes[0].tools] == ["zclab", "tcp_mmap", "iperf3"]
    assert len(judged.modes[0].tools[0].gbit_per_s) == 10
    assert document.CrosscheckDocument.model_validate_json(judged.model_dump_json()) == judged


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"own_rate": 0.95}, {("tcp_mmap", "gbit_per_s"), ("iperf3", "gbit_per_s")}),
        ({"iperf3": 1.05}, {("iperf3", "gbit_per_s")}),
        ({"tcp_mmap": 1.05}, {("tcp_mmap", "gbit_per_s")}),
        ({"own_cost": 1.05}, {("tcp_mmap", "receiver_usec_per_mib")}),
    ],
)
def test_a_planted_slow_arm_is_caught(changes: dict[str, float], failed: set[tuple[str, str]]) -> None:
    found = verdicts(settings(), observed(settings(), **changes))
    assert {key for key, verdict in found.items() if verdict == "fail"} == failed
    assert document.judge(settings(), observed(settings(), **changes)).exit_code == 1


def test_better_never_fails() -> None:
    judged = document.judge(settings(), observed(settings(), own_rate=2.0, own_cost=0.3))
    assert judged.verdict == "pass"


def test_too_few_blocks_are_inconclusive() -> None:
    few = settings(repeats=3)
    judged = document.judge(few, observed(few))
    assert (judged.verdict, judged.exit_code) == ("inconclusive", 3)


@pytest.mark.parametrize(
    ("interval", "bounds", "outcome"),
    [
        (Interval(0.99, 0.90, 1.10), (0.98, None), "pass"),
        (Interval(0.97, 0.90, 0.99), (0.98, None), "inconclusive"),
        (Interval(0.97, 0.96, 0.979), (0.98, None), "fail"),
        (Interval(1.01, 0.90, 1.10), (None, 1.02), "pass"),
        (Interval(1.03, 1.01, 1.10), (None, 1.02), "inconclusive"),
        (Interval(1.03, 1.021, 1.10), (None, 1.02), "fail"),
        (Interval(1.0, None, None), (0.98, None), "inconclusive"),
    ],
)
def test_the_median_decides(
    interval: Interval, bounds: tuple[float | None, float | None], outcome: str
) -> None:
    assert decide(interval, *bounds, passes_by_estimate=True) == outcome


def test_a_bound_is_needed() -> None:
    with pytest.raises(ValueError, match="a bound needs"):
        decide(Interval(1, 1, 1), None, None)


def test_what_is_not_gated_says_why() -> None:
    def reasons(of: CrosscheckManifest) -> dict[tuple[str, str], str | None]:
        (mode,) = document.judge(of, observed(of, own_rate=0.5, own_cost=2)).modes
        return {(one.against, one.metric): one.not_gated_because for one in mode.ratios}

    cpu = ("tcp_mmap", "receiver_usec_per_mib")
    assert reasons(settings())[cpu] is None
    assert reasons(settings(emulated=True))[cpu] == "emulated CPU"
    assert reasons(settings(bounds=Crosscheck()))[cpu] == "not declared by the lab"
    assert reasons(settings(modes=[MAP]))[("iperf3", "gbit_per_s")] == "iperf3 only copies"
    shown = settings(bounds=Crosscheck())
    assert document.judge(shown, observed(shown, own_rate=0.5)).verdict == "pass"


def test_a_tool_that_failed_makes_it_invalid() -> None:
    made = observed(settings())
    made[4] = made[4].model_copy(update={"sample": None, "problems": ["tcp_mmap: left no result"]})
    judged = document.judge(settings(), made)
    assert (judged.verdict, judged.exit_code) == ("invalid", 4)
    assert judged.problems == [f"copy, block 2, {made[4].tool}: tcp_mmap: left no result"]


def test_a_tool_that_always_failed_has_no_ratio() -> None:
    made = [
        one.model_copy(update={"sample": None, "problems": ["gone"]}) if one.tool == "tcp_mmap" else one
        for one in observed(settings())
    ]
    assert verdicts(settings(), made)[("tcp_mmap", "gbit_per_s")] == "invalid"


def test_missing_executions_make_it_invalid() -> None:
    judged = document.judge(settings(), observed(settings())[:-1])
    assert judged.problems == ["1 of 30 executions were not made"]
    assert judged.verdict == "invalid"


def test_a_kernel_report_fails_it() -> None:
    loud = settings(console_reports={"receiver1": ["[ 1.0] BUG: no"]})
    assert document.judge(loud, observed(loud)).verdict == "fail"


def test_unfit_hosts_make_it_invalid() -> None:
    judged = document.judge(settings(host_problems=["receiver1: MTU is 1500"]), [])
    assert judged.problems == ["receiver1: MTU is 1500"]
    assert judged.exit_code == 4
