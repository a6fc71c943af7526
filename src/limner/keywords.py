"""Messages in Python name keywords in place of flags."""

import re

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_WORDS = "grey|rgb|dynamic|static|threshold|none|cpu|cuda|auto|recompute|float32"
_PART = re.compile(
    rf"(?P<command>\blimner [a-z]+(?: (?!and |or )[^\s;,)]+)*)"
    rf"|--(?:data\.)?(?P<name>[a-z]+(?:[.-][a-z]+)*)"
    rf"(?P<values>(?: (?:{_NUMBER}|HEIGHT|WIDTH|CHANNELS|{_WORDS})\b)*)"
)
"""A command line, which stays as it is, or a flag with its values."""
_FIELD = re.compile(r"^(?:Data|Run)Config\.(\w+)[\w.-]*(:| must| is missing)")
_SIDES = re.compile(r"\bHEIGHT WIDTH( CHANNELS)?\b")
_NAMES = {"draw_seed": "seed"}
_SWITCHES = {"skip_damaged", "resume", "overwrite"}


def in_keywords(sentence: str) -> str:
    """A sentence with flags, such as --data.range 0 255, as keywords, range=(0, 255)."""
    sentence = _PART.sub(lambda found: found["command"] or _keyword(found), sentence)
    sentence = sentence.replace('"grey" or rgb', '"grey" or "rgb"')
    sentence = _SIDES.sub(lambda found: _tuple(found[0].split()), sentence)
    return _FIELD.sub(lambda found: f"{_NAMES.get(found[1], found[1])}{found[2]}", sentence)


def _keyword(found: re.Match[str]) -> str:
    name, values = found["name"].replace("-", "_"), found["values"].split()
    name = _NAMES.get(name, name)
    if not values:
        return f"{name}=True" if name in _SWITCHES else name
    if values[0].isidentifier() and values[0].islower():
        return f'{name}="{values[0]}"'
    return f"{name}={values[0] if len(values) == 1 else _tuple(values)}"


def _tuple(values: list[str]) -> str:
    return f"({', '.join(value.lower() for value in values)})"
