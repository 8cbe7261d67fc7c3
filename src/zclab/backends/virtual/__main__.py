# SPDX-License-Identifier: Apache-2.0
"""Power buttons for scripts: python -m zclab.backends.virtual (reset|kill) STATE_DIR HOST."""

from __future__ import annotations

import sys
from pathlib import Path

from zclab.backends.virtual import lab
from zclab.base.errors import ZclabError

ACTIONS = {"reset": lab.reset, "kill": lab.kill}


def main(arguments: list[str]) -> int:
    """Press a button and return the exit status."""
    if len(arguments) != 3 or arguments[0] not in ACTIONS:
        print("usage: python -m zclab.backends.virtual (reset|kill) STATE_DIR HOST", file=sys.stderr)
        return 2
    action, state_dir, name = arguments
    try:
        ACTIONS[action](Path(state_dir), name)
    except ZclabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
