# SPDX-License-Identifier: Apache-2.0
"""A bootable disk image without loop devices or mounts.

Layout: sector 0 holds GRUB's boot.img and the partition table; GRUB's core image follows in the gap; one
ext4 partition starts at 1 MiB and fills the rest.
"""

from __future__ import annotations

import os
import struct
import uuid
from pathlib import Path

SECTOR_BYTES = 512
PARTITION_SECTOR = 2048
_TABLE = slice(0x1B8, SECTOR_BYTES)
_LINUX = 0x83
_ACTIVE = 0x80


def boot_sector(boot_img: bytes, disk_sectors: int, signature: bytes) -> bytes:
    """Return sector 0: GRUB's boot.img with a table of one active Linux partition.

    boot_img: GRUB's first stage, 512 bytes. It loads sector 1, which needs no change in it.
    signature: the 4 bytes that tell this disk from others.
    """
    if len(boot_img) != SECTOR_BYTES:
        raise ValueError(f"boot.img has {len(boot_img)} bytes, not {SECTOR_BYTES}")
    # CHS addresses are out of range on purpose: everything that reads this table uses sector numbers.
    entry = struct.pack(
        "<B3sB3sII",
        _ACTIVE,
        b"\xfe\xff\xff",
        _LINUX,
        b"\xfe\xff\xff",
        PARTITION_SECTOR,
        disk_sectors - PARTITION_SECTOR,
    )
    table = signature + b"\0\0" + entry.ljust(64, b"\0") + b"\x55\xaa"
    sector = bytearray(boot_img)
    sector[_TABLE] = table
    return bytes(sector)


def create(path: Path, size_mib: int) -> None:
    """Make the sparse raw image of `size_mib` MiB."""
    with path.open("xb") as disk:
        disk.truncate(size_mib << 20)


def mke2fs_command(path: Path, size_mib: int, root: Path, fs_uuid: uuid.UUID) -> list[str]:
    """Return the command that fills the partition of the image with an ext4 holding the tree `root`.

    The features are spelled out, so that neither mke2fs.conf nor a newer mke2fs picks one that GRUB cannot
    read. Tables are written here rather than by the guest's kernel in the background later.
    """
    offset = PARTITION_SECTOR * SECTOR_BYTES
    features = (
        "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,"
        "huge_file,dir_nlink,extra_isize"
    )
    blocks = ((size_mib << 20) - offset) // 4096
    extended = f"offset={offset},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed={fs_uuid}"
    return [
        *["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", "98304", "-m", "0"],
        *["-J", "size=16", "-L", "zclab", "-U", str(fs_uuid), "-O", features, "-E", extended],
        *["-d", str(root), str(path), str(blocks)],
    ]


def install_grub(path: Path, boot_img: bytes, core_img: bytes, signature: bytes) -> None:
    """Write GRUB's two stages and the partition table into the image; raise ValueError if they do not fit."""
    room = (PARTITION_SECTOR - 1) * SECTOR_BYTES
    if len(core_img) > room:
        raise ValueError(f"GRUB's core image has {len(core_img)} bytes: the gap has room for {room}")
    with path.open("r+b") as disk:
        disk.write(boot_sector(boot_img, path.stat().st_size // SECTOR_BYTES, signature))
        disk.write(core_img)
        disk.flush()
        os.fsync(disk.fileno())
