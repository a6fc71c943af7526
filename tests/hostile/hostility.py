"""Helpers of the hostile tests: damage to files, and the allowed results of reading them."""

from hypothesis import HealthCheck, currently_in_test_context, event, settings
from hypothesis import strategies as st

from limner.errors import InputError

LONGEST = 1500
"""Characters of a sentence, paths and all."""


def cases(count):
    """The same `count` examples at every call; `--hypothesis-show-statistics` prints them."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def is_sentence(text):
    """One printable line of reasonable length with a full stop."""
    return text.isprintable() and text.endswith(".") and 10 < len(text) <= LONGEST


def refusal(call):
    """The sentence with which `call()` refuses; nothing if it succeeds, a failure if it crashes."""
    sentence = ""
    try:
        call()
    except InputError as error:
        sentence = str(error)
    assert not sentence or is_sentence(sentence), sentence
    _tell("refused" if sentence else "read")
    return sentence


def _tell(outcome):
    """Count the outcome in hypothesis' statistics."""
    if currently_in_test_context():
        event(outcome)


def refused(call, *words):
    """The sentence of a refusal that must come, with `words` in it."""
    sentence = refusal(call)
    assert sentence, "it was not refused"
    assert all(word in sentence for word in words), sentence
    return sentence


EXTREMES = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff" * 8, b"\0" * 8]
pieces = st.binary(max_size=8) | st.sampled_from(EXTREMES)


@st.composite
def damaged(draw, good):
    """Bytes of `good` with some changed, put in, taken out, cut off or put at the end."""
    content = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["change", "insert", "remove", "cut", "extend"]))
        if kind == "change":
            piece = draw(pieces)
            content[start : start + len(piece)] = piece
        elif kind == "insert":
            content[start:start] = draw(pieces)
        elif kind == "remove":
            del content[start : start + draw(st.integers(1, 16))]
        elif kind == "cut":
            del content[start:]
        else:
            content += draw(st.binary(max_size=64))
    return bytes(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@st.composite
def altered(draw, document):
    """A JSON document with one value anywhere replaced, removed or joined by another."""
    path, here = [], document
    while isinstance(here, dict | list) and here and (not path or draw(st.booleans())):
        key = draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        path.append(key)
        here = here[key]
    return _with(document, path, draw(st.sampled_from(["replace", "remove", "add"])), draw)


def _with(document, path, change, draw):
    if not path:
        return draw(json_values)
    copy = dict(document) if isinstance(document, dict) else list(document)
    key, *rest = path
    if rest:
        copy[key] = _with(copy[key], rest, change, draw)
    elif change == "remove":
        del copy[key]
    elif change == "add" and isinstance(copy, dict):
        copy[draw(st.text(max_size=8))] = draw(json_values)
    else:
        copy[key] = draw(json_values)
    return copy
