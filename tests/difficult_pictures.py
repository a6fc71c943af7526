"""A folder of difficult pictures, each with what a viewer shows, by formulas on known arrays.

`python difficult_pictures.py FOLDER` writes the files.
"""

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from limner.data.pictures import supported

H, W = 11, 14
RANDOM = np.random.RandomState(5)
GREY = RANDOM.randint(0, 256, (H, W)).astype(np.uint8)
RGB = RANDOM.randint(0, 256, (H, W, 3)).astype(np.uint8)
ALPHA = RANDOM.randint(0, 256, (H, W)).astype(np.uint8)
ALPHA[0] = 0, *[255] * (W - 1)
GREY16 = RANDOM.randint(0, 65536, (H, W)).astype(np.uint16)
RGB16 = RANDOM.randint(0, 65536, (H, W, 3)).astype(np.uint16)
ALPHA16 = RANDOM.randint(0, 65536, (H, W)).astype(np.uint16)
INKS = RANDOM.randint(0, 256, (2, 3, 4)).astype(np.uint8)
BLOCKS = RANDOM.randint(0, 256, (2, 3, 3)).astype(np.uint8)


class Case(NamedTuple):
    """A file, and the levels shown, or the kind of `Unreadable`; `ends` are --data.range."""

    name: str
    content: bytes
    shown: np.ndarray | str
    ends: tuple[float, float] | None = None
    mode: str = ""


def rounded(values):
    return np.floor(np.asarray(values, float) + 0.5).clip(0, 255).astype(np.uint8)


def on_white(values, alpha, full=255):
    """Levels of float colours [H, W] or [H, W, 3] and opacity, both up to `full`."""
    share = np.asarray(alpha, float) / full
    share = share if np.ndim(values) == 2 else share[..., None]
    return rounded(255 * (values / full * share + 1 - share))


def of_inks(inks):
    c = np.asarray(inks, float) / 255
    return rounded(255 * (1 - c[..., :3]) * (1 - c[..., 3:]))


def large(blocks):
    """Each pixel as 8 x 8 pixels, which a JPEG of highest quality keeps."""
    return blocks.repeat(8, 0).repeat(8, 1)


# PNG


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(values, depth):
    """Rows of bytes of samples [H, W * channels]."""
    if depth == 16:
        return [row.astype(">u2").tobytes() for row in values]
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
    return [np.packbits(row.reshape(-1)).tobytes() for row in bits]


def filtered(rows, step, kinds=(0, 1, 2, 3, 4)):
    """The rows, each after another one of PNG's five filters."""
    above, out = bytes(len(rows[0])) if rows else b"", []
    for y, row in enumerate(rows):
        kind = kinds[y % len(kinds)]
        left, corner = bytes(step) + row, bytes(step) + above
        line = [kind]
        for x, value in enumerate(row):
            a, b, c = left[x], above[x], corner[x]
            paeth = min((a, b, c), key=lambda v: abs(a + b - c - v))
            guess = (0, a, b, (a + b) // 2, paeth)[kind]
            line.append((value - guess) % 256)
        out.append(bytes(line))
        above = row
    return b"".join(out)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))


