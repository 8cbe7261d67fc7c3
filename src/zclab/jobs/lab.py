# SPDX-License-Identifier: Apache-2.0
"""The main job, `make lab`: the virtual lab from nothing to a verdict, then what its kernel costs.

`python -m zclab.jobs.lab SINCE`: when the whole began, in seconds since 1970.
"""

from __future__ import annotations

import sys

from zclab.base import program
from zclab.base.errors import UsageError
from zclab.jobs.steps import Step, carry_out, run_command


def steps(since: str) -> list[Step]:
    """Return the commands of the job. The second boots the kernel that the first has built."""
    return [
        Step(f"zclab run --up --since {since}", "two virtual hosts, from nothing to a verdict"),
        Step("zclab run exact_short --lab exact", "what the same kernel costs in instructions of one guest"),
    ]


def main() -> int:
    """Carry out the job."""
    if len(sys.argv) != 2:
        raise UsageError("usage: python -m zclab.jobs.lab SINCE")
    return carry_out("lab", steps(sys.argv[1]), run_command, print)


if __name__ == "__main__":
    sys.exit(program.run("lab", main))
