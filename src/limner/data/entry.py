"""Files of the pixel cache: safetensors whose levels are mapped, with a checksum of every block."""

import json
import math
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 2**22
"""Bytes of pixels that have one checksum."""
CHECKED = 2**30
"""Bytes of pixels that are verified when an entry is opened; of larger ones a random sample."""
_PAGE = 2**12
_LONGEST_HEADER = 2**26
_TYPES = {"U8": "|u1", "I64": "<i8", "U64": "<u8", "U32": "<u4"}
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


@dataclass(frozen=True, eq=False)
class Stored:
    """An entry that is open: `levels`, uint8 [N, C, H, W], are mapped, `arrays` are in memory.

    The mapping is private: what is written to `levels` does not reach the file.
    """

    levels: Tensor
    arrays: Mapping[str, np.ndarray]
    about: Mapping[str, Any]


def code_of(array: np.ndarray) -> str:
    return next(code for code, kind in _TYPES.items() if np.dtype(kind) == array.dtype)


def header_of(forms: Mapping[str, tuple[str, tuple[int, ...]]], about: Mapping[str, Any]) -> bytes:
    """That of a safetensors file, as long as whole pages, so that pixels begin with one."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt", "limner": json.dumps(about)}}
    end = 0
    for name, (code, shape) in forms.items():
        start, end = end, end + math.prod(shape) * np.dtype(_TYPES[code]).itemsize
        table[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    text += b" " * (-(8 + len(text)) % _PAGE)
    return struct.pack("<Q", len(text)) + text


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    with path.open("rb") as file:
        start = file.read(8)
        (length,) = struct.unpack("<Q", start)
        if length > _LONGEST_HEADER:
            raise ValueError("its header is too long")
        raw = file.read(length)
    return json.loads(raw), start + raw


def read(path: Path) -> tuple[Stored, mmap.mmap]:
    """An entry, and the mapping that its levels lie in."""
    table, header = read_header(path)
    about = json.loads(table.pop("__metadata__")["limner"])
    ends = max(entry["data_offsets"][1] for entry in table.values())
    if path.stat().st_size != len(header) + ends:
        raise ValueError("its length is wrong")
    levels = table.pop("levels")
    size = levels["data_offsets"][1]
    with path.open("rb") as file:
        file.seek(len(header) + size)
        rest = file.read(ends - size)
    arrays = {}
    for name, entry in table.items():
        begin, end = (place - size for place in entry["data_offsets"])
        arrays[name] = np.frombuffer(rest[begin:end], _TYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    sums = arrays.pop("checksums")
    if sums[0] != zlib.crc32(header) or sums[1] != zlib.crc32(rest[: -sums.nbytes]):
        raise ValueError("its checksum is wrong")
    _verify(path, len(header), size, sums[2:])
    with path.open("rb") as file:  # last, since Windows removes no mapped file
        mapping = _mapped(file.fileno(), len(header) + size)
    pixels = torch.frombuffer(mapping, dtype=torch.uint8, offset=len(header), count=size)
    return Stored(pixels.view(levels["shape"]), arrays, about), mapping


def _mapped(file: int, length: int) -> mmap.mmap:
    """A private, writable mapping, since torch wants to be able to write; no memory is reserved."""
    if os.name == "nt":
        return mmap.mmap(file, length, access=mmap.ACCESS_COPY)
    flags, prot = mmap.MAP_PRIVATE | _NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(file, length, flags=flags, prot=prot)


def _verify(path: Path, offset: int, size: int, sums: np.ndarray) -> None:
    chosen = np.arange(len(sums))
    if size > CHECKED:
        chosen = np.random.default_rng().choice(chosen, CHECKED // BLOCK, replace=False)

    def is_sound(block: int) -> bool:
        with path.open("rb") as file:
            file.seek(offset + block * BLOCK)
            return zlib.crc32(file.read(min(BLOCK, size - block * BLOCK))) == sums[block]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        if not all(pool.map(is_sound, chosen.tolist())):
            raise ValueError("its checksum is wrong")


class Checksums:
    """CRC-32 of every block of a stream of bytes."""

    def __init__(self) -> None:
        self._sums, self._sum, self._room = [], 0, BLOCK

    def add(self, data: memoryview) -> None:
        while data:
            part, data = data[: self._room], data[self._room :]
            self._sum, self._room = zlib.crc32(part, self._sum), self._room - len(part)
            if not self._room:
                self._sums.append(self._sum)
                self._sum, self._room = 0, BLOCK

    def ended(self) -> list[int]:
        return self._sums + ([self._sum] if self._room < BLOCK else [])
