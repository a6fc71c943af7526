"""The playground in a real browser: open the page, draw, and check the answer."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.config import RunConfig
from limner.models import DRAWConfig, LadderVAEConfig, build
from limner.training.runs import Run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
]
PATIENCE = 120
KEY = "element-6066-11e4-a52e-4f735466cecf"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def request(url, method="GET", content=None):
    """The status and the JSON or text of an answer."""
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(
            urllib.request.Request(url, body, headers, method=method), timeout=PATIENCE
        ) as answer:
            status, said = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, said = error.code, error.read().decode()
    try:
        return status, json.loads(said)
    except json.JSONDecodeError:
        return status, said


def until(done, what):
    """The first true answer of `done`, asked again and again."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if answer := done():
                return answer
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)  # a page has no other way to say that it is ready
    raise AssertionError(f"waited in vain for {what}")


class Browser:
    """Chromium without a window, driven by the WebDriver protocol."""

    def __init__(self, width=1100, height=900):
        port = free_port()
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        environment = os.environ | {"HOME": self.profile.name}
        self.process = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            self.root = f"http://127.0.0.1:{port}"
            until(lambda: request(f"{self.root}/status")[0] == 200, "chromedriver")
            options = {
                "binary": CHROMIUM,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    "--no-proxy-server", "--force-prefers-reduced-motion",
                    f"--user-data-dir={self.profile.name}/profile",
                    f"--window-size={width},{height}",
                ],
            }  # fmt: skip
            asked = {
                "capabilities": {
                    "alwaysMatch": {
                        "goog:chromeOptions": options,
                        "goog:loggingPrefs": {"browser": "ALL"},
                    }
                }
            }
            status, answer = request(f"{self.root}/session", "POST", asked)
            assert status == 200, answer
            self.root += f"/session/{answer['value']['sessionId']}"
        except BaseException:
            self.close()
            raise

    def close(self):
        if "/session/" in self.root:
            request(self.root, "DELETE")
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=PATIENCE)
        self.profile.cleanup()

    def command(self, path, **content):
        status, answer = request(f"{self.root}/{path}", "POST", content)
        assert status == 200, answer
        return answer["value"]

    def open(self, url):
        self.command("url", url=url)

    def run(self, script, *arguments):
        return self.command("execute/sync", script=script, args=list(arguments))

    def find(self, selector):
        wanted = {"using": "css selector", "value": selector}
        return until(lambda: self.command("elements", **wanted), selector)[0]

    def click(self, selector):
        self.command(f"element/{self.find(selector)[KEY]}/click")

    def drag(self, selector, path, release=True):
        """Press the mouse at the first of `path`, places from the element's centre, and draw on."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        moves = [
            {"type": "pointerMove", "duration": 20, "origin": element, "x": x, "y": y}
            for x, y in path
        ]
        self.act([moves[0], {"type": "pointerDown", "button": 0}, *moves[1:]])
        if release:
            self.release()

    def release(self):
        self.act([{"type": "pointerUp", "button": 0}])

    def act(self, actions):
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self.command("actions", actions=[mouse | {"actions": actions}])

    def emulate(self, what, **parameters):
        self.command("goog/cdp/execute", cmd=f"Emulation.{what}", params=parameters)

    def screenshot(self):
        return b64decode(request(f"{self.root}/screenshot")[1]["value"])

    def errors(self):
        """What the page complained about in the console."""
        log = self.command("se/log", type="browser")
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]


ZERO = [(0, -80), (-50, -40), (-60, 20), (-30, 80), (20, 85), (55, 30), (50, -40), (0, -80)]
ONE = [(10, -90), (0, -10), (-10, 90)]


def write_run(path, config, image_shape=(1, 28, 28)):
    """An untrained run that `limner play` opens."""
    torch.manual_seed(0)
    model = build(config, image_shape)
    run = Run.create(path, RunConfig(model=config, epochs=1))
    run.save_weights("best", {"raw": model.state_dict()}, {"image_shape": image_shape})
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Its address and what it has printed."""
    folder = tmp_path_factory.mktemp("a secret place")
    config = DRAWConfig(
        num_steps=4, attention="filterbank", read_size=3, write_size=3, hidden_dim=8, latent_dim=3
    )
    ladder = LadderVAEConfig(hidden_dims=(8, 8), latent_dims=(3, 2))
    runs = [write_run(folder / "tiny-run", config), write_run(folder / "tiny-ladder", ladder)]
    port = free_port()
    log = folder / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "limner.cli", "play", *map(str, runs), "--port", str(port)],
            stdout=stream, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: request(address)[0] == 200, f"the server: {log.read_text()}")
        yield address, log
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=PATIENCE)
    assert status == 130, log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def browser(server):
    found = Browser()
    found.open(server[0])
    yield found
    found.close()


