# SPDX-License-Identifier: Apache-2.0
"""Say which packages Debian does not offer: `python -m zclab.debian.lacking PACKAGE...`, for the roles."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zclab.base.errors import UsageError, ZclabError
from zclab.base.progress import quiet
from zclab.debian.archive import Archive, archive


def lacking(packages: Sequence[str], offered: Archive) -> list[str]:
    """Return a line for each package that a suite does not offer, which names the closest one.

    Raises LabError when the suite's lists cannot be had.
    """
    lines = []
    for package in packages:
        try:
            offered.candidate(package, quiet)
        except UsageError as error:
            lines.append(str(error))
    return lines


def main() -> int:
    """Print the lines; nothing where that cannot be found out."""
    try:
        print("; ".join(lacking(sys.argv[1:], archive())))
    except ZclabError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
