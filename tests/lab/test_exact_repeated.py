# SPDX-License-Identifier: Apache-2.0
"""Real exact guests again: the same bytes whatever happens around them, others for one more instruction."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests import exact_lab, exact_process
from tests.exact_lab import command, transfer
from tests.exact_process import LIMITS

from zclab.backends.exact import emulator, steps
from zclab.backends.exact.guest import execute
from zclab.backends.exact.steps import Link, Step
from zclab.backends.virtual.accel import EMULATOR
from zclab.base.paths import cache_dir
from zclab.traffic.command import TRAFFIC

pytestmark = [pytest.mark.kernel, pytest.mark.nightly]

#: Executions beside the first one. Twenty were the same when the lab was made.
REPETITIONS = 4
MIB = 16
#: The mark that a receiver executes when its window opens: a no-op of 8 bytes. And two no-ops of 4.
MARK, TWO_NO_OPS = b"\x0f\x1f\x84\x00\x01\x62\x6c\x7a", b"\x0f\x1f\x40\x00" * 2


def transfers(link: Link) -> list[Step]:
    send_mode = "zerocopy" if link == "veth" else "copy"
    return [
        *exact_lab.setup(link),
        *transfer("copy", "copy", send_mode, MIB),
        *transfer("map_once", "map_once", send_mode, MIB),
    ]


def elsewhere(link: Link, directory: Path, count: int) -> list[str]:
    """Return the digests of executions by other processes, elsewhere, half of them beside a hog."""
    guest, listed = exact_lab.guest(link), transfers(link)
    cpus, found = sorted(os.sched_getaffinity(0)), []
    for number in range(count):
        here = directory / f"directory {number}" / ("deeper/" * number)
        (here / "tmp").mkdir(parents=True)
        pinned = ["taskset", "--cpu-list", str(cpus[number % len(cpus)])]
        variables = {"TMPDIR": str(here / "tmp"), "HOME": str(here), "LANG": f"xx_{number}"}
        variables["ZCLAB_CACHE"] = str(cache_dir())
        with exact_process.hog(pinned) if number % 2 else contextlib.nullcontext():
            process = exact_process.start(
                guest, listed, here / "guest", cwd=here, variables=variables, prefix=pinned
            )
            found.append(exact_process.printed(process))
    return found


@pytest.mark.parametrize("link", ["veth", "e1000e"])
def test_every_execution_is_the_same_and_one_more_instruction_is_not(link: Link, tmp_path: Path) -> None:
    guest, listed = exact_lab.guest(link), transfers(link)
    first = execute(guest, listed, tmp_path / "first", LIMITS, print)
    steps.check_setup(first.outputs)
    assert {output.status for output in first.outputs.values()} == {0}
    assert set(elsewhere(link, tmp_path, REPETITIONS)) == {first.digest}
    # Planted: a tool of the same length, every other instruction of which is in the same place.
    tool = guest.files[TRAFFIC].read_bytes()
    assert tool.count(MARK) == 1
    longer = tmp_path / "zclab-traffic"
    longer.write_bytes(tool.replace(MARK, TWO_NO_OPS))
    planted = guest.model_copy(update={"files": {TRAFFIC: longer}})
    assert execute(planted, listed, tmp_path / "planted", LIMITS).digest != first.digest
    other = guest.model_copy(update={"seed": 2})
    assert execute(other, listed, tmp_path / "seed", LIMITS).digest != first.digest


def test_a_pause_and_a_jump_of_the_clock_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, listed = exact_lab.guest("veth"), transfers("veth")
    first = execute(guest, listed, tmp_path / "first", LIMITS, print)
    process = exact_process.start(guest, listed, tmp_path / "stopped")
    # In the middle of a transfer.
    stopped = exact_process.emulator_of(tmp_path / "stopped", "start copy/sender")
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(5)
    os.kill(stopped, signal.SIGCONT)
    assert exact_process.printed(process) == first.digest

    library, jumped, wrapper = tmp_path / "jumping_clock.so", tmp_path / "jumped", tmp_path / "emulator"
    source = Path(__file__).parent.parent / "data" / "jumping_clock.c"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)
    wrapper.write_text(f'#!/bin/sh\nJUMPED={jumped} LD_PRELOAD={library} exec {EMULATOR} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(emulator, "EMULATOR", str(wrapper))
    done = execute(guest, listed, tmp_path / "an hour later", LIMITS)
    assert jumped.exists() and done.digest == first.digest


def test_no_emulator_outlives_its_controller_or_its_limit(tmp_path: Path) -> None:
    guest, listed = exact_lab.guest("veth"), command("spin", "while :; do :; done")
    for number in (signal.SIGKILL, signal.SIGINT):
        directory = tmp_path / f"ended-{number}"
        process = exact_process.start(guest, listed, directory)
        exact_process.emulator_of(directory)
        process.send_signal(number)
        process.wait()
        exact_process.until_gone(directory)
    # Stopped for good: no CPU limit ends it.
    process = exact_process.start(guest, listed, tmp_path / "stopped", real_seconds=20)
    os.kill(exact_process.emulator_of(tmp_path / "stopped"), signal.SIGSTOP)
    assert exact_process.printed(process).startswith("exact guest: it took more than 20 s: see ")
    exact_process.until_gone(tmp_path)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (full := tmp_path / "full").mkdir()
    # The initramfs fits; what is printed does not.
    mounted = f'mount -t tmpfs -o size=12m tmpfs {full} && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mounted, "sh"]
    listed = command("print", "head -c 400000 /dev/zero")
    process = exact_process.start(exact_lab.guest("veth"), listed, full / "guest", prefix=prefix)
    text = exact_process.printed(process)
    assert "the disk ran full" in text and "\n" not in text
    exact_process.until_gone(tmp_path)
