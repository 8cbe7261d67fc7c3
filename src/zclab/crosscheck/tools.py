# SPDX-License-Identifier: Apache-2.0
"""The tools of others, ready to be copied to hosts: each is got once and kept by its identity."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from zclab.errors import LabError, UsageError
from zclab.inventory import Lab
from zclab.kernel import patches as patching
from zclab.kernel import source as sources
from zclab.kernel.patches import PatchText
from zclab.kernel.process import CommandError, require_tools, run
from zclab.kernel.spec import Patch, Source
from zclab.kernel.workspace import Report, appearing, full_disk_named, locked
from zclab.paths import cache_dir

_WHAT_FOR = "a cross-check"
#: What tcp_mmap is made of: its source, and the header of the kernel's ABI that it is written for.
_PROGRAM = "tools/testing/selftests/net/tcp_mmap.c"
_HEADER = "include/uapi/linux/tcp.h"
_COMPANION = Path(__file__).with_name("companion.c")
#: iperf3 and those of its libraries that a host can not be expected to have, by package.
_PACKAGES = {
    "iperf3": "usr/bin/iperf3",
    "libiperf0": "usr/lib/*/libiperf.so.0",
    "libsctp1": "usr/lib/*/libsctp.so.1",
}


class Tools(NamedTuple):
    """Files for the hosts, and what they are, by tool."""

    files: list[Path]
    versions: dict[str, str]


def prepare(lab: Lab, report: Report) -> Tools:
    """Return tcp_mmap, built from the tree that the lab builds, and iperf3 of this machine's Debian release.

    Raises:
        LabError: a source or a package can not be had, or does not compile.
        UsageError: the lab names no kernel tree, or one without tcp_mmap.
    """
    tree = kernel_tree(lab)
    mapping, identity = tcp_mmap(*tree, report)
    streaming, version = iperf3(report)
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


def tcp_mmap(source: Source, patches: tuple[Patch, ...], report: Report) -> tuple[Path, str]:
    """Return the program of a tree, built unless it was before, and which tree it is of.

    Raises:
        LabError: the tree can not be fetched, or the program does not compile.
        UsageError: the tree has no such program, or a patch does not apply to it.
    """
    require_tools(["cc"], _WHAT_FOR)
    resolved = sources.resolve(source)
    texts = tuple(text for text in patching.resolve(patches) if _touches(text))
    compiler = run(["cc", "--version"]).splitlines()[0]
    parts = [resolved.identity, *(text.sha256 for text in texts), compiler, _COMPANION.read_text("utf-8")]
    target = _cache() / f"tcp_mmap-{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"
    identity = " ".join([resolved.identity, *(f"with {text.name}" for text in texts)])
    if (target / "tcp_mmap").is_file():
        return target / "tcp_mmap", identity
    with locked(f"crosscheck-{target.name}", report), full_disk_named(_cache()):
        if not (target / "tcp_mmap").is_file():
            tree = sources.fetch(resolved, report)
            with appearing(target) as making:
                _compile(tree, texts, making, identity)
    return target / "tcp_mmap", identity


def _touches(text: PatchText) -> bool:
    return any(f"/{name}".encode() in text.diff for name in (_PROGRAM, _HEADER))


def _compile(tree: Path, texts: tuple[PatchText, ...], making: Path, identity: str) -> None:
    """Build the program, and leave nothing but it."""
    work = making / "work"
    for name in (_PROGRAM, _HEADER):
        if not (tree / name).is_file():
            raise UsageError(f"kernel source {identity}: has no {name}: tcp_mmap came with Linux 4.18")
        (work / name).parent.mkdir(parents=True)
        shutil.copy2(tree / name, work / name)
    _patch(work, texts)
    # Of the tree's own headers this one is enough; the others would have to be prepared by its build first.
    (work / "headers/linux").mkdir(parents=True)
    shutil.copy2(work / _HEADER, work / "headers/linux/tcp.h")
    # Since Linux 6.4 the program can hash what it receives, with libcrypto. One file that needs no library of
    # the host it runs on.
    command = ["cc", "-O2", "-static", "-pthread", "-isystem", str(work / "headers")]
    command += ["-o", str(making / "tcp_mmap"), str(work / _PROGRAM), str(_COMPANION), "-Wl,--wrap=mmap"]
    command += ["-lcrypto"]
    try:
        run(command)
    except CommandError as error:
        lines = [line.strip() for line in error.output.splitlines() if "error" in line]
        reason = (lines or [str(error)])[0]
        raise LabError(
            f"kernel source {identity}: tcp_mmap does not compile ({reason}): look for a tree where it does"
        ) from error
    shutil.rmtree(work)


def _patch(work: Path, texts: tuple[PatchText, ...]) -> None:
    """Apply what patches change in the program and its header; the rest of the tree is not there."""
    if texts:
        require_tools(["git"], _WHAT_FOR)
    for number, text in enumerate(texts):
        file = work / f"{number}.patch"
        file.write_bytes(text.diff)
        chosen = [f"--include={name}" for name in (_PROGRAM, _HEADER)]
        try:
            # The cache may lie in somebody's repository, which is none of this.
            run(
                ["git", "apply", *chosen, str(file)],
                cwd=work,
                environment={"GIT_CEILING_DIRECTORIES": str(work.parent)},
            )
        except CommandError as error:
            raise UsageError(
                f"patch {text.name} does not apply to tcp_mmap: {error}: rebase it onto the variant's source"
            ) from error


def iperf3(report: Report) -> tuple[list[Path], str]:
    """Return iperf3 and its libraries, as this machine's Debian release has them, and their version.

    They are unpacked and not installed. Raises LabError when apt-get can not download them.
    """
    require_tools(["apt-cache", "apt-get", "dpkg-deb"], _WHAT_FOR)
    version = _candidate("iperf3")
    target = _cache() / f"iperf3-{re.sub(r'[^A-Za-z0-9.+-]', '_', version)}"
    if not target.is_dir():
        with locked(f"crosscheck-{target.name}", report), full_disk_named(_cache()):
            if not target.is_dir():
                with appearing(target) as making:
                    _unpack(making, report)
    return sorted(target.iterdir()), f"iperf3 {version}"


def _candidate(package: str) -> str:
    found = re.search(r"^\s*Candidate: (\S+)", run(["apt-cache", "policy", package]), re.MULTILINE)
    if not found or found[1] == "(none)":
        raise LabError(f"package {package}: this machine's apt sources do not offer it: run `apt-get update`")
    return found[1]


def _unpack(making: Path, report: Report) -> None:
    report(f"downloading {', '.join(_PACKAGES)}")
    work = making / "work"
    work.mkdir()
    try:
        run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *_PACKAGES], cwd=work)
    except CommandError as error:
        raise LabError(
            f"packages {', '.join(_PACKAGES)}: apt-get can not download them: run `apt-get update` ({error})"
        ) from error
    for package, pattern in _PACKAGES.items():
        (archive,) = work.glob(f"{package}_*.deb")
        run(["dpkg-deb", "--extract", str(archive), str(work / package)])
        files = sorted((work / package).glob(pattern))
        if not files:
            raise LabError(f"package {package}: has no {pattern}: tell who maintains the cross-check")
        shutil.copy(files[0], making / files[0].name)  # what a link means, under its name
    shutil.rmtree(work)


def _cache() -> Path:
    directory = cache_dir() / "crosscheck"
    directory.mkdir(parents=True, exist_ok=True)
    return directory
