"""metrics.jsonl: one line for each validation."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limner.progress import warn
from limner.settings import read_bytes
from limner.storage import unwritable, write_atomically
from limner.training.runs import MAX_METRICS


def append(path: Path, entry: Mapping[str, Any]) -> int:
    """Add a line; returns the size of the file."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            return file.tell()
    except OSError as error:
        raise unwritable(path, error) from None


def cut_back(path: Path, size: int) -> None:
    """Cut the file to the size that it had when the training state was saved."""
    kept = read_bytes(path, MAX_METRICS)[:size] if path.is_file() else b""
    if len(kept) < size:
        warn(f"{path} has lost its last lines; training continues without them.")
    write_atomically(path, kept[: kept.rfind(b"\n") + 1])
