"""Where images come from, their splits and binarization, and training batches.

The names below are imported on first use, so that the command line can read `DataConfig` without
importing torch.
"""

from typing import TYPE_CHECKING

from limner.lazy import lazy

_HOMES = {
    "CATALOGUE": "known",
    "OBSERVATIONS": "pixels",
    "SPLITS": "dataset",
    "Binarization": "config",
    "DataConfig": "config",
    "Dataset": "dataset",
    "Entry": "known",
    "Frozen": "pixels",
    "Images": "dataset",
    "Pixels": "pixels",
    "Split": "config",
    "TrainingBatches": "batches",
    "evenly": "pixels",
    "fetch": "catalogue",
    "from_arrays": "in_memory",
    "from_dataset": "from_items",
    "frozen": "pixels",
    "load": "catalogue",
    "names": "known",
    "natural_observation": "pixels",
    "pixel_kind": "pixels",
    "seen_in_training": "known",
    "suited": "pixels",
}

if TYPE_CHECKING:
    from limner.data.batches import TrainingBatches as TrainingBatches
    from limner.data.catalogue import fetch as fetch
    from limner.data.catalogue import load as load
    from limner.data.config import Binarization as Binarization
    from limner.data.config import DataConfig as DataConfig
    from limner.data.config import Split as Split
    from limner.data.dataset import SPLITS as SPLITS
    from limner.data.dataset import Dataset as Dataset
    from limner.data.dataset import Images as Images
    from limner.data.from_items import from_dataset as from_dataset
    from limner.data.in_memory import from_arrays as from_arrays
    from limner.data.known import CATALOGUE as CATALOGUE
    from limner.data.known import Entry as Entry
    from limner.data.known import names as names
    from limner.data.known import seen_in_training as seen_in_training
    from limner.data.pixels import OBSERVATIONS as OBSERVATIONS
    from limner.data.pixels import Frozen as Frozen
    from limner.data.pixels import Pixels as Pixels
    from limner.data.pixels import evenly as evenly
    from limner.data.pixels import frozen as frozen
    from limner.data.pixels import natural_observation as natural_observation
    from limner.data.pixels import pixel_kind as pixel_kind
    from limner.data.pixels import suited as suited


__getattr__, __dir__ = lazy(__name__, _HOMES)
