"""Tensors whose memory is a mapped file, such as that of the pixel cache."""

import ctypes
import sys
from functools import cache
from pathlib import Path

from torch import Tensor

LARGE = 2**26
"""Bytes; the pages of smaller tensors are kept."""
_PAGE = 2**12
_WILLNEED, _DONTNEED = 3, 4


def forget(tensor: Tensor) -> None:
    """Give the pages of a large mapped tensor back; they are read from the file when used again.

    Without this, all pages that were ever read count as resident memory. The tensor, which may skip
    rows, must not have been changed. Has no effect on a tensor in ordinary memory, and on systems
    other than Linux.
    """
    start, end = _range(tensor)
    if is_mapped(tensor):
        start = -(-start // _PAGE) * _PAGE
        _madvise(start, end // _PAGE * _PAGE - start, _DONTNEED)


def prefetch(tensor: Tensor, rows: Tensor) -> None:
    """Start to read some rows of a mapped tensor, all at once, and nothing around them.

    Otherwise the system waits for each row in turn, and reads much of what lies beside it.
    """
    start, _ = _range(tensor)
    size = tensor.stride(0) * tensor.element_size()
    for row in rows.tolist():
        first = (start + row * size) // _PAGE * _PAGE
        _madvise(first, start + (row + 1) * size - first, _WILLNEED)


def _range(tensor: Tensor) -> tuple[int, int]:
    """The first address of a tensor, and that after its last."""
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * step for size, step in axes)
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def is_mapped(tensor: Tensor) -> bool:
    """Whether this is a large tensor in a mapped file."""
    start, end = _range(tensor)
    return (
        tensor.device.type == "cpu"
        and sys.platform == "linux"
        and end - start >= LARGE
        and _is_file(start, end)
    )


def _madvise(start: int, length: int, advice: int) -> None:
    _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _is_file(start: int, end: int) -> bool:
    """Whether all addresses are in one mapping of a file, by the list that the system keeps."""
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        addresses, _, _, _, inode, *_ = line.split(maxsplit=5)
        first, last = (int(address, 16) for address in addresses.split("-"))
        if first <= start and end <= last:
            return inode != "0"
    return False
