"""The command line: finds a command by name and imports only the modules it needs."""

import _thread
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from traceback import walk_stack
from types import CodeType
from typing import NamedTuple

from limner.cpu.heap import kept_memory
from limner.errors import InputError, Stopped, enough_memory, on_command_line, unknown


class Command(NamedTuple):
    home: str
    """module:function. The parameters of the function are the flags."""
    summary: str
    parses: bool = False
    """Whether the function parses the arguments itself."""
    keeps_memory: bool = False
    """Whether freed memory stays with the process, for speed; see cpu/README.md."""
    imports: str = "training.runs"
    """A module, slow to import, that it needs once its flags are parsed; "" if it needs none."""


COMMANDS = {
    "train": Command(
        "train:train", "train a model, then evaluate it", parses=True, keeps_memory=True
    ),
    "evaluate": Command(
        "evaluate:evaluate", "-ELBO, -L_K, KL and active units of a run", keeps_memory=True
    ),
    "compare": Command(
        "compare:compare",
        "train and compare models, or compare finished runs",
        keeps_memory=True,
        imports="report",
    ),
    "study": Command("study:study", "train the runs of a study file, several at once", imports=""),
    "report": Command("report:report", "an HTML page about one or several runs", imports="report"),
    "sample": Command("sample:sample", "images from the prior"),
    "reconstruct": Command(
        "reconstruct:reconstruct",
        "test images beside their reconstructions",
        imports="figures.gallery",
    ),
    "interpolate": Command("interpolate:interpolate", "walk between two images or two samples"),
    "encode": Command("encode:encode", "write posterior means of images to a file"),
    "compress": Command(
        "compress:compress", "images as a file whose size is the bound", imports="coding.codec"
    ),
    "decompress": Command(
        "decompress:decompress", "the images in such a file", imports="coding.codec"
    ),
    "probe": Command("probe:probe", "how well representations predict labels"),
    "animate": Command(
        "animate:animate", "the images step by step, as GIF and strip", imports="figures.scenes"
    ),
    "figures": Command("figures:figures", "all figures of a run", imports="figures.gallery"),
    "play": Command("play:play", "draw with a model in the browser"),
    "push": Command("push:push", "publish a run on the Hugging Face Hub"),
    "models": Command("models:models", "list the trained models that come with Limner", imports=""),
    "recipes": Command(
        "recipes:recipes", "list the recipes of limner train, or show one", imports=""
    ),
    "benchmark": Command("benchmark:benchmark", "speed and memory, compared with a textbook DRAW"),
    "data": Command(
        "data:data",
        "list datasets, show what images a source has",
        parses=True,
    ),
}


CLOSED_PIPE = 128 + 13
"""Exit status, as in a shell, if the reader of the output closed the pipe (SIGPIPE is 13)."""


def main(arguments: list[str] | None = None) -> int:
    """Run `limner ARGUMENTS` and return its exit status."""
    for stream in (sys.stdout, sys.stderr):  # a pipe on Windows has few letters
        if isinstance(stream, io.TextIOWrapper):
            with suppress(OSError):  # a stream whose file was replaced by a pipe
                stream.reconfigure(errors="backslashreplace")
    try:
        try:
            with _interruptible():
                return _main(arguments)
        finally:
            sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error.__context__ or error, BrokenPipeError):  # rich exits on it
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return CLOSED_PIPE


@contextmanager
def _interruptible() -> Iterator[None]:
    """A context that re-raises a KeyboardInterrupt that Python swallowed.

    Python ignores exceptions in destructors and in some callbacks of compiled code.
    """
    hook = sys.unraisablehook

    def again(ignored: "sys.UnraisableHookArgs") -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            threading.Thread(target=_interrupt_after, args=(again.__code__,), daemon=True).start()
        else:
            hook(ignored)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = hook


def _interrupt_after(hook: CodeType) -> None:
    """Interrupt the main thread once it has left the hook, which would ignore it again."""
    main = threading.main_thread().ident
    assert main is not None
    while any(frame.f_code is hook for frame, _ in walk_stack(sys._current_frames()[main])):
        time.sleep(0.01)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)  # also ends a wait in the system
    else:
        _thread.interrupt_main()


def _main(arguments: list[str] | None) -> int:
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # a search through all packages
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        from limner import __version__

        print(__version__)
        return 0
    try:
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        from limner.progress import once, printed

        with on_command_line(), printed(), once(), enough_memory("ask for fewer images or samples"):
            _run(name, COMMANDS[name], rest)
    except InputError as error:
        _tell(error)
        return 2
    except KeyboardInterrupt:
        return 130
    except Stopped as error:
        _tell(error)
        return error.status
    return 0


def _run(name: str, command: Command, arguments: list[str]) -> None:
    from limner.commands.flags import bound

    module, _, function_name = command.home.partition(":")
    function: Callable[..., None] = getattr(
        importlib.import_module(f"limner.commands.{module}"), function_name
    )
    with kept_memory() if command.keeps_memory else nullcontext():
        if command.parses:
            function(arguments)
        else:
            _call(bound(function, f"limner {name}", arguments), command.imports)


def _call(function: Callable[[], None], imports: str) -> None:
    """Call a command; what is slow to import is imported first, which is shown."""
    from limner.progress import waiting

    if imports:
        with waiting("loading PyTorch"):
            importlib.import_module(f"limner.{imports}")
    function()


def _tell(error: Exception) -> None:
    """Print the sentence of an error."""
    from limner.progress import wrapped

    print(wrapped(f"limner: {error}", sys.stderr), file=sys.stderr)


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: limner COMMAND [OPTIONS]",
            "",
            "Deep latent-variable models of images: VAE, Ladder VAE and DRAW.",
            "",
            *lines,
            "",
            "limner COMMAND --help lists the options of a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
