"""Techniques for one kind of processor or system only; see README.md."""
