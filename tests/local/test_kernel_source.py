# SPDX-License-Identifier: Apache-2.0
"""Kernel sources: what they resolve to, what a fetched tree looks like, what a wrong one says."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import kernel_fake
from tests.apt_repository import Repository, deb

from zclab.base.errors import LabError, UsageError
from zclab.debian.sources import HERE, Machine
from zclab.kernel import source
from zclab.kernel.spec import KernelVariant

pytestmark = pytest.mark.usefixtures("cache")


def resolve(data: dict[str, Any], machine: Machine = HERE) -> source.ResolvedSource:
    return source.resolve(KernelVariant.model_validate({"source": data}).source, machine=machine)


def nothing_left(cache: Path) -> bool:
    return not list((cache / "kernel/sources").glob("*")) and not list((cache / "kernel/sources").glob(".*"))


def test_tarball(tmp_path: Path) -> None:
    resolved = resolve(kernel_fake.tarball(tmp_path))
    lines: list[str] = []
    tree = source.fetch(resolved, lines.append)
    assert (tree / "init/main.c").read_text() == (kernel_fake.DATA / "tree/init/main.c").read_text()
    assert len(lines) == 1 and "unpacking" in lines[0]
    assert source.fetch(resolved, lines.append) == tree and len(lines) == 1, "fetched a second time"
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]
    assert not [path for path in tree.iterdir() if path.name.startswith(".")]


def test_tarball_by_url(tmp_path: Path) -> None:
    data = kernel_fake.tarball(tmp_path)
    data["url"] = f"file://{data.pop('path')}"
    tree = source.fetch(resolve(data), print)
    assert (tree / "Makefile").is_file() and not list(tree.glob(".*"))


def test_wrong_sha256_names_both(tmp_path: Path, cache: Path) -> None:
    data = kernel_fake.tarball(tmp_path)
    right, data["sha256"] = data["sha256"], "0" * 64
    with pytest.raises(UsageError) as caught:
        source.fetch(resolve(data), print)
    assert right in str(caught.value) and "0" * 64 in str(caught.value) and "\n" not in str(caught.value)
    assert nothing_left(cache)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "/nonexistent/x.tar"}, "no such file"),
        ({"path": None, "url": "file:///nonexistent/x.tar"}, "cannot download"),
    ],
)
def test_missing_tarball(tmp_path: Path, cache: Path, change: dict[str, Any], words: str) -> None:
    data = kernel_fake.tarball(tmp_path) | change
    with pytest.raises((UsageError, LabError), match=words):
        source.fetch(resolve(data), print)
    assert nothing_left(cache)


def test_not_a_kernel(tmp_path: Path, cache: Path) -> None:
    tree = kernel_fake.tree(tmp_path / "linux-9.9")
    shutil.rmtree(tree / "scripts")
    archive = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", archive, "-C", tmp_path, "linux-9.9"], check=True)
    (tmp_path / "other").mkdir()
    data = kernel_fake.tarball(tmp_path / "other")
    digest = subprocess.run(
        ["sha256sum", archive], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    with pytest.raises(UsageError, match="no Linux source tree"):
        source.fetch(resolve(data | {"path": str(archive), "sha256": digest}), print)
    assert nothing_left(cache)


@pytest.mark.parametrize("ref", ["v9.9", "main", "refs/heads/main", "refs/tags/v9.9", "tags/v9.9"])
def test_git_ref(tmp_path: Path, ref: str) -> None:
    data, commit = kernel_fake.repository(tmp_path / "repository")
    resolved = resolve(data | {"ref": ref})
    assert resolved.identity == f"git {commit}"
    tree = source.fetch(resolved, print)
    assert (tree / "Makefile").is_file() and not (tree / ".git").exists()


def test_git_commit_needs_no_network(tmp_path: Path) -> None:
    data, commit = kernel_fake.repository(tmp_path / "repository")
    tree = source.fetch(resolve(data), print)
    shutil.rmtree(tmp_path / "repository")
    assert source.fetch(resolve(data | {"ref": commit}), print) == tree


def test_git_wrong_ref(tmp_path: Path, cache: Path) -> None:
    data, _ = kernel_fake.repository(tmp_path / "repository")
    with pytest.raises(UsageError, match=r"no branch or tag 'v9.10' there"):
        resolve(data | {"ref": "v9.10"})
    with pytest.raises(LabError, match="cannot read it"):
        resolve(data | {"url": f"file://{tmp_path}/nowhere"})
    with pytest.raises(LabError, match="cannot fetch"):
        source.fetch(resolve(data | {"ref": "1" * 40}), print)
    assert nothing_left(cache)


def test_git_runs_no_commands(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with pytest.raises(LabError):
        resolve({"kind": "git", "url": f"ext::sh -c touch% {witness}", "ref": "main"})
    assert not witness.exists()


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Machine]:
    """A machine of Debian 13, whose mirror has one kernel source for Debian 12 and another for 13."""
    archive = Path(kernel_fake.tarball(tmp_path)["path"]).read_bytes()
    with tempfile.TemporaryDirectory(prefix="zc") as directory:
        repository = Repository(Path(directory))
        for suite, name in {"bookworm": "linux-source-9.9", "trixie": "linux-source-9.91"}.items():
            files = {f"usr/src/{name}.tar.xz": archive}
            repository.publish(suite, [deb(repository.directory, name, f"{name[13:]}.1-2", files)])
        yield repository.machine("trixie")
        repository.close()


def test_debian_version_is_the_candidate_of_the_suite(debian: Machine) -> None:
    old = {"kind": "debian", "package": "linux-source-9.9", "suite": "bookworm"}
    assert resolve(old, debian).identity == "debian linux-source-9.9 9.9.1-2"
    pinned = resolve(old | {"version": "9.9.0-1"}, debian)
    assert pinned.identity == "debian linux-source-9.9 9.9.0-1"
    newer = {"kind": "debian", "package": "linux-source-9.91"}
    assert resolve(newer, debian).identity == "debian linux-source-9.91 9.91.1-2"
    assert resolve(newer | {"suite": "trixie"}, debian).identity == resolve(newer, debian).identity


def test_debian_unknown_package(debian: Machine) -> None:
    """apt would take the name for a pattern, and 9.91 for 9.9."""
    asked = {"kind": "debian", "package": "linux-source-9.9"}
    reason = "Debian trixie does not offer it: the closest that it offers is linux-source-9.91"
    with pytest.raises(UsageError, match=f"^package linux-source-9.9: {reason}$"):
        resolve(asked, debian)
    with pytest.raises(UsageError, match=reason):
        source.fetch(resolve(asked | {"version": "9.91.1-2"}, debian), print)


def test_debian_package_is_unpacked(debian: Machine) -> None:
    """A package made here stands in for the real one; the kernel tests use the real one."""
    asked = {"kind": "debian", "package": "linux-source-9.9", "suite": "bookworm"}
    tree = source.fetch(resolve(asked, debian), print)
    assert (tree / "Makefile").is_file() and not list(tree.glob(".*"))


def test_full_disk_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(LabError, match=r"sources: unpacking a kernel source needs \d+ bytes free, 1000 are"):
        source.fetch(resolve(kernel_fake.tarball(tmp_path)), print)
