"""Small files that expand to fill memory. `python bombs.py FOLDER` reads each in its own process.

For each file it prints the error and the peak memory of reading it, in MiB. An alarm ends a process
that takes longer than `PATIENCE`; that process prints nothing.
"""

import gzip
import json
import os
import resource
import signal
import struct
import sys
import zipfile
import zlib
from pathlib import Path

from limner import load
from limner.config import RunConfig
from limner.data import DataConfig
from limner.data import load as load_data
from limner.data.idx import read_idx
from limner.data.pictures import Unreadable, read_picture
from limner.errors import InputError
from limner.models import DRAWConfig, VAEConfig, build
from limner.training.runs import Run

PATIENCE = 60
GIB = 2**30
BIG = 2**29
MAT = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def zeros(count):
    """A deflate stream of so many zeros, about a thousandth as long."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(bytes(2**24)) for _ in range(count // 2**24)]
    return b"".join([*parts, packer.flush()])


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, *chunks, colour=0):
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", head), *chunks, chunk(b"IEND", b"")])


def npy(shape, descr="|u1", version=1, length=None):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def npz(path, start):
    """An archive of one array that begins with `start` and goes on with zeros."""
    archive(path, "images.npy", start)


def mat(path, shape, size, name=b"data", said=None, held=None):
    """A compressed MATLAB matrix of this name: `size` bytes of zeros, `held` of them there.

    Its inner length is right if `said` is not given.
    """
    array = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<II2i", 5, 8, *shape)
    array += struct.pack("<II", 1, len(name)) + name + bytes(-len(name) % 8)
    array += struct.pack("<II", 9, size)
    inside = min(len(array) + size, 2**32 - 1) if said is None else said
    packer = zlib.compressobj(1)
    body = packer.compress(struct.pack("<II", 14, inside) + array)
    blocks = (size if held is None else held) // 2**24
    body += b"".join(packer.compress(bytes(2**24)) for _ in range(blocks)) + packer.flush()
    path.write_bytes(MAT + struct.pack("<II", 15, len(body)) + body)


def plain_mat(path, shape, size):
    """The same, not compressed: a sparse file."""
    array = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<II2i", 5, 8, *shape)
    array += struct.pack("<II", 1, 4) + b"data" + bytes(4) + struct.pack("<II", 9, size)
    path.write_bytes(MAT + struct.pack("<II", 14, len(array) + size) + array)
    os.truncate(path, path.stat().st_size + size)


def omniglot(make, *arguments, **more):
    """A file of OMNIGLOT that `make` writes, and how it is read."""
    return (
        lambda path: (path.mkdir(), make(path / "chardata.mat", *arguments, **more)),
        lambda path: load_data(DataConfig(name="omniglot", root=path)),
    )


def archive(path, name, start, size=BIG, **beside):
    """A zip of a member that begins with `start` and goes on with zeros, and of small ones."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        with packed.open(name, "w", force_zip64=True) as file:
            file.write(start)
            for _ in range(size // 2**24):
                file.write(bytes(2**24))
        for other, content in beside.items():
            packed.writestr(f"archive/{other}", content)


def sparse(path, start=b""):
    """A tebibyte that takes no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, 2**40)


def picture(path):
    with path.open("rb") as file:
        try:
            read_picture(file)
        except Unreadable as error:
            raise InputError(f"It is no use: {error}.") from None


def own(path):
    load_data(DataConfig(name=str(path)))


def run_of(path, config):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


def beside_config(name):
    def make(path):
        sparse(run_of(path, json.loads(VALID.to_json())) / name)

    return make


VALID = RunConfig(model=VAEConfig(), epochs=1)
WIDE = VALID.model_dump(mode="json") | {"model": {"kind": "vae", "hidden_dims": [10**9]}}
LONG = VALID.model_dump(mode="json") | {"model": {"kind": "vae", "hidden_dims": [1] * 10**5}}
SHORT_HEADER = npy((2, 5, 4), version=2, length=2**32 - 1)
IDX = b"\0\0\x08\x03"
BOMBS = {
    "idx of all dimensions": (
        lambda path: path.write_bytes(b"\0\0\x08\x04" + b"\xff" * 16),
        read_idx,
    ),
    "idx.gz that promises": (
        lambda path: path.write_bytes(gzip.compress(IDX + struct.pack(">3I", 2**11, 2**10, 2**10))),
        read_idx,
    ),
    "idx.gz that goes on": (
        lambda path: path.write_bytes(
            gzip.compress(IDX + struct.pack(">3I", 9, 9, 9)) + gzip.compress(bytes(2**28))
        ),
        read_idx,
    ),
    "sparse, long header.npy": (lambda path: sparse(path, SHORT_HEADER), own),
    "sparse, of its size.npy": (lambda path: sparse(path, npy((2**20, 2**10, 2**10))), own),
    "long header.npz": (lambda path: npz(path, SHORT_HEADER), own),
    "negative.npz": (lambda path: npz(path, npy((-1, 5, 4))), own),
    "longer than said.npz": (lambda path: npz(path, npy((9, 5, 4), "|u2")), own),
    "square.png": (
        lambda path: path.write_bytes(png(60_000, 60_000, chunk(b"IDAT", zeros(2**26)))),
        picture,
    ),
    "below.png": (
        lambda path: path.write_bytes(png(9_000, 9_000, chunk(b"IDAT", zeros(2**28)), colour=6)),
        picture,
    ),
    "profile.png": (
        lambda path: path.write_bytes(png(4, 4, chunk(b"iCCP", b"a\0\0" + zeros(BIG)))),
        picture,
    ),
    "text.png": (
        lambda path: path.write_bytes(png(4, 4, chunk(b"zTXt", b"a\0\0" + zeros(BIG)))),
        picture,
    ),
    "sparse, long tag.tif": (
        lambda path: sparse(path, struct.pack("<4sIHHHII", b"II*\0", 8, 1, 700, 7, 2**32 - 1, 64)),
        picture,
    ),
    "mat of a large matrix": omniglot(mat, (784, 2**31 - 1), 2**24),
    "mat of more than its matrix": omniglot(mat, (784, 1), BIG + 2**26),
    "mat of more than it says": omniglot(mat, (784, 1), 784 * 8, said=6400, held=BIG + 2**26),
    "mat of less than it says": omniglot(mat, (784, 1), 2**31, held=0),
    "mat of large zeros": omniglot(mat, (784, 2**17), 784 * 8 * 2**17),
    "mat with a long name": omniglot(mat, (784, 1), 784 * 8, name=bytes(BIG)),
    "sparse mat": omniglot(plain_mat, (784, 1), 2**31),
    "tensors.pt": (lambda path: archive(path, "archive/data.pkl", b"\x80\2", version="3\n"), own),
    "one picture.zip": (lambda path: archive(path, "a.png", png(9, 9)), own),
    "many pictures.zip": (
        lambda path: archive(path, "a.png", png(60_000, 60_000, chunk(b"IDAT", zeros(2**26)))),
        own,
    ),
    "run of wide layers": (lambda path: run_of(path, WIDE), Run.open),
    "run of many layers": (lambda path: run_of(path, LONG), Run.open),
    "run of a sparse config": (
        lambda path: (path.mkdir(), sparse(path / "config.json")),
        Run.open,
    ),
    "run of sparse results": (beside_config("results.json"), lambda path: Run.open(path).results()),
    "run of sparse metrics": (
        beside_config("metrics.jsonl"),
        lambda path: Run.open(path).metrics(),
    ),
    "run of sparse weights": (beside_config("model.safetensors"), load),
    "run of a long header": (
        lambda path: sparse(
            run_of(path, json.loads(VALID.to_json())) / "model.safetensors",
            struct.pack("<Q", 2**39) + b"{",
        ),
        load,
    ),
    "model of a billion": (
        lambda path: None,
        lambda path: build(DRAWConfig(hidden_dim=2**16), (1, 28, 28)),
    ),
}


def told(call):
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


def measured(name, folder):
    """The sentence and the MiB at the peak of a process that reads nothing else."""
    make, read = BOMBS[name]
    path = folder / name
    make(path)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(PATIENCE)
        resource.setrlimit(resource.RLIMIT_AS, (8 * GIB, 8 * GIB))
        with os.fdopen(writer, "w") as out:
            out.write(told(lambda: read(path)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as out:
        sentence = out.read()
    _, _, usage = os.wait4(child, 0)
    if path.is_file():
        path.unlink()
    return sentence, usage.ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps({name: measured(name, Path(sys.argv[1])) for name in BOMBS}))
