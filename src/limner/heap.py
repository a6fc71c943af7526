"""Memory that stays with a computation from step to step, in large pages.

What the forward pass of a training step stores for the backward pass, 250 MB for DRAW of 64 steps,
is freed at its end. The C library's allocator would hand it back to the system, which clears each
page of 4 KiB as the next step touches it; and to find so many pages takes the processor time.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RESERVED = 2**29
"""Bytes of addresses for large pages; memory becomes of them what is used."""
LARGE_PAGE = 2**21
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Of `mallopt`, malloc.h."""
MADV_HUGEPAGE = 14
"""Of `madvise`, sys/mman.h."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """A context in which freed memory is kept for what comes next, with glibc; it ends with it."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, 2**25)  # the largest allowed
    libc.mallopt(TRIM_THRESHOLD, -1)
    libc.mallopt(TOP_PAD, RESERVED)
    _reserve_large_pages(libc)
    try:
        yield
    finally:
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD):
            libc.mallopt(option, 2**17)  # the default of all three
        libc.malloc_trim(0)


def _reserve_large_pages(libc: ctypes.CDLL) -> None:
    """Make the heap longer and ask that it be of large pages, where the system has them."""
    libc.malloc.restype = ctypes.c_void_p
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(LARGE_PAGE))))
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else []:
        if line.endswith("[heap]"):
            first, last = (int(bound, 16) for bound in line.split()[0].split("-"))
            first = -(-first // LARGE_PAGE) * LARGE_PAGE
            length = ctypes.c_size_t(max(0, last - first))
            libc.madvise(ctypes.c_void_p(first), length, MADV_HUGEPAGE)
