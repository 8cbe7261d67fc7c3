# SPDX-License-Identifier: Apache-2.0
"""How much the kernel copied to a receiver, counted beside what the traffic tool says of itself."""

from __future__ import annotations

import shlex
from pathlib import Path

from pydantic import ValidationError

from zclab import probe
from zclab.base.model import Model
from zclab.host.snapshot import Snapshot
from zclab.plan.schedule import Measurement

_MARK = "copies:"
# A host without tracepoints is not asked in vain: an emulated one takes seconds to start Python.
_SCRIPT = """
if [ ! -d /sys/kernel/tracing ]; then
  echo '{mark}{{"unavailable": "this kernel has no tracepoints"}}' >&2
elif ! command -v python3 >/dev/null; then
  echo '{mark}{{"unavailable": "the host has no python3"}}' >&2
else
  {counted}
  exit
fi
{command}
"""


class Copies(Model):
    """Packets that the kernel copied to a program and all that it started, by their least size in bytes.

    unavailable: why they were not counted.
    """

    counts: dict[int, int] | None = None
    unavailable: str | None = None

    @property
    def at_least_bytes(self) -> int | None:
        """The least number of bytes that these copies had; null if they were not counted."""
        if self.counts is None:
            return None
        found, below = 0, 0
        for size, count in sorted(self.counts.items()):
            found += (size - below) * count
            below = size
        return found


def watched(planned: Measurement, before: Snapshot, command: str) -> str:
    """Return the command line of a receiver, with copies counted where nothing else witnesses what it maps.

    before: the state of its host. Of a copying receiver nothing is counted: its copies would cost more.
    """
    maps = planned.receive_mode != "copy" and planned.rpc is None and planned.phase != "profile"
    return counted(command) if maps and before.mapped_bytes is None else command


def counted(command: str) -> str:
    """Return a command line that runs another one, counts the copies to it, and prints them on stderr."""
    program = (Path(probe.__file__).parent / "copies.py").read_text(encoding="utf-8")
    line = shlex.join(["python3", "-I", "-B", "-c", program, "sh", "-c", command])
    return _SCRIPT.format(mark=_MARK, counted=line, command=command)


def copies(stderr: str) -> Copies | None:
    """Return what a command of `counted` printed; null if it was none, or printed nothing."""
    lines = [line.removeprefix(_MARK) for line in stderr.splitlines() if line.startswith(_MARK)]
    try:
        return Copies.model_validate_json(lines[-1]) if lines else None
    except ValidationError:
        return Copies(unavailable=f"what counts copies printed {lines[-1][:80]!r}")


def rest(stderr: str) -> str:
    """Return what the command itself printed on stderr."""
    return "\n".join(line for line in stderr.splitlines() if not line.startswith(_MARK))
