# SPDX-License-Identifier: Apache-2.0
"""The emulator's plugin that counts instructions by address: how it is built and switched on."""

from __future__ import annotations

from pathlib import Path

from zclab.base.c_program import CProgram
from zclab.base.errors import LabError
from zclab.base.paths import cache_dir, project_root
from zclab.kernel.symbols import Symbols

#: The kernel's functions that the plugin has to know, by its option: all of these have to be there.
_FAULT = "asm_exc_page_fault"
_SWITCH = "__switch_to_asm"
#: Of those that run softirqs a kernel has one or both, by release.
_SOFTIRQS = ("__do_softirq", "handle_softirqs")


def build() -> Path:
    """Build the plugin unless it is in the cache, and return the file.

    Raises:
        ZclabError: it does not compile.
    """
    source = project_root() / "emulator" / "plugin"
    return CProgram(source, "instructions.so", "emulator's plugin").build(cache_dir() / "plugin").path


def option(plugin: Path, kernel: Symbols, counts: Path) -> list[str]:
    """Return the emulator's options that have it write the counts of a guest with this kernel to a file.

    Raises:
        LabError: the kernel lacks a function that the plugin has to know.
    """
    fault, switch = kernel.named(_FAULT), kernel.named(_SWITCH)
    softirqs = [symbol for name in _SOFTIRQS if (symbol := kernel.named(name))]
    lacking = [
        name for name, symbol in ((_FAULT, fault), (_SWITCH, switch), (_SOFTIRQS[0], softirqs)) if not symbol
    ]
    if lacking or fault is None or switch is None:
        raise LabError(f"cannot count instructions by function: the kernel has no {', '.join(lacking)}")
    values = [
        str(plugin),
        f"out={counts}",
        f"fault={fault.address:x}",
        f"switch={switch.address:x}-{switch.address + switch.size:x}",
        *(f"softirq={symbol.address:x}" for symbol in softirqs),
    ]
    # A comma in a value is doubled.
    return ["-plugin", ",".join(value.replace(",", ",,") for value in values)]
