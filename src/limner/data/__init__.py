"""Where images come from, their splits and binarization, and training batches.

The names below are imported on first use, so that the command line can read `DataConfig` without
importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOMES = {
    "CATALOGUE": "catalogue",
    "OBSERVATIONS": "pixels",
    "SPLITS": "dataset",
    "Binarization": "config",
    "DataConfig": "config",
    "Dataset": "dataset",
    "Entry": "catalogue",
    "Frozen": "pixels",
    "Images": "dataset",
    "Pixels": "pixels",
    "Split": "dataset",
    "TrainingBatches": "batches",
    "evenly": "pixels",
    "fetch": "catalogue",
    "from_arrays": "in_memory",
    "from_dataset": "from_items",
    "frozen": "pixels",
    "load": "catalogue",
    "names": "catalogue",
    "natural_observation": "pixels",
    "pixel_kind": "pixels",
    "seen_in_training": "catalogue",
    "suited": "pixels",
}

if TYPE_CHECKING:
    from limner.data.batches import TrainingBatches as TrainingBatches
    from limner.data.catalogue import CATALOGUE as CATALOGUE
    from limner.data.catalogue import Entry as Entry
    from limner.data.catalogue import fetch as fetch
    from limner.data.catalogue import load as load
    from limner.data.catalogue import names as names
    from limner.data.catalogue import seen_in_training as seen_in_training
    from limner.data.config import Binarization as Binarization
    from limner.data.config import DataConfig as DataConfig
    from limner.data.dataset import SPLITS as SPLITS
    from limner.data.dataset import Dataset as Dataset
    from limner.data.dataset import Images as Images
    from limner.data.dataset import Split as Split
    from limner.data.from_items import from_dataset as from_dataset
    from limner.data.in_memory import from_arrays as from_arrays
    from limner.data.pixels import OBSERVATIONS as OBSERVATIONS
    from limner.data.pixels import Frozen as Frozen
    from limner.data.pixels import Pixels as Pixels
    from limner.data.pixels import evenly as evenly
    from limner.data.pixels import frozen as frozen
    from limner.data.pixels import natural_observation as natural_observation
    from limner.data.pixels import pixel_kind as pixel_kind
    from limner.data.pixels import suited as suited


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"limner.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'limner.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
