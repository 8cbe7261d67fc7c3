# SPDX-License-Identifier: Apache-2.0
"""Programs of a kernel tree, as a variant patches it: each one static file that needs nothing of its host."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from zclab.base.environment import BUILD
from zclab.base.errors import LabError, UsageError
from zclab.base.process import CommandError, require_tools, run
from zclab.base.progress import Progress
from zclab.kernel import patches as patching
from zclab.kernel import source as sources
from zclab.kernel.patches import PatchText
from zclab.kernel.source import ResolvedSource
from zclab.kernel.spec import Patch, Source

#: Where the kernel's own tests of the network are.
SELFTESTS = "tools/testing/selftests/net"
_SELFTESTS_HEADERS = "tools/testing/selftests"
#: Directories whose headers a program includes by their path below.
_HEADER_ROOTS = ("include/uapi/", "tools/include/")
_LINE_BUFFERED = Path(__file__).with_name("line_buffered.c")


class Program(NamedTuple):
    """A program of a tree: its source, and the tree's own headers that go before this machine's.

    Headers are what programs may include, not the kernel: others would have to be prepared by its build
    first. One that the tree does not have is left out. `companions` are sources of this project.
    """

    name: str
    source: str
    headers: tuple[str, ...] = ()
    companions: tuple[Path, ...] = ()
    options: tuple[str, ...] = ()


class Tree(NamedTuple):
    """Some files of a kernel tree, by patterns of their paths, and the patches that change these."""

    source: ResolvedSource
    patches: tuple[PatchText, ...]
    files: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Return which tree it is, in words."""
        return " ".join([self.source.identity, *(f"with {text.name}" for text in self.patches)])

    def digest(self, programs: Sequence[Program], *more: object) -> str:
        """Return a hash of everything that goes into programs of this tree, and of more."""
        compiler = run(["cc", "--version"], environment=BUILD).splitlines()[0]
        parts: list[object] = [self.source.identity, *(text.sha256 for text in self.patches)]
        parts += [self.files, compiler, *more]
        for program in programs:
            own = [file.read_text("utf-8") for file in (_LINE_BUFFERED, *program.companions)]
            parts += [program._replace(companions=()), own]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def tree_of(source: Source, patches: Sequence[Patch], files: tuple[str, ...], what_for: str) -> Tree:
    """Return files of a tree without fetching it.

    Raises:
        UsageError, LabError: as `source.resolve` and `patches.resolve`; a tool is missing.
    """
    require_tools(["cc"], what_for)
    texts = tuple(text for text in patching.resolve(patches) if text.only(files))
    return Tree(sources.resolve(source), texts, files)


def unpack(tree: Tree, work: Path, what: str, on_progress: Progress) -> None:
    """Copy a tree's files, patched, into an empty directory.

    Raises:
        LabError: the tree cannot be fetched.
        UsageError: a patch does not apply.
    """
    with sources.trees().using(tree.source.directory.name):
        fetched = sources.fetch(tree.source, on_progress)
        for pattern in tree.files:
            for path in fetched.glob(pattern):
                if path.is_file():
                    copy = work / path.relative_to(fetched)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(path, copy)
    parts = [part for text in tree.patches if (part := text.only(tree.files))]
    patching.apply(work, parts, what)


def compile_program(tree: Tree, program: Program, work: Path, target: Path) -> None:
    """Compile a program of an unpacked tree.

    Raises:
        UsageError: the tree does not have it.
        LabError: it does not compile.
    """
    place = f"kernel source {tree.identity}"
    source = work / program.source
    if not source.is_file():
        raise UsageError(f"{place}: has no {program.source}")
    headers = work / "headers"
    for header in program.headers:
        root = next(root for root in _HEADER_ROOTS if header.startswith(root))
        if (work / header).is_file():
            (headers / header.removeprefix(root)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(work / header, headers / header.removeprefix(root))
    # One file that needs no library of the host it runs on. Since Linux 6.4 tcp_mmap can hash what it
    # receives, with libcrypto. Warnings about the code of others help nobody here.
    command = ["cc", "-O2", "-s", "-w", "-static", "-pthread", "-isystem", str(headers)]
    command += ["-I", str(work / _SELFTESTS_HEADERS), "-o", str(target), str(source), str(_LINE_BUFFERED)]
    command += [*(str(file) for file in program.companions), *program.options, "-lcrypto"]
    try:
        run(command, environment=BUILD)
    except CommandError as error:
        lines = [line.strip() for line in error.output.splitlines() if "error" in line]
        reason = (lines or [str(error)])[0].replace(f"{work}/", "")
        raise LabError(
            f"{place}: {program.name} does not compile ({reason}): look for a tree where it does"
        ) from error
