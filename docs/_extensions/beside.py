"""Links of pages that the site includes from results/, where they lie beside other pages."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

LINK = re.compile(r"\[([^\]]*)\]\((\.[^)]*\.md)\)")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("include-read", resolve)
    return {"parallel_read_safe": True}


def resolve(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Point links at the page of the site that includes their target; unlink what no page does."""
    source = Path(app.srcdir)
    folder = (source / path).resolve().parent
    pages = {_included(page): page.name for page in source.glob("*.md")}

    def replaced(link: re.Match[str]) -> str:
        page = pages.get((folder / link[2]).resolve())
        return f"[{link[1]}]({page})" if page else link[1]

    content[0] = LINK.sub(replaced, content[0])


def _included(page: Path) -> Path | None:
    """The file that a page of the site consists of."""
    found = re.match(r"```\{include\} (\S+)", page.read_text(encoding="utf-8"))
    return (page.parent / found[1]).resolve() if found else None
