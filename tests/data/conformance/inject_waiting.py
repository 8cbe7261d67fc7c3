# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: something is set, and a row waits with a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ..table import Bench, Cases, Table


def marks() -> Path:
    return Path(os.environ["ZCLAB_TEST_MARKS"])


@contextlib.contextmanager
def around() -> Iterator[None]:
    (marks() / "setting").write_text("other", encoding="ascii")
    try:
        yield
    finally:
        (marks() / "setting").write_text("as before", encoding="ascii")


CASES = Cases()


@CASES.add("it waits", "as expected", link="none")
def waiting(bench: Bench) -> str:
    other = subprocess.Popen(["sleep", "1000"])
    (marks() / "pids.new").write_text(f"{os.getpid()} {other.pid}", encoding="ascii")
    (marks() / "pids.new").rename(marks() / "pids")
    time.sleep(1000)
    return "as expected"


TABLE = Table("inject_waiting", CASES, around)
