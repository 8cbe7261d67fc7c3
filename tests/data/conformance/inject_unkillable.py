# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: a test case whose process SIGKILL does not end.

Another process traces it and stops it on its way out, which stands for a kernel that never lets it go.
"""

from __future__ import annotations

import ctypes
import os
import time

from .. import table
from ..table import Bench, Cases, Table

PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x4206, 0x40
#: How long the other process holds it: longer than it is waited for.
HELD_SECONDS = 4.0
table.CASE_SECONDS = 1.0
table.KILLED_SECONDS = 1.0
CASES = Cases()


@CASES.add("it cannot be killed", "as expected", link="none")
def unkillable(bench: Bench) -> str:
    traced = os.getpid()
    if os.fork() == 0:
        os.setsid()  # so that it is not killed with its group
        options = ctypes.c_void_p(PTRACE_O_TRACEEXIT)
        refused = ctypes.CDLL(None).ptrace(PTRACE_SEIZE, traced, None, options)
        time.sleep(0 if refused else HELD_SECONDS)
        os._exit(0)
    time.sleep(1000)
    return "as expected"


@CASES.add("the test case after", "as expected", link="none")
def after(bench: Bench) -> str:
    return "as expected"


TABLE = Table("inject_unkillable", CASES)