def png(values, depth, colour, *more, interlaced=False, end=()):
    """A PNG of samples [H, W] or [H, W, C]; `more` chunks before the pixels, `end` after them."""
    values = values[..., None] if values.ndim == 2 else values
    step = max(1, values.shape[2] * depth // 8)
    places = (*ADAM7, (1, 0, 2, 1)) if interlaced else ((0, 0, 1, 1),)
    parts = [values[y::dy, x::dx] for y, x, dy, dx in places]
    parts = [part.reshape(len(part), -1) for part in parts if part.size]
    data = zlib.compress(b"".join(filtered(packed(part, depth), step) for part in parts))
    size = values.shape[1], values.shape[0]
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    half = len(data) // 2
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", data[:half]), chunk(b"IDAT", data[half:])]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, *end, chunk(b"IEND", b"")])


def trns(*values):
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def pngs():
    yield Case("grey16.png", png(GREY16, 16, 0), rounded(GREY16 / 257), mode="16-bit grey")
    for name, interlaced in (("plain", False), ("interlaced", True)):
        colours = np.dstack([RGB16, ALPHA16])
        greys = np.dstack([GREY16, ALPHA16])
        yield Case(
            f"{name}-rgb16.png", png(RGB16, 16, 2, interlaced=interlaced), rounded(RGB16 / 257)
        )
        yield Case(
            f"{name}-rgba16.png",
            png(colours, 16, 6, interlaced=interlaced),
            on_white(RGB16, ALPHA16, 65535),
            mode="16-bit RGB with transparency",
        )
        yield Case(
            f"{name}-la16.png",
            png(greys, 16, 4, interlaced=interlaced),
            on_white(GREY16, ALPHA16, 65535),
            mode="16-bit grey with transparency",
        )
    near = np.full((H, W, 3), 0x1234, np.uint16)  # differs from the key in the low byte only
    near[:, ::2] += 1
    hidden = near == 0x1234
    yield Case(
        "trns-grey16.png", png(near[..., 0], 16, 0, trns(0x1234)), np.where(hidden[..., 0], 255, 18)
    )
    yield Case(
        "trns-rgb16.png", png(near, 16, 2, trns(*[0x1234] * 3)), np.where(hidden[..., 0], 255, 18)
    )
    keyed = GREY % 4
    yield Case("trns-grey8.png", png(keyed, 8, 0, trns(3)), np.where(keyed == 3, 255, keyed))
    red = RGB % 2 * np.array([200, 1, 0])
    key = (red == (200, 1, 0)).all(2)
    yield Case("trns-rgb8.png", png(red, 8, 2, trns(200, 1, 0)), np.where(key[..., None], 255, red))
    for depth, scale in ((1, 255), (2, 85), (4, 17)):
        values = GREY % 2**depth
        yield Case(f"grey{depth}.png", png(values, depth, 0), values * scale)
        shown = np.where(values == 1, 255, values * scale)
        yield Case(f"trns-grey{depth}.png", png(values, depth, 0, trns(1)), shown)
        palette = RGB.reshape(-1, 3)[: 2**depth]
        plte = chunk(b"PLTE", palette.tobytes())
        yield Case(f"palette{depth}.png", png(values, depth, 3, plte), palette[values])
        alphas = np.array([0, 100][: 2**depth], np.uint8)
        shown = on_white(palette[values], np.append(alphas, [255] * 14)[values])
        content = png(values, depth, 3, plte, chunk(b"tRNS", alphas.tobytes()))
        yield Case(f"trns-palette{depth}.png", content, shown, mode="palette with transparency")
    plte = chunk(b"PLTE", bytes([0, 0, 0, 9, 9, 9, 255, 0, 0]))  # red is not used
    yield Case("unused-red.png", png(GREY % 2, 8, 3, plte), GREY % 2 * 9)
    yield Case("la8.png", png(np.dstack([GREY, ALPHA]), 8, 4), on_white(GREY, ALPHA))
    yield Case("rgba8.png", png(np.dstack([RGB, ALPHA]), 8, 6), on_white(RGB, ALPHA))
    yield Case("grey-as-rgb.png", png(np.dstack([GREY] * 3), 8, 2), GREY)
    late = np.dstack([GREY, GREY, np.where(np.arange(H) < H - 1, GREY.T, 99).T])
    yield Case("colour-in-the-last-row.png", png(late, 8, 2), late)
    bomb = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**22)))
    yield Case("text-bomb.png", png(GREY, 8, 0, bomb), GREY)
    yield Case("wrong-crc.png", png(GREY, 8, 0, chunk(b"tEXt", b"a\0b")[:-1] + b"?"), GREY)
    yield Case(
        "late-exif.png", png(GREY, 8, 0, end=[chunk(b"eXIf", exif(6)[6:])]), np.rot90(GREY, -1)
    )
    yield Case("garbage-exif.png", png(GREY, 8, 0, chunk(b"eXIf", b"MM\0*" + b"\xff" * 40)), GREY)
    yield Case("bad-apng.png", png(GREY, 8, 0, chunk(b"acTL", bytes(8))), GREY)
    yield Case("masks.png", png(GREY % 2, 8, 0), GREY % 2 * 255, ends=(0, 1))
    yield Case(
        "twelve-bits.png", png(GREY16 >> 4, 16, 0), rounded((GREY16 >> 4) / 4095 * 255), (0, 4095)
    )
    yield Case("outside.png", png(GREY16, 16, 0), "range", ends=(0, 4095))
    yield Case("one-bit-in-range.png", png(GREY % 2, 1, 0), GREY % 2 * 255, ends=(0, 255))


