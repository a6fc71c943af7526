"""Progress and messages: what reaches a log, a terminal, a notebook and the host application."""

import io
import logging
import re
import subprocess
import sys
import threading
import time
import types

import pytest

from limner import cli
from limner.progress import (
    duration,
    lines,
    once,
    printed,
    progress_bar,
    say,
    terminal,
    training_display,
    waiting,
    warn,
)


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Seconds pass only when a test says so."""
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


class Host(logging.Handler):
    """The handler of a host application."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    @property
    def texts(self):
        return [record.getMessage() for record in self.records]


@pytest.fixture
def host():
    """A host that logs all messages of Limner, and leaves logging as it was."""
    logger, host = logging.getLogger("limner"), Host()
    logger.addHandler(host)
    logger.setLevel(logging.INFO)
    yield host
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(host)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """A terminal as standard error."""
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "console", terminal.Console(file=screen, width=200))
    return screen


def plain(shown):
    """What a terminal was sent, without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


@pytest.fixture
def cells(monkeypatch):
    """The outputs of a notebook by their numbers; all versions of each."""
    cells = []

    class Handle:
        def __init__(self, number):
            self.number = number

        def update(self, data, raw):
            assert raw
            cells[self.number].append(data)

    def display(data, raw, display_id):
        assert raw
        assert display_id
        cells.append([data])
        return Handle(len(cells) - 1)

    ipython = types.ModuleType("IPython")
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return cells


def test_a_log_has_a_line_at_once_soon_each_minute_and_at_the_end(clock, host):
    with progress_bar("evaluating", 1000, about="to runs/x") as report:
        assert host.texts == ["evaluating: 1,000 images to runs/x"]
        seconds = [1, 5, 11, 12, 40, 55, 57, 80, 110, 125]
        for done, clock.now in enumerate(seconds):
            report(100 * done, f"ELBO {-done}")
    assert host.texts[1:] == [
        "evaluating: 20%, 200 of 1,000 images, ELBO -2, 0:40 left",
        "evaluating: 60%, 600 of 1,000 images, ELBO -6, 0:37 left",
        "evaluating: 80%, 800 of 1,000 images, ELBO -8, 0:27 left",
        "evaluating: done in 2:05",
    ]


def test_no_minute_passes_without_a_line(clock, host):
    """A compilation or a slow step reports nothing."""
    with training_display("draw", "compiling"):
        log = lines.Lines("draw", "compiling")
        for clock.now in range(0, 200, 5):
            log.remind()
        log.close(False)
    assert host.texts == [
        "draw: compiling; still at work after 0:20",
        "draw: compiling; still at work after 1:10",
        "draw: compiling; still at work after 2:00",
        "draw: compiling; still at work after 2:50",
    ]


def test_a_reminder_comes_from_a_thread_of_its_own(host, monkeypatch):
    reminded = threading.Event()
    monkeypatch.setattr(lines, "TICK", 0.0)
    monkeypatch.setattr(lines, "SOON", 0.0)
    monkeypatch.setattr(host, "emit", lambda record: reminded.set())
    with training_display("draw"):
        assert reminded.wait(60)
    assert not any(thread.name == "limner-progress" for thread in threading.enumerate())


def test_figures_are_due_once_a_minute_in_a_log(clock, host):
    with training_display("vae") as display:
        due = []
        for clock.now in range(0, 130, 5):
            if display.due():
                due.append(clock.now)
                display.update(clock.now / 130, "epoch 1", None)
    assert due == [10, 55, 100]


def test_without_a_log_nothing_is_due():
    """Figures cost a reading from the device."""
    with training_display("vae") as display:
        assert not display.due()


def test_work_that_failed_is_not_called_done(clock, host):
    def reading():
        with progress_bar("reading", 4) as report:
            clock.now = 20.0
            report(2, "")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        reading()
    assert not any("done" in text for text in host.texts)


def test_resumed_work_takes_its_speed_from_what_is_new(clock, host):
    with progress_bar("evaluating", 1000) as report:
        report(800, "")
        clock.now = 10.0
        report(900, "")
    assert "0:10 left" in host.texts[1]


def test_warnings_reach_a_host_that_configures_nothing_and_messages_do_not(capsys):
    warn("A warning.")
    say("A message.")
    with progress_bar("reading", 3):
        pass
    out, err = capsys.readouterr()
    assert (out, err) == ("", "A warning.\n")


def test_a_host_routes_and_silences(host, capsys):
    say("Training.")
    logging.getLogger("limner").setLevel(logging.ERROR)
    warn("A warning.")
    say("Training again.")
    assert [(record.name, record.levelno) for record in host.records] == [("limner", logging.INFO)]
    assert capsys.readouterr() == ("", "")


def test_progress_can_be_silenced_alone(host, screen):
    progress = logging.getLogger("limner.progress")
    progress.setLevel(logging.WARNING)
    try:
        with progress_bar("reading", 3) as report:
            report(1, "")
        say("Done.")
    finally:
        progress.setLevel(logging.NOTSET)
    assert host.texts == ["Done."]
    assert not screen.getvalue()


def test_a_warning_comes_once_in_a_training_and_again_in_the_next(host):
    for _ in range(2):
        with once():
            warn("Stretched.")
            with once():
                warn("Stretched.")
            warn("Stretched.")
    assert host.texts == ["Stretched."] * 2


def test_control_characters_are_printed_as_python_writes_them(host):
    warn("a\x1b[2J\nb %s")
    assert host.texts == ["a\\x1b[2J\\nb %s"]


def test_only_the_first_of_several_processes_reports(host, screen, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    say("Training.")
    warn("Stretched.")
    with progress_bar("reading", 3) as report:
        report(1, "")
    assert not host.texts
    assert not screen.getvalue()


def test_the_command_line_prints_lines_and_leaves_logging_as_it_was(capsys):
    logger = logging.getLogger("limner")
    before = logger.level, logger.propagate, list(logger.handlers)
    with printed():
        say("[bold]Training :smile: " + 200 * "x")
        with progress_bar("reading", 3):
            pass
    out, err = capsys.readouterr()
    assert not out
    assert err == f"[bold]Training :smile: {200 * 'x'}\nreading: 3 images\n"
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_command_announces_what_it_does_before_its_results(tmp_path, capsys):
    flags = ["--data.name", "digits", "--epochs", "2", "--model.hidden-dims", "8"]
    handlers = list(logging.getLogger("limner").handlers)
    assert cli.main(["train", "vae", *flags, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err.splitlines()
    *lines, following = [line for line in told if "warm-up" not in line and "..." not in line]
    start, *_, end, evaluation = lines
    assert f"2 epochs of 10 steps, to {tmp_path}/run." in start
    assert "MiB" in start
    assert following == f"next: limner report {tmp_path / 'run'}"
    assert re.search(r"vae: trained 2 epochs in 0:\d\d, best validation -ELBO \d+\.\d\d\.$", end)
    assert evaluation.startswith("evaluating run: 250 images of digits, K = 50, to ")
    assert logging.getLogger("limner").handlers == handlers


def test_lines_are_flushed_while_a_command_runs(tmp_path):
    """They reach a pipe before the process ends."""
    code = """
