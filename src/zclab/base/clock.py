# SPDX-License-Identifier: Apache-2.0
"""The time as records hold it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time as UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
