"""The model card: README.md of a published model, written from what is published.

A run may come from a stranger. Every text of it is shown as text: marks of Markdown and HTML are
escaped, and the config stands in a block of code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from limner.data.config import in_words
from limner.errors import printable
from limner.hub import PREFIX, load_library
from limner.report.wording import Stat, duration, number, plain, with_error
from limner.sharing.contents import SAMPLES, Contents

_MARKS = re.compile(r"([\\`*_{}\[\]<>#+.!|~$&@:/^\"'])")
_LONGEST = 200
"""Letters of a quoted text."""
_KINDS = {
    "vae": "variational autoencoder (VAE)",
    "ladder-vae": "Ladder VAE",
    "draw": "DRAW model",
    "conv-vae": "convolutional variational autoencoder (VAE)",
    "conv-ladder-vae": "convolutional Ladder VAE",
    "conv-draw": "convolutional DRAW model",
}
_MEASURES = {
    "elbo": ("-ELBO", -1),
    "iw_bound": ("-L_{samples}", -1),
    "reconstruction": ("reconstruction", -1),
    "kl": ("KL", 1),
}


def card(name: str, contents: Contents, license: str | None = None) -> str:
    """The model card of `owner/name` with its metadata."""
    library = load_library("A model card")
    kind, run = contents.model.config.kind, contents.run
    tags = ["variational-autoencoder", "latent-variable-model"]
    if isinstance(kind, str) and re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", kind):
        tags.append(kind)
    source = run.data.name.removeprefix(PREFIX) if run else ""
    of_hub = run is not None and run.data.name.startswith(PREFIX)
    data = library.ModelCardData(
        license=license,
        library_name="limner",
        pipeline_tag="unconditional-image-generation",
        tags=tags,
        datasets=[source] if of_hub and re.fullmatch(r"[\w./-]+", source, re.ASCII) else None,
    )
    parts = "\n\n".join(_sections(name, contents, license))
    return f"---\n{data.to_yaml()}\n---\n\n{parts}\n"


def escaped(text: object) -> str:
    """A text as Markdown that shows its letters, on one line."""
    shown = printable(str(text))
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} …"
    return _MARKS.sub(r"\\\1", shown)


def _sections(name: str, contents: Contents, license: str | None) -> Iterator[str]:
    yield f"# {escaped(name.rpartition('/')[2])}"
    yield _description(contents)
    yield f"![{SAMPLES} mean images from the prior, not chosen](samples.png)"
    yield "## Use"
    yield _use(name, contents)
    yield "## Figures"
    yield _figures(contents.results)
    yield "## Training"
    yield _training(contents)
    yield f"```json\n{json.dumps(contents.config, indent=2)}\n```"
    yield "## License"
    yield escaped(license) if license else "No license is stated; ask the owner before you use it."


def _description(contents: Contents) -> str:
    model, run = contents.model, contents.run
    kind = _KINDS.get(model.config.kind, f"model of kind {escaped(model.config.kind)}")
    shape = " × ".join(map(str, model.image_shape))
    groups = "1 latent group" if model.num_groups == 1 else f"{model.num_groups} latent groups"
    trained = f" trained on {escaped(run.data.name)}" if run else ""
    return (
        f"A {kind}{trained}, for images of {shape} (channels, height, width), with {groups} and "
        f"{number(model.num_parameters)} parameters. With Limner it generates images, infers the "
        f"latents of images and bounds log p(x); the observation p(x given z) is "
        f"{escaped(model.config.observation)}."
    )


def _use(name: str, contents: Contents) -> str:
    command = f"\n\nOr in a terminal: `limner sample hub:{name}`." if contents.run else ""
    return (
        "```python\nimport limner\n\n"
        f'model = limner.load("hub:{name}")\n'
        "images = model.sample(16)  # [16, channels, height, width] in [0, 1]\n```\n\n"
        f"Install it with `pip install 'limner[hub]'`. Only safetensors and JSON are read.{command}"
    )


def _figures(results: Mapping[str, Any] | None) -> str:
    """The table of bounds with standard errors over images."""
    if results is None:
        return "It was not evaluated."
    lines = ["| | nats per image | bits per dimension |", "| --- | ---: | ---: |"]
    for key, (label, sign) in _MEASURES.items():
        samples = number(results[key].get("num_samples"))
        bits: Stat = results["bits_per_dim"].get(key)
        in_bits = "" if bits is None else with_error(bits, digits=4)
        lines.append(
            f"| {label.format(samples=samples)} | {with_error(results[key], sign)} | {in_bits} |"
        )
    about = (
        f"On {number(results['num_images'])} {escaped(results['split'])} images of "
        f"{escaped(results['dataset'])}, {escaped(in_words(results['binarization']))}; lower is "
        "better. Errors are standard errors over images. -ELBO is the sum of reconstruction, "
        "-log p(x given z), and KL. L_K is the importance-weighted bound of K samples. Figures are "
        "comparable with others only if images, binarization, bound and K are the same."
    )
    note = f"\n\nNote: {escaped(results['note'])}" if "note" in results else ""
    return "\n".join(lines) + f"\n\n{about}{note}"


def _training(contents: Contents) -> str:
    run = contents.run
    if run is None:
        return "This model was published without the run that trained it. Its config:"
    lines = [
        f"- Images: {escaped(run.data.name)}",
        f"- Epochs: {plain(contents.epochs)}, in {duration(contents.seconds)}",
        f"- Batches: {run.batch_size} images; seed {run.seed}",
    ]
    if contents.started is not None:
        lines.append(
            f"- Start: the weights of {escaped(contents.started)}, which are not published here"
        )
    elif run.start_from is not None:
        lines.append(f"- Start: the weights of {escaped(run.start_from)}")
    for maker in contents.makers:
        commit = maker.get("commit")
        code = f"Limner {escaped(maker.get('limner', 'of an unknown version'))}" + (
            f", commit {escaped(commit)}" if commit else ""
        )
        lines.append(
            f"- Made with {code}, torch {escaped(maker.get('torch', 'unknown'))}, on "
            f"{escaped(maker.get('hardware', 'unknown hardware'))}"
        )
    return "\n".join(lines) + "\n\nThe config, which repeats the training on the same images:"
