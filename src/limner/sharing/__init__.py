"""Sharing trained models on the Hugging Face Hub, with the extra `[hub]`."""

from limner.sharing.pushing import push

__all__ = ["push"]
