"""Folders of PNG and JPEG files: accepted content, and the errors for the rest."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from limner import data
from limner.data.pictures import MAX_PIXELS
from limner.errors import InputError

GREY = np.arange(60 * 5 * 4, dtype=np.uint8).reshape(60, 5, 4)


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def picture(path, array, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **more)


def test_a_folder_without_classes(tmp_path):
    for place, image in enumerate(GREY):
        picture(tmp_path / f"{place}.png", image)
    (tmp_path / "notes.txt").write_text("not an image, and not named like one")
    dataset = load(tmp_path)
    assert dataset.train.labels is None
    levels = torch.cat([dataset.split(split).levels for split in data.SPLITS])
    rows = levels.flatten(1).tolist()
    assert sorted(rows) == sorted(GREY.reshape(60, -1).tolist())


def test_a_folder_with_splits_and_classes(tmp_path):
    for split, count in (("train", 12), ("val", 4), ("test", 2)):
        for place in range(count):
            name = "ab"[place % 2]
            picture(tmp_path / split / name / f"{place}.jpg", GREY[place], quality=100)
    dataset = load(tmp_path)
    assert [len(dataset.split(split)) for split in data.SPLITS] == [12, 4, 2]
    assert dataset.class_names == ("a", "b")
    assert dataset.train.labels.bincount().tolist() == [6, 6]
    assert (dataset.train.levels[0, 0].int() - torch.from_numpy(GREY[0]).int()).abs().max() <= 3


def test_kinds_of_pictures(tmp_path):
    for place in range(5):
        rgba = np.zeros((5, 4, 4), np.uint8)
        rgba[0, :] = 200, 0, place, 255
        picture(tmp_path / "colour" / f"{place}.png", rgba)
        picture(tmp_path / "16 bits" / f"{place}.png", GREY[place + 3].astype(np.uint16) * 257)
        picture(tmp_path / "bool" / f"{place}.png", GREY[place] > 22 * place + 5)
        Image.fromarray(GREY[place]).convert("P").save(tmp_path / "16 bits" / f"p{place}.png")

    for name in ("16 bits", "bool"):
        dataset = load(tmp_path / name)
        assert dataset.image_shape == (1, 5, 4)
        for images in map(dataset.split, data.SPLITS):
            for levels, file in zip(images.levels, images.names, strict=True):
                place = int(file[-5])
                expected = GREY[place + (file[0] != "p") * 3]
                if name == "bool":
                    expected = (GREY[place] > 22 * place + 5) * np.uint8(255)
                assert np.array_equal(levels[0], expected)
    transparent = load(tmp_path / "colour").test
    place = int(transparent.names[0][0])
    assert transparent.levels[0][:, 0].unique(dim=1).tolist() == [[200], [0], [place]]
    assert transparent.levels[0][:, 1:].min() == 255
    picture(tmp_path / "colour" / "grey.png", GREY[0])
    assert load(tmp_path / "colour").image_shape == (3, 5, 4)


def test_folders_that_hold_no_usable_images_are_refused(tmp_path):
    def refused(message):
        with pytest.raises(InputError, match=message):
            load(tmp_path)

    refused("has no pictures")
    (tmp_path / "a.png").write_text("not an image")
    refused(r"not a picture: a\.png .*give other pictures")
    picture(tmp_path / "a.png", GREY[0])
    refused("at least 3")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    refused(r"1 truncated: b\.png .*--data\.skip-damaged")
    picture(tmp_path / "b.png", GREY[0].T)
    refused(r"1 of 4 x 5 \(a\.png\), 1 of 5 x 4 \(b\.png\).*--data\.size")
    picture(tmp_path / "b.png", GREY[0])
    picture(tmp_path / "class" / "c.png", GREY[0])
    refused("both directly and in subfolders")


def black(side):
    """A PNG of side x side bits, all zero."""

    def chunk(kind, body):
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + -(-side // 8))))
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def test_too_large_pictures_are_refused(tmp_path):
    """Too large for Limner, so large that Pillow warns, and so large that it refuses."""
    warned, refused = int(Image.MAX_IMAGE_PIXELS**0.5), int((2 * Image.MAX_IMAGE_PIXELS) ** 0.5)
    for side in (int(MAX_PIXELS**0.5), warned, refused):
        (tmp_path / "a.png").write_bytes(black(side + 1))
        with pytest.raises(InputError, match="too large"):
            load(tmp_path)
    (tmp_path / "a.png").write_bytes(black(300))
    with pytest.raises(InputError, match="too few"):
        load(tmp_path)
    (tmp_path / "list.txt").write_text("")
    with pytest.raises(InputError, match="no file of images"):
        load(tmp_path / "list.txt")
