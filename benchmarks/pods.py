# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Memory, collectives and least time of the 2B and 5B train steps, compiled for absent TPU pods.

    python benchmarks/pods.py [--out docs/results/pods.md] [--only v6e]

Runs launch/compile.py for each case without a report in the JSON file beside the page, which keeps
them: an interrupted run continues where it stopped. Delete a report there to compile its case
again. A case takes about five minutes of CPU time. Needs the libtpu version that matches jax, for
missing cases only.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
KERNEL = "--config.system.model.dit.attention=pallas"
NO_WEIGHTS = [f"--config.system.{name}=-" for name in ("vae_path", "text.t5_path", "text.llm_path")]

INTRODUCTION = """# Train steps on TPU pods, as compiled

The page covers the 2B and 5B presets at 49x480x720, with one clip per chip unless the mesh splits
clips. **No chip was present.** Memory and collectives are those of the program that the TPU
compiler produced. Times are bounds, not measurements: they follow from the FLOPs of the model, the
bytes of memory and collectives, and the maker's figures for a chip (docs of the TPU versions). A
real step is slower than its bound.

- **Memory** is that of the fullest chip. The first chip of a host also holds the frozen T5-XXL,
  Phi-3.5-mini and VAE in 16 bits; their activations are not counted.
- **`memory`** is the time to read every argument once, write every result once, and do both with
  every byte of scratch. Real programs do more.
- **`links`** is the time for the bytes that collectives bring to a chip, twice for an all-reduce,
  over all links that a chip has in the slice.
- **`least`** is the slowest of arithmetic, memory and links, as if it hid the others entirely.
- **`no overlap`** adds links to the slower of the other two.
- **Weak scaling** compares clips per second and chip with the first listed slice of the same model,
  chip and policy, by either bound.

Blocks are recomputed whole (`dit.remat=full`) unless the case names another policy.

Where `fsdp` spans all of 64 chips or more, the compiler gathers matrices by all-reduces of
zero-padded parts and reduces whole gradients. These replace the gathers and scatters of FSDP, at up
to twice their bytes. With `data` beside `fsdp` it gathers and scatters.
"""


class Case(NamedTuple):
    """A program to compile."""

    size: str
    topology: str
    mesh: tuple[tuple[str, int], ...]
    batch: int
    remat: str = "full"

    @property
    def name(self) -> str:
        """Name of the report."""
        mesh = "-".join(f"{axis}{size}" for axis, size in self.mesh)
        remat = "" if self.remat == "full" else f"-{self.remat}"
        return f"{self.size}-{self.topology.replace(':', '-')}-{mesh}-b{self.batch}{remat}"

    @property
    def arguments(self) -> list[str]:
        """Arguments of launch/compile.py."""
        return [
            "--config", f"configs/mimir.py:{self.size}",
            "--topology", self.topology,
            *(f"--config.mesh.{axis}={size}" for axis, size in self.mesh),
            f"--config.batch_size={self.batch}",
            *(() if self.remat == "full" else (f"--config.system.model.dit.remat={self.remat}",)),
            KERNEL,
            *NO_WEIGHTS,
        ]  # fmt: skip

    @property
    def chip(self) -> str:
        """Kind of chip, such as v5p."""
        return self.topology.partition(":")[0]


SLICES = {"v5p:2x2x1": 4, "v5p:4x4x4": 64, "v5p:4x8x8": 256, "v5p:8x8x8": 512}


