"""Folders and zips of pictures: which files are found, what they mean, and what is refused."""

import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from limner import data
from limner.data.listing import listed
from limner.data.sizing import fitted
from limner.errors import InputError

PICTURES = np.random.RandomState(0).randint(0, 256, (60, 6, 5)).astype(np.uint8)


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def put(folder, numbers, name="{:03}.png", array=PICTURES):
    folder.mkdir(parents=True, exist_ok=True)
    for k in numbers:
        Image.fromarray(array[k]).save(folder / name.format(k))


def refused(message, path, **more):
    with pytest.raises(InputError, match=message) as caught:
        load(path, **more)
    assert str(caught.value).isprintable()


def sizes(dataset):
    return [len(dataset.split(split)) for split in data.SPLITS]


def test_split_folders_in_other_words(tmp_path):
    for name, numbers in (("Train", range(20)), ("TESTING", range(20, 30)), ("dev", range(30, 35))):
        put(tmp_path / name / "a", list(numbers)[::2])
        put(tmp_path / name / "b", list(numbers)[1::2])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "boxes.xml").write_text("<boxes/>")
    dataset = load(tmp_path)
    assert sizes(dataset) == [20, 5, 10]
    assert dataset.class_names == ("a", "b")
    assert dataset.found.skipped == "1 .xml"
    assert torch.equal(dataset.test.levels[0, 0], torch.from_numpy(PICTURES[20]))


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"train": 9, "cats": 2}, "has the folders cats beside the splits train; move them"),
        ({"train": 9, "": 2}, "has pictures beside the splits train"),
        ({"Test": 9, "Validation": 3}, "no training images; add a split or a folder"),
        ({"train": 9, "val": 2, "Dev": 2}, "two splits for validation, Dev and val"),
        ({"train": 9, "test": 0}, "no images in its test split"),
        ({"": 9, "cats": 2}, "both directly and in subfolders"),
        ({"train": 5, "train/cats": 5}, "both directly and in subfolders"),
        ({"": 2}, "too few to split; give at least 3"),
        ({"": 0}, "has no pictures; give a folder or zip of PNG"),
    ],
)
def test_folders_that_may_mean_several_things_are_refused(folders, message, tmp_path):
    for place, (name, count) in enumerate(folders.items()):
        put(tmp_path / name, range(10 * place, 10 * place + count))
    refused(message, tmp_path)


def test_three_images_and_a_class_of_one(tmp_path):
    put(tmp_path / "a", range(2))
    put(tmp_path / "b", [2])
    dataset = load(tmp_path)
    assert sizes(dataset) == [1, 1, 1]
    labels = torch.cat([dataset.split(split).labels for split in data.SPLITS])
    assert sorted(labels.tolist()) == [0, 0, 1]


def test_linked_classes_are_read_and_circles_end(tmp_path):
    put(tmp_path / "elsewhere", range(10))
    put(tmp_path / "root" / "real", range(10, 20))
    (tmp_path / "root" / "linked").symlink_to("../elsewhere")
    (tmp_path / "root" / "real" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "self").symlink_to(".")
    dataset = load(tmp_path / "root")
    assert dataset.class_names == ("linked", "real")
    names = [name for split in data.SPLITS for name in dataset.split(split).names]
    assert len(names) == len(set(names)) >= 20
    assert {name for name in names if name.count("/") == 1} == {
        f"{folder}/{k:03}.png"
        for folder, start in (("linked", 0), ("real", 10))
        for k in range(start, start + 10)
    }


def test_odd_names_are_read_and_printed(tmp_path):
    names = [b"line\nbreak.png", b"caf\xe9.png", "日本.PNG".encode(), b" .png"]
    put(tmp_path, range(4))
    for k, name in enumerate(names):
        os.rename(tmp_path / f"{k:03}.png", os.path.join(os.fsencode(tmp_path), name))
    for _ in range(2):
        dataset = load(tmp_path)
        found = {os.fsencode(name) for split in data.SPLITS for name in dataset.split(split).names}
        assert found == set(names)
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"), "wb"):
        refused(r"1 empty: caf\\udce9\.png .*--data\.skip-damaged", tmp_path)


