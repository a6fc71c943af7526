"""`limner models`: the trained models that come with Limner."""

from rich import box
from rich.console import Console
from rich.table import Table

from limner.progress import suggest
from limner.settings import read_json
from limner.training import named


def models() -> None:
    """List the trained models that `limner.load` and every command know by name.

    -ELBO and -L_K, the importance-weighted bound with K samples, are in nats per image on test
    images; lower is better. Each model's folder has a model card, README.md.
    """
    names, counts = named.names(), set()
    if not names:
        print("This installation of Limner has no trained models.")
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("name", "-ELBO", "-L_K", "K", "test images"):
        right = heading in ("-ELBO", "-L_K", "K")
        table.add_column(heading, no_wrap=True, justify="right" if right else "left")
    for name in names:
        results = read_json(named.FOLDER / name / "results.json")
        bound = results["iw_bound"]
        counts.add(f"{results['num_images']:,}")
        table.add_row(
            name,
            f"{-results['elbo']['mean']:.2f}",
            f"{-bound['mean']:.2f}",
            f"{bound['num_samples']:,}",
            f"{results['dataset']}, {results['binarization']}",
        )
    Console().print(table)
    print(f"nats per image, lower is better; {' or '.join(sorted(counts))} images each")
    print(f"in {named.FOLDER}")
    suggest("animate", names[0])
