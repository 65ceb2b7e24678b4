# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Two or more systems timed side by side: each in a process of its own, one working at a time.

A benchmark lists its phases and, by name, what makes each side; the first side is ours. A first
round compiles, and its outputs are compared; the rounds after it are timed in turns. Writes a page
and the raw numbers to docs/results/.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]


class Side(Protocol):
    """A system under test."""

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase to its end and returns what the sides should agree on."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is compared.

    Attributes:
        name: First part of the names of its results.
        sides: Name to `(case, folder, device) -> Side`, ours first.
        phases: Timed one after the other.
        cases: Name to what is timed, the default first.
        make: Writes what all sides read, such as weights, into a folder.
        describe: Says in a sentence or two what a case is.
        peers: Packages whose versions belong on the page.
        gpu_only: Sides that are left out on a CPU.
        conclude: Says what follows from the rows of a case, at the end of the page.
    """

    name: str
    sides: Mapping[str, Callable[[Any, pathlib.Path, str], Side]]
    phases: tuple[str, ...]
    cases: Mapping[str, Any]
    make: Callable[[Any, pathlib.Path], None]
    describe: Callable[[Any, str], str]
    peers: tuple[str, ...]
    gpu_only: tuple[str, ...] = ()
    conclude: Callable[[Any, list[dict]], str] | None = None

    def on(self, device: str) -> list[str]:
        """Returns the names of the sides that run on a device, ours first."""
        return [name for name in self.sides if device != "cpu" or name not in self.gpu_only]


def main(benchmark: Benchmark) -> None:
    """Measures, prints and writes what the command line asks for."""
    parser = argparse.ArgumentParser(prog=sys.argv[0])
    parser.add_argument("--case", choices=benchmark.cases, default=next(iter(benchmark.cases)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "results")
    parser.add_argument("--worker", choices=benchmark.sides, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    case = benchmark.cases[args.case]
    if args.worker:
        return _serve(benchmark.sides[args.worker], case, args.folder, args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        benchmark.make(case, folder)
        rows = _measure(benchmark, args, folder)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / f"{benchmark.name}-{args.case}-{args.device}.md"
    path.write_text(_page(benchmark, args, rows))
    path.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"-> {path}")
    return None


def device_name(device: str) -> str:
    """Returns what the page calls the device."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name()
    names = [
        line.partition(":")[2].strip()
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _serve(make: Callable[..., Side], case: Any, folder: pathlib.Path, device: str) -> None:
    """Answers each phase that comes in with its seconds and the peak memory so far."""
    side = make(case, folder, device)
    print(json.dumps({"ready": _peak()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        before = time.perf_counter()
        out = side.run(request["phase"])
        seconds = time.perf_counter() - before
        if request["save"]:
            np.save(request["save"], out)
        print(json.dumps({"seconds": seconds, "peak": _peak()}), flush=True)


class _Worker:
    """One side, in its own process."""

    def __init__(self, name: str, args: argparse.Namespace, folder: pathlib.Path):
        command = [sys.executable, sys.argv[0], "--worker", name, "--folder", str(folder)]
        command += ["--case", args.case, "--device", args.device]
        env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if args.device == "cpu":
            env |= {"JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        self._answer()

    def run(self, phase: str, save: pathlib.Path | None = None) -> dict[str, float]:
        """Runs a phase; returns seconds and peak memory."""
        request = {"phase": phase, "save": None if save is None else str(save)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("a side ended early; what it printed is above")


def _measure(benchmark: Benchmark, args: argparse.Namespace, folder: pathlib.Path) -> list[dict]:
    """Returns a row a phase: seconds and peak bytes of every side, ratios and differences."""
    workers = {name: _Worker(name, args, folder) for name in benchmark.on(args.device)}
    ours, *peers = workers
    rows = []
    for phase in benchmark.phases:
        first, outputs = {}, {}
        for name, worker in workers.items():
            first[name] = worker.run(phase, folder / "output.npy")["seconds"]
            outputs[name] = np.load(folder / "output.npy")
        seconds: dict[str, list[float]] = {name: [] for name in workers}
        peak = {}
        for _ in range(args.rounds):
            for name, worker in workers.items():
                answer = worker.run(phase)
                seconds[name].append(answer["seconds"])
                peak[name] = answer["peak"]
        median = {name: statistics.median(values) for name, values in seconds.items()}
        row = {
            "phase": phase,
            "seconds": seconds,
            "median": median,
            "first": first,
            "peak": peak,
            "ratio": {peer: median[peer] / median[ours] for peer in peers},
            "difference": {
                peer: float(
                    np.abs(outputs[ours] - outputs[peer]).max() / np.abs(outputs[peer]).max()
                )
                for peer in peers
            },
        }
        rows.append(row)
        told = ", ".join(
            f"{peer} {median[peer]:.3f} s ({row['ratio'][peer]:.2f} times ours, relative "
            f"difference {row['difference'][peer]:.1e})"
            for peer in peers
        )
        print(f"{phase}: {ours} {median[ours]:.3f} s, {told}", flush=True)
    for worker in workers.values():
        worker.close()
    return rows


def _page(benchmark: Benchmark, args: argparse.Namespace, rows: list[dict]) -> str:
    packages = ("jax", *benchmark.peers)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    precision = "float32" if args.device == "cpu" else "bfloat16"
    script = pathlib.Path(sys.argv[0]).resolve().relative_to(ROOT)
    ours = benchmark.on(args.device)[0]
    head = ("phase", "side", "s", f"times {ours}", "first call, s", "peak GiB", "difference")
    lines = [
        f"# {benchmark.name.capitalize()}, {args.case}, {args.device}",
        "",
        "```bash",
        f"python {script} --case {args.case} --device {args.device} --rounds {args.rounds}",
        "```",
        "",
        f"{device_name(args.device)}; {versions}; {precision}. "
        f"{benchmark.describe(benchmark.cases[args.case], args.device)} Median of {args.rounds} "
        f"rounds in turns, after one that compiles; above one, a side takes longer than {ours}. "
        "Peak memory is that of the process so far, weights included. The difference is the "
        f"largest one between its output and that of {ours}, over the largest value.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for row in rows:
        for name, seconds in row["median"].items():
            cells = [row["phase"] if name == ours else "", name, f"{seconds:.3f}"]
            cells.append("" if name == ours else f"{row['ratio'][name]:.2f}")
            cells += [f"{row['first'][name]:.1f}", f"{row['peak'][name] / 2**30:.2f}"]
            cells.append("" if name == ours else f"{row['difference'][name]:.1e}")
            lines.append(f"| {' | '.join(cells)} |")
    if benchmark.conclude is not None:
        lines += ["", benchmark.conclude(benchmark.cases[args.case], rows)]
    return "\n".join(lines) + "\n"


def _peak() -> int:
    """Returns the most memory that this process has held, on its GPU if it uses one, in bytes."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    stats = (jax.devices()[0].memory_stats() or {}) if jax is not None else {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return stats.get("peak_bytes_in_use") or resident
