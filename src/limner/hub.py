"""Trained models of the Hugging Face Hub, downloaded with huggingface_hub (extra `[hub]`).

Only the files in `FILES`, which are JSON and safetensors, are downloaded, whatever else there is.
Their sizes are checked before the download and while it lasts. Tokens and the cache are those of
the library (`hf auth login` or HF_TOKEN; HF_HOME).
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from limner.errors import InputError
from limner.models.registry import MAX_PARAMETERS
from limner.progress import warn
from limner.settings import MAX_JSON
from limner.storage import WEIGHTS, load_tensors

PREFIX = "hub:"
OUTPUTS = Path("runs") / "hub"
"""Commands write results for a model of the Hub to `runs/hub/OWNER/NAME`."""
CONFIGS = ("config.json", "model.json")
"""The config of a run, or of a model that was saved without one."""
FILES = (*CONFIGS, "results.json", WEIGHTS)
MAX_WEIGHTS = 8 * MAX_PARAMETERS + 2**27
"""Bytes of weights: the largest model in float64, and room for the header."""
TIMEOUT = 10
"""Seconds to wait for an answer of the Hub before a download."""
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = re.compile(rf"{_WORD}/{_WORD}")
_REVISION = re.compile(rf"{_WORD}(/{_WORD})*")
_COMMIT = re.compile("[0-9a-f]{40}")
_ETAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_=+:.-]*")


class Address(NamedTuple):
    """A model on the Hub; `revision` is a branch, tag or commit, or None for the default branch."""

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> "Address":
        """The address in `hub:owner/name` or `hub:owner/name@revision`.

        Raises:
            InputError: not such an address, or two different revisions.
        """
        name, at, given = text.removeprefix(PREFIX).partition("@")
        if at and revision not in (None, given):
            raise InputError(f"{text} has a revision, and revision={revision!r} is another one.")
        address = cls(checked_name(name), given if at else revision)
        if address.revision is not None:
            check_revision(address.revision)
        return address

    def __str__(self) -> str:
        return PREFIX + self.name + (f"@{self.revision}" if self.revision else "")


def checked_name(name: str) -> str:
    """`owner/name`; `InputError` if it is not the name of a repository."""
    if not _NAME.fullmatch(name) or ".." in name or "--" in name or len(name) > 96:
        raise InputError(
            f"{name!r} is not the name of a model on the Hub; write owner/name, of letters, digits "
            "and single . _ or - between them."
        )
    return name


def check_revision(revision: str) -> None:
    """Refuse what cannot be a branch, tag or commit."""
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise InputError(f"{revision!r} is not a revision; give a branch, a tag or a commit.")


def fetch(address: Address, online: bool = True) -> Path:
    """The folder in the library's cache with the files of a model, downloaded if they are missing.

    Without a connection, and if not `online`, it is the copy in the cache.

    Raises:
        InputError: no such model or revision, no access to it, not a model of Limner, files that
            are too large, damaged or altered, or no connection and no copy in the cache.
    """
    library = load_library(str(address))
    if not online or _COMMIT.fullmatch(address.revision or ""):
        if found := _cached(library, address):
            return found
        if not online:
            raise InputError(f"{address} is not in the cache.")
    try:
        with hub_errors(address.name, address.revision):
            return _download(library, address)
    except Unreachable as error:
        if found := _cached(library, address):
            warn(f"{error} The copy of {address} in the cache is used.")
            return found
        raise


def load_library(what: str) -> Any:
    """The module huggingface_hub; `InputError` if it is not installed."""
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(
            f"{what} needs the huggingface_hub library; install it with pip install 'limner[hub]'."
        ) from None
    return huggingface_hub


def client() -> Any:
    """The library's client, which says in its requests that Limner makes them."""
    import limner

    return load_library("The Hub").HfApi(library_name="limner", library_version=limner.__version__)


class Unreachable(InputError):
    """The Hub does not answer."""


