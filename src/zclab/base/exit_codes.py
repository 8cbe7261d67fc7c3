# SPDX-License-Identifier: Apache-2.0
"""The exit codes of zclab, the verdict that each stands for, and which of several counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive", "invalid"]

INTERNAL = 6
INTERRUPTED = 130
#: The exit code of a command that ends with a verdict.
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "fail": 1, "inconclusive": 3, "invalid": 4}
#: From the one that hides all others down: a lab that did not come up has measured nothing.
_PRECEDENCE = (5, INTERNAL, 4, 2, 1, 3, 0)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code that stands for all of these; 0 for none.

    A code that zclab does not have, such as that of a signal, means that zclab itself failed (6).
    """
    known = {code if code in _PRECEDENCE else INTERNAL for code in codes}
    return next((code for code in _PRECEDENCE if code in known), 0)


def worst_verdict(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that stands for all of these, in the order of their exit codes; of none, pass."""
    code = worst(EXIT_CODES[verdict] for verdict in verdicts)
    return next(verdict for verdict, of_it in EXIT_CODES.items() if of_it == code)
