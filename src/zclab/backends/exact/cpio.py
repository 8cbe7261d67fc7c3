# SPDX-License-Identifier: Apache-2.0
"""An initramfs: files as a cpio archive in the format "newc", equal bytes for equal files.

The format is described in Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

_ALIGNMENT = 4


class Entry(NamedTuple):
    """A file: its type and permissions as in st_mode, its content or a link's target, a device's numbers."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory() -> Entry:
    """Return a directory."""
    return Entry(stat.S_IFDIR | 0o755)


def program(data: bytes) -> Entry:
    """Return a file that can be executed."""
    return Entry(stat.S_IFREG | 0o755, data)


def regular(data: bytes) -> Entry:
    """Return a file that cannot be executed."""
    return Entry(stat.S_IFREG | 0o644, data)


def symlink(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of files by their paths in it, such as "usr/bin/ip"; directories above are added.

    Order, owner (root), times (1970) and inode numbers do not depend on where the files came from. Its length
    is a multiple of 4, so that another archive can follow.
    """
    whole = {
        str(parent): directory()
        for path in entries
        for parent in PurePosixPath(path).parents
        if str(parent) != "."
    } | dict(entries)
    parts = [_member(path, whole[path], inode) for inode, path in enumerate(sorted(whole), start=1)]
    return b"".join([*parts, _member("TRAILER!!!", Entry(0), 0)])


def _member(path: str, entry: Entry, inode: int) -> bytes:
    name = path.encode() + b"\0"
    major, minor = entry.device
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
