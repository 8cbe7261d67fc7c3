# SPDX-License-Identifier: Apache-2.0
"""The steps that take too long for every day: `python -m zclab.jobs.nightly`."""

from __future__ import annotations

import sys

from zclab.base import program
from zclab.jobs.steps import Step, carry_out, run_command

_DESIGNS_REASON = "map_each, map_once and map_once_hybrid compared for two kinds of readers (claim M14)"
#: Each host of this lab has two CPUs.
_SMP = "--lab virtual-smp"
#: Kernels whose interfaces are tested, and what each is.
_KERNELS = {"stock": "the distribution's source", "full": "the series", "full-6.12": "the series for 6.12"}
STEPS = (
    Step("zclab run --up", "the lab's own plan"),
    Step("zclab selftests --diff stock full", "what the series changes in the kernel's own tests"),
    Step("zclab down", "its hosts are not needed any more", cleanup=True),
    Step(f"zclab up {_SMP}", "what follows may show only where two CPUs run a kernel"),
    Step(
        f"zclab lockdep {_SMP} --kernel mmap-debug",
        "the series' first patch takes the locks in the wrong order",
    ),
    Step(f"zclab lockdep {_SMP} --kernel mmap_hook-debug", "its second patch takes them in the right order"),
    Step(f"zclab lockdep {_SMP} --kernel full-debug", "and so does the whole series"),
    *(
        Step(f"zclab conformance {_SMP} --kernel {kernel}", f"the rules of each interface on {of}, two hosts")
        for kernel, of in _KERNELS.items()
    ),
    Step(f"zclab conformance {_SMP} --diff stock full", "what the series changes there"),
    Step(f"zclab stress {_SMP} --kernel full-debug --seconds 600", "locks and memory checked under stress"),
    Step(f"zclab stress {_SMP} --kernel full-leaks --seconds 600", "memory that is lost under stress"),
    Step(f"zclab down {_SMP}", "its hosts are not needed any more", cleanup=True),
    *(
        Step(
            f"zclab conformance --lab exact-e1000e --kernel {kernel}",
            f"the rules of each interface on {of}, one guest",
        )
        for kernel, of in _KERNELS.items()
    ),
    Step("zclab conformance --lab exact-e1000e --diff stock full", "what the series changes there"),
    Step("zclab stress --lab exact --kernel full", "operations whose failure can be repeated byte by byte"),
    Step("zclab run --lab exact", "what the series and each receive mode cost in instructions of one guest"),
    Step("zclab run --lab exact-e1000e", "the same with a driver's receive path"),
    Step("zclab run exact_sizes --lab exact", "each receive mode by message size"),
    Step("zclab run exact_rpc --lab exact", "small RPCs, received in three ways"),
    Step("zclab run receive_designs", _DESIGNS_REASON),
    Step("python -m zclab.jobs.other_release", "`make lab` as the first command on the other Debian release"),
    Step("pytest -m nightly tests", "the project's own tests that take too long for CI"),
)


def main() -> int:
    """Carry out the night."""
    return program.run("nightly", lambda: carry_out("nightly", STEPS, run_command, print))


if __name__ == "__main__":
    sys.exit(main())
