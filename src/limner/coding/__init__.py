"""Lossless compression with a latent-variable model: a file whose size is the bound.

Bits-back coding (Hinton and van Camp 1993; BB-ANS, Townsend et al. 2019) with a stack of bits. To
add an image x to the stack:

    take z_1, z_2, ... from the stack, as if it held draws from q(z_t | ..., x)    - log q bits less
    put x on it, coded by p(x | z)                                                 - log p(x|z) more
    put ..., z_2, z_1 on it, coded by p(z_t | ...)                                 - log p(z) more

On average the stack grows by the negative ELBO. The receiver does the reverse: takes z by p, takes
x by p(x | z), and puts z back by q(z | x), which restores the stack that the image was added to.
The first images take their z from random bits, the initial bits, which are counted apart.

The receiver must compute the same distributions. Both sides compute in float64 and round what the
coder sees, means, standard deviations and log masses, to multiples of 2^-8. Machines, numbers of
threads and versions of torch differ by about 1e-14, and so give the same multiples.

coder      the entropy coder, a library
grids      latent variables as whole numbers, and draws that meet a stack
pixels     the levels of images on a stack
codec      images on one stack: lossless
depth      the first latent groups alone: lossy
container  the file: header, stack, checksum
"""

from typing import TYPE_CHECKING

from limner.lazy import lazy

if TYPE_CHECKING:
    from limner.coding.codec import compress as compress
    from limner.coding.codec import decompress as decompress
    from limner.coding.container import Sizes as Sizes
    from limner.coding.container import sizes as sizes

__getattr__, __dir__ = lazy(
    __name__,
    {"compress": "codec", "decompress": "codec", "Sizes": "container", "sizes": "container"},
    ("codec", "coder", "container", "depth", "grids", "pixels"),
)
