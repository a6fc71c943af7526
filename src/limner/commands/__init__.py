"""The commands of `limner`, one module each; `limner.cli` finds them by name."""
