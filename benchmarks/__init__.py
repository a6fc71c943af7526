"""Speed and memory, measured in one run: `limner benchmark`."""
