"""`limner models`: the trained models that come with Limner."""

from limner.progress import suggest
from limner.settings import read_json
from limner.training import named


def models() -> None:
    """List the trained models that `limner.load` and every command know by name.

    Figures are in nats per image on test images; lower is better. L_K is the importance-weighted
    bound with K samples. Each model's folder has a model card, README.md.
    """
    names, counts = named.names(), set()
    if not names:
        print("This installation of Limner has no trained models.")
        return
    width = max(map(len, names))
    print(f"{'name':<{width}}  {'-ELBO':>6}  {'-L_K':>6}  {'K':>5}  test images")
    for name in names:
        results = read_json(named.FOLDER / name / "results.json")
        bound = results["iw_bound"]
        counts.add(f"{results['num_images']:,}")
        print(
            f"{name:<{width}}  {-results['elbo']['mean']:>6.2f}  {-bound['mean']:>6.2f}  "
            f"{bound['num_samples']:>5,}  {results['dataset']}, {results['binarization']}"
        )
    print(f"\nnats per image, lower is better; {' or '.join(sorted(counts))} images each")
    print(f"in {named.FOLDER}")
    suggest("animate", names[0])
