# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What step caches save and what obedience they cost, on a trained model with the exact judge.

    python benchmarks/caches.py [--scenes 12] [--split validation]

Draws the same clips (scene, prompt, noise) with every setting in turn, in one process, from the
miniature that ships with the package. Measures the share of transformer blocks that ran and the CPU
time of the sampling loop, both relative to the loop without a cache, and judges every clip. Writes
docs/results/caches.md and its numbers after every scene, so that it may be stopped.
"""

import argparse
import functools
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import harness, judged  # noqa: E402
from mimir_jax.cli import host  # noqa: E402
from mimir_jax.config import Shortcuts  # noqa: E402

SETTINGS = {
    "off": Shortcuts(),
    "guidance_every=2": Shortcuts(guidance_every=2),
    "first_block, 0.1": Shortcuts("first_block", 0.1),
    "first_block, 0.2": Shortcuts("first_block", 0.2),
    "forecast, 0.05": Shortcuts("forecast", 0.05),
    "forecast, 0.15": Shortcuts("forecast", 0.15),
    "forecast, 0.05, guidance_every=2": Shortcuts("forecast", 0.05, 2),
}


class Sampler:
    """The shipped miniature with any shortcuts, and a count of the blocks that ran."""

    def __init__(self, checkpoint: str):
        import jax

        from mimir_jax.sampling import latents, open

        self.pipeline = open.open_pipeline(checkpoint)
        system = self.pipeline.system
        self._jax, self._blocks, self._layers = jax, 0.0, system.backbone.num_layers
        network = system.denoise

        def counted(params: Any, xt: Any, time: Any, condition: Any, aux: Any = None) -> Any:
            pred, after = network(params, xt, time, condition, aux)
            whole = True if aux is None else after.runs > aux.runs
            jax.debug.callback(functools.partial(self._count, rows=len(xt)), whole)
            return pred, after

        system.denoise = counted
        self._denoise = latents.make_denoise(system)

    def _count(self, whole: Any, rows: int) -> None:
        self._blocks += rows * (self._layers if whole else 1)

    def features(self, request: Any) -> tuple:
        """Returns what conditions both branches of a request; encoded once for all settings."""
        encoder = self.pipeline.encoder
        return encoder.features([request]), encoder.null_features([request])

    def draw(self, features: tuple, seed: int, shortcuts: Shortcuts) -> tuple[Any, float, float]:
        """Returns a clip (frames, rows, columns, 3), the blocks that ran and CPU seconds."""
        from mimir_jax.diffusion import guidance
        from mimir_jax.sampling import request, video

        pipeline, sampler = self.pipeline, self.pipeline.scheduler
        cfg = pipeline.system.config.sampler
        scales = guidance.scales(cfg, sampler.schedule, sampler.times())
        shape = (1, *pipeline.system.codec.latent_shape(*pipeline.size))
        self._blocks, before = 0.0, time.process_time()
        drawn = self._denoise(
            pipeline.params, *features, scales, request.make_keys([seed]), sampler=sampler,
            shape=shape, rescale=cfg.guidance_rescale, shortcuts=shortcuts,
        )  # fmt: skip
        self._jax.block_until_ready(drawn)
        seconds = time.process_time() - before
        self._jax.effects_barrier()
        frames = pipeline.decode(drawn)[0]
        return video.to_uint8(2.0 * frames - 1.0), self._blocks, seconds


def measure(sampler: Sampler, sample: Any) -> dict[str, dict]:
    """Returns blocks, seconds, difference and judged categories of every setting for a clip."""
    from mimir_jax import evaluation
    from mimir_jax.sampling.request import Request

    features = sampler.features(Request(sample.prompt, seed=sample.seed))
    found, plain = {}, None
    for name, shortcuts in SETTINGS.items():
        frames, blocks, seconds = sampler.draw(features, sample.seed, shortcuts)
        plain = frames if plain is None else plain
        verdict = evaluation.judge(sample.scene, frames)
        found[name] = {
            "blocks": blocks,
            "seconds": seconds,
            "difference": float(np.abs(frames.astype(float) - plain).mean()),
            "passed": {key: bool(verdict[key].passed) for key in sample.categories},
        }
    return found


def page(rows: list[dict[str, dict]], args: argparse.Namespace) -> str:
    """Returns the page of what was measured so far."""
    base = rows[0]["off"]["blocks"]
    head = ("setting", "blocks that ran", "speed-up by blocks", "by CPU time", "passed, %",
            "change, points", "difference of pixels")  # fmt: skip
    lines = [
        "# Step caches",
        "",
        "```bash",
        f"python benchmarks/caches.py --scenes {args.scenes} --split {args.split}",
        "```",
        "",
        f"{harness.device_name('cpu')}. {len(rows)} scenes of `{args.split}`, each asked for in "
        "one long caption with one seed, drawn by the shipped miniature with its own sampler "
        "(DDIM, 20 steps, guidance 4) in every setting, from the same noise. `blocks that ran` "
        "counts transformer blocks per row, relative to no cache; CPU time is that of the "
        "process in the sampling loop, without encoding and decoding, the median over scenes of "
        "the ratio of `off` to the setting. "
        f"{judged.load_note(args.load, 'elapsed time')}"
        "Passed is the share of all judged categories of all clips, "
        "with the 95 % interval of a bootstrap over scenes; change is the difference from `off` on "
        "the same clips. The difference of pixels is the mean absolute one from `off`, of 255.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for name in SETTINGS:
        blocks = np.mean([row[name]["blocks"] for row in rows]) / base
        timed = [row for row in rows if "seconds" in row["off"]]
        ratio = np.median([row["off"]["seconds"] / row[name]["seconds"] for row in timed])
        change = "" if name == "off" else judged.share(rows, name, "off")
        pixels = np.mean([row[name]["difference"] for row in rows])
        lines.append(
            f"| {name} | {blocks:.2f} | {1 / blocks:.2f} | {ratio:.2f} | "
            f"{judged.share(rows, name)} | {change} | {pixels:.1f} |"
        )
    lines += ["", *judged.category_lines(rows, SETTINGS)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures scene by scene and writes the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=12, help="scenes, one clip each")
    parser.add_argument("--split", default="validation", choices=("validation", "heldout"))
    parser.add_argument("--resume", action="store_true", help="continue the page that is there")
    parser.add_argument("--checkpoint", default="package:tiny/mimir", help="run of Mimir")
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    host.prepare_host()
    from mimir_jax.evaluation import checkpoints
    from mimir_jax.evaluation.config import ToyworldEvalConfig
    from mimir_jax.evaluation.suites import toyworld

    variety = checkpoints.training_variety(ToyworldEvalConfig(checkpoint=args.checkpoint))
    samples = toyworld.plan_samples(
        split=args.split, variety=variety, scenes=args.scenes, styles=("long",)
    )
    sampler = Sampler(args.checkpoint)
    path = ROOT / "docs" / "results" / "caches.md"
    rows = json.loads(path.with_suffix(".json").read_text()) if args.resume else []
    first = len(rows)
    for sample in samples[first : args.scenes]:
        rows.append(measure(sampler, sample))
        if len(rows) == first + 1:  # programs were compiled
            for found in rows[-1].values():
                del found["seconds"]
            if first == 0:
                continue
        path.write_text(page(rows, args))
        path.with_suffix(".json").write_text(json.dumps(rows) + "\n")
        print(f"{len(rows)} of {args.scenes} scenes", flush=True)


if __name__ == "__main__":
    main()
