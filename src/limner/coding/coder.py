"""The entropy coder, constriction (Bamler 2022), which comes without types.

`stream.stack.AnsCoder` is a stack of bits, by asymmetric numeral systems; `stream.model` has the
distributions, with masses in multiples of 2^-24.
"""

from importlib import import_module
from typing import Any

stream: Any = import_module("constriction").stream