def source(browser, film):
    """The film's last panel: what the model draws."""
    script = "return [...document.querySelectorAll(`#${arguments[0]} img`)].at(-1)?.src"
    return browser.run(script, film)


def answer(browser, film, before=None):
    """The film's picture, once it is another one than before."""
    return until(lambda: (now := source(browser, film)) and now != before and now, film)


def tab(browser, name):
    script = (
        "const found = [...document.querySelectorAll('button[role=tab]')]"
        ".find((button) => button.textContent.trim() === arguments[0]);"
        "found?.click(); return Boolean(found)"
    )
    until(lambda: browser.run(script, name), f"the tab {name}")


def content(browser, selector):
    return browser.run(f"return document.querySelector({selector!r}).textContent")


def count(browser, selector):
    return browser.run(f"return document.querySelectorAll({selector!r}).length")


def set_slider(browser, selector, number):
    browser.run(
        "const slider = document.querySelector(arguments[0]); slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input', {bubbles: true}));"
        "slider.dispatchEvent(new Event('pointerup', {bubbles: true}))",
        selector,
        number,
    )


def test_the_page_opens_with_an_image_redrawn_by_both_models(browser):
    tab(browser, "Redraw")
    for film, steps in (("redrawn", 4), ("redrawn-2", 2)):
        answer(browser, film)
        assert count(browser, f"#{film} .kl i") == steps
        assert "nats" in content(browser, f"#{film} .said")
    assert content(browser, "#redrawn .name span") == "tiny-run"
    assert count(browser, "#redrawn .panel") == 3  # with the glimpse
    assert count(browser, "#redrawn rect.line") == 2
    assert count(browser, "#redrawn-2 .panel") == 2
    assert count(browser, "#redrawn-2 rect.line") == 0
    drawn = "return document.querySelector('#your-drawing .paper').toDataURL().length > 2000"
    assert browser.run(drawn)


WATCH = """
window.worked = new Set();
new MutationObserver((changes) => {
  for (const { target } of changes)
    if (target.matches('.pending')) window.worked.add(target.closest('[id]').id);
}).observe(document.body, { subtree: true, attributes: true, attributeFilter: ['class'] });
HTMLAnchorElement.prototype.click = function () { window.offered = [this.download, this.href]; };
"""


def test_a_drawing_is_redrawn_while_the_pen_moves_and_can_be_stepped_through(browser):
    browser.run(WATCH)
    opened = answer(browser, "redrawn")
    browser.drag("#your-drawing .mask", ZERO, release=False)
    first = answer(browser, "redrawn", opened)
    browser.release()
    assert {"your-drawing", "redrawn"} <= set(browser.run("return [...window.worked]"))
    idle = "return document.querySelectorAll('.pending').length === 0"
    until(lambda: browser.run(idle), "an end of the work")
    set_slider(browser, "#redrawn .controls input", 2)
    assert content(browser, "#redrawn output") == "step 2 of 4"
    browser.click("#redrawn .resample")
    answer(browser, "resampled")
    assert content(browser, "#resampled output") == "step 4 of 4"
    browser.click("#resampled .save")
    name, address = until(lambda: browser.run("return window.offered"), "a file")
    assert name == "tiny-run-tiny-ladder-resampled.gif"
    with Image.open(io.BytesIO(b64decode(address.split(",")[1]))) as film:
        assert film.format == "GIF"
    before = source(browser, "redrawn")
    browser.drag("#your-drawing .mask", ONE)
    second = answer(browser, "redrawn", before)
    until(lambda: not source(browser, "resampled") or browser.run(
        "return document.querySelector('#resampled .shown').hidden"), "no stale film")  # fmt: skip
    browser.click("#your-drawing .clear")
    until(lambda: browser.run("return document.querySelector('#redrawn .shown').hidden"), "nothing")
    browser.click("#your-drawing .example")
    assert answer(browser, "redrawn", second) != first
    assert not browser.errors()