@contextlib.contextmanager
def hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """A context that turns the library's errors about a repository into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds, also for answers it cannot read
        raise _explained(error, name, revision) from None


def _explained(error: Exception, name: str, revision: str | None) -> InputError:
    """The sentence for an error of the library; the first kind that fits."""
    from huggingface_hub import errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of one of the uploads
    sentences = {
        errors.GatedRepoError: f"{name} is gated; accept its conditions on its page on the Hub, "
        "and log in with hf auth login.",
        errors.RepositoryNotFoundError: f"There is no model {name} on the Hub that you have access "
        "to; correct the name, or log in with hf auth login if it is private.",
        errors.RevisionNotFoundError: f"{name} has no revision {revision!r}; choose a branch, a "
        "tag or a commit of it.",
        errors.EntryNotFoundError: f"{name} lacks a file that it lists; try again, or ask its "
        "owner.",
        errors.LocalTokenNotFoundError: f"The Hub asks who you are; log in with hf auth login to "
        f"use {name}.",
    }
    for kind, sentence in sentences.items():
        if isinstance(error, kind):
            return InputError(sentence)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Unreachable("The Hub is not asked, because HF_HUB_OFFLINE is set.")
    if isinstance(error, errors.HfHubHTTPError):
        return _refused(name, error)
    if isinstance(error, errors.HTTPError):  # pyright: ignore[reportPrivateImportUsage]
        return Unreachable(f"The Hub cannot be reached ({type(error).__name__}); try again later.")
    first = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError(f"The Hub's answer about {name} cannot be used ({first}); try again later.")


def _refused(name: str, error: Any) -> InputError:
    """The sentence for an answer with an error status."""
    status = error.response.status_code
    if status in (401, 403):
        return InputError(
            f"The Hub refuses access to {name} (status {status}); log in with hf auth login, with "
            "a token that has the rights."
        )
    if status == 429 or status >= 500:
        return Unreachable(f"The Hub cannot answer now (status {status}); try again later.")
    text = error.server_message or f"status {status}"
    first = text.splitlines()[0].rstrip(".")
    return InputError(f"The Hub refuses a request about {name} ({first}); change it.")


def _cached(library: Any, address: Address) -> Path | None:
    """The folder in the cache with a model, if it is complete."""
    revision = address.revision or "main"
    found = {}
    for file in FILES:
        path = library.try_to_load_from_cache(address.name, file, revision=revision)
        if isinstance(path, str):
            found[file] = Path(path)
    if WEIGHTS in found and any(config in found for config in CONFIGS):
        return found[WEIGHTS].parent
    return None


def _download(library: Any, address: Address) -> Path:
    info = client().model_info(
        address.name, revision=address.revision, files_metadata=True, timeout=TIMEOUT
    )
    listed = {file.rfilename: file for file in info.siblings or () if file.rfilename in FILES}
    if WEIGHTS not in listed or not any(config in listed for config in CONFIGS):
        raise InputError(
            f"{address} holds no model of Limner, which is {WEIGHTS} with {' or '.join(CONFIGS)}."
        )
    commit = info.sha or ""
    if not commit.isalnum():  # it becomes the name of a folder
        raise InputError(f"The Hub does not say which commit {address} is; try again later.")
    sizes = {file: _size(library, address.name, commit, listed[file]) for file in listed}
    folders = {
        _file(library, address.name, commit, listed[file], sizes[file])
        for file in FILES
        if file in listed
    }
    if len(folders) != 1:
        raise InputError(f"The Hub changed {address} during the download; try again.")
    _remember(library, address, sizes)
    return folders.pop()


def _size(library: Any, name: str, commit: str, listed: Any) -> int:
    """The size of a file in bytes, refused if it is more than a file of Limner can have."""
    file = listed.rfilename
    url = library.hf_hub_url(name, file, revision=commit)
    known = library.get_hf_file_metadata(url, timeout=TIMEOUT)
    if known.etag is None or not _ETAG.fullmatch(known.etag):
        raise InputError(f"The Hub gives no usable checksum of {file} in {name}; try again later.")
    sizes = [size for size in (known.size, listed.size) if size is not None]
    limit = MAX_WEIGHTS if file == WEIGHTS else MAX_JSON
    size = max(sizes, default=limit)
    if size > limit:
        raise InputError(
            f"{file} in {name} takes {size:,} bytes, more than the {limit:,} that Limner reads; it "
            "was not downloaded."
        )
    if sizes and size > psutil.virtual_memory().available:
        raise InputError(
            f"{file} in {name} takes {size:,} bytes, more than the memory that is free here; it "
            "was not downloaded."
        )
    return size


def _file(library: Any, name: str, commit: str, listed: Any, size: int) -> Path:
    """The folder of a file in the cache. A file that was downloaded now is checked."""
    file = listed.rfilename
    had = isinstance(library.try_to_load_from_cache(name, file, revision=commit), str)
    path = Path(
        library.hf_hub_download(name, file, revision=commit, tqdm_class=_bar_of_at_most(size))
    )
    if not had and not _is_sound(path, listed.lfs):
        _forget(path)
        raise InputError(
            f"{file} in {name} is damaged or was altered on its way; try again, or ask its owner."
        )
    return path.parent


def _is_sound(path: Path, lfs: Any) -> bool:
    """Whether a file has the checksums that the Hub and, for weights, its header state."""
    if lfs is not None:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != lfs.sha256:
                return False
    if path.name == WEIGHTS:
        with contextlib.suppress(InputError):
            load_tensors(path)
            return True
        return False
    return True


def _forget(path: Path) -> None:
    """Remove a file from the cache: the link, and the content that it leads to."""
    content = path.resolve()
    path.unlink(missing_ok=True)
    if content.parent.name == "blobs":
        content.unlink(missing_ok=True)


def _remember(library: Any, address: Address, sizes: dict[str, int]) -> None:
    """Have the library store which commit a revision is, for a time without a connection."""
    if _COMMIT.fullmatch(address.revision or ""):
        return
    file = next(config for config in CONFIGS if config in sizes)
    library.hf_hub_download(
        address.name, file, revision=address.revision, tqdm_class=_bar_of_at_most(sizes[file])
    )


def _bar_of_at_most(limit: int) -> type:
    """The library's progress bar, which ends a download that exceeds `limit` bytes.

    The library compares sizes after a download only, and a server may send without a length.
    """
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any):
            super().__init__(*args, **settings)
            self.received = settings.get("initial") or 0

        def update(self, n: float | None = 1) -> bool | None:
            self.received += n or 0
            if self.received > limit:
                raise InputError(
                    f"The Hub sends more than the {limit:,} bytes that it stated; the download was "
                    "stopped."
                )
            return super().update(n)

    return Bar
