"""Arrays and zips given to commands as pictures, and the files that commands then write."""

import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from limner.cli import main
from limner.config import RunConfig
from limner.data import DataConfig
from limner.data.config import in_words
from limner.data.given import given
from limner.errors import InputError
from limner.figures.contact import drawable
from limner.models import VAEConfig
from limner.training import train

RANDOM = np.random.default_rng(1)
MODEL = VAEConfig(hidden_dims=(4,), latent_dim=2, observation="discretized_logistic")
GREY = RANDOM.integers(256, size=(30, 6, 5), dtype=np.uint8)
A, B = RANDOM.integers(256, size=(2, 6, 5), dtype=np.uint8)
OWN = DataConfig(name="own")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on grey 6x5 arrays, and other images of the same size and of others."""
    path = tmp_path_factory.mktemp("arrays")
    np.save(path / "grey.npy", GREY)
    data = DataConfig(name=str(path / "grey.npy"), fit="stretch")
    train(RunConfig(model=MODEL, data=data, epochs=1, compile="never", device="cpu"), path / "run")
    for name, levels in {"a.png": A, "b.png": B}.items():
        Image.fromarray(levels).save(path / name)
    return path


def size_of(path):
    with Image.open(path) as image:
        return image.size


def shown(*paths, config=OWN, shape=(1, 6, 5)):
    return given(paths, config, shape, MODEL.observation).test


def test_all_images_of_arrays_are_shown_in_their_order(folder, tmp_path, capsys):
    images = shown(folder / "b.png", folder / "grey.npy", folder / "a.png")
    assert images.names is not None
    assert images.names[:3] == ("b.png", "grey.npy 0", "grey.npy 1")
    assert images.names[-2:] == ("grey.npy 29", "a.png")
    assert np.array_equal(images.levels[1:-1, 0], GREY)
    np.savez(tmp_path / "splits.npz", x_test=GREY[20:], x_train=GREY[:20])
    assert np.array_equal(shown(tmp_path / "splits.npz").levels[:, 0], GREY)
    colour = np.stack([GREY, GREY, GREY // 2], axis=1)
    np.save(tmp_path / "colour.npy", colour)
    found = shown(tmp_path / "colour.npy", shape=(3, 6, 5))
    assert np.array_equal(found.levels, colour)
    capsys.readouterr()
    assert shown(tmp_path / "colour.npy", shape=(1, 3, 4)).levels.shape == (30, 1, 3, 4)
    assert "30 of 30 pictures are" in " ".join(capsys.readouterr().err.split())


def test_range_and_shape_are_those_of_the_arrays_of_the_run(tmp_path):
    flat = tmp_path / "flat.npy"
    np.save(flat, GREY.reshape(30, 30).astype(np.float32) / 127.5 - 1)
    config = DataConfig(name="other.npy", range=(-1, 1), shape=(6, 5))
    assert np.array_equal(shown(flat, config=config).levels[:, 0], GREY)
    np.save(flat, GREY.astype(np.float32) / 127.5 - 1)
    with pytest.raises(InputError, match="give levels from 0 to 255") as refused:
        shown(flat)
    assert "--data" not in str(refused.value)


def test_zips_are_read_as_folders(folder, tmp_path, capsys):
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("b.png", "a.png"):
            archive.write(folder / name, f"inner/{name}")
        archive.writestr("notes.txt", "no picture")
    images = shown(path)
    assert images.names == ("inner/a.png", "inner/b.png")
    assert np.array_equal(images.levels[1, 0], B)
    assert "Left out: 1 .txt" in capsys.readouterr().err
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 255
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png|b\.png"):
        shown(path)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="no zip"):
        shown(path)


def test_vectors_of_other_images_leave_those_of_the_run(folder, capsys):
    run, names = folder / "run", lambda: {path.name for path in (folder / "run").glob("*.npz")}
    other = folder / "other images"
    other.mkdir()
    for number in range(8):
        Image.fromarray(GREY[number]).save(other / f"{number}.png")
    assert main(["encode", str(run)]) == 0
    own = (run / "test.npz").read_bytes()
    assert main(["encode", str(run), "--data.name", str(other)]) == 0
    (with_name,) = names() - {"test.npz"}
    assert with_name.endswith("-other-images-test.npz")
    assert main(["encode", str(run), str(folder / "a.png")]) == 0
    assert "pictures-a.npz" in names()
    for some in (["a.png", "b.png"], ["grey.npy"]):
        before = names()
        assert main(["encode", str(run), *(str(folder / name) for name in some)]) == 0
        assert len(names() - before) == 1
    assert (run / "test.npz").read_bytes() == own
    assert main(["reconstruct", str(run), "--data.name", str(other)]) == 0
    assert "other-images-test.png" in capsys.readouterr().out


def test_reconstruct_says_what_it_leaves_out_and_spreads_the_rest(folder, capsys):
    run, out = str(folder / "run"), folder / "drawn"
    command = ["reconstruct", run, str(folder / "grey.npy"), "--out", str(out)]
    sizes = {}
    for n in (3, 24, 30):
        assert main([*command, "--n", str(n)]) == 0
        shown = capsys.readouterr().out
        assert (f"{n} of 30 shown; --n shows more" in shown) == (n < 30)
        (drawn,) = out.glob("*.png")
        sizes[n] = size_of(drawn)
    assert sizes[24][1] < 3 * sizes[3][1]
    assert sizes[24][0] > 2 * sizes[3][0]


def test_names_of_any_letters_and_length_are_drawn_as_they_are(folder, tmp_path, capsys):
    strange, long = tmp_path / "Ünï $x$ 日本.png", tmp_path / f"{'w' * 200}.png"
    for path in (strange, long):
        path.write_bytes((folder / "a.png").read_bytes())
    out = tmp_path / "drawn"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command = ["reconstruct", str(folder / "run"), str(strange), str(long), "--out", str(out)]
        assert main(command) == 0
    (drawn,) = out.glob("*.svg")
    assert drawable(strange.name) == r"Ünï \$x\$ ??.png"
    assert "Ünï" in drawn.read_text()
    assert size_of(drawn.with_suffix(".png"))[0] < 160 * 4
    assert drawable("w" * 30 + "END.png") == "wwwwwwwww…wwwEND.png"
    capsys.readouterr()


@pytest.mark.parametrize("command", ["encode", "evaluate", "reconstruct"])
def test_a_split_of_given_pictures_is_refused(command, folder, capsys):
    picture = str(folder / "a.png")
    assert main([command, str(folder / "run"), picture, "--split", "train"]) == 2
    assert "--split train" in capsys.readouterr().err


def test_one_picture_and_no_binarization_have_their_words(folder, tmp_path, capsys):
    Image.fromarray(GREY[0, :5]).save(tmp_path / "one.png")
    shown(tmp_path / "one.png")
    assert "The picture is cropped and brought" in " ".join(capsys.readouterr().err.split())
    shown(tmp_path / "one.png", folder / "a.png")
    assert "1 of 2 pictures is cropped" in " ".join(capsys.readouterr().err.split())
    assert in_words("none") == "without binarization"
    assert in_words("static") == "static binarization"
    assert main(["evaluate", str(folder / "run"), "--num-samples", "2", str(folder / "a.png")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "without binarization" in said
    assert "none" not in said
