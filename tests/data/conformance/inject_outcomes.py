# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: a row of each kind of end."""

from __future__ import annotations

import os
import signal
import time

from .. import table
from ..sockets import pair
from ..table import Bench, Cases, NotHereError, Table

table.CASE_SECONDS = 1.0
CASES = Cases()


@CASES.add("a right row", "as expected", "S1", link="none")
def right(bench: Bench) -> str:
    return "as expected"


@CASES.add("a wrong row", "as expected", "S2", document="as written", link="none")
def wrong(bench: Bench) -> str:
    return f"something else over IPv{bench.family}"


@CASES.add("what changed with a release", {"0": "old", "6.1": "new", "6.10": "newest"}, link="none")
def changed(bench: Bench) -> str:
    return "new"


@CASES.add("it can not be tried", "as expected", link="none")
def not_here(bench: Bench) -> str:
    raise NotHereError("no such thing")


@CASES.add("it raises", "as expected", link="none")
def raising(bench: Bench) -> str:
    raise ValueError("what")


@CASES.add("it is killed", "as expected", link="none")
def killed(bench: Bench) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "as expected"


@CASES.add("it never ends", "as expected", link="none")
def hanging(bench: Bench) -> str:
    time.sleep(1000)
    return "as expected"


@CASES.add("it prints", "as expected", link="none")
def printing(bench: Bench) -> str:
    print('{"row": "wrong", "outcome": "as expected"}', flush=True)
    return "as expected"


@CASES.add("it needs a peer", "as expected", link="none")
def peered(bench: Bench) -> str:
    if bench.peer is None:
        raise NotHereError("no other host")
    return "as expected"


@CASES.add("it uses another link than it says", "as expected", link="veth")
def elsewhere(bench: Bench) -> str:
    pair(bench)
    return "as expected"


TABLE = Table("inject_outcomes", CASES)
