"""`limner push`: publish a run on the Hugging Face Hub."""

from typing import Annotated

import tyro

from limner.commands.options import RunName
from limner.progress import suggest, waiting


def push(
    run: RunName,
    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")],
    /,
    *,
    private: bool = False,
    revision: Annotated[str | None, tyro.conf.arg(metavar="BRANCH")] = None,
    license: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    message: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None,
) -> None:
    """Publish a run or a saved model on the Hugging Face Hub, with a model card.

    Uploads weights, config, results, a picture of samples and the card; no images and no folder
    names of this machine. Log in with hf auth login, or set HF_TOKEN.

    Args:
        name: owner/name on the Hub; the repository is made if there is none
        private: make a new repository private
        revision: branch to write to; the default branch if not given
        license: license of the weights, as the Hub names it, such as mit; none is stated if not
            given
        message: one line about this version
    """
    from limner.sharing import push as publish

    with waiting(f"publishing {name}"):
        address = publish(
            run,
            name,
            private=private,
            revision=revision,
            license=license,
            commit_message=message,
        )
    print(address)
    suggest("sample", f"hub:{name.removeprefix('hub:')}")
