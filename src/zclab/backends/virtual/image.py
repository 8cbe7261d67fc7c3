# SPDX-License-Identifier: Apache-2.0
"""The base image: a small Debian that boots from its own disk, made from the mirrors of this machine.

An image is stored under the hash of everything that decides what is in it: the sources, the packages, the
files and the steps. That the archive behind the sources has newer packages does not make a new image: prune
the cache for that.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import tarfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from zclab.backends.virtual import disk
from zclab.base import paths
from zclab.base.environment import BUILD
from zclab.base.errors import LabError
from zclab.base.files import remove_tree, require_space
from zclab.base.process import NO_SPACE, interruptible, privately, stream
from zclab.base.progress import Progress, quiet
from zclab.base.store import Store
from zclab.debian import sources
from zclab.debian.archive import archive
from zclab.debian.sources import HERE, Machine

# Raise it when a change below does not show in the other inputs.
RECIPE = 1
PACKAGES = (
    "ethtool",  # offloads, NIC statistics
    "grub-pc",  # boots from the image's own disk, and boots a kernel once
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "linux-image-amd64",  # the known-good kernel; the cloud flavour has no e1000e
    "netbase",
    "openssh-server",
    "procps",  # sysctl
    "python3",  # what Ansible runs
    "systemd-sysv",
    "udev",
    "zstd",  # packs the initrd
)
# Measured while building one: the unpacked tree, its tar, the raw disk and the result lie side by side.
NEEDED_MIB = 4096
_GRACE_SECONDS = 20
# What apt and dpkg say of a package that is not there.
_LACKING = re.compile(r"(?:Unable to locate package |(?:Package|package) ')([a-z0-9][a-z0-9+.-]+)")
_CUSTOMIZE = "zclab-customize"
_GUEST = Path(__file__).parent / "guest"
_NAMESPACE = uuid.UUID("6f5c7ab4-3f0e-4f0c-9a43-0c3a2f9f7b53")


@dataclass(frozen=True)
class Image:
    """A base image in the cache. built: made by this call, which then took `seconds`."""

    key: str
    directory: Path
    built: bool = False
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        """The qcow2 file that overlays refer to. It is never written again."""
        return self.directory / "base.qcow2"


def images() -> Store:
    """Return the store of base images, where the logs of failed builds lie, too."""
    return Store(paths.cache_dir() / "image", "base image")


def guest_files() -> dict[str, tuple[int, bytes]]:
    """Return what is laid over the packages: path in the guest -> (mode, content)."""
    tree = _GUEST / "files"
    return {
        str(path.relative_to(tree)): (0o755 if os.access(path, os.X_OK) else 0o644, path.read_bytes())
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


def image_key(disk_mib: int, suite: str, *, machine: Machine = HERE) -> str:
    """Return the name of the image that the present inputs make (16 hex digits)."""
    inputs = {
        "recipe": RECIPE,
        "disk_mib": disk_mib,
        "suite": suite,
        "sources": sources.debian_sources(suite, machine),
        "packages": PACKAGES,
        "customize": (_GUEST / "customize.sh").read_text(),
        "files": {
            name: [mode, hashlib.sha256(data).hexdigest()] for name, (mode, data) in guest_files().items()
        },
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def find(disk_mib: int, suite: str) -> Image | None:
    """Return the image of the present inputs if the cache has it."""
    key = image_key(disk_mib, suite)
    image = Image(key, images().path(key))
    return image if image.path.is_file() else None


def ensure(disk_mib: int, suite: str, on_progress: Progress = quiet) -> Image:
    """Return the base image of the present inputs, and build it if the cache does not have it.

    disk_mib: size of the guests' disk in MiB; suite: their Debian release. Raises LabError, whose text names
    the log when there is one.
    Two callers at once build once; a build that is interrupted leaves nothing behind.
    """
    key = image_key(disk_mib, suite)
    image = Image(key, images().path(key))
    failed_log = images().directory / f"failed-{key}.log"
    started = time.monotonic()

    def make(work: Path) -> None:
        require_space(work.parent, NEEDED_MIB << 20, "building the base image")
        try:
            _build(work, key, disk_mib, suite, on_progress)
        except LabError:
            with contextlib.suppress(OSError):
                shutil.copyfile(work / "build.log", failed_log)
            raise
        failed_log.unlink(missing_ok=True)

    with interruptible():
        built = images().ensure(key, make, on_progress, is_whole=lambda _: image.path.is_file())
    if not built:
        return image
    seconds = time.monotonic() - started
    on_progress(f"image: built in {seconds:.0f} s: {image.directory}")
    return dataclasses.replace(image, built=True, seconds=seconds)


@dataclass(frozen=True)
class Cached:
    """An image in the cache. current: the present inputs make it; in_use: a disk lies over it."""

    image: Image
    size_bytes: int
    in_use: bool


def cached() -> list[Cached]:
    """Return the images in the cache."""
    found = [Image(path.name, path) for path in images().entries() if (path / "base.qcow2").is_file()]
    return [Cached(image, image.path.stat().st_size, bool(_users(image))) for image in found]


def prune() -> list[Cached]:
    """Remove the images that no disk lies over, and return them."""
    removed = [one for one in cached() if not one.in_use and images().remove(one.image.key)]
    for log in images().directory.glob("failed-*.log"):
        log.unlink(missing_ok=True)
    return removed


def register_user(image: Image, disk_path: Path) -> None:
    """Note that a disk lies over the image, before it does, so that the image is not pruned."""
    users = image.directory / "users"
    users.mkdir(exist_ok=True)
    _user_file(image, disk_path).write_text(str(disk_path))


def forget_user(disk_path: Path) -> None:
    """Take back every note about a disk."""
    for one in cached():
        _user_file(one.image, disk_path).unlink(missing_ok=True)


def _user_file(image: Image, disk_path: Path) -> Path:
    return image.directory / "users" / hashlib.sha256(str(disk_path).encode()).hexdigest()[:16]


def _users(image: Image) -> list[Path]:
    """Return the disks over the image that still exist."""
    notes = (image.directory / "users").glob("*")
    return [disk_path for note in notes if (disk_path := Path(note.read_text())).is_file()]


def _build(work: Path, key: str, disk_mib: int, suite: str, on_progress: Progress) -> None:
    """Leave base.qcow2, image.json and build.log in `work`, and nothing else."""
    fs_uuid = uuid.uuid5(_NAMESPACE, key)
    tar, root, raw, log = work / "root.tar", work / "root", work / "disk.raw", work / "build.log"
    source_file = work / "debian.sources"
    source_file.write_text(sources.debian_sources(suite))

    def step(what: str, command: list[str], **env: str) -> None:
        on_progress(f"image: {what}")
        _run(what, command, log, on_progress, env, failed_log=work.parent / f"failed-{key}.log")

    as_root = os.geteuid() == 0
    # In unshare mode the mapped user has to reach the temporary directory; home directories are often closed.
    temporary = {"TMPDIR": str(work)} if as_root else {}
    mmdebstrap = mmdebstrap_command(suite, root if as_root else tar, source_file, fs_uuid, as_root=as_root)
    try:
        step(
            f"installing Debian {suite} into a new tree",
            privately(mmdebstrap) if as_root else mmdebstrap,
            **temporary,
        )
    except LabError as error:
        found = _LACKING.search(str(error))
        if found is None:
            raise
        lacks = archive(suite).lacks(found[1], on_progress)
        raise LabError(f"base image: package {found[1]}: {lacks}") from error
    disk.create(raw, disk_mib)
    mke2fs = disk.mke2fs_command(raw, disk_mib, root, fs_uuid)
    if not as_root:
        # Owners and modes of the tree live in fakeroot's memory until mke2fs has read them.
        unpack = (
            f"mkdir {shlex.quote(str(root))} && tar -xpf {shlex.quote(str(tar))} -C {shlex.quote(str(root))}"
        )
        mke2fs = ["fakeroot", "--", "sh", "-euc", f"{unpack} && {shlex.join(mke2fs)}"]
    step("writing the file system", mke2fs)
    grub = root / "boot/grub/i386-pc"
    disk.install_grub(
        raw, (grub / "boot.img").read_bytes(), (grub / "core.img").read_bytes(), fs_uuid.bytes[:4]
    )
    step(
        "packing the disk",
        ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(work / "base.qcow2")],
    )
    (work / "base.qcow2").chmod(0o444)
    record = {"key": key, "suite": suite, "disk_mib": disk_mib, "sources": source_file.read_text()}
    (work / "image.json").write_text(json.dumps(record, indent=2) + "\n")
    for path in (tar, raw, source_file):
        path.unlink(missing_ok=True)
    remove_tree(root)


def mmdebstrap_command(
    suite: str, target: Path, source_file: Path, fs_uuid: uuid.UUID, *, as_root: bool
) -> list[str]:
    """Return the command that makes the guest's tree: a directory as root, else a tar file.

    The hooks carry our files in their own text: in unshare mode they run as a user who may not be able to
    read this checkout.
    """
    debconf = "grub-pc grub-pc/install_devices_empty boolean true"
    unpack = f'echo {_guest_archive()} | base64 -d | tar -xz --no-same-owner -C "$1"'
    # apt takes a name that it does not know for a pattern of names.
    exactly = f'chroot "$1" dpkg --status {" ".join(PACKAGES)} >/dev/null'
    customize = f'sh "$1/{_CUSTOMIZE}" "$1" {fs_uuid} && rm "$1/{_CUSTOMIZE}"'
    return [
        "mmdebstrap",
        f"--mode={'root' if as_root else 'unshare'}",
        "--variant=minbase",
        "--dpkgopt=force-unsafe-io",
        f"--format={'directory' if as_root else 'tar'}",
        f"--include={','.join(PACKAGES)}",
        *(f"--aptopt={option}" for option in sources.transport_options()),
        f"--essential-hook={unpack}",
        f'--essential-hook=echo {debconf} | chroot "$1" debconf-set-selections',
        f"--customize-hook={exactly}",
        f"--customize-hook={customize}",
        suite,
        str(target),
        str(source_file),
    ]


def _guest_archive() -> str:
    """Return the guest's files and the last step's script as a tar.gz in base64."""
    buffer = io.BytesIO()
    script = {_CUSTOMIZE: (0o644, (_GUEST / "customize.sh").read_bytes())}
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (mode, data) in {**guest_files(), **script}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return base64.b64encode(gzip.compress(buffer.getvalue(), mtime=0)).decode()


def _run(
    what: str, command: list[str], log: Path, on_progress: Progress, env: dict[str, str], *, failed_log: Path
) -> None:
    last_error = ""

    def on_line(line: str) -> None:
        nonlocal last_error
        if line.startswith("I: ") and "hook in shell" not in line:
            on_progress(f"image: {line[3:]}")
        elif line.startswith(("E:", "mke2fs:", "qemu-img:", "dpkg-query:")) or NO_SPACE in line:
            last_error = last_error or line.removeprefix("E:").strip()

    status = stream(
        command,
        on_line,
        environment={**env, **BUILD, "LC_ALL": "C.UTF-8"},
        log=log,
        # Outside private namespaces, mmdebstrap removes what it has made elsewhere when it gets SIGTERM.
        grace_seconds=0 if command[0] == "unshare" else _GRACE_SECONDS,
    )
    if status != 0:
        detail = last_error or f"exit status {status}"
        raise LabError(f"base image: {what}: {detail}: see {failed_log}")
