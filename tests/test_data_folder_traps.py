"""Folders and zips that look right and are not: headers, names, splits and what decides them."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from limner import data
from limner.data import workers
from limner.data.dataset import SPLITS, unclear_splits
from limner.data.pictures import read_header
from limner.errors import InputError

PICTURES = np.random.RandomState(3).randint(0, 256, (60, 8, 6)).astype(np.uint8)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def put(folder, numbers, name="{:03}.png", **more):
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        Image.fromarray(PICTURES[k]).save(folder / name.format(k), **more)


def split_of(dataset):
    return {name: split for split in SPLITS for name in dataset.split(split).names}


def check(dataset, turned=False):
    for images in map(dataset.split, SPLITS):
        for levels, name in zip(images.levels, images.names, strict=True):
            picture = PICTURES[int(name[:3])]
            assert np.array_equal(levels[0], np.rot90(picture, -1) if turned else picture)


def preview(path):
    """A TIFF of another size whose only picture is a preview: its header can be read."""
    Image.fromarray(PICTURES[0].repeat(2, 0)).save(path, tiffinfo={254: 1})


def cut_short(path):
    file = io.BytesIO()
    Image.fromarray(PICTURES.reshape(-1, 120)).save(file, "PNG")
    path.write_bytes(file.getvalue()[:-200])


@pytest.mark.parametrize(("name", "damage"), [("0-a.tif", preview), ("0-b.png", cut_short)])
def test_a_first_file_that_cannot_be_decoded_gives_no_size(name, damage, tmp_path):
    folder = tmp_path / "p"
    put(folder, range(30))
    damage(folder / name)
    dataset = load(folder, skip_damaged=True)
    assert dataset.image_shape == (1, 8, 6)
    check(dataset)


def with_late_text(picture, kind, body):
    """A PNG with a chunk of text after its pixels."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    content = file.getvalue()
    chunk = struct.pack(">I", len(body)) + kind + body
    chunk += struct.pack(">I", zlib.crc32(kind + body))
    return content[:-12] + chunk + content[-12:]


EXIF = Image.Exif()
EXIF[0x0112] = 6
HEX = EXIF.tobytes().hex()
XMP = b"<x:xmpmeta><rdf:Description tiff:Orientation='6'/></x:xmpmeta>".replace(b"'", b'"')
LATE = {
    "exif": (b"eXIf", EXIF.tobytes().removeprefix(b"Exif\0\0")),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "raw": (
        b"zTXt",
        b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(HEX) // 2}\n{HEX}\n".encode()),
    ),
}


@pytest.mark.parametrize("late", LATE)
def test_an_orientation_after_the_pixels_is_in_the_header_and_the_data(late, tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    for k in range(20):
        content = with_late_text(PICTURES[k], *LATE[late])
        (folder / f"{k:03}.png").write_bytes(content)
    header = read_header(io.BytesIO(content))
    assert (header.width, header.height) == (8, 6)
    check(load(folder), turned=True)


@pytest.mark.parametrize(
    "folders",
    [
        ("cat/train", "cat/test", "dog/train", "dog/test"),
        ("images/train", "images/test", "masks/train", "masks/test"),
        ("training_set/training_set/cats", "test_set/test_set/cats"),
        ("a/b/c/val2017", "a/x"),
        ("train/train", "test/test"),
        ("seg_train", "seg_test", "seg_pred"),
        ("trainA", "trainB", "testA", "testB"),
        ("train_hr", "valid_hr"),
        ("some-train", "other_test"),
        ("x/trainClean", "x/testClean", "y"),
    ],
)
def test_splits_where_classes_are_looked_for_are_refused(folders, tmp_path):
    for place, name in enumerate(folders):
        put(tmp_path / "p" / name, range(10 * place, 10 * place + 10))
    with pytest.raises(InputError, match=r"may mean splits|beside the splits"):
        load(tmp_path / "p")


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("train/bus", "train/train", "test/bus", "test/train"), ("bus", "train")),
        (("outer/inner/train/a", "outer/inner/test/a"), ("a",)),
        (("freight train", "test tube", "cat"), ("cat", "freight train", "test tube")),
        (("toy train", "steam train"), ("steam train", "toy train")),
        (("developer", "evaluated", "contest"), ("contest", "developer", "evaluated")),
    ],
)
def test_classes_with_words_of_splits_are_read(folders, classes, tmp_path):
    for place, name in enumerate(folders):
        put(tmp_path / "p" / name, range(15 * place, 15 * place + 15))
    assert load(tmp_path / "p").class_names == classes


def test_unclear_splits():
    assert unclear_splits(["my-train", "my-test", "notes"]) == ["my-test", "my-train"]
    assert unclear_splits(["cat", "dog"]) == []


