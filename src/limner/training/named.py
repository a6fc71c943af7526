"""Names that commands know without torch: weights of a run, and the models of this package.

Trained models come with Limner: `weights/NAME/` in the package, a run folder each.

config.json, model.safetensors (the best averaged weights), results.json, and README.md, the model
card. They are read only: commands write their results to runs/named/NAME.
"""

from pathlib import Path
from typing import Literal

Checkpoint = Literal["best", "last"]
WeightKind = Literal["ema", "raw"]

FOLDER = Path(__file__).parents[1] / "weights"
OUTPUTS = Path("runs") / "named"


def names() -> tuple[str, ...]:
    """The names that `limner.load` knows."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/model.safetensors")))
