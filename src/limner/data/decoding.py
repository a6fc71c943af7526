"""Pictures decoded into rows of a file, in this process or, by `serve`, in one of several.

A worker reads one JSON document a line: first the plan, then jobs, and answers each in a line. It
imports neither torch nor pydantic, and ends when its input does.
"""

import hashlib
import io
import json
import os
import sys
import zipfile
from contextlib import ExitStack
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from limner.data.formats import format_of
from limner.data.pictures import Picture, Unreadable, read_header, read_picture
from limner.data.sizing import fitted, grey

if TYPE_CHECKING:
    from limner.data.config import Fit

Doing = Literal["decode", "measure", "digest"]
_IN_MEMORY = 2**26
_LARGEST_MEMBER = 2**29
"""Bytes of the largest file in a zip, whatever the zip says."""


class Decoder:
    """Decodes files of a folder or a zip into rows of `row_bytes` bytes of the file `draft`.

    A row is [H, W] or [H, W, 3]. If `fit` is None, only images of `size` are written.
    """

    def __init__(
        self,
        root: str,
        is_zip: bool,
        draft: str,
        row_bytes: int,
        size: tuple[int, int] | None,
        fit: "Fit | None",
        colour: str,
        ends: tuple[float, float] | None,
    ):
        self.plan = {name: value for name, value in locals().items() if name != "self"}
        self._root, self._is_zip, self._colour = root, is_zip, colour
        self._fit: Fit | None = fit
        self._draft, self._row_bytes, self._ends = draft, row_bytes, ends
        self._open = ExitStack()
        self._size = None if size is None else (size[0], size[1])

    def answer(self, doing: Doing, start: int, names: list[str]) -> list[list]:
        """For each of the named files, from row `start` on, its digest and what it is.

        [digest, width, height, mode, depth, peak, whether in colour, hash of the pixels], as far
        as they are known, or [digest, kind, reason, format] if it cannot be read, where the format
        may be missing. The digest is "" if there is no content.
        """
        return [self._answer(doing, start + place, name) for place, name in enumerate(names)]

    def _answer(self, doing: Doing, row: int, name: str) -> list:
        digest = ""
        try:
            with self.opened(name) as file:
                digest = _digest(file)
                if doing == "digest":
                    return [digest]
                if doing == "measure":
                    header = read_header(file)
                    return [digest, header.width, header.height, header.mode, 0, 0, False, ""]
                picture = read_picture(file, self._ends)
            levels = self._fitted(picture.levels)
        except Unreadable as error:
            return [digest, error.kind, str(error), error.format]
        except (MemoryError, OSError, zipfile.BadZipFile) as error:
            return [digest, "unreadable", getattr(error, "strerror", None) or str(error)]
        except Exception as error:  # decoders raise many kinds
            return [digest, "damaged", str(error) or type(error).__name__]
        return [digest, *self._placed(row, picture, levels)]

    def may_be_picture(self, name: str) -> bool:
        """Whether a file begins as a picture does, or cannot be opened, whatever its name."""
        try:
            with self._member(name) if self._is_zip else open(self._path(name), "rb") as file:
                return format_of(file.read(64)) is not None
        except Exception:  # zip files raise many kinds
            return True

    def place(self, row: int, picture: Picture) -> list:
        """Write a picture to a row; gives what `answer` does, with a digest of its pixels."""
        levels = self._fitted(picture.levels)
        digest = _digest(io.BytesIO(np.ascontiguousarray(levels).data))
        return [digest, *self._placed(row, picture, levels)]

    def _fitted(self, levels: np.ndarray) -> np.ndarray:
        if self._fit is not None and self._size is not None:
            levels = fitted(levels, self._size, self._fit)
        return grey(levels) if levels.ndim == 3 and self._colour == "grey" else levels

    def _placed(self, row: int, picture: Picture, levels: np.ndarray) -> list:
        height, width = picture.levels.shape[:2]
        if levels.shape[:2] == self._size:
            self._file.seek(row * self._row_bytes)
            self._file.write(np.ascontiguousarray(levels).data.cast("B"))
        about = [width, height, picture.mode, picture.depth, picture.peak]
        return [*about, levels.ndim == 3, picture.content]

    def opened(self, name: str) -> IO[bytes]:
        """A file of the folder, or a member of the zip, at its start."""
        if self._is_zip:
            with self._member(name) as member:
                return _copied(member)
        file = open(self._path(name), "rb")  # noqa: SIM115
        size = os.fstat(file.fileno()).st_size
        if size > _IN_MEMORY:
            return file
        with file:
            return io.BytesIO(file.read(size))

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def _member(self, name: str) -> IO[bytes]:
        return self._archive.open(self._members[name])

    @cached_property
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        return {member_name(member.filename): member for member in self._archive.infolist()}

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return self._open.enter_context(zipfile.ZipFile(self._root))

    @cached_property
    def _file(self) -> IO[bytes]:
        return self._open.enter_context(open(self._draft, "r+b", buffering=0))

    def close(self) -> None:
        """Close the zip and the draft; they are opened again if they are needed."""
        self._open.close()
        for name in ("_archive", "_members", "_file"):
            vars(self).pop(name, None)


def member_name(name: str) -> str:
    """The name of a member of a zip, with / and without empty parts, as some programs write."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def serve() -> None:
    """Answer jobs from standard input until it ends."""
    decoder = Decoder(**json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = decoder.answer(**json.loads(line))
        except OSError as error:  # the draft cannot be written
            answer = {"errno": error.errno, "text": error.strerror}
        print(json.dumps(answer), flush=True)


def _copied(member: IO[bytes]) -> IO[bytes]:
    """The content of a member of a zip: in memory, or if it is long in a temporary file."""
    copy, left = SpooledTemporaryFile(_IN_MEMORY), _LARGEST_MEMBER  # noqa: SIM115
    try:
        while data := member.read(2**20):
            left -= len(data)
            if left < 0:
                raise Unreadable("too large", "the file is too large")
            copy.write(data)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _digest(file: IO[bytes]) -> str:
    """That of all bytes of a file, which is then at its start again."""
    digest = hashlib.blake2b(digest_size=16)
    while data := file.read(2**20):
        digest.update(data)
    file.seek(0)
    return digest.hexdigest()
