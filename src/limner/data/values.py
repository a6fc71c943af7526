"""From the values in an array to 8-bit levels, and the range to name if they do not fit."""

import math
from collections.abc import Iterable

import numpy as np

from limner.errors import InputError

Ends = tuple[float, float]
DARKEST = 16
"""Levels 0 to at most this number are almost black, so they are probably another range."""
ROUNDING = 1e-6
"""The part of a range by which floats may be outside of it: resampling often overshoots a bit."""
_PEAKS = (255, 1023, 4095, 16383, 65535)
_SIGNED = ((-128, 127), (-32768, 32767))


def as_levels(values: np.ndarray, ends: Ends | None, text: bool = False) -> np.ndarray | None:
    """Uint8 levels like `values`; None if they do not fit.

    The values `ends` become 0 and 255, linearly and rounded. Without `ends`, bool becomes 0 or 255,
    uint8 stays, floats are in [0, 1], and whole numbers from a `text` are in 0..255. Floats outside
    by a rounding error become the nearest end.
    """
    kind = values.dtype.kind
    if ends is None:
        if kind == "b":
            return values * np.uint8(255)
        if values.dtype == np.uint8:
            return values
        if kind != "f" and not text:
            return None
        ends = (0, 1) if kind == "f" else (0, 255)
    slack = ROUNDING if kind == "f" else 0
    if kind not in "buif" or not _within(float(values.min()), float(values.max()), *ends, slack):
        return None
    if values.dtype == np.uint8 and ends == (0, 255):
        return values
    shifted = values.astype(np.float64) - ends[0]
    return np.rint(shifted * (255 / (ends[1] - ends[0]))).clip(0, 255).astype(np.uint8)


def misfit(blocks: Iterable[np.ndarray], ends: Ends | None, where: str) -> InputError:
    """The error for values that `as_levels` does not take: the values, and the flag that fits."""
    low, high, strange, kind = math.inf, -math.inf, 0, np.dtype(bool)
    for block in blocks:
        kind = block.dtype
        if kind.kind not in "buif":
            return InputError(f"{where} is {kind}; give images as real numbers.")
        finite = block[np.isfinite(block)]
        strange += block.size - finite.size
        if finite.size:
            low, high = min(low, finite.min().item()), max(high, finite.max().item())
    if strange:
        return InputError(
            f"{where} has {strange:,} values that are NaN or infinite, outside every range; "
            "replace them, for example with numpy.nan_to_num."
        )
    outside = f", outside --data.range {_two(ends)}" if ends else ""
    if not ends and kind.kind == "f":
        outside = ", outside [0, 1]"
    return InputError(
        f"{where} has values {low:g} to {high:g} ({kind}){outside}; "
        f"pass --data.range {_two(fitting(low, high))}."
    )


def too_dark(peak: int, where: str) -> InputError:
    """The error for 8-bit levels 0 to `peak`, which are almost black."""
    other = "make it bool" if peak == 1 else "--data.range 0 255 if these are levels"
    return InputError(
        f"{where} has values 0 to {peak}, which are almost black as levels 0 to 255; pass "
        f"--data.range 0 {peak}, or {other}."
    )


def fitting(low: float, high: float) -> Ends:
    """The usual range of values from `low` to `high`, apart from rounding errors."""
    peaks = (1, *_PEAKS) if high > DARKEST else (1,)
    top = next((peak for peak in peaks if _within(low, high, 0, peak)), None)
    if top is not None:
        return 0, top
    for half in (0.5, 1):
        if _within(low, high, -half, half):
            return -half, half
    if high > 0 and _within(low, high, 0, high):
        return 0, _outwards(high, 1)
    whole = low == round(low) and high == round(high)
    for ends in _SIGNED:
        if whole and low >= ends[0] and high <= ends[1]:
            return ends
    return _outwards(low, -1), _outwards(max(high, 0), 1)


def _within(low: float, high: float, first: float, last: float, slack: float = ROUNDING) -> bool:
    slack *= last - first
    return low >= first - slack and high <= last + slack


def _outwards(value: float, sign: int) -> float:
    """`value` in 4 digits, rounded down (sign -1) or up (1)."""
    short = float(f"{value:.4g}")
    if sign * short < sign * value:
        short += sign * 10.0 ** (math.floor(math.log10(abs(value))) - 3)
    return value if value == round(value) or sign * short < sign * value else float(f"{short:.5g}")


def _two(ends: Ends) -> str:
    return " ".join(f"{end:.15g}" for end in ends)
