"""The grid of Gaussian filters that reads from and writes to an image.

Gregor et al. (2015), "DRAW", equations 19 to 29, with pixels numbered from 1: a centre parameter of
zero is the exact middle (A + 1) / 2 of A pixels. Pure functions; colour channels share the filters.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import Function

from limner.layers.precision import full_precision
from limner.transforms import transformed

LOG_RANGE = (-20.0, 20.0)
"""log sigma^2, log delta~ and log gamma of every window are clamped to this range."""


class Window(NamedTuple):
    """Position and size of N x N filters. Lengths are in pixels, numbered from 1."""

    center: Float[Tensor, "*batch 2"]
    """(g_X, g_Y): column and row of the middle of the grid."""
    stride: Float[Tensor, "*batch"]
    """delta: distance between neighbouring filter means."""
    sigma: Float[Tensor, "*batch"]
    """Standard deviation of every filter."""
    gamma: Float[Tensor, "*batch"]
    """Intensity: multiplies what is read, divides what is written."""


class Windows(NamedTuple):
    """The windows of an unrolled model, each with leading dimensions [steps, batch]."""

    read: Window | None
    """None in generation, which reads no image."""
    write: Window


def window(params: Float[Tensor, "*batch 5"], size: int, shape: tuple[int, int]) -> Window:
    """The window of `size` x `size` filters on an image of `shape` (height B, width A).

    `params` are (g~_X, g~_Y, log sigma^2, log delta~, log gamma), equation 21. Equations 22 to 24:
    g_X = (A + 1) / 2 (g~_X + 1), g_Y = (B + 1) / 2 (g~_Y + 1),
    delta = (max(A, B) - 1) / (N - 1) delta~; a single filter has delta = (max(A, B) - 1) delta~.
    The three logarithms are clamped to `LOG_RANGE`, so that no exponential overflows.
    """
    logs = params[..., 2:].clamp(*LOG_RANGE)
    height, width = shape
    center = params[..., :2] + 1
    if height != width:
        x, y = center.unbind(-1)
        center = torch.stack([x, (height + 1) / (width + 1) * y], dim=-1)
    step = (max(shape) - 1) / max(size - 1, 1)
    return Window(
        center=(width + 1) / 2 * center,
        stride=step * logs[..., 1].exp(),
        sigma=(0.5 * logs[..., 0]).exp(),
        gamma=logs[..., 2].exp(),
    )


def covering_params(size: int, shape: tuple[int, int], writing: bool) -> Float[Tensor, " 5"]:
    """Parameters of the window over the whole image, sigma half its stride.

    The intensity compensates for the division of each filter by its sum. For reading, gamma is
    2 sqrt(pi) sigma, so that every filter has unit norm. For writing, gamma is 1 / stride^2, the
    density of the filters, so that a patch of ones adds ones to the canvas.
    """
    stride = max((max(shape) - 1) / max(size - 1, 1), 1.0)
    sigma = stride / 2
    gamma = stride**-2 if writing else 2 * math.sqrt(math.pi) * sigma
    return torch.tensor([0.0, 0.0, 2 * math.log(sigma), 0.0, math.log(gamma)])


def filterbank(
    window: Window, size: int, shape: tuple[int, int]
) -> tuple[Float[Tensor, "*batch N H"], Float[Tensor, "*batch N W"]]:
    """F_y and F_x of equations 25 and 26, each row a distribution over the pixels.

    mu^i = g + (i - N/2 - 0.5) delta for i = 1..N (equations 19, 20). The exponent of
    the pixel nearest to mu is subtracted from all exponents of a row. Division by the row's sum
    cancels it, so rows stay exact even if every term of equation 25 underflows. Terms below e^-40
    of the largest are set to zero: they are below rounding, and would bring denormal numbers, which
    are a hundred times slower to multiply.
    """
    like = {"device": window.stride.device, "dtype": window.stride.dtype}
    offsets = torch.arange(0.5 - size / 2, size / 2, **like)

    gaussians: Any = _gaussians if transformed() else _Gaussians.apply

    def filters(center: Tensor, length: int) -> Tensor:
        pixels = torch.arange(1, length + 1, **like)
        return gaussians(center, window.stride, window.sigma, offsets, pixels)

    height, width = shape
    if height == width:
        F_x, F_y = filters(window.center, width).unbind(-3)
    else:
        g_x, g_y = window.center.split(1, dim=-1)
        F_x, F_y = filters(g_x, width).squeeze(-3), filters(g_y, height).squeeze(-3)
    return F_y, F_x


def _places(center: Tensor, stride: Tensor, sigma: Tensor, offsets: Tensor) -> tuple[Tensor, ...]:
    """mu_i = g + o_i delta with offsets o, and p = -1 / (2 sigma^2)."""
    mu = center[..., None] + (stride[..., None] * offsets)[..., None, :]
    return mu, -0.5 / sigma.square()


def _gaussians(
    center: Tensor, stride: Tensor, sigma: Tensor, offsets: Tensor, pixels: Tensor
) -> Tensor:
    """F[i, a] = exp(p (a - mu_i)^2) / Z_i along each axis, [*batch, axes, N, A]."""
    mu, p = _places(center, stride, sigma, offsets)
    return _normalised(mu, p, pixels)


def _normalised(mu: Tensor, p: Tensor, pixels: Tensor) -> Tensor:
    distance = pixels - mu[..., None]
    nearest = mu.round().clamp(1, len(pixels))
    beyond = distance.square() - (nearest - mu).square()[..., None]
    exponents = p[..., None, None, None] * beyond
    terms = (exponents > -40) * exponents.clamp(min=-40).exp()
    return terms / terms.sum(-1, keepdim=True)


class _Gaussians(Function):
    """`_gaussians` with its gradient.

    With e the exponents, de = F (dF - sum_a F dF), dmu = -2 p sum_a (a - mu) de and
    dp = sum_{i, a} (a - mu)^2 de. Pixels are contiguous in these sums. Then dg = sum_i dmu_i,
    ddelta = sum_i o_i dmu_i and dsigma = dp / sigma^3.
    """

    @staticmethod
    def forward(
        ctx: Any, center: Tensor, stride: Tensor, sigma: Tensor, offsets: Tensor, pixels: Tensor
    ) -> Tensor:
        mu, p = _places(center, stride, sigma, offsets)
        filters = _normalised(mu, p, pixels)
        ctx.save_for_backward(center, stride, sigma, offsets, pixels, mu, p, filters)
        return filters

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        center, stride, sigma, offsets, pixels, mu, p, filters = ctx.saved_tensors
        if torch.is_grad_enabled():  # recomputed, for second derivatives
            mu, p = _places(center, stride, sigma, offsets)
        distance = pixels - mu[..., None]
        weighted = filters * gradient
        of_exponents = weighted - filters * weighted.sum(-1, keepdim=True)
        moments = of_exponents * distance
        of_mu = -2 * p[..., None, None] * moments.sum(-1)
        of_p = (moments * distance).sum((-3, -2, -1))
        of_stride = (of_mu * offsets).sum((-2, -1))
        return of_mu.sum(-1), of_stride, of_p * sigma**-3, None, None


@full_precision
def read(
    images: Float[Tensor, "*batch C H W"],
    F_y: Float[Tensor, "*batch N H"],
    F_x: Float[Tensor, "*batch N W"],
    gamma: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch C N N"]:
    """gamma F_y x F_x^T of every channel (equation 27). Linear in the image.

    One matrix product serves all channels, whose rows are side by side. One channel needs no copy.
    """
    channels = images.shape[-3]
    glimpse = _glimpse if transformed() else _Glimpse.apply
    patch: Tensor = glimpse(images.movedim(-3, -2).flatten(-2), F_y, F_x)
    return gamma[..., None, None, None] * patch.unflatten(-1, (-1, channels)).transpose(-3, -1)


def _rows(x: Tensor, F_y: Tensor, width: int) -> Tensor:
    """F_y x, with one row per filter and channel: [*batch, N C, W]."""
    return (F_y @ x).unflatten(-1, (-1, width)).flatten(-3, -2)


def _glimpse(x: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
    """(F_y x F_x^T)^T [*batch, N, N C] of x [*batch, H, C W]."""
    return _product(F_x, _rows(x, F_y, F_x.shape[-1]).mT)


class _Glimpse(Function):
    """`_glimpse` with its gradient, whose pixels are contiguous, as in the filters.

    With R = F_y x and P the result, dF_x = dP R, dR = dP^T F_x, dF_y = dR x^T and dx = F_y^T dR.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
        rows = _rows(x, F_y, F_x.shape[-1])
        ctx.save_for_backward(x, F_y, F_x, rows)
        return _product(F_x, rows.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # type: ignore[override]
        x, F_y, F_x, rows = ctx.saved_tensors
        if torch.is_grad_enabled():  # recomputed, for second derivatives
            rows = _rows(x, F_y, F_x.shape[-1])
        gradient = gradient.contiguous()
        of_rows = _product(gradient.mT, F_x).unflatten(-2, (F_y.shape[-2], -1)).flatten(-2)
        of_x = F_y.mT @ of_rows if ctx.needs_input_grad[0] else None
        return of_x, of_rows @ x.mT, _product(gradient, rows)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b. For small matrices torch uses a scalar loop; a broadcast sum is faster there."""
    if a.shape[-2] * a.shape[-1] * b.shape[-1] < 400:
        return (a[..., None] * b[..., None, :, :]).sum(-2)
    return a @ b


@full_precision
def write(
    patch: Float[Tensor, "*batch C N N"],
    F_y: Float[Tensor, "*batch N H"],
    F_x: Float[Tensor, "*batch N W"],
    gamma: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch C H W"]:
    """(1 / gamma) F_y^T w F_x of every channel (equation 29)."""
    scaled = patch / gamma[..., None, None, None]
    spread = _spread if transformed() else _Spread.apply
    return spread(scaled, F_y[..., None, :, :], F_x[..., None, :, :])


def _spread(w: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
    """F_y^T w F_x."""
    return F_y.mT @ _product(w, F_x)


class _Spread(Function):
    """`_spread` with its gradient, whose pixels are contiguous, as in the filters.

    With C the result, dF_y = (w F_x) dC^T and dF_x = w^T (F_y dC).
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, F_y: Tensor, F_x: Tensor) -> Tensor:
        rows = _product(w, F_x)
        ctx.save_for_backward(w, F_y, F_x, rows)
        return F_y.mT @ rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        w, F_y, F_x, rows = ctx.saved_tensors
        if torch.is_grad_enabled():  # recomputed, for second derivatives
            rows = _product(w, F_x)
        of_rows = F_y @ gradient
        return of_rows @ F_x.mT, rows @ gradient.mT, w.mT @ of_rows
