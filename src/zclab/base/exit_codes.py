# SPDX-License-Identifier: Apache-2.0
"""The exit codes of zclab, and which of several counts."""

from __future__ import annotations

from collections.abc import Iterable

INTERNAL = 6
INTERRUPTED = 130
#: From the one that hides all others down: a lab that did not come up has measured nothing.
_PRECEDENCE = (5, INTERNAL, 4, 2, 1, 3, 0)


def worst(codes: Iterable[int]) -> int:
    """Return the exit code that stands for all of these; 0 for none.

    A code that zclab does not have, such as that of a signal, means that zclab itself failed (6).
    """
    known = {code if code in _PRECEDENCE else INTERNAL for code in codes}
    return next((code for code in _PRECEDENCE if code in known), 0)
