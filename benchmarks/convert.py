# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Time and memory of converting a synthetic, sharded CogVideoX-5B with fewer layers in bfloat16.

    python benchmarks/convert.py [--layers 24] [--rounds 1] [--dir /tmp] [--out PAGE]

Writes the checkpoint, converts it to a native folder and back, each in its own process, and runs
`cp` and `sync` on the files before and after each conversion. Writes docs/results/conversion.md:
time and CPU time beside those of the copies, the CPU time of each stage, and the peak resident
memory, which must stay below 1.5 GB plus twice the largest parameter.
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import harness  # noqa: E402

GOAL = 2.0
STAGES = ("start-up", "reading", "finite check", "layout", "checksums", "SHA-256", "other")


class Run(NamedTuple):
    """What a process took.

    Attributes:
        seconds: From its start to its end.
        cpu: CPU seconds of all its threads.
        peak: Largest resident memory in GB, 0 where it was not asked for.
        stages: CPU seconds by stage.
    """

    seconds: float
    cpu: float
    peak: float = 0.0
    stages: dict[str, float] | None = None


def make(folder: pathlib.Path, layers: int) -> tuple[int, int]:
    """Writes the checkpoint; returns its size and that of its largest parameter in bytes."""
    from mimir_jax.config import DiTConfig
    from mimir_jax.weights import dit, rules, tensors

    family, config = dit.DiT(), DiTConfig(num_layers=layers)
    table, abstract = family.rules(config, ""), family.abstract(config)
    dtype = np.dtype(ml_dtypes.bfloat16)
    shapes = {n: (s, dtype) for n, s in rules.expected_shapes(table, abstract).items()}
    # Random bits below 2, all finite, from one block: drawing each value would take far longer.
    most = max(math.prod(shape) for shape, _ in shapes.values())
    block = np.frombuffer(np.random.default_rng(0).bytes(2 * most), np.uint16) & 0xBFFF

    def values():
        for name, (shape, _) in shapes.items():
            yield name, block[: math.prod(shape)].reshape(shape).view(dtype)

    folder.mkdir()
    tensors.SHARD_BYTES = 2_500_000_000
    tensors.write_safetensors(folder, family.stem, shapes, values())
    (folder / "config.json").write_text(json.dumps(family.write_config(config, family.classes[0])))
    largest = max(math.prod(x.shape) for x in abstract.values())
    return sum(f.stat().st_size for f in folder.iterdir()), largest * dtype.itemsize


def convert(source: pathlib.Path, target: pathlib.Path, to: str) -> Run:
    """Converts in a new process."""
    command = [sys.executable, __file__, "--convert", str(source), str(target), to]
    run, output = _timed(command)
    told = json.loads(output.splitlines()[-1])
    stages = told["stages"]
    stages["other"] = max(0.0, run.cpu - sum(stages.values()))
    return Run(run.seconds, run.cpu, told["peak"], stages)


def copy(source: pathlib.Path, target: pathlib.Path) -> Run:
    """Copies a folder and waits for the disk."""
    run = _timed(["cp", "-r", str(source), str(target)])[0]
    sync = _timed(["sync", "-f", str(target)])[0]
    shutil.rmtree(target)
    return Run(run.seconds + sync.seconds, run.cpu + sync.cpu)


def _timed(command: list[str]) -> tuple[Run, str]:
    before, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    seconds, now = time.monotonic() - before, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime), done.stdout


def convert_here(source: str, target: str, to: str) -> None:
    """Converts in this process and prints peak memory and CPU seconds by stage as JSON."""
    from mimir_jax import checksums, hashing, weights
    from mimir_jax.weights import copying, tensors

    spent = dict.fromkeys(STAGES[:-1], 0.0)
    spent["start-up"] = time.process_time()
    lock = threading.Lock()
    for stage, module, name in (
        ("reading", np, "fromfile"),
        ("finite check", tensors, "_all_finite"),
        ("layout", copying, "copy_into"),
        ("checksums", checksums, "_piece"),
        ("SHA-256", hashing, "sha256_file"),
    ):
        setattr(module, name, _counted(getattr(module, name), spent, stage, lock))
    weights.convert(source, target, to=to)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"peak": peak, "stages": spent}))


def _counted(
    call: Callable[..., Any], spent: dict[str, float], stage: str, lock: threading.Lock
) -> Callable[..., Any]:
    """Wraps a function so that the CPU time of its thread is added to a stage."""

    def counting(*args: Any, **kwargs: Any) -> Any:
        before = time.thread_time()
        try:
            return call(*args, **kwargs)
        finally:
            with lock:
                spent[stage] += time.thread_time() - before

    return counting


