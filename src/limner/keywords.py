"""Messages in Python name keywords in place of flags."""

import re

_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_WORDS = "grey|rgb|dynamic|static|threshold|none|cpu|auto|recompute"
_FLAG = re.compile(
    rf"--(?:data\.)?([a-z]+(?:[.-][a-z]+)*)"
    rf"((?: (?:{_NUMBER}|HEIGHT|WIDTH|CHANNELS|{_WORDS})\b)*)"
)
_FIELD = re.compile(r"^(?:Data|Run)Config\.(\w+)[\w.-]*:")
_SIDES = re.compile(r"\bHEIGHT WIDTH( CHANNELS)?\b")
_NAMES = {"draw_seed": "seed"}
_RESUME = "limner train --resume --out"
_SWITCHES = {"skip_damaged", "resume", "overwrite"}


def in_keywords(sentence: str) -> str:
    """A sentence with flags, such as --data.range 0 255, as keywords, range=(0, 255)."""
    sentence = sentence.replace(_RESUME, "resume=True and out")
    sentence = _FLAG.sub(_keyword, sentence).replace('"grey" or rgb', '"grey" or "rgb"')
    sentence = _SIDES.sub(lambda found: _tuple(found[0].split()), sentence)
    return _FIELD.sub(lambda found: f"{_NAMES.get(found[1], found[1])}:", sentence)


def _keyword(found: re.Match[str]) -> str:
    name, values = found[1].replace("-", "_"), found[2].split()
    name = _NAMES.get(name, name)
    if not values:
        return f"{name}=True" if name in _SWITCHES else name
    if values[0].isalpha() and values[0].islower():
        return f'{name}="{values[0]}"'
    return f"{name}={values[0] if len(values) == 1 else _tuple(values)}"


def _tuple(values: list[str]) -> str:
    return f"({', '.join(value.lower() for value in values)})"
