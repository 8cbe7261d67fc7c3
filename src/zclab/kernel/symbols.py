# SPDX-License-Identifier: Apache-2.0
"""The functions of a kernel and the code of static programs, by address, from their ELF files."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from zclab.base.environment import BUILD
from zclab.base.errors import LabError
from zclab.base.process import CommandError, run

#: Where the kernel's half of the address space begins on x86-64.
KERNEL_BEGINS = 0xFFFF_8000_0000_0000
# readelf --syms --wide: number, address, size (hexadecimal if large), type, binding, visibility, section,
# name.
_SYMBOL = re.compile(
    r"^ *\d+: ([0-9a-f]+) +(0x[0-9a-f]+|\d+) (FUNC|NOTYPE) +(\w+) +\w+ +\w+ (\S+)$", re.MULTILINE
)
# readelf --segments --wide: type, offset, address, physical address, size in the file, in memory, flags.
_CODE = re.compile(r"^  LOAD +\S+ (0x[0-9a-f]+) \S+ \S+ (0x[0-9a-f]+) R E", re.MULTILINE)


class Symbol(NamedTuple):
    """A function: where it begins, its bytes (0: not known, as of a label in assembly), its name."""

    address: int
    size: int
    name: str


class Symbols:
    """The functions of a kernel."""

    def __init__(self, symbols: list[Symbol]) -> None:
        """Keep symbols; of several at one address the first counts."""
        found: dict[int, Symbol] = {}
        for symbol in symbols:
            found.setdefault(symbol.address, symbol)
        self._labels = sorted(found.values())
        self._functions = [symbol for symbol in self._labels if symbol.size]
        self._label_addresses = [symbol.address for symbol in self._labels]
        self._function_addresses = [symbol.address for symbol in self._functions]

    def name_of(self, address: int) -> str | None:
        """Return the name of the function that an address lies in; null: it lies before or after all of them.

        A label in assembly inside a function does not begin another one; outside it names what follows it.
        """
        if at := bisect_right(self._function_addresses, address):
            function = self._functions[at - 1]
            if address < function.address + function.size:
                return function.name
        at = bisect_right(self._label_addresses, address)
        return self._labels[at - 1].name if 0 < at < len(self._labels) else None

    def named(self, name: str) -> Symbol | None:
        """Return the function of a name; null: the kernel has none."""
        return next((symbol for symbol in self._labels if symbol.name == name), None)


def of_kernel(vmlinux: Path) -> Symbols:
    """Read the functions of a kernel.

    Raises:
        LabError: the file is not there, or holds no kernel with symbols.
    """
    found = [
        (Symbol(int(address, 16), int(size, 0), name), kind, binding)
        for address, size, kind, binding, name in _SYMBOL.findall(_readelf("--syms", vmlinux))
        if int(address, 16) >= KERNEL_BEGINS
    ]
    if not found:
        raise LabError(f"{vmlinux}: has no symbols of a kernel: build the variant again")
    # Of several names for one address: the function's rather than a label's, the public, the plain one.
    found.sort(
        key=lambda one: (one[1] != "FUNC", not one[0].size, one[2] != "GLOBAL", _plainness(one[0].name))
    )
    return Symbols([symbol for symbol, _kind, _binding in found])


def _plainness(name: str) -> tuple[int, str]:
    return len(name) - len(name.lstrip("_")), name


def code_of(program: Path) -> list[range]:
    """Return the addresses of the code of a static program; none of any other: it could lie anywhere."""
    try:
        text = _readelf("--segments", program)
    except LabError:
        return []
    if "Elf file type is EXEC" not in text or "INTERP" in text:
        return []
    return [range(int(begin, 16), int(begin, 16) + int(size, 16)) for begin, size in _CODE.findall(text)]


def _readelf(what: str, path: Path) -> str:
    try:
        return run(["readelf", what, "--wide", str(path)], environment=BUILD)
    except CommandError as error:
        raise LabError(f"{path}: readelf cannot read it: {error.output.strip()[:200]}") from None
