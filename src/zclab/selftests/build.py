# SPDX-License-Identifier: Apache-2.0
"""The programs and scripts of the tests, made once from a variant's own tree and kept in the cache."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from zclab.errors import ZclabError
from zclab.kernel import programs
from zclab.kernel.programs import SELFTESTS
from zclab.kernel.spec import KernelVariant
from zclab.kernel.workspace import Report
from zclab.paths import cache_dir
from zclab.selftests import table

_WHAT_FOR = "the kernel's own tests"
_MISSING = "missing.json"


class Built(NamedTuple):
    """Files for the hosts, the tree they are of, and why a program or script is not among them, by name."""

    files: list[Path]
    tree: str
    missing: dict[str, str]


def build(variant: KernelVariant, report: Report) -> Built:
    """Return the tests of a variant's tree, compiled unless that was done before.

    Variants whose patches leave the tests as they are share them.

    Raises:
        LabError: the tree can not be fetched, or this machine has no compiler.
        UsageError: a patch does not apply to the tests.
    """
    tree = programs.tree_of(variant.source, variant.patches, table.FILES, _WHAT_FOR)
    recipes = [table.program(name) for name in table.PROGRAMS]

    def make(making: Path) -> None:
        report(f"building the kernel's own tests of {tree.identity}")
        missing = {}
        with tempfile.TemporaryDirectory(dir=making) as directory:
            work = Path(directory)
            programs.unpack(tree, work, _WHAT_FOR, report)
            for name in table.SCRIPTS:
                if (work / SELFTESTS / name).is_file():
                    shutil.copyfile(work / SELFTESTS / name, making / name)
                else:
                    missing[name] = f"the tree has no {SELFTESTS}/{name}"
            for recipe in recipes:
                # Trees are released with tests that do not compile; the others are of use all the same.
                try:
                    programs.compile_program(tree, recipe, work, making / recipe.name)
                except ZclabError as error:
                    missing[recipe.name] = str(error)
        (making / _MISSING).write_text(json.dumps(missing), encoding="utf-8")

    digest = tree.digest([*recipes])
    target = programs.made_once(cache_dir() / "selftests" / digest, make, report)
    files = sorted(path for path in target.iterdir() if path.name != _MISSING)
    return Built(files, tree.identity, json.loads((target / _MISSING).read_text(encoding="utf-8")))
