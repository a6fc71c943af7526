"""`limner report`: an HTML page about one or several runs."""

from importlib.util import find_spec
from pathlib import Path

from limner.commands.options import IMAGES, Images, RunNames
from limner.commands.pictures import tell
from limner.progress import suggest


def report(
    runs: RunNames,
    /,
    *,
    out: Path | None = None,
    data: Images = IMAGES,
    device: str = "auto",
) -> None:
    """Write one self-contained HTML page: comparison, figures, animations, configs.

    Args:
        runs: run folders, or names of trained models
        out: the file; report.html in the run's folder, or next to the first run, if not given
        device: where to compute: auto, cpu, cuda, mps or another name of torch, such as cuda:1
    """
    from limner.report import write

    found = [data.open(run) for run in runs]
    if out is None and found:
        first = found[0].out
        out = (first if len(found) == 1 else first.parent) / "report.html"
    tell([write(found, out or Path("report.html"), device=device)])
    suggest("play" if find_spec("gradio") else "animate", runs[0])
