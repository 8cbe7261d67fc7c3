# SPDX-License-Identifier: Apache-2.0
"""Real exact guests: the same bytes each time, what they cost, and what happens when they go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests import exact_lab, exact_process
from tests.exact_lab import command, transfer
from tests.exact_process import LIMITS

from zclab.backends.exact import kernel, steps
from zclab.backends.exact.emulator import Limits
from zclab.backends.exact.guest import Execution, execute
from zclab.backends.exact.steps import Link, Step
from zclab.base.errors import InvalidError, LabError

pytestmark = pytest.mark.kernel

#: Of CPU, for a guest that boots, is set up, and makes a copy and a mapped transfer of 64 MiB.
CPU_SECONDS = 15


def transfers(link: Link, mib: int = 64) -> list[Step]:
    # Of a veth pair only what a zerocopy sender sent can be mapped.
    send_mode = "zerocopy" if link == "veth" else "copy"
    return [
        *exact_lab.setup(link),
        *command("idle", "grep idle_sleeptime /proc/timer_list"),
        *transfer("copy", "copy", send_mode, mib),
        *transfer("map_once", "map_once", send_mode, mib),
    ]


def check_transfers(done: Execution, mib: int = 64) -> None:
    steps.check_setup(done.outputs)
    for name in ("copy", "map_once"):
        for end in ("sender", "receiver"):
            output = done.outputs[f"{name}/{end}"]
            assert output.status == 0, output
        total = json.loads(done.outputs[f"{name}/receiver"].stdout)["total"]
        assert total["bytes"] == mib << 20
        share = total["mapped_bytes"] / total["bytes"]
        assert share == 0 if name == "copy" else share > 0.99


def test_a_guest_maps_what_it_receives_within_its_cost(tmp_path: Path) -> None:
    guest, directory = exact_lab.guest("veth"), tmp_path / "guest"
    with exact_process.costs(directory) as costs:
        done = execute(guest, transfers("veth"), directory, LIMITS, print)
    check_transfers(done)
    for step, seconds in costs.items():
        print(f"{seconds:6.2f} s of CPU: {step}")
    assert {"boot", "copy/sender", "map_once/sender"} <= set(costs)
    assert sum(costs.values()) == pytest.approx(done.cpu_seconds, abs=1)
    assert "idle_sleeptime" in done.outputs["idle"].stdout
    assert done.cpu_seconds < CPU_SECONDS
    assert sorted(path.name for path in (tmp_path / "guest").iterdir()) == ["console.log", "results.jsonl"]


@pytest.mark.nightly
def test_no_transfer_falls_into_a_second_mode(tmp_path: Path) -> None:
    """Seeds differ by little; the end of address detection within a transfer made 1.5 to 2.5 %."""
    listed = [
        *exact_lab.setup("veth"),
        *transfer("copy", "copy", "zerocopy", 64),
        *[step for number in range(3) for step in transfer(f"map{number}", "map_once", "zerocopy", 64)],
    ]
    seconds = []
    for seed in range(1, 9):
        done = execute(exact_lab.guest("veth", seed), listed, tmp_path / str(seed), LIMITS)
        for number in range(3):
            document = json.loads(done.outputs[f"map{number}/receiver"].stdout)
            seconds.append(document["window"]["seconds"])
    assert max(seconds) / min(seconds) < 1.007


def quick(tmp_path: Path, listed: list[Step], limits: Limits = LIMITS, **changes: object) -> Execution:
    return execute(exact_lab.guest("veth").model_copy(update=changes), listed, tmp_path / "guest", limits)


@pytest.mark.nightly
def test_a_kernel_that_a_guest_cannot_boot_is_refused_before_it_is_compiled(tmp_path: Path) -> None:
    good = exact_lab.declared().kernel_variants["stock"]
    without = tmp_path / "without.config"
    without.write_text("# SPDX-License-Identifier: Apache-2.0\n# CONFIG_VETH is not set\n")
    config = good.config.model_copy(update={"fragments": (*good.config.fragments, str(without))})
    lines: list[str] = []
    with pytest.raises(
        InvalidError, match="kernel variant x: CONFIG_VETH is n, and a link of an exact guest"
    ):
        kernel.ensure("x", good.model_copy(update={"config": config}), lines.append)
    assert not any("compile" in line for line in lines)


@pytest.mark.nightly
def test_a_guest_for_probes_has_python(tmp_path: Path) -> None:
    modules = "ctypes, hashlib, json, mmap, multiprocessing, platform, resource, select, socket, tempfile"
    listed = command("python", f"python3 -c 'import {modules}; print(socket.has_ipv6, json.dumps([1]))'")
    done = quick(tmp_path, listed, programs="probes").outputs["python"]
    assert (done.status, done.stdout, done.stderr) == (0, "True [1]\n", "")


@pytest.mark.nightly
def test_init_carries_out_each_kind_of_step(tmp_path: Path) -> None:
    listed = [
        Step(do="start", name="talk", command="echo a 12; read -r x; echo got $x; echo err >&2; kill -9 $$"),
        Step(do="await", name="talk", stream="stdout", prefix="a "),
        *command("port", "printf '%s\\t\\001\"' {port} {port}"),
        Step(do="write", name="talk", prefix="a line"),
        Step(do="end", name="talk"),
        Step(do="start", name="slow", command="exec sleep 1000"),
        Step(do="end", name="slow", seconds=5),
        Step(do="start", name="mute", command="exec sleep 1000"),
        Step(do="await", name="mute", stream="stdout", prefix="x", seconds=5),
        Step(do="end", name="mute"),
        *command("limit", "ulimit -l"),
        *command("status", "exit 7"),
        Step(do="start", name="left", command="exec sleep 1000"),
    ]
    done = quick(tmp_path, listed, locked_memory_kib=4096).outputs
    assert (done["talk"].status, done["talk"].stdout, done["talk"].stderr) == (
        137,
        "a 12\ngot a line\n",
        "err\n",
    )
    assert done["port"].stdout == '12\t\001"12\t\001"' and done["limit"].stdout == "4096\n"
    assert [done[name].status for name in ("slow", "mute", "status", "left")] == [None, None, 7, None]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (
            command("crash", "echo c >/proc/sysrq-trigger"),
            r"Kernel panic - not syncing: sysrq.* its console ends",
        ),
        (command("spin", "while :; do :; done"), r"it used more than 10 s of CPU"),
        (command("off", "echo b >/proc/sysrq-trigger"), r"it ended before its list did"),
    ],
)
def test_a_guest_that_goes_wrong_is_one_error(tmp_path: Path, listed: list[Step], words: str) -> None:
    with pytest.raises(LabError, match=words) as error:
        quick(tmp_path, listed, Limits(cpu_seconds=10, real_seconds=600))
    assert "\n" not in str(error.value)
    exact_process.until_gone(tmp_path)