import sys
from limner.progress import printed, say
with printed():
    say("Training.")
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "Training.\n"
        process.stdin.close()


def test_a_closed_standard_error_stops_nothing(monkeypatch):
    closed = io.StringIO()
    monkeypatch.setattr(terminal, "console", terminal.Console(file=closed))
    monkeypatch.setattr(closed, "write", lambda text: (_ for _ in ()).throw(OSError(28, "full")))
    with printed():
        say("Training.")


def test_bars_of_several_trainings_share_a_terminal(screen):
    with training_display("first [draw]") as one, training_display("second") as two:
        assert one.due()
        one.update(0.5, "bound -10", 90.0)
        two.update(0.2, "bound -20", None)
        with printed():
            warn("Stretched.")
            say("Training.")
        assert not one.due()
        terminal._bars._progress.refresh()
    shown = screen.getvalue()
    assert "first [draw]" in shown
    assert re.search(r"first \[draw\].* 1:30 left *\n  bound -10", plain(shown))
    assert "bound -20" in shown
    assert "Stretched." in shown
    assert "Training." in shown
    assert "50%" not in shown, "lines are for logs"
    assert terminal._bars._progress is None


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_lines(kind, screen, monkeypatch):
    monkeypatch.setenv("TERM", kind)
    with printed(), progress_bar("reading", 3) as report:
        report(1, "")
    assert screen.getvalue() == "reading: 3 images\n"


def test_every_line_fits_a_terminal_of_80_columns(screen, monkeypatch):
    monkeypatch.setattr(terminal, "console", terminal.Console(file=screen, width=80))
    long = "evaluating mnist-draw-attention-32-steps-longer-and-longer"
    figures = "epoch 99.9 of 1,000, -ELBO 103.3, best validation -ELBO 104.21, 123,456 images/s"
    with printed(), training_display(long) as display, waiting("loading PyTorch"):
        display.update(0.5, figures, 3900.0)
        say("Word " * 40)
        terminal._bars._progress.refresh()
    lines = [line for line in plain(screen.getvalue()).replace("\r", "\n").splitlines() if line]
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  epoch 99.9 of 1,000, -ELBO 103.3, best") for line in lines)
    assert any("loading PyTorch" in line for line in lines)
    assert not any("Wor" in line and "Word" not in line for line in lines)


def test_a_log_names_a_wait_only_if_it_is_long(monkeypatch, capsys):
    with printed(), waiting("loading a small model"):
        pass
    monkeypatch.setattr(lines, "QUIET", 0.0)
    named = threading.Event()
    monkeypatch.setattr(lines.PROGRESS, "info", lambda *words: named.set())
    with printed(), waiting("loading a model"):
        assert named.wait(60)
    assert not capsys.readouterr().err


def test_a_suggestion_comes_after_the_results_and_is_a_command(capfd):
    code = """
from limner.progress import printed, suggest
with printed():
    print("results")
    suggest("report", "runs/my run")
"""
    subprocess.run([sys.executable, "-c", code], check=True, stderr=sys.stdout.fileno())
    assert capfd.readouterr().out == "results\nnext: limner report 'runs/my run'\n"


def test_a_notebook_has_one_output_that_is_updated_in_place(cells, clock):
    with training_display("a <b>") as display:
        assert not display.due()
        clock.now = 1.0
        assert display.due()
        display.update(0.25, "bound < -10", 90.0)
        display.update(0.26, "too soon", 89.0)
    (versions,) = cells
    assert len(versions) == 3
    html = versions[1]["text/html"]
    assert 'value="0.2500"' in html
    assert "a &lt;b&gt;" in html
    assert "bound &lt; -10, 1:30 left" in html
    assert versions[1]["text/plain"] == "a <b>: 25%, bound < -10, 1:30 left"
    assert versions[2]["text/plain"] == "a <b>: done in 0:01, too soon"
    assert "progress" not in versions[2]["text/html"]


def test_a_notebook_keeps_the_last_figures_of_an_interrupted_training(cells, clock):
    def training():
        with training_display("vae") as display:
            clock.now = 61.0
            display.update(0.25, "bound -10", None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training()
    assert cells[0][-1]["text/plain"] == "vae: stopped after 1:01, bound -10"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (192, "3:12"), (3792, "1:03:12")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
