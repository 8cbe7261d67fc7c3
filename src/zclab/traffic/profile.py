# SPDX-License-Identifier: Apache-2.0
"""CPU profiles: perf record around one end of a transfer, and the top symbols of its report."""

from __future__ import annotations

import re
import shlex

from zclab.base.model import Model

#: Samples per second and CPU: not a divisor of a timer's rate, so that samples do not follow the timer.
_FREQUENCY = 997
_FIRST_SYMBOLS = 20
_MARK = "profile:"
_LINE = re.compile(
    r"^\s*(?P<percent>\d+\.\d+)%\s+(?P<samples>\d+)\s+\[(?P<where>.)\]\s+(?P<symbol>\S.*?)\s*$"
)
# The recording is removed however the command ends; if perf cannot count the event, the transfer runs without
# it, and the message of perf is the report.
_SCRIPT = """
file=$(mktemp) || exit 1
trap 'rm -f "$file"' EXIT
trap 'exit 1' HUP INT TERM
if ! said=$(perf stat -x, -e {event} -- true 2>&1) || [ "$said" != "${{said#*<not }}" ]; then
  echo "{mark}unavailable $said" | head -n 1 >&2
  {command}
  exit
fi
perf record -q -F {frequency} -e {event} -o "$file" -- {command}
status=$?
perf report -i "$file" --stdio --no-children -g none -F overhead,sample,sym 2>&1 | sed 's/^/{mark}/' >&2
exit $status
"""


def recording(command: str, event: str) -> str:
    """Return a command line that runs another one under perf and then prints the profile on stderr."""
    return _SCRIPT.format(command=command, event=shlex.quote(event), mark=_MARK, frequency=_FREQUENCY)


def profile(stderr: str, event: str) -> Profile:
    """Return the profile in what `recording` printed on stderr, or why there is none."""
    lines = [line.removeprefix(_MARK).strip() for line in stderr.splitlines() if line.startswith(_MARK)]
    if lines and lines[0].startswith("unavailable"):
        said = " ".join(lines[0].removeprefix("unavailable").split())
        why = (
            "perf is not installed on this host"
            if "not found" in said
            else f"perf cannot count {event}: {said}"
        )
        return Profile(event=event, samples=None, symbols=[], unavailable=why)
    found = [match for line in lines if (match := _LINE.match(line)) is not None]
    symbols = [
        Symbol(
            percent=float(match["percent"]),
            symbol=match["symbol"] + (" (kernel)" if match["where"] == "k" else ""),
        )
        for match in found[:_FIRST_SYMBOLS]
    ]
    samples = sum(int(match["samples"]) for match in found)
    said = " ".join(lines)[:200] or "no message"
    missing = None if samples else f"perf recorded no sample of {event}: {said}"
    return Profile(event=event, samples=samples or None, symbols=symbols, unavailable=missing)


def rest(stderr: str) -> str:
    """Return what the traffic tool itself printed on stderr."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith(_MARK))


class Symbol(Model):
    """One line of a profile: the share of samples in percent, and the symbol (k: the kernel's)."""

    percent: float
    symbol: str


class Profile(Model):
    """CPU profile of one end: event, number of samples, top symbols; `unavailable` is the reason for none."""

    event: str
    samples: int | None
    symbols: list[Symbol]
    unavailable: str | None
