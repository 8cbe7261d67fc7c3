# SPDX-License-Identifier: Apache-2.0
"""The traffic tool on the controller: one build for each state of the source, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.role_modules import write_tree
from tests.steering import STEERING

from zclab.base import c_program
from zclab.base.errors import ZclabError
from zclab.base.paths import project_root
from zclab.traffic import binary as tool

MAKEFILE = "all:\n\tmkdir -p $(OUT)\n\techo built >>../../../builds\n\t$(CC) -o $(OUT)/zclab-traffic main.c\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {"Makefile": MAKEFILE, "main.c": "int main(void) { return 7; }\n", "notes.txt": "1\n"}
    return write_tree(tmp_path / "source", files)


def test_builds_once(source: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: tool.build(source, tmp_path), range(4)))
    assert sum(result.changed for result in done) == 1
    assert len({result.path for result in done}) == 1
    assert done[0].path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "builds").read_text(encoding="utf-8") == "built\n"
    assert tool.build(source, tmp_path).changed is False
    assert list((tmp_path / "traffic").iterdir()) == [done[0].path.parent]
    assert [path.name for path in done[0].path.parent.iterdir()] == ["zclab-traffic"]


def test_key_follows_source_and_compiler(source: Path) -> None:
    key = c_program.source_key(source, "cc 1")
    write_tree(source, {"notes.txt": "2\n"})
    assert c_program.source_key(source, "cc 1") == key
    assert c_program.source_key(source, "cc 2") != key
    write_tree(source, {"main.c": "int main(void) { return 8; }\n"})
    assert c_program.source_key(source, "cc 1") != key


def test_failure_is_the_first_error_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    write_tree(source, {"main.c": "int main(void) { return nosuch; }\n"})
    with pytest.raises(ZclabError, match=r"does not compile: main\.c:1:\d+: error: .*nosuch") as error:
        tool.build(source, tmp_path)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "traffic").iterdir()) == []
    write_tree(source, {"main.c": "int main(void) { return 0; }\n"})
    assert tool.build(source, tmp_path).changed


def test_the_command_that_make_prints_is_no_error() -> None:
    output = "cc -Wall -Werror -o tool main.c\nmain.c: In function 'main':\nmain.c:1:2: error: 'x' undeclared"
    assert c_program.first_error(output) == "main.c:1:2: error: 'x' undeclared"


def test_what_is_built_and_its_key_do_not_depend_on_a_users_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tool.build(project_root() / "traffic", tmp_path / "plain").path
    for name, value in STEERING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "cc").write_text('#!/bin/sh\nexec /usr/bin/cc -DSTEERED -O0 "$@"\n')
    (tmp_path / "cc").chmod(0o755)
    steered = tool.build(project_root() / "traffic", tmp_path / "steered").path
    assert steered.parent.name == plain.parent.name
    assert steered.read_bytes() == plain.read_bytes()


def test_missing_pieces_are_one_line(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZclabError, match="Makefile is missing"):
        tool.build(tmp_path / "none", tmp_path)
    monkeypatch.setattr(c_program, "_COMPILER", "no-such-compiler")
    with pytest.raises(ZclabError, match="no-such-compiler does not run on this machine"):
        tool.build(source, tmp_path)


def test_the_sha256_is_that_of_what_was_built(source: Path, tmp_path: Path) -> None:
    assert tool.built_sha256(source, tmp_path) is None
    path = tool.build(source, tmp_path).path
    assert tool.built_sha256(source, tmp_path) == hashlib.sha256(path.read_bytes()).hexdigest()
    write_tree(source, {"main.c": "int main(void) { return 8; }\n"})
    assert tool.built_sha256(source, tmp_path) is None
    assert tool.built_sha256(tmp_path / "none", tmp_path) is None
