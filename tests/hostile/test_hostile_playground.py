"""The playground: local connections only, bounded requests, and no paths in answers."""

import asyncio
import contextlib
import http.cookiejar
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from hostility import cases, json_values, refusal
from hypothesis import given
from hypothesis import strategies as st

import limner
from limner.app import server
from limner.app.access import Access
from limner.app.answers import Answers
from limner.app.player import Player
from limner.config import RunConfig
from limner.models import DRAWConfig, build
from limner.training.runs import Run
from test_figures import StandIn


def answered(headers, kind="http", path="/", query="", access=None):
    """Whether `access` lets a request through to the page, and what it sends itself."""
    reached, sent = [], []

    async def app(scope, receive, send):
        reached.append(scope["path"])

    async def send(message):
        sent.append(message)

    headers = [(name, value.encode()) for name, value in headers]
    scope = {"type": kind, "path": path, "headers": headers, "query_string": query.encode()}
    asyncio.run((access or Access("127.0.0.1")).guard(app)(scope, None, send))
    return bool(reached), [
        found for each in sent if (found := each.get("status", each.get("code")))
    ]


OWN = [
    "127.0.0.1",
    "127.0.0.1:7860",
    "localhost",
    "LOCALHOST:80",
    "[::1]:7860",
    "[::1]",
    "127.1.2.3:1",
]
FOREIGN = [
    "evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example:7860",
    "127.0.0.1@evil.example", "evil.example#127.0.0.1", "192.168.1.2:7860", "0.0.0.0:7860", "",
    "[::1", "[::1].evil.example", "localhost evil.example", "2130706433", "\xff",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_requests_to_this_machine_by_its_own_name_are_answered(kind):
    refusals = {"http": [403], "websocket": [1008]}[kind]
    for host in OWN:
        assert answered([(b"host", host)], kind) == (True, []), host
        assert answered([(b"host", host), (b"origin", f"http://{host}")], kind) == (True, []), host
    for host in FOREIGN:
        assert answered([(b"host", host)], kind) == (False, refusals), host
        own = (b"host", "127.0.0.1:7860")
        assert answered([own, (b"origin", f"https://{host}")], kind) == (False, refusals), host
        assert answered([own, (b"host", host)], kind) == (False, refusals), host
    assert answered([], kind) == (False, refusals)
    assert answered([(b"host", "localhost"), (b"origin", "null")], kind) == (False, refusals)


@cases(200)
@given(host=st.text(max_size=30) | st.from_regex(r"[a-z0-9.:\[\]@/#?-]{1,30}", fullmatch=True))
def test_any_other_host_is_refused(host):
    header = host.encode("utf-8", "surrogatepass").decode("latin-1")
    reached, _ = answered([(b"host", header)])
    assert not reached or re.match(r"(127\.|localhost|\[)", host.split("@")[-1].lower())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_what_listens_on_loopback_needs_no_token(host):
    assert Access(host).token is None
    others = ["0.0.0.0", "::", "192.168.1.2", "example.org", ""]
    assert len({Access(host).token for host in others} - {None}) == len(others)
    assert Access(host, ["studio.example"]).token, "others reach it through a proxy"


HOST = (b"host", "192.168.1.2:7860")


def cookie(access, value=None):
    return (b"cookie", f"other=1; {access.cookie}={access.token if value is None else value}; b=c")


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_other_machines_need_the_token(kind):
    access = Access("0.0.0.0")
    refusals = {"http": [401], "websocket": [1008]}[kind]
    assert answered([HOST, cookie(access)], kind, "/config", access=access) == (True, [])
    wrong = ["", "x", f"{access.token}x", access.token[:-1], "é", "\xff", Access("0.0.0.0").token]
    for value in wrong:
        given = [HOST, cookie(access, value)]
        assert answered(given, kind, "/config", access=access) == (False, refusals), value
    assert answered([HOST], kind, "/config", f"token={access.token}", access) == (False, refusals)
    assert answered([HOST], kind, access=access) == (False, refusals)
    own = Access("0.0.0.0")  # another server's cookie
    assert answered([HOST, cookie(own)], kind, access=access) == (False, refusals)


def test_the_token_in_the_address_becomes_a_cookie():
    access = Access("0.0.0.0")
    assert answered([HOST], query=f"token={access.token}", access=access) == (False, [303])
    assert answered([HOST], query=f"token={access.token}x", access=access) == (False, [401])
    assert answered([HOST], "websocket", query=f"token={access.token}", access=access)[1] == [1008]
    foreign = [HOST, (b"origin", "http://evil.example")]
    assert answered(foreign, query=f"token={access.token}", access=access) == (False, [403])


def test_names_of_other_sites_are_refused_with_the_token_too():
    access = Access("0.0.0.0", ["studio.example"])
    admitted = cookie(access)

    def asked(host, *origins):
        sent = [(b"host", host), admitted, *((b"origin", origin) for origin in origins)]
        return answered(sent, path="/config", access=access)

    own = socket.gethostname()
    for host in (
        "192.168.1.2:7860",
        "[fe80::1]:7860",
        "localhost",
        own,
        "STUDIO.example",
        "10.0.0.1",
    ):
        assert asked(host, f"http://{host}") == (True, []), host
        assert asked(host) == (True, []), host
    assert asked("10.0.0.1:7860", "https://studio.example") == (True, [])
    for host in (
        "evil.example",
        "studio.example.evil.example",
        "2130706433",
        "",
        "http://10.0.0.1",
    ):
        assert asked(host) == (False, [403]), host
    for origin in ("http://10.0.0.1:8000", "http://10.0.0.2:7860", "null", "http://evil.example"):
        assert asked("10.0.0.1:7860", origin) == (False, [403]), origin
    assert asked("10.0.0.1:7860", "http://10.0.0.1:7860", "http://evil.example")[1] == [403]


def test_the_printed_address_is_one_that_can_be_opened():
    assert Access("127.0.0.1").address("127.0.0.1", 7) == "http://127.0.0.1:7/"
    assert Access("::1").address("::1", 7) == "http://[::1]:7/"
    access = Access("0.0.0.0")
    address = access.address("0.0.0.0", 7)
    assert address.endswith(f":7/?token={access.token}")
    assert not address.startswith("http://0.0.0.0")
    host = address.removeprefix("http://").partition("/")[0]
    assert answered([(b"host", host), cookie(access)], access=access) == (True, [])


PLAYER = Player(StandIn("attention"), StandIn("attention").model())
PATHS = ("/home", "/root", "/tmp", "/usr", str(Path(limner.__file__).parent))
fields = json_values | st.sampled_from(["/etc/passwd", "../../etc/passwd", 10**400, -1, 1e400])
pictures = st.fixed_dictionaries({}, optional=dict.fromkeys(("picture", "erased", "fit"), fields))


@cases(150)
@given(
    drawings=st.tuples(pictures | fields, pictures | fields),
    numbers=st.tuples(fields, fields, fields),
)
def test_fields_of_any_content_are_answered_or_refused_without_a_path(drawings, numbers):
    answers = Answers(PLAYER)
    calls = [
        lambda: answers.redraw(drawings[0], numbers[0]),
        lambda: answers.walk(*drawings, *numbers[:2]),
        lambda: answers.complete(drawings[0], *numbers),
        lambda: answers.taken(drawings[0]),
        lambda: answers.sample(numbers[0], numbers[1], None),
    ]
    for call in calls:
        sentence = refusal(call)
        assert not any(path in sentence for path in PATHS)


# The real page


def request(port, path, content=None, **headers):
    """Status and text of an answer, headers and all."""
    body = (
        content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    )
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"} | headers
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=60) as answer:
            return answer.status, f"{answer.headers}{answer.read().decode('utf-8', 'replace')}"
    except urllib.error.HTTPError as error:
        with error:
            return error.code, f"{error.headers}{error.read().decode('utf-8', 'replace')}"


