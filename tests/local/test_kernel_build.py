# SPDX-License-Identifier: Apache-2.0
"""Building, with a tree that takes a second: once, whole or not at all, and under the right key."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from tests import kernel_fake

from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.kernel import artifact, build, compilation
from zclab.kernel.compilation import Compilation
from zclab.kernel.drivers import Requirement
from zclab.kernel.patches import PatchText, blamed
from zclab.kernel.spec import KernelVariant

PATCH = {"file": str(kernel_fake.PATCHES / "answer.patch")}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_BUILDS", str(tmp_path / "builds"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Any]:
    return kernel_fake.tarball(tmp_path)


def builds(tmp_path: Path) -> int:
    return len((tmp_path / "builds").read_text().splitlines()) if (tmp_path / "builds").exists() else 0


def leftovers(cache: Path) -> list[str]:
    """Return what a build left besides whole things."""
    kernel = cache / "kernel"
    found = [*(kernel / "build").glob("*"), *(kernel / "build").glob(".*"), *kernel.glob("*/.making-*")]
    incomplete = [path for path in (kernel / "artifacts").glob("*") if not (path / "artifact.json").exists()]
    return [str(path) for path in found + incomplete]


def test_artifact_is_whole(source: dict[str, Any], cache: Path) -> None:
    lines: list[str] = []
    result = build.build("stock", kernel_fake.variant(source, [PATCH]), on_progress=lines.append)
    made = result.artifact
    assert result.changed
    assert [timing.part for timing in result.timings] == [
        "kernel source",
        "kernel configuration",
        "kernel compile",
        "kernel package",
    ]
    assert made.release == f"9.9.0-zclab-{made.key[:10]}"
    assert made.directory == cache / "kernel/artifacts" / made.key
    assert sorted(path.name for path in made.directory.iterdir()) == [
        "artifact.json",
        "build.log",
        "config",
        f"linux-image-{made.release}_1_amd64.deb",
    ]
    assert json.loads((made.directory / "artifact.json").read_text()) == made.model_dump(mode="json")
    assert re.fullmatch(r"[0-9a-f]{40}", made.build_id)
    assert made.patches[0].name.endswith("answer.patch") and made.objects == 1
    assert any("packaging" in line for line in lines)
    assert leftovers(cache) == []


def test_second_time_builds_nothing(source: dict[str, Any], tmp_path: Path) -> None:
    variant = kernel_fake.variant(source)
    assert build.find("stock", variant) is None
    first = build.build("stock", variant)
    lines: list[str] = []
    second = build.build("again", variant, on_progress=lines.append)
    assert not second.changed and second.timings == () and lines == []
    assert second.artifact == first.artifact.model_copy(update={"variant": "again"})
    assert build.find("stock", variant) == first.artifact
    assert builds(tmp_path) == 1


def test_same_kernel_by_other_words_is_the_same(source: dict[str, Any], tmp_path: Path) -> None:
    """A comment in a fragment is no other kernel: it is configured, recognised and not built."""
    fragment = tmp_path / "f.config"
    fragment.write_text("CONFIG_NET=y\n")
    variant = kernel_fake.variant(source, fragments=[str(fragment)])
    first = build.build("stock", variant)
    fragment.write_text("# why\nCONFIG_NET=y\n")
    second = build.build("stock", variant)
    assert not second.changed and second.artifact == first.artifact and builds(tmp_path) == 1


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


def test_variants_live_side_by_side(source: dict[str, Any]) -> None:
    stock = build.build("stock", kernel_fake.variant(source)).artifact
    patched = build.build("patched", kernel_fake.variant(source, [PATCH])).artifact
    assert (
        stock.key != patched.key and stock.build_id != patched.build_id and stock.release != patched.release
    )
    assert not build.build("stock", kernel_fake.variant(source)).changed
    assert {entry.artifact.key for entry in artifact.stored()} == {stock.key, patched.key}


def test_same_build_id_in_another_place(
    source: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = build.build("stock", kernel_fake.variant(source)).artifact
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "a/much/longer/path/of/another/cache"))
    monkeypatch.setenv("KCFLAGS", "-g")
    monkeypatch.setenv("LOCALVERSION", "-mine")
    two = build.build("stock", kernel_fake.variant(source)).artifact
    assert (one.key, one.build_id, one.release) == (two.key, two.build_id, two.release)
    assert builds(tmp_path) == 2


# --- two at once, and interruptions

ASK = """
import json, sys
from zclab.kernel import build
from zclab.kernel.spec import parse_variant
variant = parse_variant(json.load(open(sys.argv[1])))
print(json.dumps(build.build("stock", variant, on_progress=lambda line: print(line, flush=True)).changed))
"""


def asker(tmp_path: Path, variant: KernelVariant, **environment: str) -> subprocess.Popen[str]:
    """Start a process of its own that asks for a variant."""
    (tmp_path / "variant.json").write_text(variant.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-c", ASK, str(tmp_path / "variant.json")],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_askers_build_once(source: dict[str, Any], tmp_path: Path, cache: Path) -> None:
    go_on = tmp_path / "go on"
    first = asker(tmp_path, kernel_fake.variant(source), FAKE_UNTIL=str(go_on))
    while not Path(f"{go_on}.begun").exists():
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    second = asker(tmp_path, kernel_fake.variant(source))
    assert second.stdout is not None
    while "waiting for another zclab that works on kernel stock" not in (line := second.stdout.readline()):
        assert line, "it did not wait"
    go_on.touch()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert [output.splitlines()[-1] for output in outputs] == ["true", "false"], outputs
    assert builds(tmp_path) == 1 and leftovers(cache) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_build(
    source: dict[str, Any], tmp_path: Path, cache: Path, number: signal.Signals
) -> None:
    """No half artifact, no process that goes on, and the next build works."""
    variant = kernel_fake.variant(source)
    building = asker(tmp_path, variant, FAKE_SLEEP=str(tmp_path / "compiling"))
    while not (tmp_path / "compiling").exists():
        assert building.poll() is None, building.communicate()
        time.sleep(0.05)
    building.send_signal(number)
    building.communicate()
    assert building.returncode != 0
    assert artifact.stored() == [] and builds(tmp_path) == 0
    if number == signal.SIGINT:
        assert leftovers(cache) == []
    result = build.build("stock", variant)
    assert result.changed and builds(tmp_path) == 1 and leftovers(cache) == []


# --- what does not build


def refuse(cache: Path, variant: KernelVariant, **more: Any) -> str:
    """Build a variant that cannot be built and return the one line that says why."""
    with pytest.raises((UsageError, InvalidError, LabError)) as caught:
        build.build("stock", variant, **more)
    assert "\n" not in str(caught.value)
    assert leftovers(cache) == [] and artifact.stored() == []
    return str(caught.value)


def test_compiler_error(source: dict[str, Any], cache: Path) -> None:
    broken = kernel_fake.variant(source, [{"file": str(kernel_fake.PATCHES / "broken.patch")}])
    message = refuse(cache, broken)
    assert re.search(
        r"kernel stock does not build: init/main.c:2:14: error: .*fourty_two.* undeclared.* "
        r"\(patch \S*broken.patch, hunk 1\)",
        message,
    )
    log = Path(message.rpartition("log: ")[2])
    assert log.parent == cache / "kernel/logs" and "fourty_two" in log.read_text()
    assert build.build("stock", kernel_fake.variant(source)).changed, "the next build works"


def test_misfit_patch(source: dict[str, Any], cache: Path) -> None:
    message = refuse(
        cache, kernel_fake.variant(source, [{"file": str(kernel_fake.PATCHES / "misfit.patch")}])
    )
    assert "misfit.patch does not apply: init/main.c:13: hunk 2" in message


def test_vanished_option(source: dict[str, Any], cache: Path, tmp_path: Path) -> None:
    (tmp_path / "f.config").write_text("CONFIG_TYPO=y\n")
    assert "CONFIG_TYPO" in refuse(cache, kernel_fake.variant(source, fragments=[str(tmp_path / "f.config")]))


def test_missing_driver_is_refused_before_the_build(
    source: dict[str, Any], cache: Path, tmp_path: Path
) -> None:
    need = Requirement(driver="e1000e", purpose="NIC", host="virtio2")
    message = refuse(cache, kernel_fake.variant(source), requirements=[need])
    assert "the NIC of virtio2 needs driver e1000e and CONFIG_E1000E is not set" in message
    assert builds(tmp_path) == 0
    (tmp_path / "f.config").write_text("CONFIG_E1000E=y\n")
    fixed = kernel_fake.variant(source, fragments=[str(tmp_path / "f.config")])
    assert build.build("stock", fixed, [need]).changed


def test_requirements_are_checked_for_a_known_kernel_too(source: dict[str, Any]) -> None:
    build.build("stock", kernel_fake.variant(source))
    need = Requirement(driver="e1000e", purpose="NIC", host="virtio2")
    with pytest.raises(InvalidError, match="needs driver e1000e"):
        build.build("stock", kernel_fake.variant(source), [need])


def test_full_disk_beforehand(source: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 5, 5))
    message = refuse(cache, kernel_fake.variant(source))
    assert re.search(rf"{cache}/kernel/build: building a kernel needs \d+ bytes free, 5 are", message)


def test_full_disk_meanwhile(source: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_OUTPUT", "fatal error: error writing to x.s: No space left on device")
    message = refuse(cache, kernel_fake.variant(source))
    assert re.search(r"kernel/build/[0-9a-f]+: the disk ran full, \d+ bytes are free now", message)
    monkeypatch.delenv("FAKE_OUTPUT")

    def copy(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy", copy)
        assert "the disk ran full" in refuse(cache, kernel_fake.variant(source))
    assert build.build("stock", kernel_fake.variant(source)).changed


def test_missing_tool(source: dict[str, Any], cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "TOOLS", ("make", "zclab-no-such-tool"))
    message = refuse(cache, kernel_fake.variant(source))
    assert message == (
        "building a kernel needs zclab-no-such-tool, not installed here: run playbooks/controller.yml"
    )


# --- progress and first errors


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
        (
            "make[2]: *** [x] Error 1\na.c:1:2: error: one\nb.c:3:4: error: two",
            "a.c:1:2: error: one",
        ),
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


# --- the store


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


def test_prune_clears_what_killed_builds_left(cache: Path) -> None:
    (cache / "kernel/build/0123/linux").mkdir(parents=True)
    artifact.prune(5)
    assert leftovers(cache) == []


def test_half_an_artifact_is_none() -> None:
    made = fill("a" * 64, 0)
    (made.directory / "x.deb").write_bytes(b"123")
    assert artifact.lookup(made.key) is None and artifact.stored() == []
    (made.directory / "x.deb").write_bytes(b"12345")
    assert artifact.lookup(made.key) == made
    (made.directory / "artifact.json").write_text('{"key": "x"}')
    assert artifact.lookup(made.key) is None
