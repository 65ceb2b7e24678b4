# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Memory and time of converting a synthetic, sharded CogVideoX-5B with fewer layers in bfloat16.

    python benchmarks/convert.py [--layers 24] [--dir /tmp]

Writes the checkpoint, converts it to a native folder and back, each in its own process, and copies
the files before and after each conversion. Prints the peak resident memory, its limit (1.5 GB plus
twice the largest parameter), and the time relative to that of the copies.
"""

import argparse
import json
import math
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint

from mimir_jax.config import DiTConfig
from mimir_jax.weights import dit, rules, tensors

ROOT = pathlib.Path(__file__).parents[1]


def make(folder: pathlib.Path, layers: int) -> tuple[int, int]:
    """Writes the checkpoint; returns its size and that of its largest parameter in bytes."""
    family, config = dit.DiT(), DiTConfig(num_layers=layers)
    table, abstract = family.rules(config, ""), family.abstract(config)
    dtype = np.dtype(ml_dtypes.bfloat16)
    shapes = {n: (s, dtype) for n, s in rules.expected_shapes(table, abstract).items()}
    rng = np.random.default_rng(0)

    def values():
        for name, (shape, _) in shapes.items():
            yield name, rng.standard_normal(shape, np.float32).astype(dtype)

    folder.mkdir()
    tensors.SHARD_BYTES = 2_500_000_000
    tensors.write_safetensors(folder, family.stem, shapes, values())
    (folder / "config.json").write_text(json.dumps(family.write_config(config, family.classes[0])))
    largest = max(math.prod(x.shape) for x in abstract.values())
    return sum(f.stat().st_size for f in folder.iterdir()), largest * dtype.itemsize


def run(source: pathlib.Path, target: pathlib.Path, to: str) -> tuple[float, float]:
    """Converts in a new process; returns seconds and peak resident gigabytes."""
    before = time.monotonic()
    script = str(ROOT / "launch" / "convert.py")
    code = (
        "import resource, runpy, sys\n"
        f"sys.argv = ['convert', {str(source)!r}, {str(target)!r}, '--to={to}']\n"
        f"try:\n    runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak = int(out.stdout.split("peak ")[1])
    return time.monotonic() - before, peak * 1024 / 1e9


def copy(source: pathlib.Path, target: pathlib.Path) -> float:
    """Copies a folder and waits for the disk; returns seconds."""
    before = time.monotonic()
    shutil.copytree(source, target)
    subprocess.run(["sync", "-f", str(target)], check=True)
    seconds = time.monotonic() - before
    shutil.rmtree(target)
    return seconds


def main() -> None:
    """Measures both directions and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=24, help="layers of the transformer")
    parser.add_argument("--dir", default=None, help="folder for the temporary files")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as temporary:
        place = pathlib.Path(temporary)
        size, largest = make(place / "published", args.layers)
        limit = 1.5 + 2 * largest / 1e9
        print(
            f"jax {jax.__version__}, orbax {orbax.checkpoint.__version__}, {platform.machine()}, "
            f"{size / 1e9:.2f} GB, largest parameter {largest / 1e9:.2f} GB"
        )
        copies = [copy(place / "published", place / "copy")]
        for source, target, to in (
            ("published", "native", "native"),
            ("native", "back", "diffusers"),
        ):
            seconds, peak = run(place / source, place / target, to)
            copies.append(copy(place / "published", place / "copy"))
            ratio = seconds / np.mean(copies[-2:])
            print(
                f"{source} -> {target}: {seconds:.1f} s, {ratio:.2f} x a copy "
                f"({np.mean(copies[-2:]):.1f} s), peak {peak:.2f} GB of {limit:.2f} GB allowed"
            )
            assert peak < limit, (peak, limit)


if __name__ == "__main__":
    main()
