"""Single picture files: what is shown, what is refused, and that the host stays as it was."""

import contextlib
import io
import pickle
import threading
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, PngImagePlugin

from difficult_pictures import (
    GREY,
    GREY16,
    RGB,
    SRGB,
    SRGB_CURVE,
    cases,
    chunk,
    exif,
    iccp,
    png,
    profile,
    saved,
    tiff,
)
from limner.data.formats import PICTURE_SUFFIXES, supported
from limner.data.pictures import Unreadable, picture_of, read_header, read_picture

CASES = {case.name: case for case in cases()}
READABLE = [name for name, case in CASES.items() if not isinstance(case.shown, str)]


def picture(content, ends=None):
    return read_picture(io.BytesIO(content), ends)


@pytest.mark.parametrize("name", READABLE)
def test_a_picture_is_read_as_a_viewer_shows_it(name):
    case = CASES[name]
    found = picture(case.content, case.ends)
    assert found.levels.dtype == np.uint8
    assert found.levels.shape == case.shown.shape
    assert np.abs(found.levels.astype(int) - case.shown.astype(int)).max() <= 1
    assert case.mode in ("", found.mode)
    assert read_header(io.BytesIO(case.content)) == (*case.shown.shape[1::-1], found.mode)


@pytest.mark.parametrize("name", sorted(CASES.keys() - set(READABLE)))
def test_other_files_are_refused_with_their_kind(name):
    case = CASES[name]
    with pytest.raises(Unreadable) as caught:
        picture(case.content, case.ends)
    assert caught.value.kind == case.shown, caught.value
    assert len(str(caught.value)) in range(10, 300)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.kind, str(again)) == (case.shown, str(caught.value))


def test_a_profile_of_srgb_changes_nothing():
    """Nor does one that is sRGB up to rounding, of which there are many."""
    for colorants in (SRGB, SRGB + 0.0002 * np.eye(3)):
        content = png(RGB, 8, 2, iccp(profile(b"RGB ", SRGB_CURVE, colorants)))
        assert np.array_equal(picture(content).levels, RGB)


def test_16_bits_are_rounded_to_the_nearest_level():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    nearest = (every.astype(int) + 128) // 257
    for content in (png(every, 16, 0), tiff(">", every)):
        assert np.array_equal(picture(content).levels, nearest)
    colours = np.dstack([every, every.T, every[::-1]])
    nearest = (colours.astype(int) + 128) // 257
    assert np.array_equal(picture(saved16(colours)).levels, nearest)
    assert np.array_equal(picture(tiff("<", colours, deflated=True)).levels, nearest)


