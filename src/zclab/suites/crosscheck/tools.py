# SPDX-License-Identifier: Apache-2.0
"""The tools of others, ready to be copied to hosts: each is got once and kept by its identity."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from zclab.base.errors import LabError, UsageError
from zclab.base.paths import cache_dir
from zclab.base.process import require_tools, run
from zclab.base.progress import Progress
from zclab.base.store import Store
from zclab.debian.archive import Archive, archive
from zclab.kernel import programs
from zclab.kernel.programs import Program
from zclab.kernel.spec import Patch, Source
from zclab.lab.model import Lab

_WHAT_FOR = "a cross-check"
_COMPANION = Path(__file__).with_name("companion.c")
_PROGRAM = Program(
    "tcp_mmap",
    f"{programs.SELFTESTS}/tcp_mmap.c",
    headers=("include/uapi/linux/tcp.h",),
    companions=(_COMPANION,),
    options=("-Wl,--wrap=mmap",),
)
SUITE = "bookworm"
"""The Debian release of these programs: those of an older release run on hosts of a newer one, too."""
#: iperf3 and those of its libraries that a host cannot be expected to have, by package.
_PACKAGES = {
    "iperf3": "usr/bin/iperf3",
    "libiperf0": "usr/lib/*/libiperf.so.0",
    "libsctp1": "usr/lib/*/libsctp.so.1",
}


class Tools(NamedTuple):
    """Files for the hosts, and what they are, by tool."""

    files: list[Path]
    versions: dict[str, str]


def prepare(lab: Lab, on_progress: Progress) -> Tools:
    """Return tcp_mmap, built from the tree that the lab builds, and Debian's iperf3.

    Raises:
        LabError: a source or a package cannot be had, or does not compile.
        UsageError: the lab names no kernel tree, or one without tcp_mmap.
    """
    tree = kernel_tree(lab)
    mapping, identity = tcp_mmap(*tree, on_progress)
    streaming, version = iperf3(on_progress)
    return Tools([mapping, *streaming], {"tcp_mmap": identity, "iperf3": version})


def kernel_tree(lab: Lab) -> tuple[Source, tuple[Patch, ...]]:
    """Return source and patches of the lab's kernel; of a lab that builds none, the source that it names.

    Raises:
        UsageError: it names none.
    """
    if lab.kernel_variant is not None:
        variant = lab.kernel_variants[lab.kernel_variant]
        return variant.source, variant.patches
    if lab.crosscheck is None or lab.crosscheck.source is None:
        raise UsageError(
            f"{lab.name}: builds no kernel, and zclab_crosscheck.source names no tree to take tcp_mmap from: "
            "declare it in group_vars/all"
        )
    return lab.crosscheck.source, ()


def tcp_mmap(source: Source, patches: tuple[Patch, ...], on_progress: Progress) -> tuple[Path, str]:
    """Return the program of a tree, built unless it was before, and which tree it is of.

    Raises:
        LabError: the tree cannot be fetched, or the program does not compile.
        UsageError: the tree has no such program, or a patch does not apply to it.
    """
    tree = programs.tree_of(source, patches, (_PROGRAM.source, *_PROGRAM.headers), _WHAT_FOR)

    def make(making: Path) -> None:
        with tempfile.TemporaryDirectory(dir=making) as work:
            programs.unpack(tree, Path(work), _PROGRAM.name, on_progress)
            programs.compile_program(tree, _PROGRAM, Path(work), making / _PROGRAM.name)

    key = f"{_PROGRAM.name}-{tree.digest([_PROGRAM])}"
    _store().ensure(key, make, on_progress)
    return _store().path(key) / _PROGRAM.name, tree.identity


def iperf3(on_progress: Progress) -> tuple[list[Path], str]:
    """Return iperf3 and its libraries, as Debian's release SUITE has them, and their version.

    They are unpacked and not installed.

    Raises:
        LabError: they cannot be downloaded.
        UsageError: the release lacks one of them.
    """
    require_tools(["dpkg-deb"], _WHAT_FOR)
    offered = archive(SUITE)
    version = offered.candidate("iperf3", on_progress)
    key = f"iperf3-{re.sub(r'[^A-Za-z0-9.+-]', '_', version)}"
    _store().ensure(key, lambda making: _unpack(making, offered, on_progress), on_progress)
    return sorted(_store().path(key).iterdir()), f"iperf3 {version}"


def _unpack(making: Path, offered: Archive, on_progress: Progress) -> None:
    work = making / "work"
    work.mkdir()
    for package, pattern in _PACKAGES.items():
        version = offered.candidate(package, on_progress)
        deb = offered.download(package, version, work, on_progress)
        run(["dpkg-deb", "--extract", str(deb), str(work / package)])
        files = sorted((work / package).glob(pattern))
        if not files:
            raise LabError(f"package {package}: has no {pattern}: tell who maintains the cross-check")
        shutil.copy(files[0], making / files[0].name)  # what a link means, under its name
    shutil.rmtree(work)


def _store() -> Store:
    return Store(cache_dir() / "crosscheck", "cross-check tool")
