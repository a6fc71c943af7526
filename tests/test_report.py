"""The report: one page, no external resources, complete content, no injection."""

import base64
import csv
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import torch

from limner import report
from limner.data import DataConfig
from limner.errors import InputError
from limner.figures import curves, depth, grids
from limner.figures.panels import panels_of
from limner.objectives import elbo
from limner.report import published, sections, table, wording
from limner.report.depth import by_depth, profile
from limner.report.verdict import verdict
from test_app_browser import CHROMIUM, DRIVER, KEY, Browser, until
from test_figures import StandIn, metrics

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
def page(runs, tmp_path_factory):
    rows = [
        {**runs[0].results(), "name": "second", "elbo": {"mean": -99.0, "stderr": 0.5},
         "difference_to_best": {"mean": -1.25, "stderr": 0.125}},
        {**runs[0].results(), "name": "first", "elbo": {"mean": -97.75, "stderr": 0.5},
         "difference_to_best": None},
    ]  # fmt: skip
    comparison = {"rows": rows, "description": HOSTILE, "command": "limner compare"}
    out = tmp_path_factory.mktemp("report") / "new" / "page.html"
    return report.write(runs, out, comparison)


@pytest.fixture(scope="module")
def html(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html):
    return Page(html)


def test_the_page_parses_and_loads_nothing_from_outside(parsed, html):
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "action", "poster", "srcset", "data"):
            paper = tag == "a" and attributes.get(name, "").startswith("https://arxiv.org/abs/")
            if name in attributes and not paper:
                assert attributes[name].startswith(("data:", "#")), (tag, name)
    assert not re.search(r'https?://(?!arxiv.org/abs/[0-9.]+")', html)
    assert not re.search(r"url\((?!%23)", html)
    assert "@import" not in html


