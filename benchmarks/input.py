# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Input pipelines: ours and torch's on the same videos, and precomputed features.

    python benchmarks/input.py [--workers 2] [--rounds 5] [--clips 64] [--batches 32]

The first part reads a temporary folder of small mp4s through `make_loader` and through a torch
DataLoader on the same `VideoFolder`: the same calls of av in the same number of worker processes,
both shuffled, batched and decoding ahead. The two take turns. While one is timed, the workers of
the other are idle, and batches that were ready before are drawn before the clock starts.

The second part precomputes the features of the embedded default and compares the loader's batches
per second with the steps per second of its train step. Writes docs/results/input.md. Needs the
`test` extra.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
from absl import flags

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `benchmarks`, which is no package of the distribution

from benchmarks import harness  # noqa: E402
from mimir_jax.config import TrainConfig, bridge  # noqa: E402
from mimir_jax.data import loader as loader_lib  # noqa: E402
from mimir_jax.data.sources import folder as folder_lib  # noqa: E402

AHEAD = 2  # batches that each side keeps ready per worker
GEOMETRY = {"frames": 17, "height": 64, "width": 64, "fps": 8}


def make_videos(folder: pathlib.Path, count: int) -> None:
    """Writes `count` captioned mp4s of 54 moving frames of 128 x 160 at 24 frames per second."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :160]
    for clip in range(count):
        wave = rng.uniform(0.02, 0.2, (3, 3))
        with av.open(str(folder / f"{clip:04d}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=24)
            stream.height, stream.width, stream.pix_fmt = 128, 160, "yuv420p"
            for t in range(54):
                phase = wave[0] * x[..., None] + wave[1] * y[..., None] + 4 * wave[2] * t
                image = (127.5 + 127 * np.sin(phase)).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        (folder / f"{clip:04d}.txt").write_text(f"waves, number {clip}")


def ours(source: folder_lib.VideoFolder, batch: int, workers: int) -> Iterator[Any]:
    """Returns the batches of this package."""
    prefetch = AHEAD * max(workers, 1)
    options = {"num_workers": workers, "num_threads": 1, "prefetch": prefetch}
    return loader_lib.make_loader(source, global_batch=batch, seed=0, **options)


def theirs(source: folder_lib.VideoFolder, batch: int, workers: int) -> Iterator[Any]:
    """Returns the batches of torch; one sampler runs through all epochs, as in ours."""
    import torch.utils.data

    ahead = {"prefetch_factor": AHEAD, "multiprocessing_context": "spawn"} if workers else {}
    endless = torch.utils.data.RandomSampler(source, num_samples=1 << 30)
    loader = torch.utils.data.DataLoader(
        source, batch, sampler=endless, num_workers=workers, collate_fn=collate, **ahead
    )
    return iter(loader)


def collate(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Stacks clips as tensors."""
    import torch

    return {
        "video": torch.stack([torch.from_numpy(record["video"]) for record in records]),
        "caption": [record["caption"] for record in records],
    }


SIDES: dict[str, Callable[..., Iterator[Any]]] = {"ours": ours, "torch": theirs}


def rate(batches: Iterator[Any], held: int, count: int) -> float:
    """Returns batches per second over `count` batches, after `held` that may have been ready."""
    for _ in range(held):
        next(batches)
    before = time.perf_counter()
    for _ in range(count):
        next(batches)
    return count / (time.perf_counter() - before)


