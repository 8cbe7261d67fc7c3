# SPDX-License-Identifier: Apache-2.0
"""For root: python -m zclab.backends.namespaces (up|check|down), with the resolved lab as JSON on stdin.

Prints {"changes": [...]}; `check` only says what `up` would do.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from zclab.backends.namespaces import lab
from zclab.base.errors import ZclabError


def main(arguments: list[str]) -> int:
    """Do it and return the exit status."""
    os.umask(0o022)
    try:
        match arguments:
            case ["up" | "check" as action]:
                changes = lab.up(lab.LabSpec.from_facts(json.load(sys.stdin)), check=action == "check")
            case ["down"]:
                changes = lab.down(Path(json.load(sys.stdin)["state_dir"]))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except ZclabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({"changes": changes}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
