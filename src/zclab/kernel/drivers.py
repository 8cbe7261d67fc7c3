# SPDX-License-Identifier: Apache-2.0
"""Which option builds a driver, and whether a configuration has the drivers that a host cannot miss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from zclab.base.errors import InvalidError
from zclab.base.model import Model

# Names under /sys that differ from the object that the tree builds.
_ALIASES = {
    "sd": "sd_mod",
    "sr": "sr_mod",
    "pcieport": "pcieportdrv",
    "8021q_vlan": "8021q",
    "ata_generic": "ata_generic",
}

_RULE = re.compile(r"^\s*obj-(\S+?)\s*[+:]?=\s*(.*)$")
_OPTION = re.compile(r"CONFIG_\w+")


class Requirement(Model):
    """One driver or file system that a host cannot boot, or cannot be reached, without."""

    driver: str
    purpose: Literal["root disk", "root filesystem", "NIC"]
    host: str = ""


def options_of(tree: Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Return, for each driver name, the options (CONFIG_...) that the tree's makefiles build it under.

    Always-built ones have the option "y". A name that no makefile builds has none. A dash is an underscore.
    """
    plain_names = {name: _plain(name) for name in names}
    found: dict[str, list[str]] = {plain: [] for plain in plain_names.values()}
    for part in ("drivers", "fs", "net", "block", "virt", "arch/x86"):
        for makefile in sorted((*(tree / part).rglob("Makefile"), *(tree / part).rglob("Kbuild"))):
            text = makefile.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
            for line in text.splitlines():
                if not (rule := _RULE.match(line)):
                    continue
                option = "y" if rule[1] == "y" else next(iter(_OPTION.findall(rule[1])), None)
                for word in rule[2].split("#")[0].split():
                    if word.endswith(".o") and option:
                        options = found.get(_plain(word.removesuffix(".o")))
                        if options is not None and option not in options:
                            options.append(option)
    return {name: found[plain] for name, plain in plain_names.items()}


def check(
    config: Mapping[str, str],
    options: Mapping[str, list[str]],
    requirements: Iterable[Requirement],
    variant: str,
) -> None:
    """Raise InvalidError, one line, when a configuration lacks a required driver.

    Disk and file system must be built in when there is no initrd that could load them.
    """
    has_initrd = wants_initrd(config)
    for requirement in requirements:
        candidates = options[requirement.driver]
        values = [config.get(option, "n") if option != "y" else "y" for option in candidates]
        what = f"{requirement.purpose} of {requirement.host}" if requirement.host else requirement.purpose
        need = f"kernel variant {variant}: the {what} needs driver {requirement.driver}"
        if not candidates:
            raise InvalidError(f"{need}, which this kernel source does not have: choose a source that has it")
        if not any(value in ("y", "m") for value in values):
            option = candidates[0]
            raise InvalidError(f"{need} and {option} is not set: add {option}=y to a fragment of its config")
        if "y" not in values and not has_initrd and requirement.purpose != "NIC":
            option = candidates[values.index("m")]
            raise InvalidError(
                f"{need} built in, as there is no initrd, and {option} is m: add {option}=y or "
                "CONFIG_BLK_DEV_INITRD=y to a fragment of its config"
            )


def wants_initrd(config: Mapping[str, str]) -> bool:
    """Return whether a host makes an initrd for a kernel: to load modules, which a kernel may not have."""
    return config.get("CONFIG_BLK_DEV_INITRD") == config.get("CONFIG_MODULES") == "y"


def check_built_in(config: Mapping[str, str], needed: Mapping[str, str], variant: str) -> None:
    """Raise InvalidError, one line, for the first option that has to be y and is not.

    needed: what each option (CONFIG_...) is needed for.
    """
    for option, purpose in needed.items():
        if (value := config.get(option, "n")) != "y":
            raise InvalidError(
                f"kernel variant {variant}: {option} is {value}, and {purpose} needs it built in: "
                f"add {option}=y to a fragment of its config"
            )


def _plain(name: str) -> str:
    name = name.replace("-", "_")
    return _ALIASES.get(name, name)
