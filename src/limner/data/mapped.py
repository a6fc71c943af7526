"""Tensors whose memory is a mapped file, such as that of the pixel cache."""

import ctypes
import sys
from pathlib import Path

from torch import Tensor

LARGE = 2**26
"""Bytes; the pages of smaller tensors are kept."""
_PAGE = 2**12
_DONTNEED = 4


def forget(tensor: Tensor) -> None:
    """Give the pages of a large mapped tensor back; they are read from the file when used again.

    Without this, all pages that were ever read count as resident memory. The tensor, which may skip
    rows, must not have been changed. Has no effect on a tensor in ordinary memory, and on systems
    other than Linux.
    """
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    start = tensor.data_ptr()
    end = start + (sum((size - 1) * step for size, step in axes) + 1) * tensor.element_size()
    if sys.platform == "linux" and end - start >= LARGE and _is_file(start, end):
        start = -(-start // _PAGE) * _PAGE
        length = end // _PAGE * _PAGE - start
        madvise = ctypes.CDLL(None).madvise
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _DONTNEED)


def _is_file(start: int, end: int) -> bool:
    """Whether all addresses are in one mapping of a file, by the list that the system keeps."""
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(address, 16) for address in addresses.split("-"))
        if first <= start and end <= last:
            return inode != "0"
    return False
