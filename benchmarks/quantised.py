# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What quantised networks save and what obedience they cost, on a trained model with the judge.

    python benchmarks/quantised.py [--scenes 60] [--split heldout]

Draws the same clips (scene, prompt, noise) with float32, int8 and fp8 kernels and with int8
activations, in turns in one process, from the miniature that ships with the package, and judges
every clip. Counts the bytes of parameters, also of published sizes, and the memory of the compiled
sampling loop. Writes docs/results/quantised.md and its numbers after every scene, so that it may be
stopped; --resume continues.
"""

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import harness, judged  # noqa: E402
from mimir_jax.cli import host  # noqa: E402

SETTINGS = ("float32", "int8", "fp8", "int8_activations")
WARM_UP = "a red ball"


def open_all(checkpoint: str) -> dict[str, Any]:
    """Returns the pipeline of every setting."""
    from mimir_jax.sampling import open
    from mimir_jax.sampling.config import SampleConfig

    return {
        name: open.open_pipeline(
            checkpoint, SampleConfig(quantize="off" if name == "float32" else name)
        )
        for name in SETTINGS
    }


def parameter_bytes(pipeline: Any) -> dict[str, int]:
    """Returns the bytes of the network and of each text encoder, as they lie in memory."""
    import jax

    networks = pipeline.encoder.text.networks
    trees = {"transformer": pipeline.params} | {n: x.params for n, x in networks.items()}
    return {name: sum(x.nbytes for x in jax.tree.leaves(tree)) for name, tree in trees.items()}


def loop_bytes(pipeline: Any, prompt: str) -> int:
    """Returns parameters, inputs, results and temporary arrays of the compiled sampling loop."""
    from mimir_jax.diffusion import guidance
    from mimir_jax.sampling import latents, request

    system, sampler = pipeline.system, pipeline.scheduler
    cfg, asked = system.config.sampler, [request.Request(prompt)]
    lowered = latents.make_denoise(system).lower(
        pipeline.params,
        pipeline.encoder.features(asked),
        pipeline.encoder.null_features(asked),
        guidance.scales(cfg, sampler.schedule, sampler.times()),
        request.make_keys([0]),
        sampler=sampler,
        shape=(1, *system.codec.latent_shape(*pipeline.size)),
        rescale=cfg.guidance_rescale,
        shortcuts=cfg.shortcuts,
    )
    found = lowered.compile().memory_analysis()
    sizes = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return sizes - found.alias_size_in_bytes


def published_bytes() -> dict[str, dict[str, int]]:
    """Returns the bytes of networks of published sizes by setting, counted from their shapes."""
    import jax

    from mimir_jax import config as c
    from mimir_jax.encoders import frozen
    from mimir_jax.models import dit, functional, llm, quantization, t5

    networks = {
        "T5 v1.1 XXL, encoder": functional.build(t5.T5Encoder, c.T5Config()),
        "Phi-3.5-mini-instruct": functional.build(llm.LLM, c.LLMConfig()),
        "CogVideoX-2B, transformer": functional.build(dit.DiT, c.DiTConfig(**c.COGVIDEOX["2b"])),
        "CogVideoX-5B, transformer": functional.build(dit.DiT, c.DiTConfig(**c.COGVIDEOX["5b"])),
    }

    def count(tree: Any) -> int:
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

    found = {}
    for name, model in networks.items():
        spec = frozen.param_spec(model, "bfloat16")
        made = jax.eval_shape(quantization.quantized(model, "int8").quantize, spec)
        found[name] = {"bfloat16": count(spec), "8 bits": count(made)}
    return found


def measure(pipelines: Mapping[str, Any], sample: Any, first: int) -> dict[str, dict]:
    """Returns times, difference and judged categories of every setting for a clip.

    Args:
        pipelines: By setting.
        sample: Scene, prompt and seed.
        first: Number of the setting that begins.
    """
    from mimir_jax import evaluation
    from mimir_jax.sampling.request import Request

    videos, found = {}, {}
    for name in (*SETTINGS[first:], *SETTINGS[:first]):
        start, before = time.monotonic(), time.process_time()
        (videos[name],) = pipelines[name].generate([Request(sample.prompt, seed=sample.seed)])
        found[name] = {
            "seconds": time.monotonic() - start,
            "cpu_seconds": time.process_time() - before,
        }
    plain = videos["float32"].astype(float)
    for name, frames in videos.items():
        verdict = evaluation.judge(sample.scene, frames)
        found[name]["difference"] = float(np.abs(frames - plain).mean())
        found[name]["passed"] = {key: bool(verdict[key].passed) for key in sample.categories}
    return found


def page(found: Mapping[str, Any], args: argparse.Namespace) -> str:
    """Returns the page of what was measured so far."""
    rows, counted = found["scenes"], found["networks"]
    quiet = not judged.is_busy(args.load)
    lines = [
        "# Quantised networks",
        "",
        "```bash",
        f"python benchmarks/quantised.py --scenes {args.scenes} --split {args.split}",
        "```",
        "",
        f"{harness.device_name('cpu')}. {len(rows)} scenes of `{args.split}`, each asked for in "
        "one caption of narrow wording with one seed, drawn by the shipped miniature with its own "
        "sampler (DDIM, 20 steps, guidance 4) in every setting, from the same noise. `int8`, `fp8` "
        "and `int8_activations` are values of `--quantize`; they quantise transformer, T5 and LLM. "
        "Memory of the loop is what XLA reserves for the compiled sampling loop of a clip: "
        "parameters of the transformer, inputs, results and temporary arrays. Times are those of a "
        "whole clip with text encoding and decoding, medians over scenes; settings take turns. "
        f"{judged.load_note(args.load, 'elapsed time')}Passed is the share of all judged "
        "categories of all clips, with the 95 % interval of a bootstrap over scenes; change is the "
        "difference from float32 on the same clips. The difference of pixels is the mean absolute "
        "one from float32, of 255.",
        "",
        *_settings_table(rows, counted, elapsed=quiet),
        "",
        *judged.category_lines(rows, SETTINGS),
        "",
        "Bytes of parameters of networks of published sizes, counted from shapes; what is not "
        "quantised stays in bfloat16:",
        "",
        "| network | bfloat16, GB | int8 or fp8, GB | ratio |",
        "|---|---|---|---|",
    ]
    for name, sizes in found["published"].items():
        plain, small = sizes["bfloat16"], sizes["8 bits"]
        lines.append(f"| {name} | {plain / 1e9:.2f} | {small / 1e9:.2f} | {small / plain:.2f} |")
    return "\n".join(lines) + "\n"


def _settings_table(
    rows: Sequence[Mapping[str, Any]], counted: Mapping[str, Any], *, elapsed: bool
) -> list[str]:
    """Returns the table of settings; elapsed time is left out of a busy machine's."""
    timed = [row for row in rows if "seconds" in row["float32"]]
    networks = list(counted["float32"]["parameters"])
    times = {"cpu_seconds": "CPU s per clip"} | ({"seconds": "s per clip"} if elapsed else {})
    head = [
        "setting",
        *(f"{name}, MB" for name in networks),
        "memory of the loop, MB",
        *times.values(),
        "passed, %",
        "change, points",
        "difference of pixels",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in SETTINGS:
        sizes = counted[name]
        cells = [
            name,
            *(f"{sizes['parameters'][network] / 1e6:.2f}" for network in networks),
            f"{sizes['loop'] / 1e6:.1f}",
            *(f"{np.median([row[name][kind] for row in timed]):.2f}" for kind in times),
            judged.share(rows, name),
            "" if name == "float32" else judged.share(rows, name, "float32"),
            f"{np.mean([row[name]['difference'] for row in rows]):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures scene by scene and writes the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=60, help="scenes, one clip per setting each")
    parser.add_argument("--split", default="heldout", choices=("validation", "heldout"))
    parser.add_argument("--resume", action="store_true", help="continue the page that is there")
    parser.add_argument("--checkpoint", default="package:tiny/mimir", help="run of Mimir")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "results")
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    host.prepare_host()
    from mimir_jax.evaluation import checkpoints
    from mimir_jax.evaluation.config import ToyworldEvalConfig
    from mimir_jax.evaluation.suites import toyworld
    from mimir_jax.sampling import request

    variety = checkpoints.training_variety(ToyworldEvalConfig(checkpoint=args.checkpoint))
    samples = toyworld.plan_samples(
        split=args.split, variety=variety, scenes=args.scenes, styles=("narrow",)
    )[: args.scenes]
    pipelines = open_all(args.checkpoint)
    path = args.out / "quantised.md"
    rows = json.loads(path.with_suffix(".json").read_text())["scenes"] if args.resume else []
    first = len(rows)
    for pipeline in pipelines.values():
        pipeline.generate([request.Request(WARM_UP)])  # compiles
    networks = {
        name: {
            "parameters": parameter_bytes(pipeline),
            "loop": loop_bytes(pipeline, WARM_UP),
        }
        for name, pipeline in pipelines.items()
    }
    found = {"networks": networks, "published": published_bytes(), "scenes": rows}
    for number, sample in enumerate(samples[first:], first):
        rows.append(measure(pipelines, sample, number % len(SETTINGS)))
        path.write_text(page(found, args))
        path.with_suffix(".json").write_text(json.dumps(found) + "\n")
        print(f"{len(rows)} of {args.scenes} scenes", flush=True)


if __name__ == "__main__":
    main()