def page(
    arguments: str,
    sizes: tuple[int, int],
    copies: list[Run],
    runs: dict[str, list[Run]],
    load: float,
) -> str:
    """Returns the page.

    Args:
        arguments: Those of the command line.
        sizes: Bytes of the checkpoint and of its largest parameter.
        copies: Copies in order; one before each conversion and one after the last.
        runs: Conversions by name, in the order in which they took turns.
        load: Largest load of the machine that was seen.
    """
    size, largest = sizes
    limit = 1.5 + 2 * largest / 1e9
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("jax", "orbax-checkpoint", "tensorstore", "safetensors", "numpy")
    )
    number = len(next(iter(runs.values())))
    rounds = "One round." if number == 1 else f"Medians of {number} rounds."
    busy = ""
    if load > 1.5 * (os.cpu_count() or 1):
        busy = (
            f" Measured beside other programs (load {load:.0f} on {os.cpu_count()} cores): a "
            "conversion waits for the cores far longer than a copy, which waits for the disk, so "
            "elapsed times and their ratio are no property of the machine."
        )
    lines = [
        "# Conversion beside `cp`",
        "",
        "```bash",
        f"python benchmarks/convert.py {arguments}".rstrip(),
        "```",
        "",
        f"{harness.device_name('cpu')}; {versions}. A synthetic CogVideoX of {size / 1e9:.2f} GB "
        f"in bfloat16; its largest parameter, a stack of layers, has {largest / 1e9:.2f} GB. Each "
        "conversion is a process of its own, start-up included; a copy is `cp -r` and `sync`, one "
        f"before each conversion and one after. {rounds} The limit of memory is 1.5 GB and twice "
        f"the largest parameter.{busy}",
        "",
        "| | s | times `cp` | CPU s | times `cp` | peak GB | limit GB |",
        "|---|---|---|---|---|---|---|",
        f"| `cp` and `sync` | {_median(copies, 'seconds'):.1f} | | {_median(copies, 'cpu'):.1f} | "
        "| | |",
    ]
    for number, (name, found) in enumerate(runs.items()):
        beside = [copies[len(runs) * i + number : len(runs) * i + number + 2]
                  for i in range(len(found))]  # fmt: skip
        ratios = [
            statistics.median(
                getattr(run, what) / statistics.mean(getattr(c, what) for c in both)
                for run, both in zip(found, beside, strict=True)
            )
            for what in ("seconds", "cpu")
        ]
        lines.append(
            f"| {name} | {_median(found, 'seconds'):.1f} | {ratios[0]:.2f} | "
            f"{_median(found, 'cpu'):.1f} | {ratios[1]:.2f} | "
            f"{max(run.peak for run in found):.2f} | {limit:.2f} |"
        )
    lines += [
        "",
        f"The goal is at most {GOAL:.0f} times the time of `cp`. `times cp` is the ratio to the "
        "mean of the copies before and after, the median over rounds.",
        "",
        "CPU seconds by stage. Reading, checking, layout and checksums run on several threads, "
        "SHA-256 beside them, and writing beside what follows. `layout` copies matrices into the "
        "order of the target; `other` is "
        "mainly writing, and for native sources reading.",
        "",
        f"| | {' | '.join(STAGES)} |",
        f"|---|{'---|' * len(STAGES)}",
    ]
    for name, found in runs.items():
        cells = [statistics.median(run.stages[stage] for run in found) for stage in STAGES]
        lines.append(f"| {name} | {' | '.join(f'{x:.1f}' for x in cells)} |")
    return "\n".join(lines) + "\n"


def _median(found: list[Run], what: str) -> float:
    return statistics.median(getattr(run, what) for run in found)


def main() -> None:
    """Measures both directions, prints the results and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=24, help="layers of the transformer")
    parser.add_argument("--rounds", type=int, default=1, help="conversions in each direction")
    parser.add_argument("--dir", default=None, help="folder for the temporary files")
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "docs/results/conversion.md", help="the page"
    )
    parser.add_argument("--convert", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.convert:
        convert_here(*args.convert)
        return
    told = f"--layers {args.layers} --rounds {args.rounds}"
    with tempfile.TemporaryDirectory(dir=args.dir) as temporary:
        place = pathlib.Path(temporary)
        sizes = make(place / "published", args.layers)
        ways = {
            "published → native": ("published", "native", "native"),
            "native → published": ("native", "back", "diffusers"),
        }
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        copies = [copy(place / "published", place / "copy")]
        load = os.getloadavg()[0]
        for _ in range(args.rounds):
            for name, (source, target, to) in ways.items():
                runs[name].append(convert(place / source, place / target, to))
                copies.append(copy(place / "published", place / "copy"))
                load = max(load, os.getloadavg()[0])
                print(name, runs[name][-1], "copies", copies[-2:], flush=True)
                assert runs[name][-1].peak < 1.5 + 2 * sizes[1] / 1e9, "too much memory"
            for name in ("native", "back"):
                shutil.rmtree(place / name)
    args.out.write_text(page(told, sizes, copies, runs, load))
    print(f"-> {args.out}")


if __name__ == "__main__":
    main()
