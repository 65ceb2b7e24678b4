# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Times two or more systems side by side, each in its own process, one working at a time.

A benchmark lists its phases and the constructor of each side by name; the first side is ours. The
first round compiles (on a GPU all sides at once), and its outputs are compared. Later rounds are
timed in turns. A side whose process ends early is left out. After every phase the page and the raw
numbers in docs/results/ are written again.
"""

import argparse
import contextlib
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
REST = 0.5
"""Seconds before a side's turn."""


class Side(Protocol):
    """A system under test."""

    def run(self, phase: str) -> np.ndarray:
        """Runs a phase to its end and returns the output, which should be equal for all sides."""


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A comparison of systems.

    Attributes:
        name: First part of the file names of the results.
        sides: Constructor `(case, folder, device) -> Side` of each side by name, ours first.
        phases: Phases in the order of timing; a case may have fewer.
        cases: Cases by name, the default first.
        make: `(case, folder, device)`, writes inputs of all sides, such as weights.
        describe: `(case, device)`, returns a description of one or two sentences.
        peers: Packages whose versions the page states.
        gpu_sides: The sides on a GPU; None takes `sides`.
        conclude: `(case, device, rows)`, returns the conclusion at the end of the page.
    """

    name: str
    sides: Mapping[str, Callable[[Any, pathlib.Path, str], Side]]
    phases: tuple[str, ...]
    cases: Mapping[str, Any]
    make: Callable[[Any, pathlib.Path, str], None]
    describe: Callable[[Any, str], str]
    peers: tuple[str, ...]
    gpu_sides: Mapping[str, Callable[[Any, pathlib.Path, str], Side]] | None = None
    conclude: Callable[[Any, str, list[dict]], str] | None = None

    def on(self, device: str) -> Mapping[str, Callable[[Any, pathlib.Path, str], Side]]:
        """Returns the sides that run on a device, ours first."""
        return self.sides if device == "cpu" or self.gpu_sides is None else self.gpu_sides


def main(benchmark: Benchmark) -> None:
    """Measures the case of the command line, prints the numbers and writes the page."""
    parser = argparse.ArgumentParser(prog=sys.argv[0])
    parser.add_argument(
        "--case", choices=benchmark.cases, default=next(iter(benchmark.cases)), help="case to time"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device of all sides"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds per side")
    parser.add_argument("--side", action="append", help="side to compare with; default all")
    parser.add_argument("--phase", action="append", choices=benchmark.phases, help="default all")
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "docs" / "results", help="folder"
    )
    parser.add_argument("--suffix", default="", help="end of the file names of the results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    case = benchmark.cases[args.case]
    if args.worker:
        return _serve(benchmark.on(args.device)[args.worker], case, args.folder, args.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        benchmark.make(case, folder, args.device)
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / f"{benchmark.name}-{args.case}-{args.device}{args.suffix}.md"
        rows = []
        for row in _measure(benchmark, args, folder):
            rows.append(row)
            path.write_text(_page(benchmark, args, rows))
            path.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"-> {path}")
    return None


def torch_attention(*, cudnn: bool) -> Callable[[], contextlib.AbstractContextManager]:
    """Returns a factory of contexts in which PyTorch uses cuDNN attention, or its own choice."""
    if not cudnn:
        return contextlib.nullcontext
    from torch.nn import attention

    return lambda: attention.sdpa_kernel(attention.SDPBackend.CUDNN_ATTENTION)


def device_name(device: str) -> str:
    """Returns the name of the device for the page."""
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
    """Runs each requested phase and answers with its seconds and the peak memory so far."""
    side = make(case, folder, device)
    print(json.dumps({"ready": _peak()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        before, busy = time.perf_counter(), time.process_time()
        out = side.run(request["phase"])
        seconds, cpu = time.perf_counter() - before, time.process_time() - busy
        if request["save"]:
            np.save(request["save"], out)
        print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": _peak()}), flush=True)


class _Worker:
    """A side in its own process."""

    def __init__(self, name: str, args: argparse.Namespace, folder: pathlib.Path):
        command = [sys.executable, sys.argv[0], "--worker", name, "--folder", str(folder)]
        command += ["--case", args.case, "--device", args.device]
        env = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if args.device == "cpu":
            env |= {"JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def ask(self, phase: str, save: pathlib.Path | None = None) -> None:
        """Requests a phase without waiting for it."""
        request = {"phase": phase, "save": None if save is None else str(save)}
        with contextlib.suppress(BrokenPipeError):  # `answer` reports it
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, float] | None:
        """Returns seconds and peak memory of the request, None if the process ended."""
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        return None

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


class _Field:
    """The sides whose processes still run."""

    def __init__(self, names: list[str], args: argparse.Namespace, folder: pathlib.Path):
        self._ours, self._folder = names[0], folder
        self._workers = {name: _Worker(name, args, folder) for name in names}
        self._together(self._workers)
        self._at_once = args.device != "cpu"

    def first(self, phase: str) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Returns seconds and output of the compiling call, by side."""
        paths = {name: self._folder / f"{i}.npy" for i, name in enumerate(self._workers)}
        names = list(self._workers)
        seconds = {}
        for group in [names] if self._at_once else [[name] for name in names]:
            for name in group:
                self._workers[name].ask(phase, paths[name])
            answers = self._together(group)
            seconds |= {name: answer["seconds"] for name, answer in answers.items()}
        return seconds, {name: np.load(paths[name]) for name in seconds}

    def turn(self, phase: str, number: int) -> dict[str, dict[str, float]]:
        """Returns the answer of each side, requested one after the other.

        Another side begins each turn. All rest first: threads of whatever ran before still spin.
        """
        names = list(self._workers)
        start = number % len(names)
        answers = {}
        for name in names[start:] + names[:start]:
            time.sleep(REST)
            self._workers[name].ask(phase)
            answers |= self._together([name])
        return {name: answers[name] for name in names if name in answers}

    def close(self) -> None:
        """Ends all processes."""
        for worker in self._workers.values():
            worker.close()

    def _together(self, names: Iterable[str]) -> dict[str, dict[str, float]]:
        answers = {}
        for name in list(names):
            answer = self._workers[name].answer()
            if answer is not None:
                answers[name] = answer
                continue
            self._workers.pop(name).close()
            print(f"{name} ended early and is left out; what it printed is above", flush=True)
            if name == self._ours:
                raise RuntimeError(f"{name} ended early; there is nothing to compare with")
        return answers


