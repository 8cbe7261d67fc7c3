# SPDX-License-Identifier: Apache-2.0
"""Stress: workers that do random operations on sockets and mappings, and how memory use changes.

Worker i of a run with seed S does what a run with --seed S+i --workers 1 does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import select
import signal
import socket
import struct
import threading
import time
import traceback
from typing import Any, NamedTuple, NoReturn

from ..processes import KILLED_SECONDS, states, wait_for
from ..sysctl import CONSUME
from ..table import NotHereError
from . import memory
from .worker import OPERATIONS, Tally, Worker, prepare

#: Seconds that a worker may take to end after its time: checks, children, the longest operation.
_GRACE_SECONDS = 60.0
#: Rounds of the same work before the one that counts: the first fills caches, the others show what varies.
_CALIBRATIONS = 4
_LONGEST_CALIBRATION = 10.0
_MISMATCHES = 20
_ALIVE_SECONDS = 5.0
_PROGRESS = struct.Struct("QH")


class Round(NamedTuple):
    """What all workers of a round did; `problems` are of those that did not end, or not as they should."""

    tally: Tally
    problems: list[str]
    stuck: bool


def main(arguments: list[str]) -> None:
    """Read the command line, do it, print one JSON document; with --watch-stdin lines before it."""
    parser = argparse.ArgumentParser(prog="stress", description="Random operations on sockets and mappings.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the round that counts is")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--ops", help=f"only these kinds of operations: {','.join(OPERATIONS)}")
    parser.add_argument("--no-memory", action="store_true", help="do not watch the memory")
    parser.add_argument(
        "--watch-stdin", action="store_true", help="end when stdin does, and print a line every few seconds"
    )
    options = parser.parse_args(arguments)
    kinds = options.ops.split(",") if options.ops else None
    if unknown := [kind for kind in kinds or [] if kind not in OPERATIONS]:
        parser.error(f"no operation is called {unknown[0]}")
    if options.watch_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
        threading.Thread(target=_print_that_it_runs, daemon=True).start()
    found = stress(options.seconds, options.seed, options.workers, kinds, not options.no_memory)
    print(json.dumps(found), flush=True)


def stress(
    seconds: float, seed: int, workers: int, kinds: list[str] | None, watch_memory: bool
) -> dict[str, Any]:
    """Have workers do random operations; return what they did and how memory use changed."""
    if watch_memory:
        memory.own_mounts()
    watches_leaks = watch_memory and memory.kmemleak_begin()
    rounds, figures = [], []
    lengths = [min(seconds / _CALIBRATIONS, _LONGEST_CALIBRATION)] * _CALIBRATIONS if watch_memory else []
    for length in [*lengths, seconds]:
        rounds.append(_round(length, seed, workers, kinds))
        if rounds[-1].stuck:
            break  # memory would not come back, and nothing more can be learned
        if watch_memory:
            figures.append(memory.settled())
    mismatches = [one for done in rounds for one in done.tally.mismatches]
    problems = [problem for done in rounds for problem in done.problems]
    stuck = rounds[-1].stuck
    found = None
    if watches_leaks and not stuck:
        try:
            found = memory.kmemleak_found()._asdict()
        except OSError as error:
            problems.append(f"kmemleak does not scan any more: {error.strerror}")
    return {
        "seed": seed,
        "seconds": seconds,
        "workers": workers,
        "kernel_release": os.uname().release,
        "consumes": CONSUME.exists(),
        "families": _families(),
        **vars(rounds[-1].tally),
        "mismatch_count": len(mismatches),
        "mismatches": mismatches[:_MISMATCHES],
        "problems": problems,
        "stuck": stuck,
        "memory": _judged(figures[1:-1], figures[-1]) if watch_memory and not stuck else None,
        "kmemleak": found,
    }


def _judged(calibrations: list[memory.Figures], after: memory.Figures) -> dict[str, Any]:
    """Compare the memory's figures with those of the rounds before."""
    allowed = memory.tolerances(calibrations)
    before = calibrations[-1]
    return {
        "before": before,
        "after": after,
        "tolerance": allowed,
        "grown": memory.grown(before, after, allowed),
    }


def _families() -> list[int]:
    """Return the address families that this kernel has."""
    families = [4]
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
        families.append(6)
    return families


def _round(seconds: float, seed: int, workers: int, kinds: list[str] | None) -> Round:
    """Run the workers side by side, to their end or until they hang."""
    running = [_Running(seed + number, seconds, kinds) for number in range(workers)]
    deadline = time.monotonic() + seconds + _GRACE_SECONDS
    tally, problems = Tally(), []
    for one in running:
        ended = one.end(deadline)
        if isinstance(ended, str):
            problems.append(ended)
        else:
            tally.add(one.seed, ended)
    return Round(tally, problems, any(one.stuck for one in running))


class _Running:
    """A worker in a process of its own, which reports its progress through shared memory."""

    def __init__(self, seed: int, seconds: float, kinds: list[str] | None) -> None:
        self.seed = seed
        self.stuck = False  # it cannot be killed
        self._names = ["begin", *OPERATIONS, "end"]
        self._progress = mmap.mmap(-1, mmap.PAGESIZE)
        self._reader, writer = os.pipe()
        self._parent = os.getpid()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._reader)
            os._exit(self._as_worker(writer, seconds, kinds))
        os.close(writer)

    def _as_worker(self, writer: int, seconds: float, kinds: list[str] | None) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            prepare(self._parent)
            tally = Worker(self.seed, _families(), kinds, self._at).run(time.monotonic() + seconds)
            result: dict[str, Any] = vars(tally)
        except NotHereError as reason:
            result = {"failed": str(reason)}
        except BaseException:
            result = {"failed": traceback.format_exc(limit=-3)}
        with os.fdopen(writer, "w", encoding="utf-8") as file:
            json.dump(result, file)
        return 0

    def _at(self, number: int, kind: str) -> None:
        _PROGRESS.pack_into(self._progress, 0, number, self._names.index(kind))

    def end(self, deadline: float) -> dict[str, Any] | str:
        """Return the worker's tally, or what is wrong with it; one that cannot be killed is left alone."""
        output = b""
        while select.select([self._reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(self._reader, 1 << 16)
            if not part:
                break
            output += part
        else:
            os.kill(self._process, signal.SIGKILL)
        os.close(self._reader)
        status = wait_for(self._process, KILLED_SECONDS if time.monotonic() >= deadline else _GRACE_SECONDS)
        number, kind = _PROGRESS.unpack_from(self._progress, 0)
        where = f"worker with seed {self.seed}: at operation {number}, {self._names[kind]}"
        if status is None:
            self.stuck = True
            return f"{where}: hangs and cannot be killed: {states(self._process)}"
        if not output:
            return (
                f"{where}: killed by signal {os.WTERMSIG(status)}"
                if os.WIFSIGNALED(status)
                else f"{where}: ended"
            )
        try:
            tally: dict[str, Any] = json.loads(output)
        except ValueError:
            return f"{where}: did not end in time"
        return f"{where}: {tally['failed']}" if "failed" in tally else tally


def _print_that_it_runs() -> NoReturn:
    while True:
        print(json.dumps({"goes_on": time.time()}), flush=True)
        time.sleep(_ALIVE_SECONDS)


def _end_with_stdin() -> NoReturn:
    # Not by Python's own stdin, whose lock this thread would still hold when the program ends by itself.
    while os.read(0, 1 << 16):
        pass
    os._exit(1)  # the workers are killed by the kernel
