# SPDX-License-Identifier: Apache-2.0
"""The progress callback: one line of text for people."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]
