# SPDX-License-Identifier: Apache-2.0
"""Real kernels, in the real cache: minutes when it is cold, seconds when it is warm."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tests import kernel_fake

from zclab.base.errors import InvalidError, LabError, UsageError
from zclab.base.paths import cache_dir, project_root
from zclab.kernel import artifact, build, source
from zclab.kernel.artifact import BuiltArtifact
from zclab.kernel.drivers import Requirement
from zclab.kernel.spec import KernelVariant

pytestmark = pytest.mark.kernel

PATCH = kernel_fake.DATA / "patches-6.1/tcp-message.patch"
NEEDS = [
    Requirement(driver="virtio-pci", purpose="root disk"),
    Requirement(driver="virtio_blk", purpose="root disk"),
    Requirement(driver="ext4", purpose="root filesystem"),
    Requirement(driver="virtio_net", purpose="NIC"),
    Requirement(driver="e1000e", purpose="NIC"),
]


def stock() -> KernelVariant:
    """Return the variant that the virtual lab boots."""
    declared = project_root() / "inventory/virtual/group_vars/all/kernel.yml"
    variants = yaml.safe_load(declared.read_text(encoding="utf-8"))["zclab_kernel_variants"]
    return KernelVariant.model_validate(variants["stock"])


def patched() -> KernelVariant:
    return KernelVariant.model_validate(stock().model_dump() | {"patches": [{"file": str(PATCH)}]})


def image(made: BuiltArtifact, directory: Path) -> Path:
    """Unpack an artifact's package and return the kernel image in it."""
    subprocess.run(["dpkg-deb", "-x", made.directory / made.deb, directory], check=True)
    return directory / "boot" / f"vmlinuz-{made.release}"


def test_lean_kernel_is_built_for_real(tmp_path: Path) -> None:
    made = build.build("stock", stock(), NEEDS).artifact
    assert not build.build("stock", stock(), NEEDS).changed
    assert made.release.endswith(f"-zclab-{made.key[:10]}") and made.objects > 1000
    assert image(made, tmp_path).stat().st_size > 1_000_000


def test_kernel_boots_until_it_misses_a_disk(tmp_path: Path) -> None:
    """It reaches its last step in an emulator without disks, and says that it is this very kernel."""
    made = build.build("stock", stock(), NEEDS).artifact
    machine = "qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 256 -display none -serial stdio"
    kernel = ["-no-reboot", "-kernel", str(image(made, tmp_path)), "-append", "console=ttyS0 panic=-1"]
    command = [*machine.split(), *kernel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert f"Linux version {made.release} " in done.stdout, done.stdout + done.stderr
    assert "Unable to mount root fs" in done.stdout
    for trouble in ("WARNING", "BUG:", "Oops", "Warning: Processor"):
        assert trouble not in done.stdout


def test_patched_variant_lives_beside_it() -> None:
    one = build.build("stock", stock(), NEEDS).artifact
    other = build.build("patched", patched(), NEEDS).artifact
    assert one.key != other.key and one.build_id != other.build_id and one.release != other.release
    assert one.config_sha256 == other.config_sha256 and other.patches[0].name.endswith(PATCH.name)
    assert not build.build("stock", stock(), NEEDS).changed
    stored = {entry.artifact.key for entry in artifact.stored()}
    assert {one.key, other.key} <= stored


def test_same_build_id_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another cache in another place: only compiled objects, the source and package lists are the same.

    Remembered beside the artifact: the second build is as costly as the first.
    """
    one = build.build("stock", stock(), NEEDS).artifact
    here = cache_dir()
    record = here / "tests" / f"same-build-id-{one.key}-{one.build_id}"
    if record.exists():
        assert record.read_text() == one.build_id
        return
    # On the same file system, since the source is linked and not copied.
    there = here / "tests" / "another" / "much-longer-path-than-the-first"
    shutil.rmtree(there.parent, ignore_errors=True)
    try:
        (there / "kernel").mkdir(parents=True)
        subprocess.run(["cp", "-al", here / "kernel/sources", there / "kernel/sources"], check=True)
        # With lists of its own it would find a version that the archive has had for an hour.
        for name in ("ccache", "apt"):
            (there / name).symlink_to(here / name)
        monkeypatch.setenv("ZCLAB_CACHE", str(there))
        two = build.build("stock", stock(), NEEDS).artifact
        assert str(two.directory).startswith(str(there)) and (two.key, two.release) == (one.key, one.release)
        assert two.build_id == one.build_id
        record.write_text(one.build_id)
    finally:
        shutil.rmtree(there.parent, ignore_errors=True)


def test_real_kconfig_drops_an_option(tmp_path: Path) -> None:
    """CONFIG_SCSI_LOWLEVEL needs SCSI, which the lean configuration does not have."""
    (tmp_path / "x.config").write_text("CONFIG_SCSI_LOWLEVEL=y\n")
    data = stock().model_dump()
    data["config"]["fragments"] = [*data["config"]["fragments"], str(tmp_path / "x.config")]
    with pytest.raises(InvalidError, match=r"CONFIG_SCSI_LOWLEVEL=y did not survive, it is n: what it"):
        build.build("dropped", KernelVariant.model_validate(data), NEEDS)


def test_real_tree_knows_drivers() -> None:
    """ConnectX-3 is not in the lean configuration: refused by the option's name before it is compiled."""
    need = Requirement(driver="mlx4_en", purpose="NIC", host="receiver1")
    with pytest.raises(InvalidError, match="receiver1 needs driver mlx4_en and CONFIG_MLX4_EN is not set"):
        build.build("stock", stock(), [*NEEDS, need])


def test_real_misfit_is_located(tmp_path: Path) -> None:
    text = PATCH.read_text().replace(" \ttcp_v4_init();", " \ttcp_v5_init();")
    (tmp_path / "misfit.patch").write_text(text)
    data = stock().model_dump() | {"patches": [{"file": str(tmp_path / "misfit.patch")}]}
    with pytest.raises(UsageError, match=r"misfit.patch does not apply: net/ipv4/tcp.c:\d+: hunk 1"):
        build.build("misfit", KernelVariant.model_validate(data), NEEDS)


def test_real_compiler_error_is_quoted(tmp_path: Path) -> None:
    """In one of the first files that are compiled."""
    tree = source.fetch(source.resolve(stock().source), print)
    last = (tree / "init/main.c").read_text().splitlines()[-3:]
    count = len((tree / "init/main.c").read_text().splitlines())
    hunk = [f"@@ -{count - 2},3 +{count - 2},4 @@", *(f" {line}" for line in last), "+no_such_type zclab;"]
    text = "\n".join(["--- a/init/main.c", "+++ b/init/main.c", *hunk, ""])
    (tmp_path / "broken.patch").write_text(text)
    data = stock().model_dump() | {"patches": [{"file": str(tmp_path / "broken.patch")}]}
    with pytest.raises(LabError, match=r"main.c:\d+:1: error: unknown type name .no_such_type.*log: /"):
        build.build("broken", KernelVariant.model_validate(data), NEEDS)
