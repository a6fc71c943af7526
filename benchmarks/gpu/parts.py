"""The parts of the benchmark, the most useful first, each of which may fail alone."""

import json
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.equality import equal
from benchmarks.gpu.options import LONG, Options
from benchmarks.gpu.steps import memory, speed
from limner.data import load as load_data
from limner.data.dataset import Dataset
from limner.storage import write_atomically
from limner.training.made import maker

Part = Callable[[], Any]


def measure(options: Options) -> None:
    """Measure, until the time is over, what `gpu.json` does not hold yet, and write it there.

    After a part that leaves the GPU unusable the process ends; the next one takes the next part.
    """
    ends = time.monotonic() + 60 * options.minutes
    path, device = options.out / "gpu.json", torch.device(options.device)
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results.setdefault("about", _about(device) | {"tiny": options.tiny, "batch": options.batch})
    dataset = load_data(options.data)
    for name, part in parts(options, dataset, device).items():
        if name in results or not name.startswith(options.only):
            continue
        if time.monotonic() > ends:
            print(f"{name}: no time left", flush=True)
            continue
        started = time.monotonic()
        results[name] = {"failed": "the process ended"}  # unless it is replaced below
        write_atomically(path, json.dumps(results, indent=1).encode())
        try:
            results[name] = part()
        except Exception:
            results[name] = {"failed": traceback.format_exc()[-3000:]}
        seconds = time.monotonic() - started
        print(f"{name} ({seconds:.1f} s): {json.dumps(results[name])[:3000]}", flush=True)
        write_atomically(path, json.dumps(results, indent=1).encode())
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # raises if the part left the GPU unusable


def parts(options: Options, dataset: Dataset, device: torch.device) -> dict[str, Part]:
    """All parts by name."""
    recipes, found = options.recipes(), dict[str, Part]()
    for name, model in recipes.items():
        found[f"equal: {name}"] = partial(equal, model, dataset, device)
    at = (dataset, device, options)
    for name in list(recipes)[:2]:
        found[f"speed: {name}"] = partial(speed, recipes[name], *at)
    for depth in options.depths():
        for kept in ("store", "recompute"):
            found[f"memory: T = {depth}, {kept}"] = partial(memory, depth, kept, *at)
    for precision in ("tf32", "bfloat16"):
        if precision != "tf32" or device.type == "cuda":
            found[f"{precision}: {LONG}"] = partial(speed, recipes[LONG], *at, precision)
    for name, model in recipes.items():
        found.setdefault(f"speed: {name}", partial(speed, model, *at))
    for name, model in recipes.items():
        found.setdefault(f"bfloat16: {name}", partial(speed, model, *at, "bfloat16"))
    return found


def _about(device: torch.device) -> dict[str, Any]:
    about: dict[str, Any] = maker(device).model_dump()
    if device.type == "cuda":
        about["memory"] = torch.cuda.get_device_properties(device).total_memory
    return about
