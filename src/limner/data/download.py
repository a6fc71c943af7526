"""Files downloaded from public mirrors into the user's cache, after a check."""

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from limner.errors import InputError
from limner.progress import Display, training_display

TIMEOUT = 30


class Published(NamedTuple):
    """A file as it was published: its name, its size in bytes and its MD5."""

    name: str
    size: int
    md5: str

    def check(self, path: Path) -> None:
        """`InputError` if the file at `path` is another one."""
        size = path.stat().st_size
        if size != self.size:
            raise InputError(
                f"{path} has {size:,} bytes instead of {self.size:,}; delete it and download it "
                "again with `limner data get`."
            )
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
        if md5.hexdigest() != self.md5:
            raise InputError(
                f"{path} has been altered: its MD5 is not that of the published file; delete it "
                "and download it again with `limner data get`."
            )


def cache_folder(name: str) -> Path:
    """The user's cache for a dataset, in the system's usual place (XDG_CACHE_HOME on Linux)."""
    return Path(_pooch().os_cache("limner")) / name


def _pooch() -> Any:
    """The module pooch, without its lines and tqdm's warning about widgets of notebooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        import pooch
    pooch.get_logger().setLevel("WARNING")  # a display of our own shows what is downloaded
    return pooch


def download(
    file: str, mirrors: Sequence[str], folder: Path, check: Callable[[Path], object]
) -> Path:
    """`folder / file`, downloaded from the first of `mirrors` whose file passes `check`.

    Mirrors are addresses that end in a slash. `check` raises `InputError` for a bad file, which is
    then not kept. If no mirror has a good file, `InputError` gives the reason for each.
    """
    pooch = _pooch()
    path = folder / file
    if path.exists():
        return path
    failures = []
    for mirror in mirrors:
        keeper = pooch.create(folder, mirror, registry={file: None})
        try:
            keeper.fetch(file, downloader=_checked(check))
            return path
        except InputError:
            failures.append(f"{mirror} served an altered file")
        except (OSError, ValueError) as error:
            failures.append(f"{mirror} failed ({type(error).__name__})")
    raise InputError(
        f"{file} could not be downloaded ({', '.join(failures)}); try again later, download it "
        "yourself and give its folder with --data.root, or take the digits that come with Limner: "
        "--data.name mnist-5k."
    )


def _checked(check: Callable[[Path], object]) -> Callable[..., None]:
    pooch = _pooch()

    def fetch(url: str, output_file: Any, keeper: Any) -> None:
        with training_display(f"downloading {url}") as display:
            meter: Any = _Meter(display)  # pooch takes any object of this kind
            pooch.HTTPDownloader(meter, timeout=TIMEOUT, chunk_size=2**16)(url, output_file, keeper)
        check(Path(output_file))

    return fetch


class _Meter:
    """What pooch calls during a download, with numbers of bytes."""

    total = 0

    def __init__(self, display: Display):
        self._display, self._done, self._started = display, 0, time.monotonic()

    def reset(self) -> None:
        self._done = 0

    def update(self, count: int) -> None:
        self._done += count
        share = min(1.0, self._done / self.total) if self.total else 0.0
        left = (time.monotonic() - self._started) * (1 / share - 1) if share else None
        self._display.update(share, f"{self._done / 2**20:,.1f} MiB", left)

    def close(self) -> None:
        """The display ends with the download."""