def _measure(
    benchmark: Benchmark, args: argparse.Namespace, folder: pathlib.Path
) -> Iterator[dict]:
    """Yields a row per phase: seconds and peak bytes of every side, ratios and differences."""
    ours, *others = benchmark.on(args.device)
    if unknown := set(args.side or ()) - set(others):
        raise ValueError(f"--side must be one of {', '.join(others)}, got {', '.join(unknown)}")
    others = [name for name in others if args.side is None or name in args.side]
    field = _Field([ours, *others], args, folder)
    case = benchmark.cases[args.case]
    for phase in args.phase or getattr(case, "phases", benchmark.phases):
        first, outputs = field.first(phase)
        rates, turns = [_product_rate()], []
        for number in range(args.rounds):
            turns.append(field.turn(phase, number))
            rates.append(_product_rate())
        ours, *peers = turns[-1]
        seconds = {name: [turn[name]["seconds"] for turn in turns] for name in turns[-1]}
        median = {name: statistics.median(values) for name, values in seconds.items()}
        row = {
            "phase": phase,
            "seconds": seconds,
            "median": median,
            "cpu": {
                name: statistics.median(turn[name]["cpu"] for turn in turns) for name in turns[-1]
            },
            "gflops": max(rates),
            "load": os.getloadavg()[0],
            "first": first,
            "peak": {name: answer["peak"] for name, answer in turns[-1].items()},
            "ratio": {peer: median[peer] / median[ours] for peer in peers},
            "difference": {
                peer: float(
                    np.abs(outputs[ours] - outputs[peer]).max() / np.abs(outputs[peer]).max()
                )
                for peer in peers
            },
        }
        told = ", ".join(
            f"{peer} {median[peer]:.3f} s ({row['ratio'][peer]:.2f} times ours, relative "
            f"difference {row['difference'][peer]:.1e})"
            for peer in peers
        )
        print(f"{phase}: {ours} {median[ours]:.3f} s, {told}", flush=True)
        yield row
    field.close()


