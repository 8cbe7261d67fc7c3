# SPDX-License-Identifier: Apache-2.0
"""Executed instructions by kernel function and by program, from what the emulator's plugin counted.

The format of the counts, and what a context is, stands in emulator/plugin/instructions.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from zclab.base.errors import LabError
from zclab.base.model import Model, Role
from zclab.kernel.symbols import KERNEL_BEGINS, Symbols

#: Whose instructions: a thread's whose window it is, softirqs' on any thread, or other ones.
Context = Literal["sender", "receiver", "softirq", "other"]
CONTEXTS: tuple[Context, ...] = get_args(Context)
#: User code outside the known programs: the vDSO, which has no fixed address, and what is not static.
OTHER_PROGRAMS = "[other user code]"
#: Code of the kernel's half of the address space without a symbol.
NO_FUNCTION = "[no function]"
#: The guest's clock is calibrated against itself: by so much it may be off.
_CLOCK_ERROR = 1e-3
_RUN = re.compile(r"(\w+) (\d+) ([0-9a-f]+) ([1-9a-f]+)")


class InstructionCounts(Model):
    """Instructions executed in the window of one end of a transfer, by function and context.

    Functions of the kernel have their names; a program's user code is "[name]". What is 0 is left out.
    """

    functions: dict[str, dict[Context, int]]

    @property
    def total(self) -> int:
        """All of them: the guest's clock in ns over the window, less the time that it was idle."""
        return sum(sum(counts.values()) for counts in self.functions.values())


class Window(NamedTuple):
    """The counted window of one end."""

    role: Role
    counts: InstructionCounts


class Names:
    """What addresses belong to: the kernel's functions, and programs by the addresses of their code."""

    def __init__(self, kernel: Symbols, programs: Mapping[str, Sequence[range]]) -> None:
        """Take the functions of the kernel, and the code of static programs by name."""
        self._kernel = kernel
        self._programs = programs
        self._known: dict[int, str] = {}

    def of(self, address: int) -> str:
        """Return the function or "[program]" of an address."""
        name = self._known.get(address)
        if name is None:
            name = self._known[address] = self._find(address)
        return name

    def _find(self, address: int) -> str:
        if address >= KERNEL_BEGINS:
            return self._kernel.name_of(address) or NO_FUNCTION
        for program, code in self._programs.items():
            if any(address in part for part in code):
                return f"[{program}]"
        return OTHER_PROGRAMS


def read(path: Path, names: Names) -> list[Window]:
    """Return the windows that were counted, in the order in which they closed.

    Raises:
        LabError: the file is not there, damaged or cut off.
    """
    windows: list[Window] = []
    role: Role | None = None
    functions: dict[str, dict[Context, int]] = {}
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path}: the counts of the emulator's plugin cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        word, _, rest = line.partition(" ")
        if role is None and word == "window" and rest in get_args(Role):
            role = "sender" if rest == "sender" else "receiver"
            functions = {}
        elif role is not None and word == "end":
            counts = InstructionCounts(functions=functions)
            if rest != str(counts.total):
                raise LabError(f"{path}: line {number}: the counts are {counts.total} together, not {rest}")
            windows.append(Window(role, counts))
            role = None
        elif role is not None and (found := _RUN.fullmatch(line)) and found[1] in CONTEXTS:
            _add(functions, found, names)
        else:
            raise LabError(f"{path}: line {number} is no count of the emulator's plugin: {line[:80]!r}")
    if role is not None:
        raise LabError(f"{path}: is cut off in line {len(lines)}")
    return windows


def _add(functions: dict[str, dict[Context, int]], found: re.Match[str], names: Names) -> None:
    context: Context = next(one for one in CONTEXTS if one == found[1])
    count, address = int(found[2]), int(found[3], 16)
    for size in found[4]:
        counts = functions.setdefault(names.of(address), {})
        counts[context] = counts.get(context, 0) + count
        address += int(size, 16)


def of_transfers(
    windows: Sequence[Window], role: Role, seconds: Sequence[float | None]
) -> list[InstructionCounts | None]:
    """Return the counts of each transfer of a guest, in order; null: it has none of its own.

    role: whose windows; seconds: the length of each transfer's window by the end that measured it, null if it
    had none. A window that executed more than one instruction per ns of its time cannot be that transfer's:
    none has counts then.
    """
    counted = iter([window.counts for window in windows if window.role == role])
    found = [None if length is None else next(counted, None) for length in seconds]
    whole = next(counted, None) is None and all(
        counts is None
        if length is None
        else counts is not None and counts.total <= length * 1e9 * (1 + _CLOCK_ERROR)
        for length, counts in zip(seconds, found, strict=True)
    )
    return found if whole else [None] * len(seconds)
