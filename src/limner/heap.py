"""Memory that stays with a computation from step to step, in large pages.

A training step frees what its forward pass stored for the backward pass. The C library's allocator
hands some of it back to the system, from every step of the models here 1 to 21 MB, and the system
clears each page of 4 KiB again when the next step touches it. Large pages are found faster, too.
"""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

RESERVED = 2**29
"""Bytes of addresses for large pages; memory becomes of them what is used."""
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Of `mallopt`, malloc.h."""
MADV_HUGEPAGE = 14
"""Of `madvise`, sys/mman.h."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """A context in which freed memory is kept for what comes next, with glibc; not to be nested.

    At its end memory is handed back. The allocator's thresholds, which it else adjusts by itself,
    stay from then on at the upper end of their range.
    """
    libc = ctypes.CDLL(None)
    if not all(hasattr(libc, name) for name in ("mallopt", "malloc_trim", "sbrk", "madvise")):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, 2**25)
    libc.mallopt(TRIM_THRESHOLD, -1)
    try:
        _reserve_large_pages(libc)
        yield
    finally:
        libc.mallopt(TRIM_THRESHOLD, 2**26)
        libc.malloc_trim(0)


def _reserve_large_pages(libc: ctypes.CDLL) -> None:
    """Make the heap longer, of large pages; nothing happens where the system has none."""
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    first = libc.sbrk(0)
    libc.mallopt(MMAP_MAX, 0)
    block = libc.malloc(ctypes.c_size_t(RESERVED))
    libc.mallopt(MMAP_MAX, 2**16)
    libc.free(ctypes.c_void_p(block))
    first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    length = ctypes.c_size_t(max(0, libc.sbrk(0) - first))
    libc.madvise(ctypes.c_void_p(first), length, MADV_HUGEPAGE)