def _page(benchmark: Benchmark, args: argparse.Namespace, rows: list[dict]) -> str:
    packages = ("jax", *benchmark.peers)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    precision = "float32" if args.device == "cpu" else "bfloat16"
    script = pathlib.Path(sys.argv[0]).resolve().relative_to(ROOT)
    ours = next(iter(benchmark.on(args.device)))
    head = ("phase", "side", "s", f"times {ours}", "CPU s", f"times {ours}", "first call, s",
            "peak GiB", "difference", "best product on the CPU, GFLOP/s")  # fmt: skip
    lines = [
        f"# {benchmark.name.capitalize()}, {args.case}, {args.device}",
        "",
        "```bash",
        f"python {script} --case {args.case} --device {args.device} --rounds {args.rounds}"
        + (f" --suffix={args.suffix}" if args.suffix else "")
        + "".join(f" --side {name}" for name in args.side or ())
        + "".join(f" --phase '{name}'" for name in args.phase or ()),
        "```",
        "",
        f"{device_name(args.device)}; {versions}; {precision}. "
        f"{benchmark.describe(benchmark.cases[args.case], args.device)} Times are medians of "
        f"{args.rounds} rounds in alternation, after a compiling one; a ratio above one means "
        f"slower than {ours}. Peak memory is that of the process so far, weights included. The "
        f"difference is the largest one between a side's output and that of {ours}, over the "
        "largest value. CPU seconds are those of the process; the best product is the fastest of "
        f"some products of large matrices in NumPy between the rounds.{_load(rows)}",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for row in rows:
        for name, seconds in row["median"].items():
            cells = [row["phase"] if name == ours else "", name, f"{seconds:.3f}"]
            cells.append("" if name == ours else f"{row['ratio'][name]:.2f}")
            cells.append(f"{row['cpu'][name]:.3f}")
            cells.append("" if name == ours else f"{row['cpu'][name] / row['cpu'][ours]:.2f}")
            cells += [f"{row['first'][name]:.1f}", f"{row['peak'][name] / 2**30:.2f}"]
            cells.append("" if name == ours else f"{row['difference'][name]:.1e}")
            cells.append(f"{row['gflops']:.0f}" if name == ours else "")
            lines.append(f"| {' | '.join(cells)} |")
    case = benchmark.cases[args.case]
    if benchmark.conclude is not None and (text := benchmark.conclude(case, args.device, rows)):
        lines += ["", text]
    return "\n".join(lines) + "\n"


def _product_rate() -> float:
    """Returns the GFLOP/s of the faster of three products of large matrices."""
    factor = np.ones((1024, 1024), np.float32)
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        factor @ factor
        seconds.append(time.perf_counter() - before)
    return 2e-9 * len(factor) ** 3 / min(seconds)


def _load(rows: list[dict]) -> str:
    """Says so where other programs ran beside the benchmark."""
    most = max(row["load"] for row in rows)
    if most < 1.5 * (os.cpu_count() or 1):
        return ""
    return (
        f" Measured beside other programs (load {most:.0f} on {os.cpu_count()} cores), so elapsed "
        "times and the best product are no property of the machine, and the CPU seconds of PyTorch "
        "count threads that spin while others wait; those of JAX compare."
    )


def _peak() -> int:
    """Returns the peak memory of this process in bytes, that of its GPU if it uses one."""
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    stats = (jax.devices()[0].memory_stats() or {}) if jax is not None else {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return stats.get("peak_bytes_in_use") or resident