@pytest.mark.parametrize("form", ["a\\{}", ".\\a\\{}", "./a//{}", "/a/{}"])
def test_zips_of_other_programs_have_the_same_splits(form, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for k in range(30):
            file = io.BytesIO()
            Image.fromarray(PICTURES[k]).save(file, "PNG")
            name = f"{'train' if k < 20 else 'test'}/{k:03}.png"
            if "\\" in form:
                name = name.replace("/", "\\")
            archive.writestr(zipfile.ZipInfo(form.format(name)), file.getvalue())
        archive.writestr(zipfile.ZipInfo("a\\empty\\" if "\\" in form else "a/empty/"), b"")
    dataset = load(tmp_path / "p.zip")
    assert set(dataset.test.names) == {f"a/test/{k:03}.png" for k in range(20, 30)}
    assert torch.equal(dataset.test.levels[0, 0], torch.from_numpy(PICTURES[20]))


def test_metadata_format_size_and_range_move_no_picture(tmp_path):
    put(tmp_path / "a", range(60))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("comment", "edited")
    put(tmp_path / "b", range(60), pnginfo=notes, compress_level=1)
    put(tmp_path / "c", range(60), "{:03}.tif")
    put(tmp_path / "d", range(60), exif=EXIF)
    before = split_of(load(tmp_path / "a"))
    assert len(set(before.values())) == 3
    assert split_of(load(tmp_path / "b")) == split_of(load(tmp_path / "d")) == before
    turned = {name.replace("tif", "png"): s for name, s in split_of(load(tmp_path / "c")).items()}
    assert turned == before
    for more in ({"size": 4}, {"range": (0, 300)}, {"colour": "rgb"}):
        assert split_of(load(tmp_path / "a", **more)) == before


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_pictures_with_dark_or_no_known_range_are_told_apart(kind, tmp_path):
    (tmp_path / "a").mkdir()
    for k in range(60):
        Image.fromarray(PICTURES[k].astype(kind)).save(tmp_path / "a" / f"{k}.tif")
    first = split_of(load(tmp_path / "a", range=(0, 255)))
    assert len(set(first.values())) == 3
    assert split_of(load(tmp_path / "a", range=(0, 1000))) == first


def test_groups_in_several_given_splits_are_counted(tmp_path, capsys):
    put(tmp_path / "p" / "train", range(20), "film{:03}_a.png")
    put(tmp_path / "p" / "test", range(18, 30), "film{:03}_b.png")
    for _ in range(2):  # read, and from the cache
        dataset = load(tmp_path / "p", group_by=r"film(\d+)")
        assert dataset.found.shared_groups == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("2 groups are in more than one of its split folders") == 2
    assert load(tmp_path / "p", group_by=r"(film\d+_.)").found.shared_groups == 0


@pytest.mark.parametrize("skip", [False, True])
def test_leaving_out_is_no_advice_if_nothing_is_left(skip, tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.png").write_text("no picture")
    with pytest.raises(InputError, match="give other pictures") as caught:
        load(tmp_path, skip_damaged=skip)
    assert "skip-damaged" not in str(caught.value)


def test_a_format_behind_another_name_is_named(tmp_path):
    put(tmp_path / "p", range(20))
    (tmp_path / "p" / "x.jpg").write_bytes(b"8BPS" + bytes(60))
    assert load(tmp_path / "p").found.skipped == "1 Photoshop named .jpg"


@pytest.mark.parametrize("is_zip", [False, True])
def test_only_the_start_of_a_file_of_unknown_suffix_is_read(is_zip, tmp_path, monkeypatch):
    put(tmp_path / "p", range(10))
    with (tmp_path / "p" / "film.mkv").open("wb") as file:
        file.truncate(2**24 if is_zip else 2**36)
    (tmp_path / "p" / "000.png").rename(tmp_path / "p" / "000.dat")
    path = tmp_path / "p"
    if is_zip:
        path = tmp_path / "p.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in (tmp_path / "p").iterdir():
                archive.write(file, file.name)
    dataset = load(path)
    assert dataset.found.skipped == "1 .mkv"
    assert len(split_of(dataset)) == 10
    check(dataset)


def test_few_large_files_are_shared_by_several_processes(tmp_path, monkeypatch):
    assert list(workers.batches([1] * 130)) == [slice(0, 64), slice(64, 128), slice(128, 130)]
    big = workers.BYTES_AT_ONCE
    assert list(workers.batches([big, 5 * big, 1, 1])) == [slice(0, 1), slice(1, 2), slice(2, 4)]
    assert list(workers.batches([])) == []
    started = []
    start = workers._Pool.start
    monkeypatch.setattr(
        workers._Pool, "start", lambda pool, count: started.append(count) or start(pool, count)
    )
    monkeypatch.setattr(workers, "_cores", lambda: 2)
    put(tmp_path / "p", range(12))
    check(load(tmp_path / "p"))
    assert not started
    monkeypatch.setattr(workers, "FEW_BYTES", 100)
    monkeypatch.setattr(workers, "BYTES_AT_ONCE", 200)
    check(load(tmp_path / "p", skip_damaged=True))
    assert started == [2]
