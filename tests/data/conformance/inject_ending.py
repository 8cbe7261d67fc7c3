# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: a row takes the probe with it."""

from __future__ import annotations

import os
import signal

from ..table import Bench, Cases, Table

CASES = Cases()


@CASES.add("the row before", "as expected", link="none")
def before(bench: Bench) -> str:
    return "as expected"


@CASES.add("it takes the probe with it", "as expected", link="none")
def fatal(bench: Bench) -> str:
    os.kill(os.getppid(), signal.SIGKILL)
    return "as expected"


@CASES.add("the row after", "as expected", link="none")
def after(bench: Bench) -> str:
    return "as expected"


TABLE = Table("inject_ending", CASES)
