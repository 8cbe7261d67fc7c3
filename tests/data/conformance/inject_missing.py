# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: this kernel does not have the interface."""

from __future__ import annotations

import contextlib

from ..table import Bench, Cases, NotHereError, Table


def around() -> contextlib.AbstractContextManager[None]:
    raise NotHereError("no released kernel has it")


CASES = Cases()


@CASES.add("it would fail", "as expected", link="none")
def never(bench: Bench) -> str:
    return "tried all the same"


TABLE = Table("inject_missing", CASES, around)
