"""Freed memory that stays with the process from step to step, in large pages; see README.md.

A training step frees what its forward pass stored for the backward pass. glibc returns part of it
to the system (1 to 21 MB per step for the models here), and the system clears each page of 4 KiB
again when the next step touches it.

This changes the allocator of the whole process, so only the command line uses it.
"""

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager

RESERVED = 2**29
"""Bytes of address space for large pages; only pages that are touched use memory."""
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of `mallopt`, from malloc.h."""
MADV_HUGEPAGE = 14
"""Advice of `madvise`, from sys/mman.h."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """A context in which glibc keeps freed memory for reuse. It must not be nested.

    At the end the memory is returned to the system. The thresholds stay fixed at the upper end of
    their range: glibc has no call that enables its dynamic thresholds again.

    Without glibc nothing happens.
    """
    libc = _glibc()
    if libc is None:
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


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    needed = ("mallopt", "malloc_trim", "sbrk", "madvise")
    return libc if all(hasattr(libc, name) for name in needed) else None


def _reserve_large_pages(libc: ctypes.CDLL) -> None:
    """Extend the heap and ask for large pages there; systems without them ignore the request."""
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    first = libc.sbrk(0)
    libc.mallopt(MMAP_MAX, 0)
    block = libc.malloc(ctypes.c_size_t(RESERVED))
    libc.mallopt(MMAP_MAX, 2**16)
    libc.free(ctypes.c_void_p(block))
    first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    length = ctypes.c_size_t(max(0, libc.sbrk(0) - first))
    libc.madvise(ctypes.c_void_p(first), length, MADV_HUGEPAGE)
