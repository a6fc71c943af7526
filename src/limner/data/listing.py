"""The files below a folder or in a zip, and which split and class each belongs to."""

import os
import stat
import zipfile
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from limner.data.dataset import Split, named_splits, unclear_splits
from limner.data.decoding import member_name
from limner.data.splits import check_splits
from limner.errors import InputError

_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin"})


@dataclass(frozen=True, eq=False)
class Listing:
    """Files by their names relative to the root, with /, sorted by folder and name.

    `stats`: int64 [N, 4], size in bytes, then what changes if the file does. `folders`: names of
    the folders in the root. `unreadable`: folders that cannot be listed,
    links to nothing, pipes and devices.
    """

    root: Path
    is_zip: bool
    names: list[str]
    stats: np.ndarray
    folders: frozenset[str] = frozenset()
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


def listed(root: Path) -> Listing:
    """The files below a folder, or in a zip, without hidden ones and those of file managers.

    Links are followed, and a link to a folder that it lies in is left out.
    """
    found = _Found()
    if root.is_dir():
        _walk(root, found)
    else:
        _members(root, found)
    names = found.names
    order = sorted(range(len(names)), key=lambda place: names[place].replace("/", "\0"))
    stats = np.frombuffer(found.stats, np.int64).reshape(-1, 4)[order]
    return Listing(
        root,
        not root.is_dir(),
        [names[place] for place in order],
        stats,
        frozenset(found.folders),
        tuple(sorted(found.unreadable)),
    )


class Sorted(NamedTuple):
    """Where files belong: `splits[place]` of each file and `classes[place]`, its class or -1."""

    splits: list[Split]
    classes: np.ndarray
    class_names: tuple[str, ...] | None


def sorted_out(listing: Listing, pictures: list[str]) -> Sorted:
    """The split and the class of each of the `pictures` of a listing.

    Folders in the root whose names mean train, validation and test are splits, with or without
    classes; other folders are classes. If the root has one folder only, and that has only folders,
    it is taken for the root. Folders elsewhere that may mean splits are refused.
    """
    inner = _inner(pictures)
    folders = listing.folders if not inner else _tops(pictures, inner)
    named = named_splits(folders, str(listing.root))
    if named:
        _check_rest(listing, pictures, inner, set(named.values()))
        check_splits(
            {split: range(_count(pictures, inner + name)) for split, name in named.items()},
            str(listing.root),
        )
    split_of: dict[str, Split] = {name: split for split, name in named.items()}
    splits: list[Split] = []
    classes: list[str | None] = []
    for name in pictures:
        parts = name[len(inner) :].split("/")
        splits.append(split_of.get(parts[0], "train"))
        below = parts[1:] if named else parts
        classes.append(below[0] if len(below) > 1 else None)
    _check_depth(listing, splits, classes)
    _check_below(listing, pictures, {inner + name for name in named.values()})
    names = sorted({name for name in classes if name is not None})
    numbers = {name: number for number, name in enumerate(names)}
    return Sorted(
        splits,
        np.array([-1 if name is None else numbers[name] for name in classes], np.int64),
        tuple(names) or None,
    )


@dataclass
class _Found:
    names: list[str] = field(default_factory=list)
    stats: array = field(default_factory=lambda: array("q"))
    folders: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


def _walk(root: Path, found: _Found) -> None:
    """Lists a folder with a stack of its own, which holds folders and no files."""
    state = os.stat(root)
    waiting: list[tuple[str, frozenset]] = [("", frozenset({(state.st_dev, state.st_ino)}))]
    while waiting:
        below, above = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                waiting += _listed(entries, below, above, found)
        except OSError:
            if not below:
                raise
            found.unreadable.append(below.rstrip("/"))