def test_files_that_are_left_out_are_counted_by_kind(tmp_path, capsys):
    put(tmp_path, range(30))
    whole = (tmp_path / "000.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-30])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    for k in range(2):
        (tmp_path / f"empty{k}.PNG").touch()
        (tmp_path / f"{k}.svg").write_text("<svg/>")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "LICENSE").write_text("no picture")
    for name in (".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / name).write_text("ignored")
    parts = ["2 .svg", "2 empty: empty0.PNG, empty1.PNG", "1 truncated: cut.png"]
    parts += ["1 not a picture: page.jpg", "1 unreadable: gone.png", "1 .txt", "1 without suffix"]
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert all(part in str(caught.value) for part in parts)
    assert "--data.skip-damaged" in str(caught.value)
    for _ in range(2):  # read, and from the cache
        dataset = load(tmp_path, skip_damaged=True)
        assert sum(sizes(dataset)) == 30
        assert sorted(dataset.found.skipped.split(", ")) == sorted(", ".join(parts).split(", "))
    assert "skipped 2 .svg" in " ".join(capsys.readouterr().err.split())


def test_a_tenth_of_unread_formats_is_let_pass_and_more_is_not(tmp_path):
    put(tmp_path, range(9))
    (tmp_path / "a.psd").write_text("no picture")
    assert load(tmp_path).found.skipped == "1 .psd"
    (tmp_path / "b.psd").write_text("no picture")
    refused(r"2 \.psd .*--data\.skip-damaged", tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_unreadable_files_and_folders_are_named(tmp_path):
    put(tmp_path / "a", range(10))
    put(tmp_path / "b", range(10, 20))
    (tmp_path / "a" / "000.png").chmod(0)
    (tmp_path / "b").chmod(0)
    try:
        refused("2 unreadable: b, a/000.png", tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_pictures_are_known_by_their_content(tmp_path):
    for k in range(3):
        Image.fromarray(PICTURES[k]).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.png").rename(tmp_path / f"{k}{('', '.bin', '.JPG')[k]}")
    assert sum(sizes(load(tmp_path))) == 3


def test_sizes_are_refused_or_fitted(tmp_path):
    put(tmp_path, range(20))
    wide = np.random.RandomState(1).randint(0, 256, (20, 8, 12)).astype(np.uint8)
    put(tmp_path, range(3), "wide{}.png", wide)
    put(tmp_path, [0], "long{}.png", wide.transpose(0, 2, 1))
    put(tmp_path, [1], "square{}.png", wide[:, :, :8])
    message = (
        r"4 sizes from 5 x 6 to \S+ x \S+ .* 20 of 5 x 6 \(000\.png\), 3 of 12 x 8 \(wide0\.png\)"
    )
    refused(message + r".*; pass --data\.size, for example --data\.size 4,", tmp_path)
    for fit in ("crop", "pad", "stretch"):
        dataset = load(tmp_path, size=(4, 6), fit=fit)
        assert dataset.image_shape == (1, 4, 6)
        assert dataset.found.sizes["12 x 8"] == 3
        for images in map(dataset.split, data.SPLITS):
            for levels, name in zip(images.levels, images.names, strict=True):
                if name.startswith("wide"):
                    expected = fitted(wide[int(name[4])], (4, 6), fit)
                    assert np.array_equal(levels[0], expected)


def test_colour_follows_the_pixels_or_the_flag(tmp_path, capsys):
    put(tmp_path, range(30))
    coloured = np.stack([PICTURES[40], PICTURES[41], PICTURES[42]], axis=-1)
    Image.fromarray(coloured).save(tmp_path / "red.png")
    dataset = load(tmp_path)
    assert dataset.image_shape == (3, 6, 5)
    assert "1 of 31 pictures is in colour, such as red.png" in " ".join(
        capsys.readouterr().err.split()
    )
    for images in map(dataset.split, data.SPLITS):
        for levels, name in zip(images.levels, images.names, strict=True):
            grey = name != "red.png"
            expected = PICTURES[int(name[:3])][None] if grey else coloured.transpose(2, 0, 1)
            assert (levels.numpy() == expected).all()
    assert load(tmp_path, colour="grey").image_shape == (1, 6, 5)
    (tmp_path / "red.png").unlink()
    assert load(tmp_path).image_shape == (1, 6, 5)
    rgb = load(tmp_path, colour="rgb").train
    assert (rgb.levels == torch.from_numpy(PICTURES[int(rgb.names[0][:3])])).all((1, 2, 3))[0]


@pytest.mark.parametrize(
    ("pictures", "guess", "keep", "white"),
    [
        (PICTURES % 2, "0 1", "0 255", 1),
        (PICTURES % 4, "0 3", "0 255", 3),
        (PICTURES.astype(np.uint16) * 16, "0 4095", "0 65535", 4095),
        (PICTURES.astype(np.uint16), "0 255", "0 65535", 255),
    ],
)
def test_pictures_that_use_few_of_their_levels(pictures, guess, keep, white, tmp_path):
    put(tmp_path, range(20), array=pictures)
    refused(rf"pass --data\.range {guess} if .*--data\.range {keep} to keep", tmp_path)
    images = load(tmp_path, range=tuple(map(float, guess.split()))).train
    for levels, name in zip(images.levels, images.names, strict=True):
        exact = pictures[int(name[:3])] / white * 255
        assert np.abs(levels[0].numpy() - exact).max() <= 0.5
    assert load(tmp_path, range=tuple(map(float, keep.split()))).train.levels.max() <= 16


def zipped(path, folder, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, prefix + str(file.relative_to(folder)))
        archive.writestr(f"__MACOSX/{prefix}a/._000.png", b"resource")
    return path


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_a_zip_is_read_as_its_folder_without_unpacking(prefix, tmp_path):
    put(tmp_path / "f" / "a", range(15))
    put(tmp_path / "f" / "b", range(15, 30))
    archive = zipped(tmp_path / "f.ZIP", tmp_path / "f", prefix)
    before = sorted(tmp_path.rglob("*.png"))
    folder, packed = load(tmp_path / "f"), load(archive)
    assert sorted(p for p in tmp_path.rglob("*.png") if "cache" not in str(p)) == before
    assert packed.class_names == folder.class_names == ("a", "b")
    for split in data.SPLITS:
        ours, theirs = packed.split(split), folder.split(split)
        assert ours.names == tuple(prefix + name for name in theirs.names)
        assert torch.equal(ours.levels, theirs.levels)
        assert torch.equal(ours.labels, theirs.labels)


def test_zips_that_cannot_be_read(tmp_path):
    (tmp_path / "a.zip").write_text("no zip")
    refused("is no zip that can be read", tmp_path / "a.zip")
    put(tmp_path / "f", range(9))
    content = bytearray(zipped(tmp_path / "b.zip", tmp_path / "f").read_bytes())
    place = content.index(b"000.png") + 20
    content[place : place + 30] = bytes(30)
    (tmp_path / "b.zip").write_bytes(content)
    refused(r"000\.png .*--data\.skip-damaged", tmp_path / "b.zip")
    assert sum(sizes(load(tmp_path / "b.zip", skip_damaged=True))) == 8


def test_a_large_folder_is_listed_in_bounded_memory(tmp_path):
    count = 5_000
    for k in range(count):
        os.close(os.open(tmp_path / f"{k:07}.png", os.O_CREAT))
    tracemalloc.start()
    listing = listed(tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(listing) == count
    assert listing.names == sorted(listing.names)
    assert most < 400 * count
