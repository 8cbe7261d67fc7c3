# SPDX-License-Identifier: Apache-2.0
"""How long the parts of a longer work took."""

from __future__ import annotations

from typing import NamedTuple


class Timing(NamedTuple):
    """How long one part really took, in seconds; a part that had nothing to do has none."""

    part: str
    seconds: float