def compare_decoding(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Returns records per second of both sides in each round."""
    make_videos(folder, args.clips)
    source = folder_lib.VideoFolder(folder, start="first", **GEOMETRY)
    held = AHEAD * max(args.workers, 1) + 1
    sides = {name: make(source, args.batch, args.workers) for name, make in SIDES.items()}
    for batches in sides.values():
        rate(batches, held, 1)  # starts workers
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(args.rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            rates[name].append(args.batch * rate(sides[name], held, args.batches))
    sides["ours"].close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {"rates": rates, "median": medians, "ratio": medians["ours"] / medians["torch"]}


def compare_features(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """Returns batches per second of precomputed features and steps per second in each round."""
    import jax

    from mimir_jax import systems
    from mimir_jax.parallel import context
    from mimir_jax.parallel import mesh as mesh_lib
    from mimir_jax.preparation import precompute
    from mimir_jax.training import compiled_step

    config = default_run(args.clips, folder)
    started = time.perf_counter()
    precompute.write_features(config, folder)
    prepared_seconds = time.perf_counter() - started
    mesh = mesh_lib.make_mesh(config.mesh.sizes)
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    step = compiled_step.make(config, system, mesh)
    batches = loader_lib.make_loader(
        encoder.source("train"), global_batch=config.batch_size, seed=0, sharding=step.batch
    )
    ready = (encoder.encode(batch) for batch in batches)
    placed = (loader_lib.device_put(batch, step.batch) for batch in ready)
    key = jax.device_put(jax.random.key(1), step.replicated)
    with context.use_mesh(mesh, step.rules):
        init = jax.jit(
            lambda key: step.make_state(system.model.init(key)), out_shardings=step.shardings
        )
        state, batch = init(key), next(placed)
        loads, steps = [], []
        for number in range(args.rounds + 1):
            loaded = rate(placed, 2 * AHEAD, args.batches)
            before = time.perf_counter()
            for _ in range(args.steps):
                state, _ = step.step(state, batch, key)
            jax.block_until_ready(state)
            if number:  # the first round compiles
                loads.append(loaded)
                steps.append(args.steps / (time.perf_counter() - before))
    batches.close()
    medians = {"batches": statistics.median(loads), "steps": statistics.median(steps)}
    return {
        "batches": loads,
        "steps": steps,
        "median": medians,
        "ratio": medians["batches"] / medians["steps"],
        "batch_size": config.batch_size,
        "prepared_seconds": prepared_seconds,
        "bytes": sum(file.stat().st_size for file in folder.glob("*.array_record")),
    }


def default_run(records: int, folder: pathlib.Path) -> TrainConfig:
    """Returns the embedded default, on `records` scenes and their features in `folder`."""
    spec = importlib.util.spec_from_file_location("mimir_config", ROOT / "configs" / "mimir.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = bridge.from_config_dict(TrainConfig, module.get_config())
    data = dataclasses.replace(
        config.data,
        toyworld=dataclasses.replace(config.data.toyworld, num_scenes=records),
        features=str(folder),
    )
    return dataclasses.replace(config, data=data)


def page(args: argparse.Namespace, decoding: dict[str, Any], features: dict[str, Any]) -> str:
    """Returns the page of results."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "grain", "torch", "av")
    )
    spans = {name: f"{min(x):.1f} to {max(x):.1f}" for name, x in decoding["rates"].items()}
    loads, steps = features["median"]["batches"], features["median"]["steps"]
    eaten = decoding["median"]["ours"] / (features["batch_size"] * steps)
    return f"""# Input

```bash
python benchmarks/input.py --workers {args.workers} --rounds {args.rounds} --clips {args.clips} \\
  --batches {args.batches}
```

{harness.device_name("cpu")}; {versions}. Medians of {args.rounds} rounds in alternation.

## Decoding a folder of videos

{args.clips} mp4s of 54 frames of 128 x 160 become clips of {GEOMETRY["frames"]} frames of
{GEOMETRY["height"]} x {GEOMETRY["width"]}, in batches of {args.batch} with {args.workers} workers.
Both sides decode with the same code and differ in the loader around it.

| | records/s | range |
|---|---|---|
| ours | {decoding["median"]["ours"]:.1f} | {spans["ours"]} |
| torch DataLoader | {decoding["median"]["torch"]:.1f} | {spans["torch"]} |
| ours over torch | {decoding["ratio"]:.2f} | |

## Precomputed features

Embedded default, batches of {features["batch_size"]}: reading and placing one, and training on it.

| | per second |
|---|---|
| batches of precomputed features | {loads:.1f} |
| train steps | {steps:.2f} |
| batches over steps | {features["ratio"]:.1f} |
| records decoded (first table) over clips trained on | {eaten:.1f} |

Precomputing {args.clips} records took {features["prepared_seconds"]:.0f} s, compilation included. A
record takes {features["bytes"] / args.clips / 1e3:.0f} kB.
"""


def main() -> None:
    """Measures both parts, prints the numbers and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="decoding processes per side")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per side")
    parser.add_argument("--clips", type=int, default=64, help="videos, and precomputed records")
    parser.add_argument("--batch", type=int, default=8, help="clips per batch of videos")
    parser.add_argument("--batches", type=int, default=32, help="batches per round")
    parser.add_argument("--steps", type=int, default=4, help="train steps per round")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    flags.FLAGS.mark_as_parsed()  # grain hands its flags to the workers
    with tempfile.TemporaryDirectory() as videos, tempfile.TemporaryDirectory() as features:
        decoding = compare_decoding(args, pathlib.Path(videos))
        print(
            f"videos: ours {decoding['median']['ours']:.1f} records/s, torch "
            f"{decoding['median']['torch']:.1f}, {decoding['ratio']:.2f} times as fast",
            flush=True,
        )
        ready = compare_features(args, pathlib.Path(features))
    print(
        f"features: {ready['median']['batches']:.1f} batches/s against "
        f"{ready['median']['steps']:.2f} steps/s, {ready['ratio']:.1f} times what training needs"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "input.md").write_text(page(args, decoding, ready))
    rows = {"videos": decoding, "features": ready}
    (args.out / "input.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"-> {args.out / 'input'}.md")


if __name__ == "__main__":
    main()
