"""The records of a training, one for each validation."""

from collections.abc import Iterable, Mapping
from typing import Any


class History:
    """Records of a training."""

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()):
        self._records = list(records)

    def append(self, record: Mapping[str, Any]) -> None:
        self._records.append(record)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)
