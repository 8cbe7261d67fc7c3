# SPDX-License-Identifier: Apache-2.0
"""The steps that take too long for every day, on virtual hosts: `python -m zclab.jobs.nightly`."""

from __future__ import annotations

import sys

from zclab.base import program
from zclab.jobs.steps import Step, carry_out, run_command

_DESIGNS_REASON = "map_each, map_once and map_once_hybrid compared for two kinds of readers (claim M14)"
STEPS = (
    Step("zclab run --up", "the lab's own plan"),
    Step("zclab lockdep --kernel mmap-debug", "the series' first patch takes the locks in the wrong order"),
    Step("zclab lockdep --kernel mmap_hook-debug", "its second patch takes them in the right order"),
    Step("zclab lockdep --kernel full-debug", "and so does the whole series"),
    Step("zclab conformance --kernel stock", "the rules of each interface on the distribution's source"),
    Step("zclab conformance --kernel full", "the rules of each interface on the series"),
    Step("zclab conformance --kernel full-6.12", "the rules of each interface on the series for 6.12"),
    Step("zclab conformance --diff stock full", "what the series changes"),
    Step("zclab selftests --diff stock full", "what the series changes in the kernel's own tests"),
    Step("zclab stress --kernel full-debug --seconds 600", "locks and memory checked under stress"),
    Step("zclab stress --kernel full-leaks --seconds 600", "memory that is lost under stress"),
    Step("zclab run receive_designs --up --kernel full", _DESIGNS_REASON),
    Step("zclab up", "back to the kernel that the lab declares"),
    Step("zclab run --lab exact", "what the series and each receive mode cost in instructions of one guest"),
    Step("zclab run --lab exact-e1000e", "the same with a driver's receive path"),
    Step("zclab run exact_sizes --lab exact", "each receive mode by message size"),
    Step("zclab run exact_rpc --lab exact", "small RPCs, received in three ways"),
    Step("zclab down", "its hosts are not needed any more", cleanup=True),
    Step("python -m zclab.jobs.other_release", "`make lab` as the first command on the other Debian release"),
    Step("pytest -m nightly tests", "the project's own tests that take too long for CI"),
)


def main() -> int:
    """Carry out the night."""
    return program.run("nightly", lambda: carry_out("nightly", STEPS, run_command, print))


if __name__ == "__main__":
    sys.exit(main())
