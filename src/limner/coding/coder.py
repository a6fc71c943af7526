"""The entropy coder, constriction (Bamler 2022), which comes without types.

`stream.stack.AnsCoder` is a stack of bits, by asymmetric numeral systems; `stream.model` has the
distributions, with masses in multiples of 2^-24. It has no wheels for Linux on Arm, so that it may
be missing.
"""

from importlib import import_module
from typing import Any

from limner.errors import InputError

try:
    stream: Any = import_module("constriction").stream
except ImportError:
    stream = None


def require_coder() -> None:
    """Raise `InputError` if the entropy coder is not installed."""
    if stream is None:
        raise InputError(
            "constriction, the entropy coder, is not installed; install it with pip install "
            "constriction, which needs Rust if it has no wheel for this machine."
        )