def _listed(
    entries: Iterator[os.DirEntry], below: str, above: frozenset, found: _Found
) -> Iterator[tuple[str, frozenset]]:
    """Notes the files of a folder, and gives its folders, each with those that it lies in."""
    for entry in entries:
        if _is_ignored(entry.name):
            continue
        name = below + entry.name
        try:
            state = entry.stat()
        except OSError:
            found.unreadable.append(name)
            continue
        if stat.S_ISDIR(state.st_mode):
            place = (state.st_dev, state.st_ino)
            if place not in above:
                yield name + "/", above | {place}
                if not below:
                    found.folders.add(entry.name)
        elif stat.S_ISREG(state.st_mode):
            found.names.append(name)
            found.stats.extend(
                (state.st_size, state.st_mtime_ns, state.st_ctime_ns, _signed(state.st_ino))
            )
        else:
            found.unreadable.append(name)


def _members(path: Path, found: _Found) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeError) as error:
        raise InputError(f"{path} is no zip that can be read ({error}); make it again.") from None
    for member in members:
        name = member_name(member.filename)
        parts, is_folder = name.split("/"), member.filename.endswith(("/", "\\"))
        if not name or any(map(_is_ignored, parts)):
            continue
        if len(parts) > 1 or is_folder:
            found.folders.add(parts[0])
        if not is_folder:
            found.names.append(name)
            found.stats.extend((member.file_size, member.CRC, member.header_offset, 0))


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def _signed(number: int) -> int:
    return (number + 2**63) % 2**64 - 2**63


def _inner(pictures: list[str]) -> str:
    """The folders, as prefix, that are each the only one and have only folders."""
    inner = ""
    for part in pictures[0].split("/")[:-1] if pictures else ():
        below = f"{inner}{part}/"
        if named_splits({part}, "") or not all(
            name.startswith(below) and "/" in name[len(below) :] for name in pictures
        ):
            break
        inner = below
    return inner


def _tops(pictures: list[str], inner: str) -> frozenset[str]:
    return frozenset(name[len(inner) :].partition("/")[0] for name in pictures)


def _count(pictures: list[str], folder: str) -> int:
    return sum(name.startswith(folder + "/") for name in pictures)


def _check_rest(listing: Listing, pictures: list[str], inner: str, splits: set[str]) -> None:
    """Refuse pictures outside the folders of splits."""
    rest = Counter(
        top if slash else "" for top, slash, _ in (n[len(inner) :].partition("/") for n in pictures)
    )
    others = sorted(set(rest) - splits)
    if others:
        what = "pictures" if others == [""] else f"the folders {', '.join(filter(None, others))}"
        known = ", ".join(sorted(splits))
        raise InputError(
            f"{listing.root} has {what} beside the splits {known}; move them into a folder train, "
            f"validation or test (if {known} is a class, put all classes into a folder train)."
        )


def _check_below(listing: Listing, pictures: list[str], used: set[str]) -> None:
    """Refuse folders that mean splits where they would be classes, or below classes.

    A class may have such a name beside other classes in the folder of a split, as a train does.
    """
    inside: dict[str, set[str]] = {}
    for folders in {tuple(name.split("/")[:-1]) for name in pictures}:
        for depth, folder in enumerate(folders):
            inside.setdefault("/".join(folders[:depth]), set()).add(folder)
    for above, names in sorted(inside.items()):
        prefix = f"{above}/" if above else ""
        meant = sorted(
            name for name in names if named_splits({name}, "") and prefix + name not in used
        )
        if above in used and len(meant) < len(names):
            meant = []
        if not meant and not used:
            meant = unclear_splits(names)
        if meant:
            shown = " and ".join(prefix + name for name in meant[:2])
            raise InputError(
                f"{listing.root} has {shown}, which may mean splits, where Limner looks for "
                "classes; put all pictures into the folders "
                "train, validation and test, with a folder for each class in them, or rename these."
            )


def _check_depth(listing: Listing, splits: list[Split], classes: list[str | None]) -> None:
    """Refuse pictures beside the folders of classes."""
    kinds = {(split, name is None) for split, name in zip(splits, classes, strict=True)}
    for split in splits and ("train", "validation", "test"):
        if {(split, True), (split, False)} <= kinds:
            raise InputError(
                f"{listing.root} has pictures both directly and in subfolders; put all of them in "
                "subfolders, one per class, or none."
            )
