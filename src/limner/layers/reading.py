"""How DRAW reads and writes: the whole image, or a window of Gaussian filters.

Neither has parameters. `heads` [batch, heads_dim] is the output of one linear layer of h_dec: the
written patch and, with attention, the parameters of the windows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limner.layers import attention
from limner.layers.attention import Window, Windows
from limner.layers.copies import with_tensors
from limner.layers.linear import affine
from limner.layers.precision import full
from limner.layers.recurrent import LSTMCell

ImageShape = Sequence[int]


class WholeImage:
    """read = [x, x_hat], write = W(h_dec) (Gregor et al. 2015, equations 17 and 18)."""

    def __init__(self, image_shape: ImageShape, canvas_shape: ImageShape):
        self.image_shape, self.canvas_shape = tuple(image_shape), tuple(canvas_shape)
        self.pixels = image_shape[0] * image_shape[1] * image_shape[2]
        self.glimpse_dim = 2 * self.pixels
        self.patch_dim = self.heads_dim = canvas_shape[0] * canvas_shape[1] * canvas_shape[2]

    def at(self, x: Tensor, encoder: LSTMCell) -> dict[str, Any]:
        """The reader and the encoder, with everything that is the same at every step precomputed.

        The encoder multiplies [x, x_hat] = [x, x - s] by [W_x, W_hat], and
        W_x x + W_hat (x - s) = (W_x + W_hat) x - W_hat s. The first term is the same at every step:
        it is added to the bias, which then has a row per image, and the steps read only -s. Before
        the first step, -s and the states are the same for all images, so one row is enough.
        """
        states = encoder.in_features - 2 * self.pixels
        W_x, W_hat, W_h = encoder.weight.split([self.pixels, self.pixels, states], dim=1)
        bias = full(affine(x.flatten(1), W_x + W_hat, encoder.bias))
        rest = torch.cat([W_hat, W_h], dim=1)
        folded = with_tensors(encoder, {"weight": rest, "bias": bias})
        reader = _Drawing(self.image_shape, self.canvas_shape)
        return {"reader": reader, "encoder": folded, "starts_alike": True}

    def read(self, x: Tensor, drawing: Tensor, params: Tensor) -> Float[Tensor, "batch glimpse"]:
        """[x, x_hat], flattened."""
        return torch.cat([x.flatten(1), (x - drawing).flatten(1)], dim=1)

    def write(self, heads: Tensor) -> Float[Tensor, "batch maps height width"]:
        """The term added to the canvas."""
        return heads.unflatten(1, self.canvas_shape)

    def windows(self, params: Tensor) -> None:
        """None: without attention there are no windows."""

    def window_params(self, heads: Tensor) -> Float[Tensor, "batch params"]:
        """An empty tensor: there are no windows."""
        return heads[:, self.patch_dim :].clone()

    def init_heads(self, heads: nn.Linear, write_scale: float) -> None:
        heads.weight.data.mul_(write_scale)
        heads.bias.data.zero_()


class _Drawing(WholeImage):
    """Reads -s, for an encoder whose bias contains x."""

    def read(self, x: Tensor, drawing: Tensor, params: Tensor) -> Float[Tensor, "batch glimpse"]:
        return -drawing.flatten(1)


class FilterbankWindows:
    """N x N Gaussian filters for reading and for writing, with separate parameters per image.

    Gregor et al. (2015), equations 19 to 29. `heads` holds the written patch, then the five window
    parameters for this step's writing, then those for the next step's reading.
    """

    def __init__(
        self, image_shape: ImageShape, canvas_shape: ImageShape, read_size: int, write_size: int
    ):
        channels, *shape = image_shape
        self.shape = (shape[0], shape[1])
        self.read_size, self.write_size, self.maps = read_size, write_size, canvas_shape[0]
        self.glimpse_dim = 2 * channels * read_size**2
        self.patch_dim = self.maps * write_size**2
        self.heads_dim = self.patch_dim + 10

    def at(self, x: Tensor, encoder: LSTMCell) -> dict[str, Any]:
        """Empty: the window changes at every step, so nothing can be precomputed."""
        return {}

    def read_window(self, params: Tensor) -> Window:
        return attention.window(params[..., -5:], self.read_size, self.shape)

    def write_window(self, params: Tensor) -> Window:
        return attention.window(params[..., -10:-5], self.write_size, self.shape)

    def read(self, x: Tensor, drawing: Tensor, params: Tensor) -> Float[Tensor, "batch glimpse"]:
        """[read(x), read(x_hat)], flattened.

        Reading is linear, so read(x_hat) = read(x) - read(s) and x_hat = x - s is never formed.
        """
        window = self.read_window(params)
        F_y, F_x = attention.filterbank(window, self.read_size, self.shape)
        seen = attention.read(x, F_y, F_x, window.gamma)
        drawn = attention.read(drawing, F_y, F_x, window.gamma)
        return torch.cat([seen, seen - drawn], dim=1).flatten(1)

    def write(self, heads: Tensor) -> Float[Tensor, "batch maps height width"]:
        """The term added to the canvas."""
        window = self.write_window(heads)
        F_y, F_x = attention.filterbank(window, self.write_size, self.shape)
        patch = heads[:, : self.patch_dim].unflatten(
            1, (self.maps, self.write_size, self.write_size)
        )
        return attention.write(patch, F_y, F_x, window.gamma)

    def windows(self, params: Tensor) -> Windows:
        """The window that the last step wrote in and the one that the next reads from."""
        return Windows(self.read_window(params), self.write_window(params))

    def window_params(self, heads: Tensor) -> Float[Tensor, "batch params"]:
        """Parameters of both windows, as a dense copy: all steps then share one compiled region."""
        return heads[:, self.patch_dim :].clone(memory_format=torch.contiguous_format)

    def init_heads(self, heads: nn.Linear, write_scale: float) -> None:
        """Start with small patches and windows over the whole image."""
        heads.weight.data[: self.patch_dim].mul_(write_scale)
        heads.weight.data[self.patch_dim :].mul_(0.1)
        heads.bias.data.zero_()
        start = attention.covering_params
        heads.bias.data[-10:-5] = start(self.write_size, self.shape, writing=True)
        heads.bias.data[-5:] = start(self.read_size, self.shape, writing=False)
