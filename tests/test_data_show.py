"""`limner data show`: the report and the contact sheet."""

import shutil

import numpy as np
import pytest
from PIL import Image

from limner import data
from limner.cli import main
from limner.errors import InputError
from limner.figures.contact import contact_sheet, evenly

IMAGES = np.random.RandomState(0).randint(0, 256, (60, 12, 10, 3)).astype(np.uint8)
NAMES = np.array(["${$", "猫", "line\nbreak", "\x07"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(*arguments):
    try:
        return main(["data", "show", *map(str, arguments)])
    except SystemExit as stopped:
        return stopped.code or 0


def test_what_a_file_of_arrays_has(here, capsys):
    words = NAMES[np.arange(60) % 4]
    np.savez("birds.npz", x_train=IMAGES, y_train=words, x_test=IMAGES[:8], y_test=words[:8])
    assert show("birds.npz") == 0
    shown = capsys.readouterr().out
    for part in (
        "train (",
        "test (8)",
        "10 x 12 RGB",
        "uint8 RGB (68)",
        "4: ",
        "猫 (17)",
        r"line\nbreak (17)",
        r"\x07 (17)",
        "discretized_logistic",
        "8 in more than one split",
    ):
        assert part in shown
    with Image.open(here / "birds-contact-sheet.png") as sheet:
        assert min(sheet.size) > 200


def test_the_sheet_has_rows_of_each_class_and_split():
    digits = data.load(data.DataConfig(name="digits"))
    axes = contact_sheet(digits).axes[0]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert rows == [*(f"train: {k}" for k in range(10)), "validation", "test"]
    tiled = np.asarray(axes.images[0].get_array())
    image = digits.train.levels[digits.train.labels == 3][0, 0].numpy()
    assert np.array_equal(tiled[3 * 9 : 3 * 9 + 8, :8, 0], image)
    assert evenly(np.arange(100, 200), 5).tolist() == [100, 125, 150, 174, 199]
    assert evenly(np.arange(3), 10).tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [3, 60])
def test_any_number_of_images_of_any_size_without_classes(here, count):
    np.save("own.npy", np.repeat(IMAGES[:count], 40, axis=2))
    assert show("own.npy", "--data.colour", "grey", "--out", here / "new" / "sheet.png") == 0
    assert (here / "new" / "sheet.png").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing.npz",),
        ("own.npy",),
        ("digits", "--out", "sheet.jpg"),
        ("digits", "--data.size", 0),
    ],
)
def test_nothing_is_written_if_a_source_is_refused(here, arguments, capsys):
    np.save("own.npy", IMAGES / 100)
    assert show(*arguments) == 2
    assert [path.name for path in here.iterdir()] == ["own.npy"]


def lines_of(text):
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines()}


def put(folder, sizes):
    folder.mkdir()
    for k, (width, height) in enumerate(sizes):
        pixels = np.random.RandomState(k).randint(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")


@pytest.mark.parametrize(
    ("small", "large", "side"), [(7, 8, 4), (8, 15, 8), (63, 90, 32), (64, 90, 64), (300, 400, 64)]
)
def test_pictures_of_several_sizes_are_shown_with_the_size_they_need(
    here, capsys, small, large, side
):
    put(here / "mixed", [(small, large)] * 3 + [(large, small + 1), (2, 3), (500, 501)])
    (here / "mixed" / "broken.png").write_bytes(b"")
    assert show("mixed") == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["images"].startswith("6: train (")
    assert lines["sizes"].startswith(f"4 sizes from 2 x 3 to 500 x 501: {small} x {large} (3), ")
    assert lines["kinds"] == "8-bit RGB (6)"
    assert "broken.png" in lines["skipped"]
    size = f"--data.size, for example --data.size {side}"
    assert lines["needs"] == f"{size}; --data.skip-damaged"
    assert (here / "mixed-contact-sheet.png").is_file()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", ["folder", "mixed", "classes", "zip", "npy"])
def test_one_or_two_images_are_shown(here, capsys, kind, count):
    source = here / "few"
    put(source, [(9, 8), (12, 10) if kind == "mixed" else (9, 8)][:count])
    if kind == "classes":
        (source / "a").mkdir()
        (source / "b").mkdir()
        for k, name in enumerate("ab"[:count]):
            (source / f"{k}.png").rename(source / name / "x.png")
    elif kind == "zip":
        source = shutil.make_archive("few", "zip", source)
    elif kind == "npy":
        source = here / "few.npy"
        np.save(source, IMAGES[:count])
    assert show(source) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["images"] == f"{count}: train ({count})"
    assert lines["needs"].endswith("too few to split; give at least 3")
    assert (here / "few-contact-sheet.png").is_file()
    if kind == "classes":
        assert lines["classes"].startswith(f"{count}: a (1)")
    with pytest.raises(InputError):
        data.load(data.DataConfig(name=str(source)))
