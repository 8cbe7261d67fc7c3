# SPDX-License-Identifier: Apache-2.0
"""Kernel sources: what they resolve to, what a fetched tree looks like, what a wrong one says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests import kernel_fake

from zclab.base import process
from zclab.base.errors import LabError, UsageError
from zclab.kernel import source
from zclab.kernel.spec import KernelVariant

pytestmark = pytest.mark.usefixtures("cache")


def resolve(data: dict[str, Any]) -> source.ResolvedSource:
    return source.resolve(KernelVariant.model_validate({"source": data}).source)


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


def test_debian_version_is_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "run", lambda command: "linux-source-9.9:\n  Candidate: 9.9.1-2\n")
    monkeypatch.setattr(source, "require_tools", lambda *_: None)
    assert (
        resolve({"kind": "debian", "package": "linux-source-9.9"}).identity
        == "debian linux-source-9.9 9.9.1-2"
    )
    pinned = resolve({"kind": "debian", "package": "linux-source-9.9", "version": "9.9.0-1"})
    assert pinned.identity == "debian linux-source-9.9 9.9.0-1"


def test_debian_unknown_package() -> None:
    with pytest.raises(UsageError, match=r"linux-source-0.0: this machine's apt sources do not offer it"):
        resolve({"kind": "debian", "package": "linux-source-0.0"})


def test_debian_package_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package made here stands in for the real one; the kernel tests use the real one."""
    root = tmp_path / "package"
    (root / "DEBIAN").mkdir(parents=True)
    control = (
        "Package: linux-source-9.9",
        "Version: 9.9",
        "Architecture: all",
        "Maintainer: t <t@t.invalid>",
    )
    (root / "DEBIAN/control").write_text("\n".join([*control, "Description: t", ""]))
    (root / "usr/src").mkdir(parents=True)
    archive = Path(kernel_fake.tarball(tmp_path)["path"])
    archive.rename(root / "usr/src/linux-source-9.9.tar.xz")
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "x.deb"], check=True, capture_output=True)
    really_run = process.run

    def run(command: list[str], cwd: Path | None = None, environment: Any = None) -> str:
        if command[0] == "apt-get":
            assert command[-1] == "linux-source-9.9=9.9" and cwd is not None
            shutil.copy(tmp_path / "x.deb", cwd / "linux-source-9.9_9.9_all.deb")
            return ""
        return really_run(command, cwd, environment)

    monkeypatch.setattr(source, "run", run)
    tree = source.fetch(resolve({"kind": "debian", "package": "linux-source-9.9", "version": "9.9"}), print)
    assert (tree / "Makefile").is_file() and not list(tree.glob(".*"))


def test_full_disk_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(LabError, match=r"sources: unpacking a kernel source needs \d+ bytes free, 1000 are"):
        source.fetch(resolve(kernel_fake.tarball(tmp_path)), print)
