"""Image datasets of the Hugging Face Hub, with the extra `[hub]`."""

import io
import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from limner.data import cache
from limner.data.census import Census
from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Source, Split, named_splits
from limner.data.decoding import Decoder
from limner.data.gathered import Gathered, place_of, report, settings, slots
from limner.data.pictures import Picture, Unreadable, picture_of, read_picture
from limner.data.stored import drafted, open_source
from limner.errors import InputError
from limner.extras import install
from limner.progress import progress_bar

# No leading dot or slash: the library would read such a name as a path on this machine.
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


def load_hub(name: str, root: Path | None, config: DataConfig) -> Source:
    """The images of `NAME` or `OWNER/NAME`, cached by the `datasets` library (in `root` if given).

    The first column of images and the first column of class labels are used. Images are decoded
    into the pixel cache one by one. Missing splits are cut from train by the pixels of each.
    """
    where = f"hub:{name}"
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} is not the name of a Hub dataset; write hub:NAME or hub:OWNER/NAME."
        )
    if config.group_by is not None:
        raise InputError(f"{where} has no file names; leave out --data.group-by.")
    tables = _tables(name, root)
    some = next(iter(tables.values()))
    image = column_of(some.features, "Image")
    if image is None:
        raise InputError(f"{where} has no column of images; choose another dataset.")
    label = column_of(some.features, "ClassLabel")
    prints = [getattr(table, "_fingerprint", None) for table in tables.values()]
    alias = cache.key_of("hub", name, list(tables), prints, image, label, settings(config))
    key = cache.known(alias) if all(prints) else None
    source = None if key is None else open_source(key)
    if source is None:
        with cache.locked(alias, where):
            key = cache.known(alias) if all(prints) else None
            source = None if key is None else open_source(key)
            source = source or _stored(tables, image, label, config, where, alias)
    return report(source, where)


def _stored(
    tables: Mapping[Split, Any],
    image: str,
    label: str | None,
    config: DataConfig,
    where: str,
    alias: str,
) -> Source:
    """The images of the tables from the cache, after they are decoded."""
    census = Census(where)
    counts = [len(table) for table in tables.values()]
    some = next(iter(tables.values()))
    size = config.height_width or _first_size(tables, image, config)
    row_bytes = slots(config) * size[0] * size[1]
    fit = None if config.size is None else config.fit
    with drafted(alias, sum(counts) * row_bytes) as draft:
        decoder = Decoder("", False, str(draft), row_bytes, size, fit, config.colour, config.range)
        into = f"into {cache.folder()}"
        display = progress_bar(f"reading {where}", sum(counts), about=into)
        with closing(decoder), display as show:
            for table in tables.values():
                for place in range(len(table)):
                    row = len(census.read)
                    census.add(f"row {place}", _answer(decoder, row, table, place, image, config))
                    show(row + 1, "")
        gathered = Gathered(
            census,
            config,
            np.repeat(np.array([place_of(split) for split in tables], np.int8), counts),
            labels=_labels(tables, label, where),
            class_names=None if label is None else tuple(some.features[label].names),
        )
        gathered.check(size)
        key = cache.key_of("rows", where, census.digests.hex(), counts, settings(config))
        source = gathered.store(key, draft, size)
    cache.remember(alias, key)
    return source


def _tables(name: str, root: Path | None) -> dict[Split, Any]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"hub:{name} needs the datasets library; install it with {install('hub')}."
        ) from None
    try:
        found: Any = load_dataset(name, cache_dir=None if root is None else str(root))
    except Exception as error:  # the library, its network stack and its builders raise many kinds
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"hub:{name} could not be loaded ({first}); correct the name, or try again later."
        ) from None
    named = named_splits(found, f"hub:{name}")
    if not named:
        raise InputError(f"hub:{name} has no split train; it has {', '.join(found)}.")
    return {split: undecoded(found[named[split]]) for split in SPLITS if split in named}


def undecoded(table: Any) -> Any:
    """The table with files in place of images that Pillow has decoded."""
    image = column_of(table.features, "Image")
    if image is None or not hasattr(table, "cast_column"):
        return table
    from datasets import Image

    return table.cast_column(image, Image(decode=False))


def column_of(features: Any, kind: str) -> str | None:
    """The first column of a kind of feature, such as Image or ClassLabel."""
    return next((key for key, value in features.items() if type(value).__name__ == kind), None)


def _answer(
    decoder: Decoder, row: int, table: Any, place: int, image: str, config: DataConfig
) -> list:
    """What a `Decoder` answers, for one row of a table."""
    try:
        picture = picture_in(table[place][image], config)
    except Unreadable as error:
        return ["", error.kind, str(error), error.format]
    except Exception as error:  # the library and Pillow raise many kinds
        return ["", "damaged", str(error) or type(error).__name__]
    with cache.storing():
        return decoder.place(row, picture)


def picture_in(found: Any, config: DataConfig) -> Picture:
    """The picture in a cell: of Pillow, or a file as {"bytes", "path"}. Raises `Unreadable`."""
    if found is None:
        raise Unreadable("empty", "there is no image")
    if not isinstance(found, dict):
        return picture_of(found, config.range)
    if found["bytes"] is not None:
        return read_picture(io.BytesIO(found["bytes"]), config.range)
    with open(found["path"], "rb") as file:
        return read_picture(file, config.range)


def _first_size(tables: Mapping[Split, Any], image: str, config: DataConfig) -> tuple[int, int]:
    for table in tables.values():
        for place in range(len(table)):
            try:
                height, width = picture_in(table[place][image], config).levels.shape[:2]
            except Exception:
                continue
            return height, width
    return 1, 1


def _labels(tables: Mapping[Split, Any], label: str | None, where: str) -> np.ndarray | None:
    """Class numbers of all rows; those of a split that hides them, as -1, are all -1."""
    if label is None:
        return None
    found = []
    for table in tables.values():
        try:
            labels = np.asarray(table[label], dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            raise InputError(
                f"{where} has labels that are no class numbers in its column {label}; choose "
                "another dataset."
            ) from None
        classes = len(table.features[label].names)
        known = ((labels >= 0) & (labels < classes)).all()
        found.append(labels if known else np.full(len(table), -1))
    return np.concatenate(found)
