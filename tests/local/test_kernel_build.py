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
from tests.steering import STEERING

from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.kernel import artifact, build, compilation
from zclab.kernel.drivers import Requirement
from zclab.kernel.spec import KernelVariant

PATCH = {"file": str(kernel_fake.PATCHES / "answer.patch")}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZCLAB_FAKE_BUILDS", str(tmp_path / "builds"))
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
        "vmlinux",
    ]
    assert json.loads((made.directory / "artifact.json").read_text()) == made.model_dump(mode="json")
    assert re.fullmatch(r"[0-9a-f]{40}", made.build_id)
    assert made.patches[0].name.endswith("answer.patch") and made.objects == 1
    assert any("packaging" in line for line in lines)
    said = [
        n for n, line in enumerate(lines) if re.search(r"about \d+ objects to compile: about \d+ min", line)
    ]
    later = [n for n, line in enumerate(lines) if "objects compiled" in line or "packaging" in line]
    assert len(said) == 1 and later and said[0] < min(later)
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
    for name, value in STEERING.items():
        monkeypatch.setenv(name, value)
    two = build.build("stock", kernel_fake.variant(source)).artifact
    assert (one.key, one.build_id, one.release) == (two.key, two.build_id, two.release)
    assert builds(tmp_path) == 2


# --- two at once, and interruptions

ASK = """
import json, sys
from zclab.kernel import build
from zclab.kernel.spec import KernelVariant
variant = KernelVariant.model_validate(json.load(open(sys.argv[1])))
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
    first = asker(tmp_path, kernel_fake.variant(source), ZCLAB_FAKE_UNTIL=str(go_on))
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
    building = asker(tmp_path, variant, ZCLAB_FAKE_SLEEP=str(tmp_path / "compiling"))
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
    monkeypatch.setenv("ZCLAB_FAKE_OUTPUT", "fatal error: error writing to x.s: No space left on device")
    message = refuse(cache, kernel_fake.variant(source))
    assert re.search(r"kernel/build/[0-9a-f]+: the disk ran full, \d+ bytes are free now", message)
    monkeypatch.delenv("ZCLAB_FAKE_OUTPUT")

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


# --- the store


def test_prune_clears_what_killed_builds_left(cache: Path) -> None:
    (cache / "kernel/build/0123/linux").mkdir(parents=True)
    artifact.prune(5)
    assert leftovers(cache) == []