# EXIF orientation


def exif(orientation):
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def turned(picture, orientation):
    """Each stored pixel at its row and column of the shown picture (TIFF 6.0, Orientation)."""
    h, w = picture.shape[:2]
    size = (w, h) if orientation > 4 else (h, w)
    out = np.zeros((*size, *picture.shape[2:]), picture.dtype)
    for y in range(h):
        for x in range(w):
            down, right = h - 1 - y, w - 1 - x
            place = [(y, x), (y, right), (down, right), (down, x)]
            place += [(x, y), (x, down), (right, down), (right, y)]
            out[place[orientation - 1]] = picture[y, x]
    return out


def saved(array, kind, mode=None, **more):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.convert(mode or image.mode).save(file, kind, **more)
    return file.getvalue()


BEST = {"quality": 100, "subsampling": 0}


def orientations():
    grey = large(BLOCKS[..., 0])
    for k in range(1, 9):
        yield Case(f"exif{k}.jpg", saved(grey, "JPEG", **BEST, exif=exif(k)), turned(grey, k))
    yield Case("exif5.png", png(RGB, 8, 2, chunk(b"eXIf", exif(5)[6:])), turned(RGB, 5))
    yield Case("exif7.webp", saved(RGB, "WEBP", lossless=True, exif=exif(7)), turned(RGB, 7))
    for k in (3, 6, 8):
        content = tiff("<", RGB16, orientation=k)
        yield Case(f"exif{k}.tif", content, turned(rounded(RGB16 / 257), k), mode="16-bit RGB")


# JPEG


def flat_cmyk(inks, transform):
    """A JPEG whose four channels are exactly `inks`; `transform` of Adobe's marker, None: none."""
    stored = Image.frombytes("CMYK", (24, 16), large(255 - inks).tobytes())  # Pillow inverts
    content = saved(stored, "JPEG", quality=100)
    place = content.index(b"\xff\xee\0\x0eAdobe")
    if transform is None:
        return content[:place] + content[place + 16 :]
    return content[: place + 15] + bytes([transform]) + content[place + 16 :]


