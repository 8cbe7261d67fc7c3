# SPDX-License-Identifier: Apache-2.0
"""Try the test cases of a table on this host, serve as the peer of another host's, or stress the kernel.

python3 -m probe TABLE [--family 4|6] [--row NAME] [--peer ADDRESS PORT INTERFACE] [--json] [--watch-stdin]
python3 -m probe sink ADDRESS ALLOWED INTERFACE
python3 -m probe stress [--seconds N] [--seed S] [--workers N] [--ops KIND,...]

The sink, and a table with --watch-stdin, end when stdin does: with the channel that they came over.
Exit codes: 0 (with --json, or if no test case failed), 1 (a test case failed).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
from typing import NoReturn

from .sink import serve
from .stress.main import main as stress
from .table import ENDING, NotHereError, Peer, Table, TestCase, attempt


def main() -> None:
    """Read the command line and do what it says."""
    for number in ENDING:
        signal.signal(number, _end)
    if sys.argv[1:2] == ["sink"]:
        _, _, address, allowed, interface = sys.argv
        threading.Thread(target=serve, args=(address, allowed, interface, sys.stderr), daemon=True).start()
        sys.stdin.read()
        return
    if sys.argv[1:2] == ["stress"]:
        stress(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description="Try the test cases of a table.")
    parser.add_argument("table")
    parser.add_argument("--family", type=int, choices=(4, 6), help="one address family only")
    parser.add_argument("--row", help="one test case only")
    parser.add_argument(
        "--peer", nargs=3, metavar=("ADDRESS", "PORT", "INTERFACE"), help="a sink on another host"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, not judged")
    parser.add_argument("--watch-stdin", action="store_true", help="end when stdin does")
    options = parser.parse_args()
    table: Table = importlib.import_module(f".tables.{options.table}", __package__).TABLE
    cases = [case for case in table.cases if options.row in (None, case.name)]
    peer = Peer(options.peer[0], int(options.peer[1]), options.peer[2]) if options.peer else None
    failed = False
    if options.json:
        print(json.dumps({"table": table.abi}), flush=True)
    try:
        with table.around():
            for case in cases:
                for family in [options.family] if options.family else [4, 6]:
                    got = attempt(case, family, peer, 0 if options.watch_stdin else None)
                    failed |= _print_result(case, family, got, options.json)
    except NotHereError as reason:
        print(json.dumps({"reason": str(reason)}) if options.json else f"skipped {table.abi}: {reason}")
    sys.exit(1 if failed and not options.json else 0)


def _print_result(case: TestCase, family: int, got: dict[str, str | None], as_json: bool) -> bool:
    """Print the outcome of a test case; return whether it was not the expected one."""
    if as_json:
        print(json.dumps({"row": case.name, "family": family, **got}), flush=True)
        return False
    outcome, expected = got["outcome"], case.rule(os.uname().release)[1]
    if outcome is None:
        print(f"skipped {case.name} IPv{family}: {got['reason']}", flush=True)
    elif outcome == expected:
        print(f"pass    {case.name} IPv{family}: {outcome}", flush=True)
    else:
        print(f"fail    {case.name} IPv{family}: {outcome}\n        expected: {expected}", flush=True)
    return outcome not in (None, expected)


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
