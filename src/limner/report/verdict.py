"""The sentence that opens the page: which model is best, and how certain that is."""

from collections.abc import Mapping, Sequence
from typing import Any

from limner.report.wording import mean_of, number, with_error

FEW = 100
"""With fewer images, a result is indicative only."""
Row = Mapping[str, Any]


def verdict(
    rows: Sequence[Row], results: Sequence[Mapping[str, Any]], missing: Sequence[str] = ()
) -> str:
    """One sentence about `rows`, which are sorted, lowest -ELBO first.

    Args:
        rows: of the comparison. Without `difference_to_best`, the models are not ranked.
        results: of the same models, in the same order, as in results.json.
        missing: names of models that were not evaluated.
    """
    if not rows:
        what = "This model" if len(missing) == 1 else "None of these models"
        verb = "has not" if len(missing) == 1 else "has"
        return f"{what} {verb} been evaluated yet; run limner evaluate."
    if len(rows) == 1:
        sentence = f"{_name(rows[0])} has a −ELBO of {_measured(rows, results)} (lower is better)"
    elif not all(row.get("difference_to_best") for row in rows[1:]):
        sentence = "These models were evaluated on different images, so they are not ranked"
    else:
        sentence = (
            f"{_name(rows[0])} has the lowest −ELBO, {_measured(rows, results)}; {_gaps(rows[1:])}"
        )
    counts = [result["num_images"] for result in results if "num_images" in result]
    if counts and min(counts) < FEW:
        count = min(counts)
        images = "1 image" if count == 1 else f"{count} images"
        sentence += f"; on {images}, this is indicative only"
    if missing:
        verb = "has" if len(missing) == 1 else "have"
        sentence += f"; {_listed(missing)} {verb} not been evaluated"
    return sentence + "."


def _name(row: Row) -> str:
    return str(row["name"])


def _measured(rows: Sequence[Row], results: Sequence[Mapping[str, Any]]) -> str:
    """The -ELBO of the best model, and the images that it is of."""
    best, about = rows[0], results[0] if results else {}
    seeds = best.get("seeds", 1)
    count = about.get("num_images")
    images = f"{number(count)} {about.get('split', 'test')} image{'' if count == 1 else 's'}"
    return (
        f"{with_error(best.get('elbo'), -1)} nats per image"
        + (f" on {images} of {about['dataset']}" if "dataset" in about and count else "")
        + (f", mean over {seeds} seeds" if seeds > 1 else "")
    )


def _gaps(others: Sequence[Row]) -> str:
    """The gap of the next model, and whether it is larger than chance."""
    following = others[0]
    gap = following["difference_to_best"]
    said = f"the gap of the next, {_name(following)}, is {with_error(_positive(gap))} nats"
    if gap.get("stderr") is None:
        return f"{said}, with an unknown error"
    close = [_name(row) for row in others if _is_close(row)]
    if not close:
        return f"{said}, more than two standard errors"
    if close == [_name(following)]:
        return f"{said}, within two standard errors, so the order of the two is uncertain"
    verb = "is" if len(close) == 1 else "are"
    return (
        f"{said}, and {_listed(close)} {verb} within two standard errors, so the order is uncertain"
    )


def _positive(gap: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**gap, "mean": abs(gap["mean"])}


def _is_close(row: Row) -> bool:
    gap = row["difference_to_best"]
    return abs(mean_of(gap) or 0.0) <= 2 * (gap.get("stderr") or 0.0)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
