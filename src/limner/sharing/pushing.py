"""Publishing a run or a model on the Hugging Face Hub."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from limner.errors import InputError
from limner.hub import CONFIGS, FILES, PREFIX, check_revision, checked_name, client, hub_errors
from limner.models import LatentVariableModel
from limner.models.saved import is_saved
from limner.sharing.card import card
from limner.sharing.contents import Contents, write_model, write_run
from limner.storage import write_atomically
from limner.training.loading import load
from limner.training.runs import Run

SAMPLES = "samples.png"
OWN = (*FILES, SAMPLES)
"""Files that are removed from the repository if what is pushed does not have them."""


def push(
    what: Any,
    name: str,
    *,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    license: str | None = None,
) -> str:
    """Publish a trained model as `owner/name` on the Hugging Face Hub; returns its address.

    Uploaded are the weights, the config, the results of the evaluation if there was one, a picture
    of samples and a model card; no images, no folder names of this machine, no training state.
    The token is that of `hf auth login`, or HF_TOKEN.

    Args:
        what: a run or its folder, the result of `limner.fit`, a model or the folder of a saved one,
            or the name of a trained model.
        name: `owner/name`; the repository is made if there is none.
        private: make a new repository private. An existing public one is refused.
        revision: the branch to write to, made if there is none; the default branch if not given.
        commit_message: one line about this version.
        license: of the weights, as the Hub names it, for example "mit"; none is stated if not
            given.

    Raises:
        InputError: not a trained model, no access, or no connection.
    """
    name = checked_name(name.removeprefix(PREFIX))
    if revision is not None:
        check_revision(revision)
    api = client()
    with TemporaryDirectory() as place:
        folder = Path(place)
        contents = _write(what, folder)
        write_atomically(folder / "README.md", card(name, contents, license))
        with hub_errors(name, revision):
            _upload(api, name, folder, private, revision, commit_message)
    branch = "" if revision is None else f"/tree/{revision}"
    return f"{api.endpoint}/{name}{branch}"


def _write(what: Any, folder: Path) -> Contents:
    """Write the files of a run, fit, model, folder or name to `folder`."""
    if isinstance(what, LatentVariableModel):
        return write_model(what, folder)
    if isinstance(what, str | os.PathLike):
        text = os.fspath(what)
        if os.path.isdir(text) and is_saved(Path(text)):
            return write_model(load(text), folder)
        return write_run(Run.open(text), folder)
    if isinstance(what, Run):
        return write_run(what, folder)
    run, model = getattr(what, "run", None), getattr(what, "model", None)
    if isinstance(run, Run):
        return write_run(run, folder)
    if isinstance(model, LatentVariableModel):
        return write_model(model, folder)
    raise InputError(
        f"A {type(what).__name__} cannot be pushed; give a run, its folder, a fit or a model."
    )


def _upload(
    api: Any,
    name: str,
    folder: Path,
    private: bool,
    revision: str | None,
    message: str | None,
) -> None:
    """Commit the files of `folder`, without older ones of Limner that it lacks."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api.create_repo(name, private=private or None, exist_ok=True)
    if revision is not None:
        api.create_branch(name, branch=revision, exist_ok=True)
    info = api.model_info(name, revision=revision)
    if private and info.private is False:
        raise InputError(
            f"{name} exists and is public; make it private on its page, or choose another name."
        )
    held = {file.rfilename for file in info.siblings or ()}
    files = sorted(path.name for path in folder.iterdir())
    api.create_commit(
        name,
        [
            *(CommitOperationAdd(file, str(folder / file)) for file in files),
            *(CommitOperationDelete(file) for file in OWN if file in held and file not in files),
        ],
        commit_message=message or f"A model of Limner ({_kind(files)})",
        revision=revision,
    )


def _kind(files: list[str]) -> str:
    return next(config for config in CONFIGS if config in files)
