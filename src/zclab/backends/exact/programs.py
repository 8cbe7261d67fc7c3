# SPDX-License-Identifier: Apache-2.0
"""The programs of a guest, from packages of a Debian release: an initramfs in the cache, made once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from zclab.backends.exact import cpio
from zclab.base.errors import LabError
from zclab.base.files import remove_tree
from zclab.base.paths import cache_dir
from zclab.base.process import require_tools, run
from zclab.base.progress import Progress
from zclab.base.store import Store
from zclab.debian.archive import archive

#: What a guest has: what a transfer and the state around it need; or that, and Python.
Programs = Literal["traffic", "probes"]
# Raise it when the same packages are to give another initramfs than before.
_RECIPE = 1
_FILE = "initramfs.cpio"
_PACKAGES = ("coreutils", "dash", "ethtool", "grep", "iproute2", "sed", "util-linux")
#: Programs by name; shells of the set-up, of the state around a measurement, of probes.
PROGRAMS = (
    *("cat", "chmod", "cp", "cut", "dash", "date", "dd", "env", "ethtool", "grep", "head", "id", "ip", "ln"),
    *("ls", "mkdir", "mktemp", "mv", "nproc", "od", "readlink", "rm", "rmdir", "sed", "seq", "sha256sum"),
    *("sleep", "stat", "tail", "taskset", "chrt", "tc", "timeout", "touch", "tr", "true"),
    *("uname", "wc"),
)
_PYTHON_PACKAGES = ("libpython3-stdlib", "python3-minimal")
#: Parts of Python's library that no probe uses.
_PYTHON_LEFT_OUT = (
    *("__pycache__", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter"),
    *("turtledemo", "unittest", "venv", "_pyrepl", "config-"),
)
# Since Debian 12 the directories of / are those of /usr, whatever path a package names.
_MERGED = ("bin", "lib", "lib64", "sbin")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64")
_LINKS = 10


class Made(NamedTuple):
    """The programs of a guest: their key, and the initramfs that holds them."""

    key: str
    initramfs: Path


def ensure(suite: str, programs: Programs, on_progress: Progress) -> Made:
    """Return the programs of a release, as its newest packages have them; make them unless they are there.

    Raises:
        UsageError: the release does not offer a package.
        LabError: a package cannot be had, or lacks what it should have.
    """
    require_tools(["dpkg-deb", "readelf"], "an exact guest")
    packages = [*_PACKAGES, *(_PYTHON_PACKAGES if programs == "probes" else ())]
    offered = archive(suite)
    versions = offered.closure(packages, on_progress)
    parts = [_RECIPE, PROGRAMS, _PYTHON_LEFT_OUT, programs, versions]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    store = Store(cache_dir() / "exact" / "programs", "programs of exact guests")

    def make(directory: Path) -> None:
        work = directory / "work"
        for deb in offered.download_all(versions, work / "debs", on_progress):
            run(["dpkg-deb", "--extract", str(deb), str(work / "root")])
        entries = select(work / "root", python=programs == "probes")
        (directory / _FILE).write_bytes(cpio.archive(entries))
        remove_tree(work)

    store.ensure(key, make, on_progress)
    return Made(key, store.path(key) / _FILE)


def select(root: Path, *, python: bool) -> dict[str, cpio.Entry]:
    """Return the files of a guest among those of unpacked packages, by their paths in the guest.

    Raises:
        LabError: a program or a library is missing.
    """
    tree = _Tree(root)
    for name in PROGRAMS:
        tree.add_program(name)
    if python:
        tree.add_python()
    tree.add_libraries()
    merged = {name: cpio.symlink(f"usr/{name}") for name in _MERGED}
    return {**tree.entries, **merged, **_FIXED}


#: What else a guest has. The kernel opens /dev/console before init has mounted anything.
_FIXED = {
    **{name: cpio.directory() for name in ("dev", "proc", "root", "run", "sys", "tmp", "usr/lib64")},
    "dev/console": cpio.Entry(stat.S_IFCHR | 0o600, device=(5, 1)),
    "etc/passwd": cpio.regular(b"root:x:0:0:root:/root:/bin/sh\n"),
    "etc/group": cpio.regular(b"root:x:0:\n"),
    "usr/bin/sh": cpio.symlink("dash"),
}


class _Tree:
    """Files chosen from unpacked packages, by their paths in the guest, without a leading slash."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.entries: dict[str, cpio.Entry] = {}
        self._elf: list[Path] = []

    def add_program(self, name: str) -> None:
        for directory in ("usr/bin", "usr/sbin"):
            if self._place(f"{directory}/{name}"):
                self._add(f"{directory}/{name}")
                return
        raise LabError(f"exact guest: no package has the program {name}: {', '.join(_PACKAGES)}")

    def add_python(self) -> None:
        """Add Python and its library as bytecode: the guest would compile it at each start."""
        self.add_program("python3")
        libraries = [path for path in (self._root / "usr/lib").glob("python3.*") if path.is_dir()]
        if not libraries:
            raise LabError("exact guest: no package has Python's library: libpython3-stdlib")
        version = libraries[0].name
        self._compile(version)
        for path in sorted(libraries[0].rglob("*")):
            parts = path.relative_to(libraries[0]).parts
            left_out = path.suffix == ".py" or any(part.startswith(_PYTHON_LEFT_OUT) for part in parts)
            if path.is_file() and not left_out:
                self._add(str(path.relative_to(self._root)))

    def _compile(self, version: str) -> None:
        """Put bytecode where each module is, without its source's time, so that it is the same each time."""
        libraries = [self._root / part for part in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")]
        linker = next(iter(self._root.glob("lib*/**/ld-linux-x86-64.so.2")), None)
        if linker is None:
            raise LabError("exact guest: no package has the dynamic linker")
        compiler = [
            *[str(linker.resolve()), "--library-path", ":".join(map(str, libraries))],
            *[str(self._root / "usr/bin" / version), "-I", "-m", "compileall", "-q", "-b"],
            *["-s", str(self._root), "-p", "/", "--invalidation-mode", "unchecked-hash"],
        ]
        run(
            [*compiler, str(self._root / "usr/lib" / version)],
            environment={"PYTHONHOME": str(self._root / "usr")},
        )

    def add_libraries(self) -> None:
        """Add the libraries that what was added needs, and those that these need."""
        while self._elf:
            paths, self._elf = self._elf, []
            # The linker's own name is among them where a program asks for it.
            printed = run(["readelf", "--dynamic", "--program-headers", "--wide", *map(str, paths)])
            needed = re.findall(r"\(NEEDED\)\s+Shared library: \[(.+)\]", printed)
            linkers = re.findall(r"Requesting program interpreter: /(.+)\]", printed)
            for name in sorted({*needed, *linkers}):
                self._add_library(name)

    def _add_library(self, name: str) -> None:
        choices = [_merged(name)] if "/" in name else [f"{directory}/{name}" for directory in _LIBRARIES]
        for path in choices:
            if self._place(path):
                self._add(path)
                return
        raise LabError(f"exact guest: no package has the library {name}")

    def _place(self, path: str) -> Path | None:
        """Return the file that a package has for a path of the guest."""
        for choice in (self._root / path, self._root / path.removeprefix("usr/")):
            if os.path.lexists(choice):
                return choice
        return None

    def _add(self, path: str) -> None:
        """Add a file, and what it stands for if it is a link."""
        for _ in range(_LINKS):
            place = self._place(path)
            if place is None:
                raise LabError(f"exact guest: /{path} is a link to nothing in the packages")
            if path in self.entries and not place.is_symlink():
                return
            if not place.is_symlink():
                data = place.read_bytes()
                executable = bool(place.stat().st_mode & stat.S_IXUSR)
                self.entries[path] = cpio.program(data) if executable else cpio.regular(data)
                if data.startswith(b"\x7fELF"):
                    self._elf.append(place)
                return
            target = str(place.readlink())
            self.entries[path] = cpio.symlink(target)
            path = _merged(os.path.normpath(PurePosixPath("/", path).parent / target).lstrip("/"))
        raise LabError(f"exact guest: /{path} is a link in a circle")


def _merged(path: str) -> str:
    return f"usr/{path}" if path.split("/")[0] in _MERGED else path
