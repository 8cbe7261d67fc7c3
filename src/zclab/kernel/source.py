# SPDX-License-Identifier: Apache-2.0
"""Kernel source trees, fetched once and kept by identity.

An identity (a package version, a commit, a sha256) names one content for ever. It is found without fetching,
so that a caller can tell in a moment that there is nothing to do.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zclab.base.errors import LabError, UsageError
from zclab.base.files import require_space
from zclab.base.paths import kernel_cache, project_root
from zclab.base.process import NO_SPACE, CommandError, require_tools, run
from zclab.base.progress import Progress, quiet
from zclab.base.store import Store
from zclab.debian.archive import Archive, archive, complaint
from zclab.debian.sources import HERE, Machine
from zclab.kernel.spec import DebianSource, GitSource, Source, TarballSource

# An unpacked tree takes 1.5 GB, its archive 0.15 GB.
SPACE_BYTES = 2 * 1024**3

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# git can run commands named by a URL (ext::...): only those that fetch are allowed.
_GIT_ENVIRONMENT = {"GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}


@dataclass(frozen=True)
class ResolvedSource:
    """One exact content: `identity` is part of an artifact's key.

    ref: what git fetches for it; archive: where a Debian package is downloaded.
    """

    source: Source
    identity: str
    ref: str = ""
    archive: Archive | None = None

    @property
    def directory(self) -> Path:
        """Return where the tree lies when it has been fetched."""
        digest = hashlib.sha256(self.identity.encode()).hexdigest()[:16]
        return trees().path(f"{self.source.kind}-{digest}")


def resolve(source: Source, on_progress: Progress = quiet, machine: Machine = HERE) -> ResolvedSource:
    """Return the exact content that a source means now, without fetching it.

    A suite of Debian is not part of it: the same version is the same content in any.

    Raises UsageError when there is no such thing, LabError when that cannot be found out.
    """
    if isinstance(source, DebianSource):
        offered = archive(source.suite, machine)
        version = source.version or offered.candidate(source.package, on_progress)
        return ResolvedSource(source, f"debian {source.package} {version}", archive=offered)
    if isinstance(source, GitSource):
        commit, ref = _git_commit(source)
        return ResolvedSource(source, f"git {commit}", ref)
    return ResolvedSource(source, f"tarball {source.sha256}")


def fetch(resolved: ResolvedSource, on_progress: Progress) -> Path:
    """Return the directory that holds the tree, and fetch it first if it is not there yet.

    Nobody may change it. Raises UsageError or LabError, one line that names the source.
    """
    target, source = resolved.directory, resolved.source

    def make(tree: Path) -> None:
        require_space(tree.parent, SPACE_BYTES, "unpacking a kernel source")
        if isinstance(source, DebianSource):
            _unpack_debian(source, resolved, tree, on_progress)
        elif isinstance(source, GitSource):
            _check_out(source, resolved, tree, on_progress)
        else:
            _unpack_tarball(source, tree, on_progress)
        for needed in ("Makefile", "Kconfig", "scripts"):
            if not (tree / needed).exists():
                raise UsageError(
                    f"kernel source {resolved.identity}: no Linux source tree, it has no {needed}"
                )

    trees().ensure(target.name, make, on_progress)
    return target


def trees() -> Store:
    """Return the store of unpacked trees."""
    return Store(kernel_cache() / "sources", "kernel source")


# --- a Debian source package


def _unpack_debian(source: DebianSource, resolved: ResolvedSource, tree: Path, on_progress: Progress) -> None:
    require_tools(["dpkg-deb", "tar", "xz"], "a kernel source of kind debian")
    version = resolved.identity.split()[-1]
    download = tree / ".download"
    download.mkdir()
    assert resolved.archive is not None
    package = resolved.archive.download(source.package, version, download, on_progress)
    on_progress(f"unpacking {source.package} {version}")
    run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2"', "sh", str(package), str(download)])
    package.unlink()
    archives = list(download.glob("usr/src/linux-source-*.tar.*"))
    if len(archives) != 1:
        raise UsageError(f"kernel source package {source.package} {version}: no source archive in it")
    _untar(archives[0], tree, source.package)
    shutil.rmtree(download)


# --- git


def _git(arguments: Sequence[str], **environment: str) -> str:
    return run(["git", "-c", "core.autocrlf=false", *arguments], environment=_GIT_ENVIRONMENT | environment)


def _git_commit(source: GitSource) -> tuple[str, str]:
    """Return the commit that a ref stands for, and the name to fetch it by."""
    if _COMMIT.fullmatch(source.ref):
        return source.ref, source.ref
    require_tools(["git"], "a kernel source of kind git")
    try:
        listing = _git(["ls-remote", "--", source.url, source.ref, f"{source.ref}^{{}}"])
    except CommandError as error:
        raise LabError(
            f"kernel source {source.url}: git cannot read it: check the url and the network "
            f"({complaint(error)})"
        ) from error
    refs: dict[str, str] = {}
    for line in listing.splitlines():
        if found := re.fullmatch(r"([0-9a-f]{40,64})\t(\S+)", line):
            refs[found[2]] = found[1]
    # The order in which git itself looks for a short name. A tag object (^{}) stands for its commit.
    for name in (source.ref, f"refs/{source.ref}", f"refs/tags/{source.ref}", f"refs/heads/{source.ref}"):
        if name in refs:
            return refs.get(f"{name}^{{}}", refs[name]), name
    raise UsageError(f"kernel source {source.url}: no branch or tag {source.ref!r} there: correct the ref")


def _check_out(source: GitSource, resolved: ResolvedSource, tree: Path, on_progress: Progress) -> None:
    require_tools(["git"], "a kernel source of kind git")
    commit = resolved.identity.split()[-1]
    on_progress(f"fetching {source.ref} ({commit[:12]}) of {source.url}")
    repository = tree / ".git"
    _git(["init", "--quiet", "--bare", str(repository)])
    try:
        options = ["--quiet", "--depth=1", "--no-tags"]
        _git(["-C", str(repository), "fetch", *options, "--", source.url, resolved.ref])
    except CommandError as error:
        raise LabError(
            f"kernel source {source.url}: git cannot fetch {source.ref}: check the ref and the network "
            f"({complaint(error)})"
        ) from error
    fetched = _git(["-C", str(repository), "rev-parse", "FETCH_HEAD^{commit}"]).strip()
    if fetched != commit:
        raise LabError(
            f"kernel source {source.url}: {source.ref} moved from {commit[:12]} to {fetched[:12]} meanwhile: "
            "try again"
        )
    git_dir = [f"--git-dir={repository}", f"--work-tree={tree}"]
    _git([*git_dir, "read-tree", commit])
    _git([*git_dir, "checkout-index", "--all", "--quiet", f"--prefix={tree}/"])
    # A repository around the tree would put its own state into the kernel's version.
    shutil.rmtree(repository)


# --- a tarball


def _unpack_tarball(source: TarballSource, tree: Path, on_progress: Progress) -> None:
    require_tools(["tar"], "a kernel source of kind tarball")
    place = source.path or source.url or ""
    if source.path is not None:
        archive = Path(os.path.expandvars(source.path)).expanduser()
        archive = archive if archive.is_absolute() else project_root() / archive
        if not archive.is_file():
            raise UsageError(f"kernel source {source.path}: no such file: correct the path (tried {archive})")
    else:
        on_progress(f"downloading {place}")
        archive = tree / ".download"
        _download(place, archive)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise UsageError(
            f"kernel source {place}: its sha256 is {found}, {source.sha256} was expected: "
            "fetch it again or correct sha256"
        )
    on_progress(f"unpacking {place}")
    _untar(archive, tree, place)
    if source.url:
        archive.unlink()


def _download(url: str, target: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file, 1024 * 1024)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise LabError(
            f"kernel source {url}: cannot download it: check the url and the network ({reason})"
        ) from error


def _untar(archive: Path, tree: Path, what: str) -> None:
    """Unpack the one directory that an archive holds as `tree`."""
    with archive.open("rb") as file:
        parallel_xz = file.read(6) == b"\xfd7zXZ\x00"
    unpacked = tree / ".unpacked"
    unpacked.mkdir()
    decompress = ["--use-compress-program=xz -T0"] if parallel_xz else []
    try:
        run(["tar", *decompress, "-x", "--no-same-owner", "-f", str(archive), "-C", str(unpacked)])
    except CommandError as error:
        if NO_SPACE in error.output:
            raise
        raise UsageError(f"kernel source {what}: tar cannot unpack it ({complaint(error)})") from error
    tops = list(unpacked.iterdir())
    if len(tops) != 1 or not tops[0].is_dir():
        raise UsageError(f"kernel source {what}: it must hold one directory, it holds {len(tops)} things")
    for entry in tops[0].iterdir():
        entry.rename(tree / entry.name)
    shutil.rmtree(unpacked)