def jpegs():
    yield Case("cmyk-adobe.jpg", flat_cmyk(255 - INKS, 0), large(of_inks(INKS)), mode="8-bit CMYK")
    yield Case("cmyk.jpg", flat_cmyk(INKS, None), large(of_inks(INKS)))
    y, cb, cr, k = (INKS // 4 + np.array([90, 96, 96, 90])).astype(float).transpose(2, 0, 1)
    inks = [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128)]
    inks = np.stack([*inks, y + 1.772 * (cb - 128), 255 - k], -1)
    ycck = np.stack([y, cb, cr, k], -1).astype(np.uint8)
    yield Case("ycck.jpg", flat_cmyk(ycck, 2), large(of_inks(inks)))
    rgb = large(BLOCKS)
    yield Case("rgb-adobe.jpg", saved(rgb, "JPEG", **BEST, keep_rgb=True), rgb)
    whole = saved(rgb, "JPEG", **BEST, keep_rgb=True, progressive=True)
    yield Case("progressive.jpg", whole, rgb)
    grey = large(BLOCKS[..., 1])
    plain = saved(grey, "JPEG", quality=100)
    yield Case("grey-as-colour.jpg", saved(np.dstack([grey] * 3), "JPEG", **BEST), grey)
    yield Case("named.png", plain, grey)
    yield Case("UPPER.JPEG", plain, grey)
    bad = b"\xff\xed" + struct.pack(">H", 2 + 18) + b"Photoshop 3.0\0008BIM"
    yield Case("bad-photoshop.jpg", plain[:2] + bad + plain[2:], grey)
    noise = saved(RANDOM.randint(0, 256, (64, 64, 3)).astype(np.uint8), "JPEG", quality=90)
    yield Case("truncated.jpg", noise[: len(noise) * 2 // 3], "truncated")
    noise = saved(RANDOM.randint(0, 256, (64, 64, 3)).astype(np.uint8), "JPEG", progressive=True)
    yield Case("truncated-progressive.jpg", noise[: len(noise) // 2], "truncated")
    yield Case("header-only.jpg", noise[:30], "truncated")


# TIFF


def tiff(order, values, photometric=None, orientation=1, tags=(), deflated=False, apart=False):
    """A TIFF of samples [H, W] or [H, W, C] in byte order < or >; channels may be stored apart."""
    h, w = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    data = values.astype(values.dtype.newbyteorder(order))
    parts = [data[..., k] for k in range(channels)] if apart else [data]
    parts = [part.tobytes() for part in parts]
    parts = [zlib.compress(part) for part in parts] if deflated else parts
    places = [8 + sum(map(len, parts[:k])) for k in range(len(parts))]
    data = b"".join(parts)
    bits = values.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    photometric = (2 if channels > 2 else 1) if photometric is None else photometric
    entries = {256: (3, [w]), 257: (3, [h]), 258: (3, [bits] * channels)}
    entries |= {
        259: (3, [8 if deflated else 1]),
        262: (3, [photometric]),
        273: (4, places),
        284: (3, [1 + apart]),
    }
    entries |= {274: (3, [orientation]), 277: (3, [channels]), 278: (3, [h])}
    entries |= {279: (4, [len(part) for part in parts]), 339: (3, [kind] * channels)} | dict(tags)
    start = 8 + len(data) + len(data) % 2
    extra_at, extra, body = start + 2 + 12 * len(entries) + 4, b"", b""
    for tag, (size, numbers) in sorted(entries.items()):
        if isinstance(numbers, bytes):
            raw, count = numbers, len(numbers)
        else:
            raw, count = (
                struct.pack(f"{order}{len(numbers)}{'HI'[size - 3]}", *numbers),
                len(numbers),
            )
        if len(raw) > 4:
            place, extra = extra_at + len(extra), extra + raw + bytes(len(raw) % 2)
            raw = struct.pack(f"{order}I", place)
        body += struct.pack(f"{order}HHI", tag, size, count) + raw.ljust(4, b"\0")
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", start)
    count = struct.pack(f"{order}H", len(entries))
    return head + data + bytes(len(data) % 2) + count + body + bytes(4) + extra


def numbers():
    """TIFFs of other numbers than levels."""
    unit = (GREY / np.float32(255)).astype(np.float32)
    yield Case("float-unit.tif", tiff("<", unit), GREY, mode="32-bit floats")
    yield Case("float-levels.tif", tiff("<", unit * 255), "range")
    yield Case("float-range.tif", tiff("<", unit * 7 - 3), GREY, ends=(-3, 4))
    yield Case("nan.tif", tiff("<", unit * np.nan), "damaged")
    yield Case("signed16.tif", tiff("<", GREY16.astype(np.int16)), "range")
    content = tiff(">", GREY.astype(np.int16) - 128)
    yield Case("signed16-range.tif", content, GREY, ends=(-128, 127))
    content = tiff("<", GREY.astype(np.uint32) + 2**31)
    yield Case("unsigned32-range.tif", content, GREY, ends=(2**31, 2**31 + 255))
    lab = np.dstack([GREY, (RGB[..., 0] // 8).astype(np.int8) - 16, RGB[..., 1] // 8])
    lab = lab.astype(np.uint8)
    yield Case("lab.tif", tiff("<", lab, 8), of_lab(lab), mode="8-bit Lab")


def tiffs():
    yield Case("big-endian16.tif", tiff(">", GREY16), rounded(GREY16 / 257), mode="16-bit grey")
    yield Case("white-is-zero16.tif", tiff("<", GREY16, 0), rounded((65535 - GREY16) / 257))
    yield Case("white-is-zero8.tif", tiff("<", GREY, 0), 255 - GREY)
    for order, name in (("<", "little"), (">", "big")):
        for deflated in (False, True):
            content = tiff(order, RGB16, deflated=deflated)
            end = "-deflated" if deflated else ""
            yield Case(f"rgb16-{name}{end}.tif", content, rounded(RGB16 / 257))
    yield Case("apart16.tif", tiff(">", RGB16, apart=True), rounded(RGB16 / 257), mode="16-bit RGB")
    content = tiff("<", RGB16, apart=True, deflated=True)
    yield Case("apart16-deflated.tif", content, rounded(RGB16 / 257))
    private = {50000: (7, b"not known to libtiff"), 33550: (3, [1, 2, 3])}
    yield Case("private-tags.tif", tiff("<", RGB, tags=private, deflated=True), RGB)
    ycc = np.dstack([GREY // 2 + 64, 120 + RGB[..., :2] // 16]).astype(np.uint8)
    y, cb, cr = ycc.transpose(2, 0, 1).astype(float) - np.array([0, 128, 128]).reshape(3, 1, 1)
    shown = np.dstack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    yield Case("ycbcr.tif", tiff("<", ycc, 6), rounded(shown))
    alpha = {338: (3, [2])}
    content = tiff(">", np.dstack([RGB16, ALPHA16]), tags=alpha, deflated=True)
    yield Case("rgba16.tif", content, on_white(RGB16, ALPHA16, 65535))
    times = np.floor(RGB16 / 65535 * ALPHA16[..., None]).astype(np.uint16)
    content = tiff("<", np.dstack([times, ALPHA16]), tags={338: (3, [1])})
    shown = rounded((times + 65535.0 - ALPHA16[..., None]) / 257)
    yield Case("premultiplied16.tif", content, shown)
    times = np.floor(RGB / 255 * ALPHA[..., None]).astype(np.uint8)
    content = tiff("<", np.dstack([times, ALPHA]), tags={338: (3, [1])})
    yield Case("premultiplied8.tif", content, rounded(times + 255.0 - ALPHA[..., None]))
    inks = RANDOM.randint(0, 256, (H, W, 4)).astype(np.uint8)
    yield Case("cmyk.tif", tiff("<", inks, 5), of_inks(inks))
    inks16 = RANDOM.randint(0, 65536, (H, W, 4)).astype(np.uint16)
    yield Case("cmyk16.tif", tiff(">", inks16, 5), of_inks(inks16 / 257), mode="16-bit CMYK")
    yield Case("lzw.tif", saved(RGB, "TIFF", compression="tiff_lzw"), RGB)
    pages = saved(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    yield Case("pages.tif", pages, RGB)
    yield Case("preview.tif", tiff("<", GREY, tags={254: (4, [1])}), "unsupported")
    yield Case("la16.tif", tiff("<", np.dstack([GREY16, ALPHA16]), 1, tags=alpha), "unsupported")
    content = tiff("<", RGB, tags={274: (3, [1, 1]), 279: (4, [10**6])})
    yield Case("odd-tags.tif", content, RGB)  # Pillow warns
    content = tiff("<", RGB, tags={279: (4, [10**6])}, deflated=True)
    yield Case("long-strip.tif", content, "truncated")
    yield Case("truncated.tif", tiff("<", RGB16)[:100], "truncated")
    strips = saved(
        RANDOM.randint(0, 256, (64, 64)).astype(np.uint8), "TIFF", compression="tiff_lzw"
    )
    yield Case("truncated-lzw.tif", strips[:-500], "truncated")


# ICC profiles

SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.7141]]
)
ADOBE = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
P3 = np.array(
    [[0.51512, 0.29198, 0.1571], [0.2412, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
WHITE = np.array([0.9642, 1, 0.8249])


def encoded(linear):
    x = np.asarray(linear, float).clip(0, 1)
    return rounded(255 * np.where(x > 0.0031308, 1.055 * x ** (1 / 2.4) - 0.055, 12.92 * x))


def decoded(x):
    return np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)


def of_lab(lab):
    """Levels of 8-bit CIELAB relative to D50, as TIFF stores it."""
    f = lab[..., 0].astype(float) * 100 / 255 / 116 + 16 / 116
    a, b = (lab[..., k].astype(np.int8).astype(float) for k in (1, 2))
    f = np.stack([f + a / 500, f, f - b / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * WHITE
    return encoded(xyz @ np.linalg.inv(SRGB).T)


def fixed(*values):
    return struct.pack(f">{len(values)}i", *[round(v * 65536) for v in values])


def profile(space, curve, colorants=None):
    """An ICC profile of version 4 with one curve for all channels, a tag of type curv or para."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*WHITE)}
    if colorants is None:
        tags[b"kTRC"] = curve
    else:
        for k, name in enumerate((b"r", b"g", b"b")):
            tags[name + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*colorants[:, k])
            tags[name + b"TRC"] = curve
    place, table, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = bytearray(128)
    head[8:24] = b"\x04\x20\0\0mntr" + space + b"XYZ "
    head[36:40], head[68:80] = b"acsp", fixed(*WHITE)
    whole = bytes(head) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def gamma(value):
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256)) + b"\0\0"


SRGB_CURVE = b"para\0\0\0\0\0\x03\0\0" + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def curves(x):
    """Every kind of tone curve (ICC.1, 10.6 and 10.18), and its values at x."""

    def para(kind, *values):
        return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + fixed(*values)

    power = np.maximum(0.9 * x + 0.1, 0) ** 2
    points = np.array([0, 1000, 20000, 65535])
    table = b"curv\0\0\0\0" + struct.pack(">I4H", 4, *points)
    yield "table", table, np.interp(x, [0, 1 / 3, 2 / 3, 1], points / 65535)
    yield "power", para(0, 1.8), x**1.8
    bend = np.where(x >= 0.2 / 1.2, np.maximum(1.2 * x - 0.2, 0) ** 2, 0)
    yield "bent", para(1, 2, 1.2, -0.2), bend
    yield "raised", para(2, 2, 1.2, -0.2, 0.05), bend + 0.05
    parts = np.where(x >= 0.5, power - 0.02, 0.5 * x + 0.04)
    yield "parts", para(4, 2, 0.9, 0.1, 0.5, 0.5, -0.02, 0.04), parts


def ink_profile():
    """A CMYK profile whose table holds CIELAB of the 16 full combinations, and those colours."""
    lab = RANDOM.randint(60, 196, (16, 3)).astype(np.uint8)  # a, b offset by 128, as in mft1
    lab[-1] = 0, 128, 128  # all inks are black, so that black points agree
    line = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += line * 4 + lab.tobytes() + line * 3
    head = bytearray(128)
    head[8:24] = b"\x02\x10\0\0prtrCMYKLab "
    head[36:40], head[68:80] = b"acsp", fixed(*WHITE)
    whole = bytes(head) + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table
    whole = struct.pack(">I", len(whole)) + whole[4:]
    return whole, of_lab((lab ^ np.array([0, 128, 128], np.uint8)).reshape(2, 2, 2, 2, 3))


def iccp(content):
    return chunk(b"iCCP", b"a\0\0" + zlib.compress(content))


def profiles():
    adobe = profile(b"RGB ", gamma(2.19921875), ADOBE)
    to_srgb = np.linalg.inv(SRGB)
    mild = (96 + RGB // 4).astype(np.uint8)
    shown = encoded((mild / 255) ** 2.19921875 @ (to_srgb @ ADOBE).T)
    yield Case("adobe-rgb.png", png(mild, 8, 2, iccp(adobe)), shown)
    yield Case("adobe-rgb.webp", saved(mild, "WEBP", lossless=True, icc_profile=adobe), shown)
    p3 = profile(b"RGB ", SRGB_CURVE, P3)
    content = saved(large(BLOCKS), "JPEG", **BEST, keep_rgb=True, icc_profile=p3)
    yield Case("display-p3.jpg", content, large(encoded(decoded(BLOCKS / 255) @ (to_srgb @ P3).T)))
    yield Case(
        "p3-rgba.png",
        png(np.dstack([mild, ALPHA]), 8, 6, iccp(p3)),
        on_white(encoded(decoded(mild / 255) @ (to_srgb @ P3).T).astype(float), ALPHA),
    )
    yield Case("p3-grey.png", png(np.dstack([GREY] * 3), 8, 2, iccp(p3)), GREY)
    linear = profile(b"RGB ", gamma(1), ADOBE)
    shown = encoded(RGB16 / 65535 @ (to_srgb @ ADOBE).T)
    yield Case("linear16.png", png(RGB16, 16, 2, iccp(linear)), shown)
    dark = RGB16 // 256
    shown = encoded(dark / 65535 @ (to_srgb @ ADOBE).T)
    yield Case("linear16-dark.tif", tiff("<", dark, tags={34675: (7, linear)}), shown)
    grey = profile(b"GRAY", gamma(1))
    yield Case("linear-grey.png", png(GREY, 8, 0, iccp(grey)), encoded(GREY / 255))
    yield Case("linear-grey16.png", png(GREY16, 16, 0, iccp(grey)), encoded(GREY16 / 65535))
    shown = on_white(encoded(GREY / 255).astype(float), ALPHA)
    yield Case("linear-la.png", png(np.dstack([GREY, ALPHA]), 8, 4, iccp(grey)), shown)
    inks, colours = ink_profile()
    full = RANDOM.randint(0, 2, (H, W, 4)).astype(np.uint8)
    shown = colours[tuple(full.transpose(2, 0, 1))]
    yield Case("inks.tif", tiff("<", full * 255, 5, tags={34675: (7, inks)}), shown)
    for name, curve, shown in curves(GREY / 255):
        content = png(GREY, 8, 0, iccp(profile(b"GRAY", curve)))
        yield Case(f"curve-{name}.png", content, encoded(shown))
    off = profile(b"RGB ", SRGB_CURVE, P3 + 0.004 * np.eye(3)[[0, 2, 2]] * [1, 0, 0])
    yield Case("nearly-grey.png", png(np.dstack([GREY] * 3), 8, 2, iccp(off)), GREY)
    srgb = profile(b"RGB ", SRGB_CURVE, SRGB)
    yield Case("srgb.png", png(RGB, 8, 2, iccp(srgb)), RGB)
    yield Case("broken-profile.png", png(RGB, 8, 2, iccp(adobe[:200])), RGB)
    yield Case("no-profile.png", png(RGB, 8, 2, chunk(b"iCCP", b"a\0\0no stream")), RGB)
    yield Case("other-space.png", png(GREY, 8, 0, iccp(adobe)), GREY)


# Other formats


def bmp(header, data, width, height, bits, compression, palette=b""):
    start = 14 + len(header) + 40 + len(palette)
    info = struct.pack(
        "<IiiHHIIiiII",
        40 + len(header),
        width,
        height,
        1,
        bits,
        compression,
        len(data),
        2835,
        2835,
        len(palette) // 4,
        0,
    )
    size = struct.pack("<IHHI", start + len(data), 0, 0, start)
    return b"BM" + size + info + header + palette + data


def others():
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    bgra = np.dstack([RGB[..., ::-1], ALPHA])[::-1]
    yield Case("alpha.bmp", bmp(masks, bgra.tobytes(), W, H, 32, 3), on_white(RGB, ALPHA))
    rows = b"".join(bytes([1, v, 2, v + 1, 1, v, 0, 0]) for v in range(4)) + b"\0\1"
    palette = RGB.reshape(-1, 3)[:8]
    table = b"".join(bytes([*colour[::-1], 0]) for colour in palette)
    index = np.array([[v, v + 1, v + 1, v] for v in (3, 2, 1, 0)])
    yield Case("rle.bmp", bmp(b"", rows, 4, 4, 8, 1, table), palette[index])
    index = GREY % 8
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    shown = np.where(index[..., None] == 3, 255, palette[index])
    yield Case("transparent.gif", saved(image, "GIF", transparency=3), shown)
    frames = {"save_all": True, "append_images": [Image.new("RGB", (W, H))], "duration": 9}
    yield Case("animated.gif", saved(image, "GIF", **frames), palette[index])
    yield Case("animated.webp", saved(RGB, "WEBP", lossless=True, **frames), RGB)
    yield Case("animated.png", saved(RGB, "PNG", **frames), RGB)
    rgba = np.dstack([RGB, ALPHA])
    content = saved(rgba, "WEBP", lossless=True, exact=True)
    yield Case("transparent.webp", content, on_white(RGB, ALPHA))
    size = f" {W} {H} ".encode()
    for white in (1000, 4095, 65535):
        grey, rgb = (np.floor(a / 65536 * (white + 1)) for a in (GREY16, RGB16))
        head = size + f"# a comment\n{white}\n".encode()
        shown = rounded(grey / white * 255)
        yield Case(
            f"{white}.pgm", b"P5" + head + grey.astype(">u2").tobytes(), shown, mode="16-bit grey"
        )
        yield Case(
            f"{white}.ppm", b"P6" + head + rgb.astype(">u2").tobytes(), rounded(rgb / white * 255)
        )
        text = " ".join(str(int(v)) for v in grey.flat).encode()
        yield Case(f"plain{white}.pgm", b"P2" + head + text, shown)
    grey = (GREY16 >> 4).astype(">u2")
    shown = rounded(grey / 4095 * 255)
    yield Case("ends.pgm", b"P5" + size + b"4095\n" + grey.tobytes(), shown, ends=(0, 4095))
    yield Case("masks.pgm", b"P5" + size + b"1\n" + (GREY % 2).tobytes(), GREY % 2 * 255)
    bits = np.packbits(GREY % 2, axis=1)
    yield Case("bits.pbm", b"P4" + size[:-1] + b"\n" + bits.tobytes(), 255 - GREY % 2 * 255)
    yield Case("short.ppm", b"P6" + size + b"4095\n" + bytes(9), "truncated")
    if "avif" in features.modules and features.check("avif"):
        content = saved(large(BLOCKS[..., 0]), "AVIF", quality=100, exif=exif(6))
        yield Case("turned.avif", content, turned(large(BLOCKS[..., 0]), 6))


def refused():
    noise = RANDOM.randint(0, 256, (40, 40, 3)).astype(np.uint8)
    for kind, end in (("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp")):
        content = saved(noise, kind)
        yield Case(f"truncated.{end}", content[: len(content) // 2], "truncated")
    for values, colour, end in ((RGB16, 2, "rgb16"), (GREY16, 0, "grey16")):
        content = png(values, 16, colour)
        yield Case(f"truncated-{end}.png", content[: len(content) * 2 // 3], "truncated")
    content = bytearray(png(RGB, 8, 2))
    content[60:70] = bytes(10)
    yield Case("damaged.png", bytes(content), "damaged")
    yield Case("empty.png", b"", "empty")
    yield Case("text.png", b"This is a text, and its name says otherwise.\n", "not a picture")
    yield Case(
        "error.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not a picture"
    )
    yield Case("icon.svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture")
    yield Case(
        "large.png",
        png(np.zeros((1, 1), np.uint8), 8, 0).replace(
            struct.pack(">II", 1, 1), struct.pack(">II", 10**5, 10**5)
        ),
        "damaged",
    )
    head = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    yield Case("huge.png", start + chunk(b"IDAT", b""), "too large")
    if not supported(".heic"):
        heic = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic"
        yield Case("photo.heic", heic + bytes(40), "unsupported")
    yield Case("photo.jxl", b"\xff\x0a" + bytes(30), "unsupported")
    yield Case("photo.psd", b"8BPS\0\1" + bytes(30), "unsupported")


def cases():
    """All cases, in a fixed order."""
    parts = (pngs, orientations, jpegs, tiffs, numbers, profiles, others, refused)
    return [case for part in parts for case in part()]


if __name__ == "__main__":
    for case in cases():
        (Path(sys.argv[1]) / case.name).write_bytes(case.content)
