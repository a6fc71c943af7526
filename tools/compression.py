"""Bits per pixel of trained models beside other codecs, on the same test images.

    python -m tools.compression mnist-iwae-vae mnist-draw ... --data.root FOLDER

compresses the first test images with each run, decompresses them, and adds what it finds to
results/compression.json and, as tables, to results/compression.md. Other codecs compress
the images as the first run sees them: all in one file, picture formats as one sheet and others as
packed pixels, and picture formats also one by one. The models themselves are not counted.
"""

import bz2
import io
import json
import lzma
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from limner.coding import decompress, sizes
from limner.coding.codec import coded
from limner.commands.options import IMAGES, Images
from limner.data import Frozen
from limner.errors import InputError
from limner.models import RecurrentModel
from limner.pictures import columns_for, png, tile, to_levels, to_rgb
from limner.progress import progress_bar
from limner.settings import read_json
from limner.storage import write_atomically
from limner.training.made import maker

OUT = Path(__file__).parents[1] / "results" / "compression.json"
HEAD = """# Bits per pixel

Written by `python -m tools.compression`; do not edit it. Lossless, on the first test images, which
came back exactly. *Bits per pixel* leaves out the initial bits, which are lent once and do not grow
with the number of images; the *whole file* has them and the header. *-ELBO* is that of the same
images with the z that were coded, in nats. Neither size counts the model. Images per second are
compressed and decompressed in a second of processor time.
"""
Codec = Callable[[np.ndarray], bytes]
"""Levels [H, W] or [H, W, 3] to bytes."""


def compression(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    *,
    data: Images = IMAGES,
    num_images: int = 10_000,
    recurrent: int = 1000,
    out: Path = OUT,
) -> None:
    """Measure models and other codecs.

    Args:
        runs: names or folders; those of one call see the same images
        num_images: test images
        recurrent: test images of recurrent models, which are slower
        out: the file; models and data sets that it has and that are not measured again stay
    """
    found: dict[str, Any] = read_json(out) if out.is_file() else {}
    for name in runs:
        run = data.open(name)
        model, dataset = run.model(), run.dataset()
        x = Frozen(dataset, "test", run.config.model.observation)
        x = x.first(min(len(x), num_images))[:]
        title = f"{dataset.name}, {dataset.binarization}"
        entry = found.setdefault(title, {"codecs": {}, "models": {}})
        if not entry["codecs"]:
            entry["codecs"] = codecs(x)
        some = x[:recurrent] if isinstance(model, RecurrentModel) else x
        entry["models"][run.name] = measured(run.name, model, some)
        write_atomically(out, json.dumps(found, indent=2) + "\n")
        write_atomically(out.with_suffix(".md"), page(found))
        print(title, run.name, entry["models"][run.name], flush=True)


def measured(name: str, model: Any, x: Tensor) -> dict[str, Any]:
    """Bits of one model, and its speed both ways, once the images came back exactly."""
    with progress_bar(f"compressing with {name}", len(x)) as report:
        started = time.process_time()
        file = coded(model, x, report=report)
        middle = time.process_time()
    with progress_bar(f"decompressing with {name}", len(x)) as report:
        again = decompress(model, file.data, report=report)
        end = time.process_time()
    if not torch.equal(x, again):
        raise InputError(f"{name} does not give its images again.")
    assert file.elbo is not None
    size, dims = sizes(file.data), x[0].numel()
    nats, bound = size.bits / size.images * math.log(2), -file.elbo.mean().item()
    return {
        "images": len(x),
        "bits_per_dim": size.bits / size.images / dims,
        "bits_per_dim_of_file": 8 * len(file.data) / size.images / dims,
        "nats": nats,
        "minus_elbo": bound,
        "ratio": nats / bound,
        "initial_bits": size.initial,
        "header_bits": size.other,
        "images_per_cpu_second": [len(x) / (middle - started), len(x) / (end - middle)],
        "hardware": maker(torch.device("cpu")).hardware,
        "threads": torch.get_num_threads(),
    }


