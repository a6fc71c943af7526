"""The precision of products in training: checked for the device, and set for its duration."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from limner.errors import InputError


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that `device` does not compute in."""
    if precision == "tf32" and not _has_tf32(device):
        raise InputError(
            "TF32 is a precision of NVIDIA GPUs since Ampere and the device is "
            f"{device}; pass --precision float32."
        )
    if precision == "bfloat16" and not _has_bfloat16(device):
        raise InputError(f"There is no bfloat16 on {device}; pass --precision float32.")


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    with torch.cuda.device(device):
        return torch.cuda.is_tf32_supported()


def _has_bfloat16(device: torch.device) -> bool:
    """Whether torch's autocast has it; where it has not, it raises or warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            torch.autocast(device.type, torch.bfloat16)
        except (RuntimeError, UserWarning):
            return False
    return True


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """A context in which CUDA multiplies float32 matrices in TF32 if that is the precision.

    The switch is torch's own, for the whole process; it comes back as it was. torch has an old and
    a new interface to it. The old one sets both; reading it raises an error if only the new one was
    used.
    """
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    if precision != "tf32" or before == "tf32":
        yield
        return
    try:
        old = matmul.allow_tf32
    except RuntimeError:
        old = None
    try:
        if old is None:
            matmul.fp32_precision = "tf32"
        else:
            matmul.allow_tf32 = True
        yield
    finally:
        if old is not None:
            matmul.allow_tf32 = old
        matmul.fp32_precision = before
