"""Refusals of images that can be shown already, and trained on after a change."""

from collections.abc import Mapping

from limner.data.config import DataConfig
from limner.data.dataset import SPLITS, Dataset, Found, Images, Source
from limner.errors import InputError


class NeedsSetting(InputError):
    """Images that need the setting `name` of `DataConfig`, such as `value`."""

    def __init__(self, sentence: str, name: str, value: int | bool):
        super().__init__(sentence)
        self.name, self.value = name, value

    def __reduce__(self) -> tuple[type["NeedsSetting"], tuple[str, str, int | bool]]:
        return NeedsSetting, (str(self), self.name, self.value)

    @property
    def need(self) -> str:
        """Such as --data.size, for example --data.size 64."""
        flag = f"--data.{self.name.replace('_', '-')}"
        return flag if self.value is True else f"{flag}, for example {flag} {self.value}"


class TooFew(InputError):
    """Images that are too few to be split; `source` has them as they are, if they are at hand."""

    source: Source | None = None


def unsplit(
    splits: Mapping[str, Images], class_names: tuple[str, ...] | None, found: Found
) -> Source:
    """A source whose missing splits are empty."""
    nothing = splits["train"].take(slice(0))
    train, validation, test = (splits.get(split, nothing) for split in SPLITS)
    return Source(train, validation, test, class_names, found)


def preview(config: DataConfig) -> tuple[Dataset, list[str]]:
    """The dataset as it can be shown, and what training needs besides.

    Raises:
        InputError: there is nothing that can be shown.
    """
    from limner.data.catalogue import dataset_of, load

    needs: list[str] = []
    while True:
        try:
            return load(config), needs
        except NeedsSetting as error:
            needs.append(error.need)
            config = config.with_(**{error.name: error.value})
        except TooFew as error:
            if error.source is None:
                raise
            return dataset_of(error.source, config), [*needs, str(error).rstrip(".")]