def codecs(x: Tensor) -> dict[str, dict[str, float | None]]:
    """Bits per dimension of other codecs: of single images, and of all in one file."""
    levels = np.moveaxis(to_levels(x), 1, -1)
    if binary := bool(((levels == 0) | (levels == 255)).all()):
        levels = (levels > 0).astype(np.uint8) * 255
    levels = levels[..., 0] if levels.shape[-1] == 1 else levels
    dims = levels.size

    def bits(codec: Codec, images: Sequence[np.ndarray]) -> float:
        return 8 * sum(len(codec(image)) for image in images) / dims

    sheet = tile(to_rgb(x), columns_for(len(x)), gap=0, background=(0, 0, 0))
    sheet = sheet[..., 0] if levels.ndim == 3 else sheet
    pictures: dict[str, dict[str, float | None]] = {
        name: {"single": bits(codec, list(levels)), "one_file": bits(codec, [sheet])}
        for name, codec in _pictures(binary).items()
    }
    streams: dict[str, dict[str, float | None]] = {
        name: {"single": None, "one_file": bits(codec, [levels])}
        for name, codec in _streams(binary).items()
    }
    return pictures | streams


def _pictures(binary: bool) -> dict[str, Codec]:
    def saved(kind: str, **settings: Any) -> Codec:
        def codec(levels: np.ndarray) -> bytes:
            picture, stream = Image.fromarray(levels), io.BytesIO()
            picture = picture.convert("1") if binary and kind == "PNG" else picture
            picture.save(stream, kind, **settings)
            return stream.getvalue()

        return codec

    found = {
        "PNG": saved("PNG", optimize=True),
        "WebP": saved("WEBP", lossless=True, quality=100, method=6),
    }
    if shutil.which("cjxl"):
        found["JPEG XL"] = _jpeg_xl
    return found


def _streams(binary: bool) -> dict[str, Codec]:
    def of(codec: Callable[[bytes], bytes]) -> Codec:
        return lambda levels: codec((np.packbits(levels > 0) if binary else levels).tobytes())

    found = {"bz2": of(bz2.compress), "xz": of(lzma.compress)}
    if shutil.which("zstd"):
        found["zstd"] = of(lambda raw: _piped(["zstd", "-19", "-c", "-q"], raw))
    return found


def _jpeg_xl(levels: np.ndarray) -> bytes:
    """With the greatest effort that works: some versions end by a trap on small pictures."""
    with TemporaryDirectory() as folder:
        given, made = Path(folder) / "image.png", Path(folder) / "image.jxl"
        given.write_bytes(png(levels))
        for effort in range(9, 0, -1):
            command = ["cjxl", str(given), str(made), "-d", "0", "-e", str(effort)]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return made.read_bytes()
    raise InputError("cjxl fails on this machine; remove it, or install another version.")


def _piped(command: Sequence[str], content: bytes) -> bytes:
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def page(found: Mapping[str, Any]) -> str:
    """The tables."""
    return HEAD + "".join(_tables(title, entry) for title, entry in found.items())


def _tables(title: str, entry: Mapping[str, Any]) -> str:
    models = sorted(entry["models"].items(), key=lambda item: item[1]["bits_per_dim"])
    machines = {f"{m['hardware']}, {m['threads']} thread" for m in entry["models"].values()}
    lines = [
        f"\n## {title}\n",
        "| model | bits per pixel | whole file | nats | -ELBO | ratio | images | images/s |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, m in models:
        speed = " and ".join(f"{speed:,.0f}" for speed in m["images_per_cpu_second"])
        lines.append(
            f"| {name} | {m['bits_per_dim']:.4f} | {m['bits_per_dim_of_file']:.4f} | "
            f"{m['nats']:.2f} | {m['minus_elbo']:.2f} | {m['ratio']:.4f} | {m['images']:,} | "
            f"{speed} |"
        )
    lines += [
        f"\nMachine: {', '.join(sorted(machines))}.\n",
        "| other codecs | bits per pixel, all in one file | each image in a file |",
        "| --- | ---: | ---: |",
    ]
    for name, one in entry["codecs"].items():
        single = "" if one["single"] is None else f"{one['single']:.4f}"
        lines.append(f"| {name} | {one['one_file']:.4f} | {single} |")
    if "JPEG XL" not in entry["codecs"]:
        lines.append("| JPEG XL | no `cjxl` on this machine | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    try:
        tyro.cli(compression)
    except InputError as error:
        sys.exit(str(error))
