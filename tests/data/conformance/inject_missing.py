# SPDX-License-Identifier: Apache-2.0
"""A table for the tests of the engine: this kernel does not have the interface."""

from __future__ import annotations

import contextlib

from ..table import Bench, NotHereError, Table


def around() -> contextlib.AbstractContextManager[None]:
    raise NotHereError("no released kernel has it")


TABLE = Table("inject_missing", around)


@TABLE.add("it would fail", "as expected")
def never(bench: Bench) -> str:
    return "tried all the same"
