"""Tables in text: which line names the columns, and which column has the classes."""

import numpy as np
import pytest

from limner import data
from limner.errors import InputError

R = np.random.RandomState(0)
PIXELS = R.randint(0, 256, (40, 36))
CLASSES = (np.arange(40) % 4).tolist()
WORDS = [("ant", "bee", "cat", "dog")[label] for label in CLASSES]
FILES = [f"{place}.png" for place in range(40)]


def load(path, **more):
    return data.load(data.DataConfig(name=str(path), **more))


def written(path, *columns, header=None):
    """A table of columns, of which an array has several."""
    lines = [] if header is None else [",".join(map(str, header))]
    for place in range(40):
        row = [column[place] for column in columns]
        words = [w for part in row for w in (part if isinstance(part, np.ndarray) else [part])]
        lines.append(",".join(map(str, words)))
    (path / "own.csv").write_text("\n".join(lines))
    return path / "own.csv"


def rows_of(dataset):
    """Pixels of all images as they are, sorted, each with its class or None."""
    found = []
    for split in data.SPLITS:
        images = dataset.split(split)
        labels = [None] * len(images) if images.labels is None else images.labels.tolist()
        found += zip(images.levels.flatten(1).tolist(), labels, strict=True)
    return sorted(found)


P = range(36)
HEADERS = {
    "pandas": ([PIXELS], P, None),
    "pandas, index": ([range(40), PIXELS], ["", *P], None),
    "from 1": ([PIXELS], range(1, 37), None),
    "label and numbers": ([CLASSES, PIXELS], ["label", *P], CLASSES),
    "word and numbers": ([WORDS, PIXELS], ["label", *P], CLASSES),
    "names": ([PIXELS], [f"1x{place}" for place in P], None),
    "files": ([FILES, PIXELS], ["file", *(f"p{place}" for place in P)], None),
    "files and label": ([FILES, CLASSES, PIXELS], ["file", "label", *P], CLASSES),
    "quoted": ([CLASSES, PIXELS], ['"class"', *(f'"{place}"' for place in P)], CLASSES),
    "no header": ([PIXELS], None, None),
    "words first": ([WORDS, PIXELS], None, CLASSES),
    "words last": ([PIXELS, WORDS], None, CLASSES),
    "files and words": ([FILES, WORDS, PIXELS], None, CLASSES),
    "files alone": ([FILES, PIXELS], None, None),
    "classes first": ([CLASSES, PIXELS], None, CLASSES),
    "classes last": ([PIXELS, CLASSES], None, CLASSES),
    "classes from 1, last": ([PIXELS, [k + 1 for k in CLASSES]], None, [k + 1 for k in CLASSES]),
    "few other numbers, last": ([PIXELS, [7 * k for k in CLASSES]], None, [7 * k for k in CLASSES]),
    "sorted classes, last": ([PIXELS, sorted(CLASSES)], None, sorted(CLASSES)),
    "black and white": ([CLASSES, PIXELS % 2 * 255], None, CLASSES),
    "both": ([[k % 2 for k in CLASSES], PIXELS % 2 * 255], None, [k % 2 for k in CLASSES]),
}


@pytest.mark.parametrize("case", HEADERS)
def test_every_row_is_an_image_with_its_class(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("limner.data.tables._SAMPLE", 20)
    columns, header, classes = HEADERS[case]
    found = rows_of(load(written(tmp_path, *columns, header=header)))
    pixels = next(column for column in columns if isinstance(column, np.ndarray))
    labels = [None] * 40 if classes is None else classes
    assert found == sorted(zip(pixels.tolist(), labels, strict=True))
    guessed = (header is None and len(columns) > 1) or case == "files"
    assert capsys.readouterr().err.count("is taken as the classes") == guessed


def test_a_table_of_files_is_no_table_of_pixels(tmp_path):
    path = written(tmp_path, FILES, WORDS, header=["filename", "label"])
    with pytest.raises(InputError, match="has no columns of pixels; give the images themselves"):
        load(path)


def test_a_byte_order_mark_is_no_part_of_the_first_number(tmp_path):
    path = written(tmp_path, PIXELS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rows_of(load(path)) == sorted((row, None) for row in PIXELS.tolist())


def test_numbers_with_exponents_are_no_whole_numbers(tmp_path):
    found = rows_of(load(written(tmp_path, np.where(PIXELS < 128, "1e-05", "1"))))
    assert found == sorted((row, None) for row in (PIXELS // 128 * 255).tolist())
