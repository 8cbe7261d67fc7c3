# SPDX-License-Identifier: Apache-2.0
"""Keys of kernels, errors of compilers, and the store of artifacts."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from zclab.base.errors import InvalidError, LabError
from zclab.kernel import artifact, build, compilation
from zclab.kernel.compilation import Compilation
from zclab.kernel.patches import PatchText, blamed

pytestmark = pytest.mark.usefixtures("cache")


def test_each_input_makes_another_key() -> None:
    record = artifact.PatchRecord(name="a", sha256="1")
    other = artifact.PatchRecord(name="b", sha256="2")
    base: dict[str, Any] = {
        "source": "s",
        "patches": (record, other),
        "config": "CONFIG_A=y\n",
        "compiler": "gcc 1",
        "linker": "ld 1",
        "recipe": 1,
    }
    changes: dict[str, Any] = {
        "source": "t",
        "patches": (other, record),
        "config": "CONFIG_A=m\n",
        "compiler": "gcc 2",
        "linker": "ld 2",
        "recipe": 2,
    }
    key = artifact.artifact_key(**base)
    assert re.fullmatch(r"[0-9a-f]{64}", key) and artifact.artifact_key(**base) == key
    assert (
        len({key} | {artifact.artifact_key(**base | {name: value}) for name, value in changes.items()}) == 7
    )
    renamed = record.model_copy(update={"name": "elsewhere/a"})
    assert artifact.artifact_key(**base | {"patches": (renamed, other)}) == key


def steps(tmp_path: Path, expected: int, report: Any) -> compilation.Compilation:
    return compilation.Compilation(tmp_path, "", tmp_path / "log", "kernel x", expected, report)


def test_progress_counts_against_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_REPORT_SECONDS", 0.0)
    (tmp_path / "Makefile").write_text(
        "all:\n\t@echo '  CC      a.o'; echo '  AS [M]  b.o'; echo '  LD      c'; echo '  HOSTCC  d'\n"
    )
    lines: list[str] = []
    run = steps(tmp_path, 4, lines.append)
    run.compile()
    assert run.objects == 2
    assert [line.partition(",")[0] for line in lines] == [
        "kernel x: 1 of about 4 objects compiled (25 %)",
        "kernel x: 2 of about 4 objects compiled (50 %)",
        "kernel x: 2 objects compiled",
    ]


@pytest.mark.parametrize(
    ("output", "first"),
    [
        ("make[2]: *** [x] Error 1\na.c:1:2: error: one\nb.c:3:4: error: two", "a.c:1:2: error: one"),
        ("ld: a.o: in function f:\na.c:(.text+0x1): undefined reference to `g'", "ld: a.o: in function f:"),
        ("/tmp/x.s:7: Error: no such instruction", "/tmp/x.s:7: Error: no such instruction"),
        ("../h.h:1:10: fatal error: x.h: No such file", "../h.h:1:10: fatal error: x.h: No such file"),
    ],
)
def test_first_error(tmp_path: Path, output: str, first: str) -> None:
    (tmp_path / "output").write_text(output + "\n")
    (tmp_path / "Makefile").write_text("all:\n\t@cat output; exit 1\n")
    with pytest.raises(LabError, match=re.escape(f"kernel x does not build: {first}: correct")):
        steps(tmp_path, 0, print).compile()


DIFF = """\
--- a/net/a.c
+++ b/net/a.c
@@ -1,3 +1,4 @@
@@ -10,2 +11,5 @@ int f(void)
--- /dev/null
+++ b/net/b.h
@@ -0,0 +1,20 @@
"""


def test_a_line_is_blamed_on_the_last_patch_that_has_it() -> None:
    first = PatchText("one.patch", DIFF.encode())
    second = PatchText("two.patch", b"--- a/net/a.c\n+++ b/net/a.c\n@@ -12 +12 @@\n")
    assert blamed([first], "net/a.c", 3) == "patch one.patch, hunk 1"
    assert blamed([first], "net/a.c", 15) == "patch one.patch, hunk 2"
    assert blamed([first, second], "net/a.c", 12) == "patch two.patch, hunk 1"
    assert blamed([first, second], "net/a.c", 99) == "patch two.patch"
    assert blamed([first, second], "net/b.h", 20) == "patch one.patch, hunk 1"
    assert blamed([first, second], "net/c.c", 1) is None


@pytest.mark.parametrize(
    ("output", "warning"),
    [
        ("../net/a.c:12:3: warning: unused variable", "patch one.patch, hunk 2"),
        ("net/b.h:5: warning: discards const\nnet/a.c:1:1: warning: later", "net/b.h:5: warning: discards"),
    ],
)
def test_a_patch_that_warns_is_refused(tmp_path: Path, output: str, warning: str) -> None:
    (tmp_path / "output").write_text(output + "\n")
    (tmp_path / "Makefile").write_text("all:\n\t@cat output\n")
    report: list[str] = []
    run = Compilation(
        tmp_path, "", tmp_path / "log", "kernel x", 0, report.append, [PatchText("one.patch", DIFF.encode())]
    )
    with pytest.raises(InvalidError, match="kernel x builds with a warning: ") as caught:
        run.compile()
    assert warning in str(caught.value) and "one.patch" in str(caught.value)


def test_what_the_tree_itself_warns_of_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("../fs/select.c:612:1: warning: the frame size is large\n")
    (tmp_path / "Makefile").write_text("all:\n\t@cat output\n")
    report: list[str] = []
    Compilation(
        tmp_path, "", tmp_path / "log", "kernel x", 0, report.append, [PatchText("one.patch", DIFF.encode())]
    ).compile()
    assert report


def fill(key: str, age_seconds: float) -> artifact.BuiltArtifact:
    made = artifact.BuiltArtifact(
        key=key,
        variant="stock",
        release="1",
        build_id="2",
        deb="x.deb",
        deb_sha256="3",
        size_bytes=5,
        source="s",
        patches=(),
        config_sha256="4",
        compiler="c",
        linker="l",
        recipe=1,
        objects=1,
        build_seconds=1.0,
        built_at="2020-01-01T00:00:00+00:00",
    )

    def make(directory: Path) -> None:
        (directory / "x.deb").write_bytes(b"12345")
        artifact.write(directory, made)

    assert artifact.artifacts().ensure(key, make)
    used = time.time() - age_seconds
    os.utime(made.directory, (used, used))
    return made


def keys() -> list[str]:
    return [entry.artifact.key[0] for entry in artifact.stored()]


def test_prune_keeps_the_last_used() -> None:
    for name, age in (("a", 9000), ("b", 7000), ("c", 8000)):
        fill(name * 64, age)
    assert keys() == ["b", "c", "a"]
    assert artifact.lookup("a" * 64) is not None
    assert keys() == ["a", "b", "c"], "looking one up is using it"
    assert [removed.key[0] for removed in artifact.prune(1)] == ["b", "c"]
    assert keys() == ["a"]
    assert artifact.prune(0) == [], "it was asked for just now"


def test_prune_never_touches_one_in_use() -> None:
    used = fill("a" * 64, 9000)
    fill("b" * 64, 8000)
    with artifact.using(used):
        assert [removed.key[0] for removed in artifact.prune(0)] == ["b"]
    assert [removed.key[0] for removed in artifact.prune(0)] == ["a"]
    with pytest.raises(LabError, match="it was removed"), artifact.using(used):
        pass


def test_half_an_artifact_is_none() -> None:
    made = fill("a" * 64, 0)
    (made.directory / "x.deb").write_bytes(b"123")
    assert artifact.lookup(made.key) is None and artifact.stored() == []
    (made.directory / "x.deb").write_bytes(b"12345")
    assert artifact.lookup(made.key) == made
    (made.directory / "artifact.json").write_text('{"key": "x"}')
    assert artifact.lookup(made.key) is None


@pytest.mark.parametrize(
    ("objects", "processors", "words"),
    [(11000, 2, "about 58 min on 2 processors"), (1358, 2, "about 7 min"), (20, 8, "about 1 min on 8")],
)
def test_what_a_build_takes_is_said_beforehand(objects: int, processors: int, words: str) -> None:
    said = build._outlook(objects, processors)
    assert said.startswith(f"about {objects} objects to compile: ") and words in said