def test_a_drawing_is_still_there_when_one_comes_back(browser):
    look = "return document.querySelector('#your-drawing .paper').toDataURL()"
    tab(browser, "Redraw")
    browser.drag("#your-drawing .mask", ONE)
    drawing = browser.run(look)
    tab(browser, "Sample")
    tab(browser, "Redraw")
    assert browser.run(look) == drawing


def test_steps_are_set_on_a_model_that_has_them(browser):
    tab(browser, "Redraw")
    before = source(browser, "redrawn")
    set_slider(browser, "#steps-redrawn input[type=range]", 7)
    answer(browser, "redrawn", before)
    until(lambda: content(browser, "#redrawn output") == "step 7 of 7", "seven steps")
    hidden = "return !document.querySelector('#steps-redrawn-2')?.checkVisibility()"
    assert browser.run(hidden)


def test_samples_change_with_their_seed(browser):
    tab(browser, "Sample")
    first = answer(browser, "samples")
    browser.run(
        "[...document.querySelectorAll('button')]"
        ".find((button) => button.textContent.trim() === 'Draw others').click()"
    )
    answer(browser, "samples", first)


def test_a_walk_between_two_drawings(browser):
    tab(browser, "Interpolate")
    for easel, path in (("from", ZERO), ("to", ONE)):
        browser.drag(f"#{easel} .mask", [(x // 3, y // 3) for x, y in path])
    answer(browser, "walked")
    until(lambda: count(browser, "#walked .strip span") == 9, "a strip")


def test_what_is_erased_is_completed(browser):
    tab(browser, "Complete")
    browser.drag("#erase-a-part .mask", [(-80, 60), (80, 60)])
    answer(browser, "completed")
    assert not browser.errors()


def luminance(colour):
    levels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in levels
    ]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


PLACES = """
const box = (selector) => document.querySelector(selector).getBoundingClientRect();
const tabs = [...document.querySelectorAll('button[role=tab]')].filter((b) => b.checkVisibility());
return {
  tabs: tabs.map((each) => [each.textContent.trim(), each.getBoundingClientRect().right]),
  width: document.documentElement.scrollWidth,
  height: box(arguments[1]).bottom - box(arguments[0]).top,
  edge: getComputedStyle(document.querySelector('.paper')).borderTopColor,
  ground: getComputedStyle(document.body).backgroundColor,
}
"""


def test_on_a_phone_in_the_dark_every_answer_is_next_to_its_control(browser, server):
    """Control and answer fit on one screen, all tabs are seen, and an easel has a visible edge."""
    browser.emulate("setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1,
                    mobile=True)  # fmt: skip
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.emulate("setEmulatedMedia", features=dark)
    try:
        browser.open(server[0])
        answer(browser, "redrawn")
        for name, control, film in (
            ("Redraw", "#your-drawing", "#redrawn .panels"),
            ("Interpolate", "#from", "#walked"),
            ("Complete", "#erase-a-part", "#completed"),
        ):
            tab(browser, name)
            browser.find(film)
            found = browser.run(PLACES, control, film)
            names, right = zip(*found["tabs"], strict=True)
            assert names == ("Redraw", "Sample", "Interpolate", "Complete")
            assert max(right) <= 390
            assert found["width"] <= 390
            assert 0 < found["height"] < 844
        edge, ground = luminance(found["edge"]), luminance(found["ground"])
        assert (edge + 0.05) / (ground + 0.05) > 3
    finally:
        browser.emulate("clearDeviceMetricsOverride")
        browser.emulate("setEmulatedMedia", features=[])


def test_the_page_asks_nobody_else_and_shows_no_path(browser, server):
    address, _ = server
    asked = browser.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked
    assert {url for url in asked if not url.startswith((address, "data:"))} == set()
    page = browser.run("return document.documentElement.outerHTML")
    config = json.dumps(request(f"{address}/config")[1])
    for text in (page, config):
        assert "a secret place" not in text
        assert str(Path(sys.prefix)) not in text


def test_no_files_are_taken_and_no_large_requests(server):
    address, _ = server
    assert request(f"{address}/gradio_api/upload", "POST", {})[0] == 403
    large = {"data": ["x" * 5 * 2**20], "fn_index": 0, "session_hash": "s"}
    assert request(f"{address}/gradio_api/queue/join", "POST", large)[0] == 413
    assert request(f"{address}/gradio_api/file=/etc/passwd")[0] in (403, 404)
    assert request(f"{address}/gradio_api/file=log")[0] in (403, 404)
