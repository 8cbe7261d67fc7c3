# SPDX-License-Identifier: Apache-2.0
"""The project's own kernel series: in order, signed, and on the trees that they are for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from zclab.base.errors import UsageError
from zclab.base.paths import project_root
from zclab.kernel import compilation, config, patches, source
from zclab.kernel.spec import KernelVariant, PatchFile

SERIES = project_root() / "kernel" / "patches"
#: By directory, the variant of the virtual lab that has all of it.
WHOLE = {"linux-6.1": "full", "linux-6.12": "full-6.12"}
EVERY = [path for directory in WHOLE for path in sorted((SERIES / directory).glob("*.patch"))]


def variants() -> dict[str, dict[str, object]]:
    declared = project_root() / "inventory/virtual/group_vars/all/kernel.yml"
    found: dict[str, dict[str, object]] = yaml.safe_load(declared.read_text(encoding="utf-8"))
    return found["zclab_kernel_variants"]  # type: ignore[return-value]


def tree_of(directory: str) -> Path:
    """Return the tree that a series is for, as its variant has it."""
    spec = KernelVariant.model_validate(variants()[WHOLE[directory]])
    return source.fetch(source.resolve(spec.source), print)


def touched(directory: str) -> set[str]:
    texts = patches.resolve([PatchFile(file=directory)])
    return {
        name.decode()
        for text in texts
        for name in re.findall(rb"^diff --git a/\S+ b/(\S+)$", text.diff, re.MULTILINE)
    }


@pytest.mark.parametrize("path", EVERY, ids=lambda path: f"{path.parent.name}/{path.name[:4]}")
def test_a_patch_is_a_signed_mail_with_its_place_in_the_series(path: Path) -> None:
    number, count = int(path.name[:4]), len(list(path.parent.glob("*.patch")))
    head, _, diff = path.read_text(encoding="utf-8").partition("\n---\n")
    sender = re.search(r"^From: (.+)$", head, re.MULTILINE)
    assert sender and f"\nSigned-off-by: {sender[1]}" in head
    assert re.search(rf"^Subject: \[PATCH {number}/{count}\] tcp: \S", head, re.MULTILINE)
    assert all(len(line) <= 75 for line in head.splitlines() if not line.startswith(("Subject", "From")))
    for made in re.findall(r"^\+\+\+ b/(\S+\.[ch])$", diff, re.MULTILINE):
        fresh = re.search(rf"^--- /dev/null\n\+\+\+ b/{re.escape(made)}\n@@.*\n(.*)$", diff, re.MULTILINE)
        if fresh:
            assert "SPDX-License-Identifier: GPL-2.0" in fresh[1], made


def test_there_is_a_series_for_each_tree() -> None:
    assert {path.name for path in SERIES.iterdir() if path.is_dir()} == set(WHOLE)
    assert len(EVERY) == 6


def test_a_series_keeps_out_of_headers_that_everything_includes() -> None:
    for directory in WHOLE:
        headers = {name for name in touched(directory) if name.startswith("include/")}
        assert headers == {
            "include/linux/sock_mmap.h",
            "include/net/tcp_mmap.h",
            "include/net/tcp_zerocopy_stat.h",
        }


@pytest.mark.kernel
@pytest.mark.parametrize("directory", WHOLE)
def test_each_patch_applies_exactly_and_pleases_checkpatch(directory: str, tmp_path: Path) -> None:
    tree = tree_of(directory)
    for name in touched(directory):
        if (tree / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, tmp_path / name)
    for path in sorted((SERIES / directory).glob("*.patch")):
        patches.apply(tmp_path, patches.resolve([PatchFile(file=str(path))]))
        # New files lie in directories that MAINTAINERS covers as a whole.
        command = ["perl", str(tree / "scripts/checkpatch.pl"), "--no-tree", "--strict"]
        command += ["--ignore", "FILE_PATH_CHANGES", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tree)
        assert done.returncode == 0, done.stdout
        assert "total: 0 errors, 0 warnings, 0 checks" in done.stdout


@pytest.mark.kernel
def test_a_series_on_another_tree_is_refused_by_patch_and_hunk(tmp_path: Path) -> None:
    tree = tree_of("linux-6.12")
    for name in touched("linux-6.1"):
        if (tree / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, tmp_path / name)
    with pytest.raises(
        UsageError, match=r"patch kernel/patches/linux-6\.1/000\d-\S+ does not apply: \S+: hunk"
    ):
        patches.apply(tmp_path, patches.resolve([PatchFile(file="linux-6.1")]))


@pytest.mark.kernel
def test_the_later_kernel_keeps_every_option_that_is_asked_for(tmp_path: Path) -> None:
    """It is built every night only; what is built by every run of the tests proves itself."""
    spec = KernelVariant.model_validate(variants()[WHOLE["linux-6.12"]])
    tree = tmp_path / "linux"
    subprocess.run(["cp", "-al", tree_of("linux-6.12"), tree], check=True)
    patches.apply(tree, patches.resolve(spec.patches))
    asked = config.read_inputs(spec.config, None)
    made = config.configure(
        tree, tree / compilation.OUT, asked, compilation.make_command(), compilation.environment()
    )
    options = config.values(made)
    assert options["CONFIG_TCP_MMAP_CONSUME"] == options["CONFIG_TCP_ZEROCOPY_STAT"] == "y"
