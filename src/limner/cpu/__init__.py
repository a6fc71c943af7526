"""Techniques that pay on one kind of processor or system only; see README.md."""
