# SPDX-License-Identifier: Apache-2.0
"""What is said of a lab's kernels, with an artifact cache of the test's own."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests import factories

from zclab.base.errors import LabError
from zclab.deploy import state as deploy_state
from zclab.kernel import artifact, build
from zclab.kernel.artifact import BuiltArtifact
from zclab.kernel.spec import KernelVariant
from zclab.report import kernels

KEY = "ab" * 32


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuiltArtifact:
    """Have one kernel, `full`, in the cache; another one's source cannot be asked for."""
    monkeypatch.setenv("ZCLAB_CACHE", str(tmp_path))
    found = BuiltArtifact(
        key=KEY,
        variant="full",
        release="6.1.9-zclab-abababab",
        build_id="cd" * 20,
        deb="linux-image.deb",
        deb_sha256="0" * 64,
        size_bytes=4_000_000,
        source="debian linux-source-6.1 6.1.9-1",
        patches=(),
        config_sha256="1" * 64,
        compiler="gcc",
        linker="ld",
        recipe=1,
        objects=1300,
        build_seconds=250.0,
        built_at="2026-01-02T03:04:05+00:00",
    )
    directory = artifact.artifacts().path(KEY)
    directory.mkdir(parents=True)
    (directory / "linux-image.deb").write_bytes(bytes(100))
    (directory / "config").write_bytes(bytes(50))

    def find(variant: str, spec: KernelVariant) -> BuiltArtifact | None:
        if variant == "mmap":
            raise LabError("apt knows no linux-source-6.1")
        return found if variant == "full" else None

    monkeypatch.setattr(build, "find", find)
    monkeypatch.setattr(deploy_state, "running_kernel", lambda lab: found)
    return found


def test_what_is_built_from_what_and_how_big(made: BuiltArtifact) -> None:
    lab = factories.lab("virtual")
    found = {one.variant: one for one in kernels.entries(lab)}
    assert set(found) == set(lab.kernel_variants)
    full, stock, mmap = found["full"], found["stock"], found["mmap"]
    assert (full.key, full.release, full.built_at) == (KEY, made.release, made.built_at)
    assert (full.package_bytes, full.disk_bytes, full.build_seconds) == (4_000_000, 150, 250.0)
    assert (full.patches, full.source) == (["linux-6.1"], "linux-source-6.1 of bookworm (newest)")
    assert full.fragments[-2:] == ["tcp-mmap", "tcp-zerocopy-stat"]
    assert (full.booted, full.default, stock.booted, stock.default) == (True, True, False, False)
    assert (stock.key, stock.package_bytes, stock.problem) == (None, None, None)
    assert (mmap.key, mmap.problem) == (None, "apt knows no linux-source-6.1")


def test_the_table_says_what_is_not_built_and_what_is_not_known(made: BuiltArtifact) -> None:
    console = Console(width=250, record=True, file=io.StringIO())
    lab = factories.lab("virtual")
    kernels.show(console, lab, kernels.entries(lab))
    text = console.export_text()
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("│")}
    assert (
        "full (default, booted)" in text
        and "3.8 MiB" in rows["full"]
        and "6.1.9-zclab-abababab" in rows["full"]
    )
    assert "not built" in rows["stock"]
    assert "unknown: apt knows no" in rows["mmap"]


def test_a_lab_that_was_never_up(made: BuiltArtifact, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(lab: object) -> None:
        raise LabError("this lab has booted no kernel yet")

    monkeypatch.setattr(deploy_state, "running_kernel", never)
    assert not any(one.booted for one in kernels.entries(factories.lab("virtual")))
    assert kernels.entries(factories.lab("namespaces")) == []
