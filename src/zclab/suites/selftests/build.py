# SPDX-License-Identifier: Apache-2.0
"""The programs and scripts of the tests, made once from a variant's own tree and kept in the cache."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from zclab.base.errors import ZclabError
from zclab.base.paths import cache_dir
from zclab.base.progress import Progress
from zclab.base.store import Store
from zclab.kernel import programs
from zclab.kernel.programs import SELFTESTS
from zclab.kernel.spec import KernelVariant
from zclab.suites.selftests import table

_WHAT_FOR = "the kernel's own tests"
_NOTES = "notes.json"


class Built(NamedTuple):
    """Files for the hosts and the tree they are of.

    By name of a program or script: why it is not among them, and what of it was changed.
    """

    files: list[Path]
    tree: str
    missing: dict[str, str]
    changed: dict[str, str]


def build(variant: KernelVariant, on_progress: Progress) -> Built:
    """Return the tests of a variant's tree, compiled unless that was done before.

    Variants whose patches leave the tests as they are share them.

    Raises:
        LabError: the tree cannot be fetched, or this machine has no compiler.
        UsageError: a patch does not apply to the tests.
    """
    tree = programs.tree_of(variant.source, variant.patches, table.FILES, _WHAT_FOR)
    recipes = [table.program(name) for name in table.PROGRAMS]

    def make(making: Path) -> None:
        on_progress(f"building the kernel's own tests of {tree.identity}")
        missing: dict[str, str] = {}
        with tempfile.TemporaryDirectory(dir=making) as directory:
            work = Path(directory)
            programs.unpack(tree, work, _WHAT_FOR, on_progress)
            changed = _change(work / SELFTESTS, missing)
            for name in table.SCRIPTS:
                if (work / SELFTESTS / name).is_file():
                    shutil.copyfile(work / SELFTESTS / name, making / name)
                else:
                    missing[name] = f"the tree has no {SELFTESTS}/{name}"
            for recipe in (one for one in recipes if one.name not in missing):
                # Trees are released with tests that do not compile; the others are of use all the same.
                try:
                    programs.compile_program(tree, recipe, work, making / recipe.name)
                except ZclabError as error:
                    missing[recipe.name] = str(error)
        notes = {"missing": missing, "changed": changed}
        (making / _NOTES).write_text(json.dumps(notes), encoding="utf-8")

    digest = tree.digest(recipes, table.CHANGES, table.SCRIPTS)
    store = Store(cache_dir() / "selftests", "selftests")
    store.ensure(digest, make, on_progress)
    target = store.path(digest)
    files = sorted(path for path in target.iterdir() if path.name != _NOTES)
    return Built(files, tree.identity, **json.loads((target / _NOTES).read_text(encoding="utf-8")))


def _change(directory: Path, missing: dict[str, str]) -> dict[str, str]:
    """Change what is to be changed in the tests of a tree; return it by name of program or script."""
    notes: dict[str, list[str]] = {}
    for change in table.CHANGES:
        file, name = directory / change.file, change.file.removesuffix(".c")
        if not file.is_file():
            continue
        pattern = re.compile(f"^{change.pattern}$", re.MULTILINE)
        text, count = pattern.subn(change.replacement, file.read_text("utf-8"))
        if count:
            file.write_text(text, "utf-8")
            notes.setdefault(name, []).append(change.note)
        elif change.needed:
            missing[name] = f"{change.file} of the tree has no line {change.pattern} to change"
    return {name: f"{name} {', '.join(said)}" for name, said in notes.items()}