def _split(size: str, chips: int) -> tuple[tuple[str, int], ...]:
    """Returns a mesh: the model over as many chips as divide its width, clips over the rest."""
    fsdp = min(chips, {"5b": 512, "2b": 64}[size])
    return (("fsdp", fsdp),) if fsdp == chips else (("data", chips // fsdp), ("fsdp", fsdp))


CASES = [
    *(
        Case(size, topology, _split(size, chips), chips)
        for topology, chips in SLICES.items()
        for size in ("5b", "2b")
    ),
    Case("5b", "v5p:4x4x4", (("data", 4), ("fsdp", 16)), 64),
    Case("5b", "v5p:4x4x4", (("fsdp", 16), ("context", 4)), 16),
    Case("2b", "v5p:4x4x4", (("fsdp", 16), ("context", 4)), 16),
    Case("5b", "v5p:4x4x4", (("fsdp", 64),), 64, "dots"),
    Case("5b", "v6e:8x8", (("data", 4), ("fsdp", 16)), 64),
    Case("2b", "v6e:8x8", (("data", 4), ("fsdp", 16)), 64),
    Case("5b", "v5e:8x8", (("fsdp", 16), ("context", 4)), 16),
    Case("2b", "v5e:8x8", (("data", 4), ("fsdp", 16)), 64),
    Case("5b", "v6e:8x8", (("fsdp", 16), ("context", 4)), 16, "dots"),
]


def compile_case(case: Case) -> dict | None:
    """Compiles a case.

    Returns:
        Its report, also of a program that does not fit; None where there is none.
    """
    command = [sys.executable, "launch/compile.py", *case.arguments]
    environment = {**os.environ, "PYTHONPATH": _path(), "TPU_SKIP_MDS_QUERY": "1"}
    print(shlex.join(command[1:]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "report.json")
        done = subprocess.run(
            [*command, "--json", str(out)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        print(done.stdout if done.returncode == 0 else done.stderr[-2000:], flush=True)
        return {**json.loads(out.read_text()), "versions": _versions()} if out.exists() else None


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def page(stored: dict[str, dict]) -> str:
    """Returns the page of the reports, given by the name of their case."""
    reports = {case: stored[case.name] for case in CASES if case.name in stored}
    versions = "; ".join(dict.fromkeys(report["versions"] for report in reports.values()))
    done = {case: report for case, report in reports.items() if "error" not in report}
    refused = [
        f"- {_label(case)}: {report['error']}"
        for case, report in reports.items()
        if "error" in report
    ]
    parts = [
        INTRODUCTION,
        f"{versions}. Made by `python benchmarks/pods.py`; {len(reports)} of {len(CASES)} cases "
        "compiled. `pods.json` keeps the reports. The v5p slices were compiled before reports were "
        "kept; [their page](pods_v5p.md) stays until they are compiled again.\n",
        "## Memory per chip, GB\n",
        _table([_memory(case, report) for case, report in done.items()]),
        *(["\nThe compiler refused:\n", *refused] if refused else []),
        "\n## Least time of a step\n",
        _table([_bound(case, report, done) for case, report in done.items()]),
        "\n## Collectives per chip and step\n",
        "Bytes are those of the results, or of the inputs for a reduce-scatter. Collectives count "
        "as `overlapped` if arithmetic is scheduled beside them or in the same fusion.\n",
        _table([row for case, report in done.items() for row in _traffic(case, report)]),
        "\n## Commands\n",
        "```bash",
        *(f"python launch/compile.py {shlex.join(case.arguments)}" for case in CASES),
        "```",
    ]
    return "\n".join(parts) + "\n"


def _label(case: Case) -> str:
    mesh = ", ".join(f"{axis} {size}" for axis, size in case.mesh)
    remat = "" if case.remat == "full" else f", remat {case.remat}"
    return f"{case.size} on {case.topology}, {mesh}{remat}"


def _memory(case: Case, report: dict) -> dict[str, str]:
    memory = report["memory"]
    return {
        "case": _label(case),
        "chips": str(report["devices"]),
        "batch": str(report["batch_size"]),
        **{
            name: f"{memory.get(name, 0) / 1e9:.2f}"
            for name in (
                "parameters",
                "optimizer",
                "average",
                "frozen networks",
                "temporary",
                "total",
            )
        },
        "of": f"{report['capacity'] / 1e9:.0f}",
        "fits": "yes" if report["fits"] else "**no**",
    }


def _bound(case: Case, report: dict, reports: dict[Case, dict]) -> dict[str, str]:
    seconds = report["seconds"]
    alike = (case.size, case.chip, case.remat)
    first = next(r for c, r in reports.items() if (c.size, c.chip, c.remat) == alike)

    def scaling(bound: Callable[[dict], float]) -> float:
        speed = [r["batch_size"] / r["devices"] / bound(r) for r in (report, first)]
        return 100 * speed[0] / speed[1]

    least, apart = scaling(lambda r: r["least_seconds"]), scaling(_no_overlap)
    useful = report["flops"] / report["executed_flops"]
    useful *= seconds["arithmetic"] / report["least_seconds"]
    return {
        "case": _label(case),
        "model FLOPs": f"{report['flops']:.2e}",
        **{name: f"{value:.2f} s" for name, value in seconds.items()},
        "least": f"{report['least_seconds']:.2f} s, {report['bound']}",
        "no overlap": f"{_no_overlap(report):.2f} s",
        "model FLOP utilisation": f"at most {100 * useful:.0f} %",
        "weak scaling": f"{min(apart, least):.0f} to {max(apart, least):.0f} %",
    }


def _no_overlap(report: dict) -> float:
    seconds = report["seconds"]
    return max(seconds["arithmetic"], seconds["memory"]) + seconds["links"]


def _traffic(case: Case, report: dict) -> list[dict[str, str]]:
    return [
        {
            "case": _label(case),
            "collective": kind,
            "runs": str(traffic["count"]),
            "GB": f"{traffic['bytes'] / 1e9:.2f}",
            "overlapped": str(traffic["overlapped"]),
        }
        for kind, traffic in report["traffic"].items()
    ]


def _table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "No reports yet."
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _versions() -> str:
    return ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "libtpu")
    )


def main() -> None:
    """Compiles missing cases and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=pathlib.Path, default=ROOT / "docs/results/pods.md", help="the page"
    )
    parser.add_argument("--only", help="compile only cases whose name contains this text")
    args = parser.parse_args()
    out = args.out.resolve()
    file = out.with_suffix(".json")
    stored = json.loads(file.read_text()) if file.exists() else {}
    for case in CASES:
        if case.name in stored or args.only is not None and args.only not in case.name:
            continue
        report = compile_case(case)
        if report is not None:
            stored[case.name] = report
            file.write_text(json.dumps(stored, indent=1) + "\n")
    out.write_text(page(stored))
    print(f"-> {out}")


if __name__ == "__main__":
    main()