@contextlib.contextmanager
def playing(folder, *flags):
    """The port of a playground that `limner play` serves, what it prints, and its process id."""
    config = RunConfig(model=DRAWConfig(num_steps=2, hidden_dim=4, latent_dim=2), epochs=1)
    run = Run.create(folder / "shown", config)
    torch.manual_seed(0)
    state = build(config.model, (1, 28, 28)).state_dict()
    run.save_weights("best", {"ema": state}, {"image_shape": (1, 28, 28)})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "limner.cli", "play", str(run.path), "--port", str(port)]
    with subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, text=True, cwd=folder
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert str(port) in line
            yield port, line, process.pid
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The port of a playground, the folder of its run, and its process id."""
    folder = tmp_path_factory.mktemp("secret-place")
    with playing(folder) as (port, _, pid):
        yield port, folder, pid


@pytest.mark.slow
def test_a_page_for_other_machines_opens_with_the_printed_address_alone(tmp_path):
    with playing(tmp_path, "--host", "0.0.0.0") as (port, line, _):
        token = re.search(rf":{port}/\?token=([\w-]{{32}}) ", line)[1]
        for path in ("/", "/config", "/gradio_api/info", "/theme.css", "/?token=x", "/nothing"):
            status, said = request(port, path)
            assert status == 401, path
            assert said.endswith("limner play has printed.")
        assert request(port, "/gradio_api/queue/join", {"data": []})[0] == 401
        jar = http.cookiejar.CookieJar()
        browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
        )
        with browser.open(f"http://127.0.0.1:{port}/?token={token}", timeout=60) as answer:
            assert answer.url == f"http://127.0.0.1:{port}/"
            assert b"gradio" in answer.read()
        with browser.open(f"http://127.0.0.1:{port}/config", timeout=60) as answer:
            assert json.load(answer)["dependencies"]
        kept = {"Cookie": "; ".join(f"{each.name}={each.value}" for each in jar)}
        assert request(port, "/config", **kept)[0] == 200
        assert request(port, "/config", **kept, Host="evil.example")[0] == 403
        assert request(port, "/config", **kept, Origin="http://evil.example")[0] == 403
        assert request(port, "/config", Cookie=f"{kept['Cookie']}x")[0] == 401


@pytest.mark.slow
def test_the_page_listens_on_loopback_alone(page):
    port, _, pid = page
    hexadecimal = f":{port:04X}"
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]
    listening = [
        line.split()[1]
        for table in tables
        for line in table.splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(hexadecimal)
    ]
    assert listening == [f"0100007F{hexadecimal}"]


@pytest.mark.slow
def test_foreign_names_uploads_and_large_requests_are_refused(page):
    port, *_ = page
    assert request(port, "/config")[0] == 200
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/queue/join"):
        assert request(port, path, Host="evil.example")[0] == 403
        assert request(port, path, Origin="http://evil.example")[0] == 403
    assert request(port, "/gradio_api/upload", b"a")[0] == 403
    assert request(port, "/gradio_api/queue/join", bytes(server.MAX_BODY + 1))[0] == 413


def events(port, number, data):
    """What the page is told of an event, as the browser would hear it."""
    session = f"s{number}"
    joined = {"data": data, "fn_index": number, "session_hash": session, "trigger_id": None}
    status, said = request(port, "/gradio_api/queue/join", joined)
    return (
        said + request(port, f"/gradio_api/queue/data?session_hash={session}")[1]
        if status == 200
        else said
    )


FILES = "/gradio_api/file="
ASKED = [
    "/",
    "/config",
    "/info",
    "/gradio_api/info",
    "/openapi.json",
    "/docs",
    "/theme.css",
    "/gradio_api/app_id",
    "/app_id",
    "/robots.txt",
    "/monitoring",
    "/manifest.json",
    "/nothing",
    "/gradio_api/startup-events",
    "/gradio_api/token",
    "/gradio_api/user",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/file=../config.json",
    "/file=/etc/passwd",
    "/static/../../../../etc/passwd",
    "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1/x",
    "/custom_component/a/b/c",
    "/gradio_api/deep_link",
]


@pytest.mark.slow
def test_no_answer_shows_a_path_of_the_machine(page):
    """Pages, descriptions, errors: none holds the run's folder, the home, Python's place."""
    port, folder, _ = page
    secrets = {str(folder), str(folder.parent), str(Path.home()), sys.prefix, str(Path.cwd())}
    secrets |= {str(Path(limner.__file__).parents[1]), "site-packages", "Traceback"}
    config = json.loads(request(port, "/config")[1].partition("\n\n")[2])
    said = {path: request(port, path)[1] for path in (*ASKED, f"{FILES}{folder}/shown/config.json")}
    for dependency in config["dependencies"]:
        number, count = dependency["id"], len(dependency["inputs"])
        for value in ("/etc/passwd", {"path": str(folder)}, None, 10**9):
            said[f"event {number} {value}"] = events(port, number, [value] * count)
    for body in (b"{", b"[]", b'{"data": 1}', b"\xff"):
        for path in ("/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/x"):
            said[f"{path} {body}"] = request(port, path, body)[1]
    shown = {
        (asked, secret)
        for asked, text in said.items()
        for secret in secrets
        if secret in text.replace(asked.removeprefix(FILES), "")
    }
    assert not shown
    assert not any("root:x:0" in text for text in said.values())
