"""How DRAW reads and writes: the whole image, or a window of Gaussian filters.

Both make what the encoder sees from x and the drawing s = sigmoid(c), never forming the error
image x_hat = x - s: reading is linear, so read(x_hat) = read(x) - read(s). Neither has parameters
of its own; `heads` is the output of one linear layer of h_dec, `heads_dim` wide.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable

from limner.layers import attention
from limner.layers.attention import Window, Windows
from limner.layers.precision import full
from limner.layers.products import add_outer, product

ImageShape = Sequence[int]


class WholeImage:
    """read = [x, x_hat], write = W(h_dec) (Gregor et al. 2015, equations 17 and 18)."""

    starts_alike = True
    """Before the first step the glimpse is the same for all images: one row is enough."""

    def __init__(self, image_shape: ImageShape, canvas_shape: ImageShape):
        self.image_shape, self.canvas_shape = tuple(image_shape), tuple(canvas_shape)
        self.pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.glimpse_dim = 2 * self.pixels
        self.patch_dim = self.heads_dim = canvas_shape[0] * canvas_shape[1] * canvas_shape[2]

    def fold(self, weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's weight for `glimpse`, and its bias [batch, gates] with x's share in it.

        W_x x + W_hat (x - s) = (W_x + W_hat) x + W_hat (-s), whose first term is the same every
        step.
        """
        return _Folded.apply(weight, bias, x.flatten(1))

    def glimpse(self, x: Tensor, drawing: Tensor, heads: Tensor) -> Float[Tensor, "batch pixels"]:
        return -drawing.flatten(1)

    def stroke(self, heads: Tensor) -> Float[Tensor, "batch maps height width"]:
        """What is added to the canvas."""
        return heads.unflatten(1, self.canvas_shape)

    def windows(self, read_heads: Tensor, write_heads: Tensor) -> None:
        """Without attention there are none."""

    def init_heads(self, heads: nn.Linear, write_scale: float) -> None:
        heads.weight.data.mul_(write_scale)
        heads.bias.data.zero_()


class FilterbankWindows:
    """N x N Gaussian filters with their own parameters for reading and for writing, an image each.

    Gregor et al. (2015), equations 19 to 29. `heads` holds the written patch, then the five window
    parameters for this step's writing, then those for the next step's reading.
    """

    starts_alike = False

    def __init__(
        self, image_shape: ImageShape, canvas_shape: ImageShape, read_size: int, write_size: int
    ):
        channels, *shape = image_shape
        self.shape = (shape[0], shape[1])
        self.read_size, self.write_size, self.maps = read_size, write_size, canvas_shape[0]
        self.glimpse_dim = 2 * channels * read_size**2
        self.patch_dim = self.maps * write_size**2
        self.heads_dim = self.patch_dim + 10

    def fold(self, weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing to take out of the recurrence: what is read of x changes with the window."""
        return weight, bias

    def read_window(self, heads: Tensor) -> Window:
        return attention.window(heads[..., -5:], self.read_size, self.shape)

    def write_window(self, heads: Tensor) -> Window:
        return attention.window(heads[..., -10:-5], self.write_size, self.shape)

    def glimpse(self, x: Tensor, drawing: Tensor, heads: Tensor) -> Float[Tensor, "batch glimpse"]:
        """[read(x), read(x_hat)], flattened."""
        window = self.read_window(heads)
        F_y, F_x = attention.filterbank(window, self.read_size, self.shape)
        seen = attention.read(x, F_y, F_x, window.gamma)
        drawn = attention.read(drawing, F_y, F_x, window.gamma)
        return torch.cat([seen, seen - drawn], dim=1).flatten(1)

    def stroke(self, heads: Tensor) -> Float[Tensor, "batch maps height width"]:
        window = self.write_window(heads)
        F_y, F_x = attention.filterbank(window, self.write_size, self.shape)
        patch = heads[:, : self.patch_dim].unflatten(
            1, (self.maps, self.write_size, self.write_size)
        )
        return attention.write(patch, F_y, F_x, window.gamma)

    def windows(self, read_heads: Tensor, write_heads: Tensor) -> Windows:
        """Reading and writing windows of one or of many steps."""
        return Windows(self.read_window(read_heads), self.write_window(write_heads))

    def init_heads(self, heads: nn.Linear, write_scale: float) -> None:
        """Patches start small, windows over the whole image."""
        heads.weight.data[: self.patch_dim].mul_(write_scale)
        heads.weight.data[self.patch_dim :].mul_(0.1)
        heads.bias.data.zero_()
        start = attention.covering_params
        heads.bias.data[-10:-5] = start(self.write_size, self.shape, writing=True)
        heads.bias.data[-5:] = start(self.read_size, self.shape, writing=False)


class _Folded(Function):
    """[W_x, W_rest], b and x to W_rest and (W_x + W_hat) x + b, where W_rest = [W_hat, W_h].

    The weight is the largest tensor of the model, so its gradient is written once, part by part.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        pixels = x.shape[1]
        rest = weight[:, pixels:].contiguous()
        both = weight[:, :pixels] + rest[:, :pixels]
        ctx.save_for_backward(x, both if ctx.needs_input_grad[2] else None)
        return rest, full(product(x, both) + bias)

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, d_rest: Tensor, d: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        x, both = ctx.saved_tensors
        pixels, width = x.shape[1], x.shape[1] + d_rest.shape[1]
        gradient = d.new_empty(d.shape[1], width)
        gradient[:, :pixels] = add_outer(None, [d], [x.to(d)])
        gradient[:, pixels:] = d_rest
        gradient[:, pixels : 2 * pixels] += gradient[:, :pixels]
        return gradient, d.sum(0), None if both is None else product(d, both.T)
