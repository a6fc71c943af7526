"""Numbers as text."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

Stat = Mapping[str, Any] | float | int | None
"""`{"mean", "stderr"}`, a number, or None if unknown."""
NOTHING = "–"


def mean_of(value: Stat) -> float | int | None:
    """The mean of a statistic, with or without its error."""
    return value.get("mean") if isinstance(value, Mapping) else value


def with_error(value: Stat, sign: int = 1, digits: int = 2) -> str:
    """`97.13 ± 0.42`, or without the error if there is none; `sign` -1 negates."""
    mean = mean_of(value)
    if mean is None:
        return NOTHING
    error = value.get("stderr") if isinstance(value, Mapping) else None
    text = f"{sign * mean:.{digits}f}"
    return text if error is None else f"{text} ± {error:.{digits}f}"


def typeset(name: str) -> str:
    """A name with minus sign and subscript: -ELBO as −ELBO, -L_100 as −L<sub>100</sub>."""
    bound, _, samples = name.replace("-", "−", 1).partition("_")
    if bound not in ("−ELBO", "−L"):
        return name
    return Markup("{}<sub>{}</sub>").format(bound, samples) if samples else bound


def number(value: float | int | None, digits: int = 0) -> str:
    """`1,234,567`, or with decimals `1,234.5`."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def millions(value: float | int | None) -> str:
    """`1.09 M`, `378 k`, `912`."""
    if value is None:
        return NOTHING
    if value >= 999_500:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.0f} k" if value >= 1000 else f"{value:.0f}"


def duration(seconds: float | int | None) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def plain(value: Any) -> str:
    """A setting as text: – for None, 20 for 20.0, the entries of a list separated by commas."""
    if isinstance(value, list | tuple):
        return ", ".join(plain(entry) for entry in value)
    return NOTHING if value is None else f"{value:g}" if isinstance(value, float) else str(value)
