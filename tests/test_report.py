"""The report: one page, no external resources, complete content, no injection."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from limner import report
from limner.data import DataConfig
from limner.errors import InputError
from limner.report import published, sections, wording
from test_figures import StandIn

HOSTILE = """<script>alert('x')</script>"> & {{ 7 * 7 }}"""
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes, and the text; complains of tags that do not match."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(" ".join(data.split()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def runs():
    return [
        StandIn("attention", name="looks"),
        StandIn("ladder", name=HOSTILE, path=Path("runs/x; rm -rf"), evaluated=False),
    ]


@pytest.fixture(scope="module")
def html(runs, tmp_path_factory):
    rows = [
        {**runs[0].results(), "name": "second", "elbo": {"mean": -99.0, "stderr": 0.5},
         "difference_to_best": {"mean": -1.25, "stderr": 0.125}},
        {**runs[0].results(), "name": "first", "elbo": {"mean": -97.75, "stderr": 0.5},
         "difference_to_best": None},
    ]  # fmt: skip
    comparison = {"rows": rows, "description": HOSTILE, "command": "limner compare"}
    out = tmp_path_factory.mktemp("report") / "new" / "page.html"
    return report.write(runs, out, comparison).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def test_the_page_parses_and_refers_to_nothing_outside(parsed, html):
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, name)
    assert not re.search(r"https?://", html)
    assert not re.search(r"url\((?!%23)", html)
    assert "@import" not in html


def test_links_and_ids_fit_each_other(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in parsed.all("a")} <= set(ids)


def test_every_image_has_an_alternative_and_can_be_decoded(parsed):
    images = parsed.all("img")
    assert len(images) > 15
    for image in images:
        assert len(image["alt"]) > 10
        kind, _, data = image["src"].partition(",")
        if kind == "data:image/svg+xml":
            ElementTree.fromstring(unquote(data))
        else:
            assert kind == "data:image/png;base64"
            assert base64.b64decode(data).startswith(b"\x89PNG")


def test_hostile_names_are_shown_and_not_run(parsed, html):
    assert len(parsed.all("script")) == 1
    assert "<script>alert" not in html
    assert HOSTILE in "".join(parsed.text)
    assert "49" not in [text.strip() for text in parsed.text]


def test_the_table_comes_first_best_on_top_with_the_paired_difference(parsed):
    text = "|".join(filter(None, parsed.text))
    best = text.index("|first|97.75 ± 0.50|best|")
    second = text.index("|second|99.00 ± 0.50|1.25 ± 0.12|")
    assert best < second < text.index("Published results") < text.index("latent groups")
    assert "with K = 50 samples" in text


def test_published_numbers_say_binarization_bound_and_source(parsed):
    text = "|".join(filter(None, parsed.text))
    assert "80.97|ELBO|static|mnist|Gregor et al. 2015, arXiv:1502.04623" in text
    assert "81.84|IW, K = 5000|dynamic" in text
    assert text.index("On this page") < text.index("|Published|")
    assert published.published_for("digits") == []
    assert all(all(entry) for entry in published.PUBLISHED)


def test_films_carry_a_caption_for_every_step(parsed):
    films = [figure for figure in parsed.all("figure") if figure.get("class") == "film"]
    assert len(films) == 2 * 2
    assert films[0]["data-captions"].count("of 4") == 4
    sliders = [field for field in parsed.all("input") if field["type"] == "range"]
    assert [slider["max"] for slider in sliders] == ["4", "4", "3", "3"]


def test_a_run_tells_its_config_and_commands(parsed):
    text = "\n".join(parsed.text)
    assert "limner train --config 'runs/x; rm -rf/config.json' --out NEW" in text
    assert '"latent_dims": [ 4, 3, 2 ]' in text
    assert "Not evaluated yet" in text


def test_runs_of_one_name_are_told_apart():
    runs = [StandIn("draw", name="same"), StandIn("vae", name="same")]
    assert sections.labels_of(runs) == ["same (same, 1)", "same (same, 2)"]
    rows = [{"name": "A", "runs": ["draw"]}, {"name": "B", "runs": ["vae", "other"]}]
    assert sections.labels_of(runs, rows) == ["A", "B"]


def test_bad_calls_are_told_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match="at least one run"):
        report.write([], tmp_path / "report.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"):
        report.write([StandIn("vae")], tmp_path / "file" / "report.html")


def test_none_is_best_among_runs_on_different_images():
    rows = [{"name": name, "elbo": {"mean": -elbo}} for name, elbo in (("a", 99), ("b", 98))]
    assert "best" not in [row["difference"] for row in sections.table(rows)]
    assert [row["difference"] for row in sections.table(rows[:1])] == ["best"]


def test_numbers_keep_their_images_where_others_are_shown():
    run = StandIn("vae").on(DataConfig(name="digits"))
    run.results = StandIn("vae").results
    images = StandIn("vae").dataset()
    ours = sections.ours_and_published([run], ["vae"], [images])["ours"]
    assert {entry.dataset for entry in ours} == {"mnist-5k"}
    assert ("trained on", "mnist-5k") in sections._facts(run, {}, StandIn("vae").model(), images)
    measured = dict(sections._numbers(run.results()))["measured on"]
    assert measured == "14 test images of mnist-5k, dynamic binarization"


def test_rows_of_different_numbers_of_samples_say_theirs():
    rows = [
        {"name": name, "elbo": -elbo, "iw_bound": {"mean": -96.4, "num_samples": samples}}
        for name, elbo, samples in (("a", 99, 10), ("b", 98, 5))
    ]
    assert [row["iw_bound"] for row in sections.table(rows)] == ["96.40, K = 5", "96.40, K = 10"]
    assert [row["iw_bound"] for row in sections.table(rows[:1])] == ["96.40"]


def test_numbers_are_worded_for_readers():
    assert wording.with_error({"mean": -97.126, "stderr": 0.4}, -1) == "97.13 ± 0.40"
    assert wording.with_error(None) == wording.NOTHING
    assert wording.with_error(3, digits=1) == "3.0"
    assert wording.number(1234567) == "1,234,567"
    assert [wording.plain(n) for n in (20.0, 2.5, (1, 28), None)] == ["20", "2.5", "1, 28", "–"]
    assert [wording.millions(n) for n in (912, 378_323, 999_600, 1_091_920, None)] == [
        "912", "378 k", "1.00 M", "1.09 M", "–",
    ]  # fmt: skip
    assert [wording.duration(s) for s in (41.6, 185, 7800.0)] == ["42 s", "3 min 5 s", "2 h 10 min"]
