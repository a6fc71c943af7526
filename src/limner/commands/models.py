"""`limner models`: the trained models that come with Limner."""

from rich.console import Console
from rich.table import Table

from limner.report.wording import number, with_error
from limner.training import named
from limner.training.runs import Run


def models() -> None:
    """List the trained models that `limner.load` and every command know by name.

    The bounds are in nats per image on test images (lower is better); L_K is the
    importance-weighted bound of K samples. Each model's folder has a model card, README.md.
    """
    table = Table(title=f"in {named.FOLDER}", title_justify="left")
    for heading in ("name", "-ELBO", "-L_K", "K", "test images"):
        table.add_column(heading, no_wrap=heading == "name")
    for name in named.names():
        results = Run.at(named.FOLDER / name).results()
        assert results is not None
        bound, count = results["iw_bound"], number(results["num_images"])
        table.add_row(
            name,
            with_error(results["elbo"], -1),
            with_error(bound, -1),
            number(bound["num_samples"]),
            f"{count} {results['dataset']}, {results['binarization']}",
        )
    Console().print(table if table.rows else "This installation of Limner has no trained models.")
