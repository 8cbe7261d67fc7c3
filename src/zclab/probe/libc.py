# SPDX-License-Identifier: Apache-2.0
"""The C library: system calls that Python's standard library has not, or not like this."""

from __future__ import annotations

import ctypes
import mmap
import os

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PROT_NONE = 0
MAP_SHARED_VALIDATE, MAP_FIXED, MAP_LOCKED, MAP_POPULATE = 0x3, 0x10, 0x2000, 0x8000
MAP_FIXED_NOREPLACE = 0x100000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2

_POINTER, _SIZE, _INT, _LONG = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_long

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = _POINTER
libc.mmap.argtypes = [_POINTER, _SIZE, _INT, _INT, _INT, _LONG]
libc.mremap.argtypes = [_POINTER, _SIZE, _SIZE, _INT, _POINTER]
libc.remap_file_pages.argtypes = [_POINTER, _SIZE, _INT, _SIZE, _INT]
libc.munmap.argtypes = [_POINTER, _SIZE]
libc.mprotect.argtypes = [_POINTER, _SIZE, _INT]
libc.write.argtypes = [_INT, _POINTER, _SIZE]


def check(result: int) -> int:
    """Return what a call of `libc` returned; raise OSError if that is -1, as a number or as an address."""
    if result in (-1, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
