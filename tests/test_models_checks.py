"""Invalid inputs of a model are refused with one sentence that says what to change."""

from typing import get_args

import numpy as np
import pytest
import torch

from limner import VAE, InputError, importance_weighted_bound
from limner.layers.names import ObservationName
from limner.models.checks import (
    check_form,
    check_image_shape,
    check_latents,
    check_model_dtype,
    check_values,
)
from limner.objectives import objective
from test_models_all import CONFIGS, make

SHAPE = (1, 4, 5)


def images(*shape, value=1.0):
    return torch.full(shape or (2, *SHAPE), value)


def refusal(check, *arguments, **options):
    with pytest.raises(InputError) as error:
        check(*arguments, **options)
    sentence = str(error.value)
    assert sentence.endswith(".")
    assert ". " not in sentence, "one sentence"
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.zeros((2, *SHAPE), np.float32), "not numpy.ndarray; convert them with torch.from_num"),
        ([[0.0]], "not list; convert them with torch.as_tensor"),
        (images().to(torch.uint8), r"not uint8; pass x.float() / 255 if they are 8-bit levels"),
        (images().long(), r"not int64; pass x.float() / 255"),
        (images().bool(), r"not bool; pass x.float()."),
        (
            images().double(),
            "float64 and the model is float32; pass x.to(torch.float32) or call mo",
        ),
        (images().bfloat16(), "bfloat16 and the model is float32; pass x.to(torch.float32)."),
        (images(*SHAPE), "[batch, 1, 4, 5], not [1, 4, 5]; add a batch dimension with x[None]"),
        (images(7, 4, 5), "not [7, 4, 5]; add the channel with x[:, None]"),
        (images(7, 4, 5, 1), "not [7, 4, 5, 1]; put the channels first with x.permute(0, 3, 1, 2)"),
        (images(7, 20), "not [7, 20]; reshape them with x.view(-1, 1, 4, 5)"),
        (images(7, 3, 4, 5), "not [7, 3, 4, 5]; use images of the shape that the model was made"),
        (images(7, 1, 5, 4), "not [7, 1, 5, 4]; use images of the shape"),
    ],
)
def test_the_form_of_images(x, words):
    assert words in refusal(check_form, x, SHAPE, torch.float32)


def test_a_double_model_takes_doubles_alone():
    check_form(images().double(), SHAPE, torch.float64)
    assert "pass x.to(torch.float64) or call model.float()." in refusal(
        check_form, images(), SHAPE, torch.float64
    )


@pytest.mark.parametrize("observation", get_args(ObservationName))
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.0, 255.0), "from 0 to 255, so divide 8-bit levels by 255"),
        ((0.0, 1.5), "from 0 to 1.5, so divide"),
        ((-1.0, 1.0), "from -1 to 1, so rescale [-1, 1] with (x + 1) / 2"),
        ((-2.5, 3.0), "from -2.5 to 3, so rescale or clip them"),
        ((0.0, float("inf")), "from 0 to inf, so rescale or clip"),
        ((-float("inf"), 0.5), "from -inf to 1, so rescale or clip"),
        ((0.0, float("nan")), "1 of 40 values of the images are NaN"),
        ((float("nan"), float("nan")), "2 of 40 values of the images are NaN"),
    ],
)
def test_the_values_of_images(values, words, observation):
    x = images()
    x[0, 0, 0, 0], x[1, 0, 3, 4] = values
    assert words in refusal(check_values, x, observation)


def test_grey_values_for_a_bernoulli():
    x = images()
    x[1, 0, 2, 2] = 0.25
    assert "0 or 1, and one is 0.25; binarize with x.round()" in refusal(
        check_values, x, "bernoulli"
    )
    check_values(x, "gaussian")
    check_values(x, "discretized_logistic")
    check_values(x, "discretized_logistic_mixture")
    check_values(x, "bernoulli", grey=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_good_images_pass(dtype):
    for value in (0.0, 1.0):
        check_form(images(value=value).to(dtype), SHAPE, dtype)
        check_values(images(value=value).to(dtype), "bernoulli")
    check_values(images(0, *SHAPE).to(dtype), "bernoulli")
    strided = images(4, *SHAPE, value=0.5).to(dtype)[::2].requires_grad_()
    check_values(strided, "gaussian")


@pytest.mark.usefixtures("unchecked")
def test_the_form_is_checked_without_reading_values():
    check_form(torch.empty(2, *SHAPE, device="meta"), SHAPE, torch.float32)
    check_latents([torch.empty(2, 3, device="meta")], [(3,)], 2, torch.float32)
    compiled = torch.compile(_formed, backend="eager", fullgraph=True)
    assert torch.equal(compiled(images()), images())
    assert torch.equal(torch.vmap(lambda x: _formed(x[None])[0])(images()), images())


def _formed(x):
    check_form(x, SHAPE, torch.float32)
    return x


GROUPS = [(3,), (4, 2, 2)]


def latents():
    return [torch.zeros(2, 3), torch.zeros(2, 4, 2, 2)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (latents()[:1], "has 2 latent groups and latents of 1 were given"),
        ([], "latents of 0 were given"),
        (latents() * 2, "latents of 4 were given"),
        (torch.zeros(2, 3), 'one tensor per group or "mean", not torch.Tensor'),
        ("zeros", 'or "mean", not str'),
        (0.5, "not float"),
        ([latents()[0], torch.zeros(2, 4)], "group 2 must have shape [2, 4, 2, 2], not [2, 4]"),
        ([torch.zeros(1, 3), latents()[1]], "group 1 must have shape [2, 3], not [1, 3]"),
        ([latents()[0], np.zeros((2, 4, 2, 2))], 'group 2 must be a tensor, None or "mean", not'),
        ([latents()[0], "zeros"], "not str"),
        ([latents()[0].long(), None], "group 1 must be float32, not int64"),
    ],
)
def test_latents_that_do_not_fit(given, words):
    assert words in refusal(check_latents, given, GROUPS, 2, torch.float32)


