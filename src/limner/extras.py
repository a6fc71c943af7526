"""How to install an extra of Limner."""

from pathlib import Path

SOURCE = Path(__file__).parents[2]


def install(extra: str) -> str:
    """The command that installs an extra: from the checkout that Limner runs from, if it does."""
    if (SOURCE / "pyproject.toml").is_file():
        return f"pip install -e '{SOURCE}[{extra}]'"
    return f"pip install 'limner[{extra}]'"
