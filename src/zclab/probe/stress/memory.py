# SPDX-License-Identifier: Apache-2.0
"""How much memory the kernel has allocated: pages, slab objects, what TCP counts; and what kmemleak finds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ..libc import libc

#: Slab caches whose objects belong to sockets and packets.
CACHES = re.compile(
    r"skbuff|^TCP|^tw_sock|^request_sock|sock_inode_cache|tcp_bind|^vm_area_struct$|^mm_struct$"
)
#: The kernel keeps so many pages of TCP's count on each CPU before the count includes them.
_TCP_PAGES_A_CPU = 256
#: A figure that still falls is read again, up to so often.
_READS = 20
_KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
_KMEMLEAK_AGE = 6.0  # seconds after which an object counts as old enough to be lost
_KMEMLEAK_TEXT = 20000
_CLONE_NEWNS = 0x20000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06
#: What /proc/meminfo accounts for. The rest of the used pages are the kernel's own: those of packets, too.
_ACCOUNTED = (
    "MemFree",
    "Buffers",
    "Cached",
    "SwapCached",
    "AnonPages",
    "Slab",
    "KernelStack",
    "PageTables",
    "Percpu",
)

#: Figures by name: "slab NAME" in objects, "tcp ..." as /proc/net/sockstat counts, others in KiB.
Figures = dict[str, int]


class Found(NamedTuple):
    """What kmemleak found: how many objects that nobody refers to, and its report, cut off if it is long."""

    unreferenced: int
    text: str


def settled(pause: Callable[[float], None] = time.sleep) -> Figures:
    """Return the figures once freed memory is no longer cached, or they no longer fall."""
    best: Figures = {}
    for _ in range(_READS):
        _drop_caches()
        now = _figures()
        lower = {name: min(value, best.get(name, value)) for name, value in now.items()}
        if best and all(lower[name] >= best[name] for name in lower):
            break
        best = lower
        pause(0.5)
    return best


def tolerances(rounds: list[Figures]) -> Figures:
    """Return by how much each figure may grow, from rounds of the same work after each of which it was read.

    That is four times what it varied by, and not less than what the kernel keeps on each CPU.
    """
    cpus = os.cpu_count() or 1
    slabs = _objects_a_slab()
    allowed = {}
    for name in rounds[-1]:
        values = [figures[name] for figures in rounds if name in figures]
        kept = slabs.get(name.removeprefix("slab "), 0) if name.startswith("slab ") else 256  # KiB
        if name.startswith("tcp "):
            kept = _TCP_PAGES_A_CPU if name == "tcp mem" else 0
        allowed[name] = max(4 * (max(values) - min(values)), cpus * kept)
    return allowed


def grown(before: Mapping[str, int], after: Mapping[str, int], allowed: Mapping[str, int]) -> list[str]:
    """Return a line for each figure that grew by more than it may."""
    return [
        f"{name}: {before[name]} before, {after[name]} after, may grow by {allowed[name]}"
        for name in after
        if name in before and after[name] - before[name] > allowed[name]
    ]


def own_mounts() -> None:
    """Have this process see mounts of its own: what is mounted then goes with it."""
    if libc.unshare(_CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)


def kmemleak_begin() -> bool:
    """Discard what kmemleak has found so far; return false where this kernel has no kmemleak."""
    if not _KMEMLEAK.exists():
        libc.mount(b"none", b"/sys/kernel/debug", b"debugfs", 0, None)
    if not _KMEMLEAK.exists():
        return False
    try:
        _KMEMLEAK.write_text("scan", encoding="ascii")
        _KMEMLEAK.write_text("clear", encoding="ascii")
    except OSError:  # it has switched itself off
        return False
    return True


def kmemleak_found(pause: Callable[[float], None] = time.sleep) -> Found:
    """Scan twice, so that one scan sees what was moved about during the other; return what was found."""
    for _ in range(2):
        pause(_KMEMLEAK_AGE)
        _KMEMLEAK.write_text("scan", encoding="ascii")
    text = _KMEMLEAK.read_text(encoding="utf-8", errors="replace")
    return Found(text.count("unreferenced object"), text[:_KMEMLEAK_TEXT])


def _drop_caches() -> None:
    """Have the kernel free what it caches: page cache, empty slabs, objects whose reuse is delayed."""
    os.sync()
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    _purge_stacks()
    slabs = Path("/sys/kernel/slab")
    for cache in slabs.iterdir() if slabs.is_dir() else []:
        if CACHES.search(cache.name):
            with contextlib.suppress(OSError):
                (cache / "shrink").write_text("1", encoding="ascii")


def _purge_stacks() -> None:
    """Have the kernel free the address ranges of stacks of tasks that have ended.

    It does so once some 900 tasks have ended, else when it makes pages read-only, as it does with a packet
    filter. Where KASAN watches them, each such range keeps a page.
    """
    accept_all = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0xFFFFFFFF))
    program = struct.pack("HP", 1, ctypes.addressof(accept_all))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _figures() -> Figures:
    with contextlib.suppress(OSError):  # fold what each CPU has counted for itself
        Path("/proc/sys/vm/stat_refresh").read_bytes()
    memory = _meminfo()
    kernel = memory["MemTotal"] - _pages_kept_by_cpus() - sum(memory.get(name, 0) for name in _ACCOUNTED)
    figures = {"kernel pages": kernel, "SUnreclaim": memory["SUnreclaim"]}
    for line in Path("/proc/net/sockstat").read_text(encoding="ascii").splitlines():
        if line.startswith("TCP:"):
            words = line.split()[1:]
            counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
            figures |= {f"tcp {name}": counts[name] for name in ("orphan", "alloc", "mem")}
    return figures | {f"slab {name}": int(words[1]) for name, words in _slabinfo().items()}


def _meminfo() -> Figures:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def _pages_kept_by_cpus() -> int:
    """Return how much free memory is on lists of single CPUs, in KiB; MemFree does not count it."""
    zones = Path("/proc/zoneinfo").read_text(encoding="ascii")
    pages = sum(int(count) for count in re.findall(r"^\s+count:\s+(\d+)$", zones, re.MULTILINE))
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _slabinfo() -> dict[str, list[str]]:
    """Return the lines of /proc/slabinfo for `CACHES`, split, by name; none where there is no such file."""
    try:
        lines = Path("/proc/slabinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    return {words[0]: words for words in (line.split() for line in lines[2:]) if CACHES.search(words[0])}


def _objects_a_slab() -> Figures:
    return {name: int(words[4]) for name, words in _slabinfo().items()}