def test_latents_that_fit_pass():
    for given in (None, "mean", latents(), tuple(latents()), [None, "mean"]):
        check_latents(given, GROUPS, 2, torch.float32)
    check_latents([None, latents()[1]], GROUPS, 2, torch.float32, what="noise")
    for given in ("mean", ["mean", latents()[1]]):
        assert "noise" in refusal(check_latents, given, GROUPS, 2, torch.float32, what="noise")
    words = refusal(
        check_latents, [torch.zeros(2, 2), None], GROUPS, 2, torch.float32, names=("z_top", "z_1")
    )
    assert "z_top" in words


def test_the_shape_of_images():
    for shape in ((1, 28, 28), (3, 8, 8), (2, 4, 3), (4, 5, 5), (1, 3, 1), (3, 3, 3), (2, 3, 3)):
        check_image_shape(shape)
    assert "channels first; pass (1, 16, 16) in place of (16, 16, 1)" in refusal(
        check_image_shape, (16, 16, 1)
    )
    assert "pass (3, 32, 24) in place of" in refusal(check_image_shape, [32, 24, 3])
    for shape in ((28, 28), (1, 0, 4), (1, 1, 4, 4)):
        assert "all at least 1; got" in refusal(check_image_shape, shape)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (images().double().numpy(), "torch.from_numpy"),
        (images().to(torch.uint8), "x.float() / 255"),
        (images(), "x.to(torch.float64)"),
        (images(2, 1, 5, 4).double(), "[batch, 1, 4, 5]"),
        (255 * images().double(), "divide 8-bit levels by 255"),
        (0.5 * images().double(), "binarize"),
    ],
    ids=str,
)
def test_every_model_and_bound_refuses_them(kind, x, words):
    model = make(kind)
    assert words in refusal(model.infer, x)
    assert words in refusal(importance_weighted_bound, model, x, num_samples=2)
    if words not in ("divide 8-bit levels by 255", "binarize"):
        assert words in refusal(objective, model, x)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", CONFIGS)
def test_every_model_refuses_latents_and_noise_that_do_not_fit(kind):
    model, x = make(kind), images().double()
    assert "latent groups" in refusal(model.infer, x, latents=[x] * 20)
    assert "latent groups" in refusal(model.generate, 2, latents=[x] * 20)
    wrong = [torch.zeros(3, *shape).double() for shape in model.latent_shapes]
    assert "must have shape" in refusal(model.infer, x, latents=wrong)
    assert "must have shape" in refusal(model.generate, 2, noise=wrong)
    other = [z[:2].float() for z in wrong]
    assert "must be float64, not float32" in refusal(model.generate, 2, noise=other)
    assert "one generator" in refusal(model.generate, 2, [torch.Generator()])
    assert "is empty" in refusal(model.infer, x, [])
    assert "no divergence 'closed'" in refusal(model.infer, x, divergence="closed")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_of_16_bits_are_refused(dtype):
    model = make("vae").to(dtype)
    assert "torch.autocast" in refusal(model.generate, 2)
    assert "torch.autocast" in refusal(model, images().to(dtype))
    check_model_dtype(torch.float32)


@pytest.mark.usefixtures("unchecked")
def test_a_model_refuses_a_dict_for_its_config():
    with pytest.raises(InputError, match=r"VAE takes a config such as VAEConfig\(\); got dict"):
        VAE({"latent_dim": 2}, (1, 4, 4))  # pyright: ignore[reportArgumentType]