def saved16(colours):
    """A PNG of 16-bit colours without filters, as the builder's filters are slow."""
    import struct
    import zlib

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    head = struct.pack(">IIBBBBB", *colours.shape[1::-1], 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("content", "peak", "depth"),
    [
        (png(GREY % 2, 1, 0), 1, 1),
        (png(GREY % 2, 8, 0), 1, 8),
        (png(GREY % 16, 4, 0), 255, 8),
        (png(GREY16 % 4096, 16, 0), int((GREY16 % 4096).max()), 16),
        (png(np.dstack([RGB, GREY * 0 + 255]) // 2, 8, 6), int((RGB // 2).max()), 8),
        (b"P5 2 1 4095\n\x0f\xff\0\0", 65535, 16),
        (b"P5 2 1 3\n\x03\0", 255, 8),
        (b"P5 2 1 1\n\x01\0", 1, 1),
    ],
)
def test_the_peak_is_in_numbers_of_the_depth(content, peak, depth):
    found = picture(content)
    assert (found.peak, found.depth) == (peak, depth)
    if peak > 1 and depth < 16:
        assert picture(content, (0, 255)).peak == peak


def test_a_range_is_refused_with_the_values_found():
    with pytest.raises(Unreadable, match=r"from 0 to 255, outside --data\.range 0 1") as caught:
        picture(png(np.array([[0, 255]], np.uint8), 8, 0), (0, 1))
    assert caught.value.kind == "range"
    with pytest.raises(Unreadable, match=r"from 0 to 9; give --data\.range"):
        picture(tiff("<", np.array([[0, 9]], np.float32)))
    hidden = np.array([[[9, 0], [1, 255]]], np.uint8)  # 9 is transparent
    assert picture(png(hidden, 8, 4), (0, 1)).levels.tolist() == [[255, 255]]


def test_an_opened_picture_is_the_same_as_its_file():
    for name in ("exif6.jpg", "rgba8.png", "trns-grey4.png", "cmyk.jpg", "p3-rgba.png", "lab.tif"):
        content = CASES[name].content
        image = Image.open(io.BytesIO(content))
        for _ in range(2):  # not yet decoded, decoded
            found = picture_of(image)
            if name != "trns-grey4.png":  # whose key is lost once it is decoded
                assert np.array_equal(found.levels, picture(content).levels), name
    mask = Image.fromarray(GREY > 9)
    assert np.array_equal(picture_of(mask).levels, (GREY > 9) * 255)


def test_transparent_black_and_white_ink_are_grey():
    ink = np.zeros((4, 4, 4), np.uint8)
    ink[..., 0] = 9  # a colour that nobody sees
    ink[0] = 0, 0, 0, 255
    assert picture(png(ink, 8, 6)).levels.tolist() == [[0] * 4, *[[255] * 4] * 3]


def test_suffixes():
    assert all(supported(suffix.upper()) for suffix in (".png", ".jpg", ".tiff", ".webp", ".ppm"))
    assert {".heic", ".avif"} <= PICTURE_SUFFIXES
    assert not supported(".txt")


def state():
    limits = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK)
    registries = (list(Image.ID), Image.OPEN.copy(), Image.EXTENSION.copy(), Image._initialized)
    return limits, registries, PngImagePlugin.MAX_TEXT_CHUNK, list(warnings.filters)


def test_pillow_and_warnings_stay_as_they_were(capfd):
    before = state()
    loud = warnings.showwarning
    for case in CASES.values():
        with contextlib.suppress(Unreadable):
            picture(case.content, case.ends)
    assert state() == before
    assert warnings.showwarning is loud
    assert capfd.readouterr() == ("", "")


def test_threads_leave_the_warning_filters_in_order():
    before = list(warnings.filters)
    content = CASES["odd-tags.tif"].content  # Pillow warns
    failures = []

    def work():
        try:
            for _ in range(100):
                picture(content)
        except Unreadable as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


GOOD = {
    "png": png(RGB, 8, 2, chunk(b"eXIf", exif(6)[6:])),
    "png16": png(np.dstack([GREY16, GREY16]), 16, 4, interlaced=True),
    "jpeg": saved(RGB, "JPEG", exif=exif(3)),
    "webp": saved(RGB, "WEBP", exif=exif(3)),
    "tiff": tiff("<", np.dstack([GREY16] * 3)),
    "tiff-lzw": saved(RGB, "TIFF", compression="tiff_lzw"),
    "gif": saved(GREY, "GIF"),
    "bmp": saved(RGB, "BMP"),
    "ppm": b"P6 2 2 4095\n" + bytes(24),
    "profile": CASES["display-p3.jpg"].content,
    "inks": CASES["inks.tif"].content,
}


@st.composite
def broken(draw, content):
    """The content with a few bytes changed, put in, taken out, or cut off."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)) | st.integers(0, 64))
        end = start + draw(st.sampled_from([0, 1, 2, 4, 8, 2**20]))
        content[start:end] = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 4, bytes(4)]))
    return bytes(content)


@pytest.mark.parametrize("kind", GOOD)
def test_any_damage_is_shown_or_refused(kind, capfd):
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(broken(GOOD[kind]))
    def check(content):
        with contextlib.suppress(Unreadable):
            found = picture(content)
            assert found.levels.dtype == np.uint8
            assert found.levels.ndim in (2, 3)

    picture(GOOD[kind])
    check()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == "" or kind == "tiff-lzw"  # libtiff prints errors by itself


def test_a_range_above_8_bits_is_for_pictures_of_16_bits(tmp_path):
    eight, sixteen = np.arange(0, 256, 5, dtype=np.uint8)[None], np.arange(4096, dtype=np.uint16)
    for name, values in {"8": eight, "16": sixteen.reshape(64, 64)}.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    with (tmp_path / "8.png").open("rb") as file:
        assert np.array_equal(read_picture(file, (0, 4095)).levels, eight)
    with (tmp_path / "16.png").open("rb") as file:
        expected = np.rint(sixteen.reshape(64, 64) / 4095 * 255)
        assert np.abs(read_picture(file, (0, 4095)).levels - expected).max() <= 1