def test_links_and_ids_fit_each_other(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {link["href"][1:] for link in parsed.all("a") if link["href"].startswith("#")}
    named = {attributes.get("aria-labelledby") for attributes in parsed.all("section")}
    assert links | named <= set(ids)
    headings = [each for level in ("h1", "h2", "h3") for each in parsed.all(level)]
    assert all("id" in heading for heading in headings)


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


def test_the_verdict_and_the_table_come_first_best_on_top_with_the_paired_gap(parsed):
    text = "|".join(filter(None, parsed.text))
    said = text.index("first has the lowest −ELBO, 97.75 ± 0.50 nats per image")
    best = text.index("|first|97.75 ± 0.50|best|")
    second = text.index("|second|99.00 ± 0.50|1.25 ± 0.12|")
    assert said < best < second < text.index("Two numbers are") < text.index("latent groups")
    assert "with K = 50 samples" in text
    assert "paired by image" in text


def test_the_csv_holds_the_numbers_of_the_table(parsed):
    (link,) = [link for link in parsed.all("a") if "download" in link]
    rows = list(csv.DictReader(io.StringIO(unquote(link["href"].partition(",")[2]))))
    assert [row["model"] for row in rows] == ["first", "second"]
    assert [float(row["minus_elbo"]) for row in rows] == [97.75, 99.0]
    assert (rows[0]["gap_to_best"], rows[1]["gap_to_best_stderr"]) == ("", "0.125")
    assert unquote(table.as_csv([{"name": "=1+1"}])).splitlines()[1].startswith("'=1+1,")


def row(name, cost, gap=None, error=None):
    difference = None if gap is None else {"mean": -gap, "stderr": error}
    elbo = {"mean": -cost, "stderr": 1.0}
    return {"name": name, "elbo": elbo, "difference_to_best": difference}


ABOUT = {"num_images": 500, "split": "test", "dataset": "digits"}


@pytest.mark.parametrize(
    ("rows", "about", "missing", "said"),
    [
        ([], {}, ["a"], "This model has not been evaluated yet; run limner evaluate."),
        ([], {}, ["a", "b"], "None of these models has been evaluated yet; run limner evaluate."),
        ([row("a", 99)], ABOUT, [],
         "a has a −ELBO of 99.00 ± 1.00 nats per image on 500 test images of digits (lower is "
         "better)."),
        ([row("a", 99), row("b", 100, 1, 0.4)], ABOUT, [],
         "a has the lowest −ELBO, 99.00 ± 1.00 nats per image on 500 test images of digits; the "
         "gap of the next, b, is 1.00 ± 0.40 nats, more than two standard errors."),
        ([row("a", 99), row("b", 100, 1, 0.6)], {}, ["c"],
         "a has the lowest −ELBO, 99.00 ± 1.00 nats per image; the gap of the next, b, is 1.00 ± "
         "0.60 nats, within two standard errors, so the order of the two is uncertain; c has "
         "not been evaluated."),
        ([row("a", 99), row("b", 100, 1, 0.6), row("c", 100.1, 1.1, 0.6)], {}, [],
         "a has the lowest −ELBO, 99.00 ± 1.00 nats per image; the gap of the next, b, is 1.00 ± "
         "0.60 nats, and b and c are within two standard errors, so the order is uncertain."),
        ([row("a", 99), row("b", 100, 1, 0.2), row("c", 101, 2, 5)], {}, [],
         "a has the lowest −ELBO, 99.00 ± 1.00 nats per image; the gap of the next, b, is 1.00 ± "
         "0.20 nats, and c is within two standard errors, so the order is uncertain."),
        ([row("a", 99), row("b", 99, 0, 0)], {}, [],
         "a has the lowest −ELBO, 99.00 ± 1.00 nats per image; the gap of the next, b, is 0.00 ± "
         "0.00 nats, within two standard errors, so the order of the two is uncertain."),
        ([row("a", 99), row("b", 100)], {}, [],
         "These models were evaluated on different images, so they are not ranked."),
        ([row("a", 99)], ABOUT | {"num_images": 20}, [],
         "a has a −ELBO of 99.00 ± 1.00 nats per image on 20 test images of digits (lower is "
         "better); on 20 images, this is indicative only."),
    ],
)  # fmt: skip
def test_the_verdict_says_what_the_numbers_support(rows, about, missing, said):
    assert verdict(rows, [about] * len(rows), missing) == said


def test_means_on_the_same_images_have_an_unpaired_gap():
    runs = [StandIn("vae"), StandIn("draw")]
    found = table.rows_of(runs, ["a", "b"])
    gap = found[1]["difference_to_best"]
    assert gap["stderr"] == pytest.approx(math.hypot(0.5, 0.5))
    assert not table.table(found).paired
    assert not table.alike([{"images": "x"}, {"images": "y"}])
    assert not table.alike([{"num_images": 2}, {"num_images": 3, "images": "y"}])


@pytest.mark.parametrize("kind", ["draw", "ladder", "vae"])
def test_nats_by_depth_end_at_the_elbo(kind):
    subject = StandIn(kind).subject()
    kl, bounds = by_depth(subject.model, subject.x, subject.generator())
    inference = subject.model.infer(subject.x, subject.generator())
    torch.testing.assert_close(bounds[:, -1], elbo(inference))
    columns = inference.kl if kind == "draw" else inference.kl.flip(1)
    torch.testing.assert_close(kl, columns)
    assert bounds.shape == kl.shape
    found = profile(subject, {})
    assert found.costs == pytest.approx((-bounds.double()).mean(0).tolist())
    stored = {"kl_per_group": [1.0] * kl.shape[1], "num_images": 7}
    stored["elbo_per_step"] = [{"mean": -9.0, "stderr": 1.0}] * kl.shape[1]
    assert profile(subject, stored).costs == [9.0] * kl.shape[1]


def test_panels_of_curves_are_equally_high_pictures_and_grids_stay_whole():
    panels = panels_of(curves.training_curves(metrics(2)))
    heights = {re.search(r'height="([\d.]+)pt"', panel.svg)[1] for panel in panels}
    assert (len(panels), len(heights)) == (3, 1)
    assert panels[2].title.startswith("KL")
    images = torch.zeros(4, 5, 5, 3, dtype=torch.uint8).numpy()
    assert len(panels_of(grids.image_grid(images))) == 1


def test_the_marker_of_a_chart_is_on_its_bars():
    made = depth.step_by_step(depth.Profile([1.0, 2.0, 3.0], [9.0, 8.0, 7.0], 5, "step"))
    places = depth.places(made, [1, 2, 3])
    bars = made.axes[-1].patches
    width = made.get_figwidth() * made.dpi
    centers = [bar.get_window_extent().x0 + bar.get_window_extent().width / 2 for bar in bars]
    assert places == pytest.approx([center / width for center in centers])


def test_published_numbers_say_binarization_bound_and_source(parsed):
    text = "|".join(filter(None, parsed.text))
    assert "80.97|−ELBO|static|mnist|Gregor et al. 2015,|arXiv:1502.04623" in text
    assert "81.84|−L|5000|dynamic" in text
    assert text.index("On this page") < text.index("|Published|")
    assert published.published_for("digits") == []
    assert all(all(entry) for entry in published.PUBLISHED)


def test_films_carry_a_caption_for_every_step(parsed):
    films = [figure for figure in parsed.all("figure") if figure.get("class") == "film"]
    assert len(films) == 2 * 2
    assert films[0]["data-film"].count("of 4") == 4
    assert films[0]["data-film"].count("KL of this step") == 4
    sliders = [field for field in parsed.all("input") if field["type"] == "range"]
    assert [slider["max"] for slider in sliders] == ["4", "4", "3", "3"]


def test_a_run_tells_its_config_and_commands(parsed):
    text = "\n".join(parsed.text)
    assert "limner train --config 'runs/x; rm -rf/config.json' --out NEW" in text
    assert '"latent_dims": [ 4, 3, 2 ]' in text
    assert "Not evaluated yet" in text


def test_each_model_has_a_place_to_link_to():
    assert sections.anchors(["VAE", "DRAW, 2", "vae", "<>"]) == [
        "model-vae-1", "model-draw-2", "model-vae-3", "model--4",
    ]  # fmt: skip


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


def cells(rows, heading):
    made = table.table(rows)
    place = [str(name) for name in made.headings].index(heading)
    return [cells[place].text for _, cells in made.rows]


def test_none_is_best_among_runs_on_different_images():
    rows = [{"name": name, "elbo": {"mean": -elbo}} for name, elbo in (("a", 99), ("b", 98))]
    assert "best" not in cells(rows, "gap to best")
    assert cells(rows[:1], "gap to best") == ["best"]


def test_numbers_keep_their_images_where_others_are_shown():
    run = StandIn("vae").on(DataConfig(name="digits"))
    run.results = StandIn("vae").results
    images = StandIn("vae").dataset()
    ours = published.ours_and_published([run], ["vae"], [images])["ours"]
    assert {entry.dataset for entry in ours} == {"mnist-5k"}
    assert ("trained on", "mnist-5k") in sections._facts(run, {}, StandIn("vae").model(), images)
    measured = dict(sections.numbers(run.results()))["measured on"]
    assert measured == "14 test images of mnist-5k, dynamic binarization"


def test_rows_of_different_numbers_of_samples_say_theirs():
    rows = [
        {"name": name, "elbo": -elbo, "iw_bound": {"mean": -96.4, "num_samples": samples}}
        for name, elbo, samples in (("a", 99, 10), ("b", 98, 5))
    ]
    assert cells(rows, "−L<sub>K</sub>") == ["96.40, K = 5", "96.40, K = 10"]
    assert cells(rows[:1], "−L<sub>K</sub>") == ["96.40"]


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


@pytest.fixture(scope="module")
def browser(page):
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    found = Browser(width=1280)
    found.open(page.as_uri())
    yield found
    assert not found.errors()
    found.close()


def test_a_click_on_a_heading_sorts_the_table(browser):
    look = (
        "const heading = document.querySelectorAll('.sortable thead th')[arguments[0]];"
        "heading.querySelector('button').click();"
        "return [heading.ariaSort, document.querySelector('.sortable tbody th').textContent]"
    )
    assert browser.run(look, 1) == ["descending", "second"]
    assert browser.run(look, 0) == ["ascending", "first"]
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1


def test_contents_stay_in_view_and_mark_the_place(browser):
    browser.run("document.getElementById('published').scrollIntoView()")
    current = "return document.querySelector('nav [aria-current]').textContent"
    assert until(lambda: browser.run(current) == "Published results", "the mark in the contents")
    assert browser.run("return document.querySelector('nav').getBoundingClientRect().top") == 0
    browser.run("scrollTo(0, 0)")


def test_the_chart_follows_the_film(browser):
    step = (
        "const film = document.querySelector('.film'), slider = film.querySelector('input');"
        "slider.value = arguments[0]; slider.dispatchEvent(new Event('input'));"
        "const marker = film.querySelector('.marker').getBoundingClientRect();"
        "const chart = film.querySelector('.chart').getBoundingClientRect();"
        "const place = (marker.left - chart.left) / chart.width;"
        "return [film.querySelector('output').textContent, place]"
    )
    (said, first), (_, second) = browser.run(step, 1), browser.run(step, 2)
    assert said.startswith("1 of 4: −ELBO ")
    assert 0 < first < second < 1
    click = (
        "const chart = document.querySelector('.film .chart'), box = chart.getBoundingClientRect();"
        "const clientX = box.left + arguments[0] * box.width;"
        "chart.dispatchEvent(new MouseEvent('click', {clientX}));"
        "return document.querySelector('.film input').value"
    )
    assert browser.run(click, second) == "2"


def test_a_figure_is_enlarged_and_escape_closes_it(browser):
    browser.run("document.querySelector('.enlarge').focus()")
    element = browser.find(".enlarge")
    browser.command(f"element/{element[KEY]}/value", text="\ue007")  # Enter
    look = "return [...document.querySelectorAll('dialog[open] img')].map((image) => image.alt)"
    assert len(browser.run(look)[0]) > 10
    browser.command(f"element/{browser.find('dialog button')[KEY]}/value", text="\ue00c")  # Escape
    assert until(lambda: browser.run(look) == [], "the end of the dialog")
