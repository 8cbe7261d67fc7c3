# SPDX-License-Identifier: Apache-2.0
"""Getting the tools that zclab is compared with: from which tree, with which patches, once."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import factories
from tests.apt_repository import Repository, deb
from tests.kernel_fake import tarball_of

from zclab.base.errors import LabError, UsageError
from zclab.debian.archive import archive
from zclab.kernel.spec import PatchFile, TarballSource
from zclab.suites.crosscheck import tools

PROGRAM = """\
#include <linux/tcp.h>
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    printf("answer %d\\n", TREE_ANSWER);
    _exit(0);
}
"""
HEADER = "#define TREE_ANSWER 1\n"
PATCH = """\
--- a/include/uapi/linux/tcp.h
+++ b/include/uapi/linux/tcp.h
@@ -1 +1 @@
-#define TREE_ANSWER 1
+#define TREE_ANSWER 2
--- a/net/ipv4/tcp.c
+++ b/net/ipv4/tcp.c
@@ -1 +1 @@
-old
+new
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, within a git repository: what is around it must not matter."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(tmp_path: Path, program: str = PROGRAM) -> TarballSource:
    return tarball_of(
        tmp_path,
        {
            "tools/testing/selftests/net/tcp_mmap.c": program,
            "include/uapi/linux/tcp.h": HEADER,
            "net/ipv4/tcp.c": "old\n",
        },
    )


def output(program: Path) -> str:
    return subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout


def quiet(line: str) -> None:
    """Take what is reported, for nobody."""


def test_the_program_is_of_the_tree_and_loses_no_line(tmp_path: Path) -> None:
    """It is built against the tree's header, and prints each line at once: this one ends without flushing."""
    path, identity = tools.tcp_mmap(whole(tmp_path), (), quiet)
    assert output(path) == "answer 1\n"
    assert identity.startswith("tarball ")
    assert [entry.name for entry in path.parent.iterdir()] == ["tcp_mmap"]
    told = subprocess.run(["file", str(path)], capture_output=True, text=True, check=False).stdout
    assert not told or "statically linked" in told


def test_it_is_built_once(tmp_path: Path) -> None:
    of = whole(tmp_path)
    path, _ = tools.tcp_mmap(of, (), quiet)
    made = path.stat().st_mtime_ns
    assert tools.tcp_mmap(of, (), quiet)[0] == path
    assert path.stat().st_mtime_ns == made


def test_the_variants_patches_are_in_it(tmp_path: Path) -> None:
    """Of a patch only what concerns the program is applied: the rest of the tree is not there."""
    patch = tmp_path / "one.patch"
    patch.write_text(PATCH, encoding="utf-8")
    of = whole(tmp_path)
    plain, _ = tools.tcp_mmap(of, (), quiet)
    path, identity = tools.tcp_mmap(of, (PatchFile(file=str(patch)),), quiet)
    assert path != plain
    assert output(path) == "answer 2\n"
    assert "one.patch" in identity


def test_a_patch_of_something_else_changes_nothing(tmp_path: Path) -> None:
    patch = tmp_path / "other.patch"
    patch.write_text(PATCH[PATCH.index("--- a/net") :], encoding="utf-8")
    of = whole(tmp_path)
    assert tools.tcp_mmap(of, (PatchFile(file=str(patch)),), quiet) == tools.tcp_mmap(of, (), quiet)


def test_a_patch_that_does_not_apply(tmp_path: Path) -> None:
    patch = tmp_path / "bad.patch"
    patch.write_text(PATCH.replace("TREE_ANSWER 1", "TREE_ANSWER 7"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"bad\.patch does not apply to tcp_mmap") as caught:
        tools.tcp_mmap(whole(tmp_path), (PatchFile(file=str(patch)),), quiet)
    assert len(str(caught.value).splitlines()) == 1


def test_a_tree_without_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no tools/testing/selftests/net/tcp_mmap\.c"):
        tools.tcp_mmap(tarball_of(tmp_path, {}), (), quiet)


def test_a_program_that_does_not_compile(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(LabError, match=r"tcp_mmap does not compile \(.*error: .*nosuch") as caught:
        tools.tcp_mmap(whole(tmp_path, "int main(void) { return nosuch; }\n"), (), quiet)
    assert len(str(caught.value).splitlines()) == 1
    assert list((cache / "crosscheck").iterdir()) == []


def test_the_tree_is_the_labs_own() -> None:
    lab = factories.lab("virtual")
    variant = lab.kernel_variants["full"]
    assert tools.kernel_tree(lab) == (variant.source, variant.patches)
    spaces = factories.lab("namespaces")
    assert spaces.crosscheck is not None
    assert tools.kernel_tree(spaces) == (spaces.crosscheck.source, ())
    with pytest.raises(UsageError, match=r"zclab_crosscheck\.source names no tree"):
        tools.kernel_tree(spaces.model_copy(update={"crosscheck": None}))


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """The mirror of a machine of Debian 13, empty as yet."""
    with tempfile.TemporaryDirectory(prefix="zc") as directory:
        made = Repository(Path(directory))
        monkeypatch.setattr(tools, "archive", lambda suite: archive(suite, made.machine("trixie")))
        yield made
        made.close()


def test_a_package_that_is_not_offered(repository: Repository) -> None:
    repository.publish("trixie", [])
    repository.publish("bookworm", [deb(repository.directory, "iperf2", "1")])
    closest = "Debian bookworm does not offer it: the closest that it offers is iperf2"
    with pytest.raises(UsageError, match=f"^package iperf3: {closest}$"):
        tools.iperf3(quiet)


def test_iperf3_is_of_the_oldest_release_that_hosts_run(repository: Repository) -> None:
    files = {
        "iperf3": "usr/bin/iperf3",
        "libiperf0": "usr/lib/x/libiperf.so.0",
        "libsctp1": "usr/lib/x/libsctp.so.1",
    }
    for suite in ("trixie", "bookworm"):
        directory = repository.directory / suite
        directory.mkdir()
        debs = [deb(directory, name, f"1-{suite}", {path: b""}) for name, path in files.items()]
        repository.publish(suite, debs)
    found, version = tools.iperf3(quiet)
    assert version == "iperf3 1-bookworm"
    assert [file.name for file in found] == ["iperf3", "libiperf.so.0", "libsctp.so.1"]
