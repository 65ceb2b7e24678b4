# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors of our networks, samplers and pipelines against transformers and diffusers, in float32.

    python benchmarks/parity.py [--device cpu] [--out docs/parity.md]

Our side runs on the device, with matrix products in full float32; the references run on the host.
Both libraries save tiny random models, which `mimir_jax.load` opens. The script writes a page with
every error and its bound, and ends with exit code 1 if one is exceeded. Needs the `test` extra.
"""

import argparse
import functools
import importlib.metadata
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import transformers

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `tests`, which is no package of the distribution

import mimir_jax  # noqa: E402
from benchmarks import harness  # noqa: E402
from mimir_jax.diffusion.scheduler_config import load_scheduler  # noqa: E402
from mimir_jax.models import dit, functional  # noqa: E402
from mimir_jax.weights import divot_tokenizer  # noqa: E402
from tests.diffusion import trajectories  # noqa: E402
from tests.helpers import relative_error  # noqa: E402
from tests.models import dit_reference, llm_reference, test_dit, test_vit, vae_reference  # noqa: E402
from tests.models.divot import clips, tokenizer_reference  # noqa: E402
from tests.models.llava import llava_reference, test_llava  # noqa: E402
from tests.sampling import test_cogvideox as pipelines  # noqa: E402
from tests.sampling import test_edits as edits  # noqa: E402
from tests.sampling import test_image_to_video as image_to_video  # noqa: E402
from tests.weights import references  # noqa: E402

INTRODUCTION = """# Parity

This page compares mimir_jax on {device} with transformers and diffusers on a CPU, in float32. The
error is the largest absolute difference over the largest absolute value of the reference. The
libraries save tiny random models that `mimir_jax.load` reads, so the comparison includes configs
and weight layouts. Divot's tokenizer is in neither library and is compared with a torch
implementation of its formulas. Samplers run all steps with a smooth function instead of a network,
against diffusers in float64. The last rows are whole pipelines, from prompts to frames.
"""
LIBRARIES = ("jax", "torch", "transformers", "diffusers")


class Row(NamedTuple):
    """A row of the table."""

    what: str
    case: str
    bound: float
    error: float


def measure_t5(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the states of T5, for whole and padded rows."""
    batch, length = references.IDS.shape
    for name in ("t5-gated", "t5-relu"):
        theirs = references.save(name, folder / name)
        case = references.REFERENCES[name]
        error = relative_error(case.ours(*mimir_jax.load(folder / name)), case.theirs(theirs))
        shown = f"{name.removeprefix('t5-')}, {batch} x {length} tokens, mask"
        yield Row("T5 encoder", shown, 1e-5, error)


def measure_llms(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the states of every layer and the logits, with padding on either side."""
    switch, whole = references.LONG.original_max_length, references.IDS.shape[1]
    cases = (
        ("phi3", f"Phi-3, LongRoPE, {switch} tokens, switch after {switch}", switch),
        ("phi3", f"Phi-3, LongRoPE, {whole} tokens, switch after {switch}", whole),
        ("llama", f"Llama, grouped heads, tied, {whole} tokens", whole),
        ("mistral", f"Mistral, window of 5, {whole} tokens", whole),
        ("qwen2", f"Qwen2, tied, {whole} tokens", whole),
        ("qwen3", f"Qwen3, grouped heads, {whole} tokens", whole),
    )
    for index, (name, shown, length) in enumerate(cases):
        theirs = references.save(name, folder / f"{name}-{index}")
        model, params = mimir_jax.load(folder / f"{name}-{index}")
        read = jax.jit(functools.partial(_states_and_logits, model))
        ids = references.IDS[:, :length]
        for side in ("left", "right"):
            mask = np.ones(ids.shape, bool)
            mask[1, slice(3) if side == "left" else slice(-3, None)] = False
            states, logits = read(params, jnp.asarray(ids), jnp.asarray(mask))
            expected, scores = llm_reference.forward(theirs, ids, mask)
            errors = [
                relative_error(np.asarray(ours)[mask], reference[mask])
                for ours, reference in zip(states, expected, strict=True)
            ]
            case = f"{shown}, {side} padding"
            yield Row("LLM, states of all layers", case, 1e-5, max(errors))
            error = relative_error(np.asarray(logits)[mask], scores[mask])
            yield Row("LLM, logits", case, 1e-5, error)


def _states_and_logits(
    model: functional.Model, params: functional.Params, ids: jax.Array, mask: jax.Array
) -> tuple[list[jax.Array], jax.Array]:
    layers = range(model.config.num_layers + 1)
    states = [model.encode(params, ids, mask, layer=layer) for layer in layers]
    return states, model.apply(params, ids, mask).logits


def measure_vits(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the states of every layer of image towers, also where positions are resized."""
    for cfg in (test_vit.CFG, test_vit.WIDE):
        theirs = test_vit.reference(cfg)
        place = folder / f"vit-{cfg.activation}"
        theirs.save_pretrained(str(place))
        model, params = mimir_jax.load(place)
        for height, width in ((cfg.image_size, cfg.image_size), (33, 48)):
            images = test_vit.images_of(height, width)
            resized = height != width
            expected, _ = test_vit.run_reference(theirs, images, interpolate_pos_encoding=resized)
            errors = [
                relative_error(
                    model.apply(params, images, layer=layer, interpolate=resized), reference
                )
                for layer, reference in enumerate(expected)
            ]
            made = f"made for {cfg.image_size} x {cfg.image_size} pixels"
            case = f"{cfg.activation} {made}, patches of {cfg.patch}, images {height} x {width}"
            yield Row("CLIP image tower, states of all layers", case, 1e-5, max(errors))


def measure_llavas(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the states of every layer and the logits of prompts with images."""
    shown = {
        "llama": "Llama, layer -2, two images and one, right padding",
        "llama-left": "Llama, layer -2, two images and one, left padding",
        "last-layer": "Llama, layer -1, none and two, right padding",
        "class-token": "Llama, class token, one and two, left padding",
        "layers": "Llama, layers -2, 1 and -1, one image",
        "mistral": "Mistral, window of 6, one key head, one and two, right padding",
        "phi3": "Phi-3, LongRoPE, two and none, left padding",
    }
    for name, case in shown.items():
        layout, cfg, images, side = test_llava.CASES[name]
        theirs = llava_reference.build(layout, cfg)
        theirs.save_pretrained(str(folder / f"llava-{name}"))
        model, params = mimir_jax.load(folder / f"llava-{name}")
        ids, mask, pixels = llava_reference.batch(cfg, images, side)
        expected, scores = llava_reference.forward(theirs, ids, mask, pixels)
        states = model.hidden_states(params, ids, mask, pixels)
        errors = [
            relative_error(ours[mask], reference[mask])
            for ours, reference in zip(states, expected, strict=True)
        ]
        yield Row("LLaVA, states of all layers", case, 1e-5, max(errors))
        logits = model.apply(params, ids, mask, pixels).logits
        yield Row("LLaVA, logits", case, 1e-5, relative_error(logits[mask], scores[mask]))


def measure_tokenizers(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the stages of Divot's tokenizer with their formulas in torch."""
    stages = ("image tower", "temporal transformer, pool and norm", "tokens")
    for name, cfg, (height, width) in (
        ("odd sizes", clips.ODD, (27, 31)),
        ("the miniature", clips.MINIATURE, (64, 64)),
    ):
        state = tokenizer_reference.draw(cfg)
        stated = divot_tokenizer.Tokenizer().write_config(cfg, "DivotTokenizer")
        place = tokenizer_reference.write(folder / name, state, config=stated)
        model, params = mimir_jax.load(place)
        shape = (2, cfg.frames, height, width, 3)
        frames = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        features = model.features(params, frames)
        ours = features, model.pooled(params, features), model.encode(params, features)
        for stage, value, expected in zip(
            stages, ours, tokenizer_reference.Twin(cfg, state)(frames), strict=True
        ):
            case = f"{name}, {cfg.frames} frames of {height} x {width}"
            error = relative_error(value, expected)
            yield Row(f"Divot's tokenizer, {stage}", case, 1e-5, error)


def measure_transformers(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the five video transformers, with odd numbers of video tokens and of all tokens.

    Each runs at its sample size, then at another size if its positions allow that.
    """
    for variant in ("2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"):
        for frames in (3, 2):
            sizes = {"sample_frames": frames, "sample_height": 10, "sample_width": 14}
            fixed = frames == 3 or variant == "5b-i2v"
            cfg = test_dit.tiny(variant, **(sizes if fixed else {}))
            theirs = dit_reference.make_reference(cfg)
            place = folder / f"dit-{variant}-{frames}"
            theirs.save_pretrained(str(place))
            model, params = mimir_jax.load(place)
            shape = (frames * (cfg.temporal_patch or 1), 10, 14)
            arguments = test_dit.inputs(cfg, shape)
            ofs = jnp.full((2,), dit.OFS) if cfg.ofs_width else None
            expected = dit_reference.run_reference(theirs, cfg, *arguments, ofs=ofs)
            error = relative_error(jax.jit(model.apply)(params, *arguments), expected)
            sample = f"made for {cfg.sample_height} x {cfg.sample_width}"
            tokens = f"{frames * 5 * 7} video and {cfg.text_length} text tokens"
            case = f"{variant} {sample}, latents {' x '.join(map(str, shape))}, {tokens}"
            yield Row("CogVideoX transformer", case, 5e-5, error)


def measure_vae(folder: pathlib.Path) -> Iterator[Row]:
    """Compares moments and frames for several frame counts, whole and in tiles."""
    import torch

    cfg = pipelines.VAE
    theirs = vae_reference.make_reference(cfg)
    theirs.save_pretrained(str(folder / "vae"))
    model, params = mimir_jax.load(folder / "vae")
    encode = jax.jit(model.encode, static_argnames="tiled")
    decode = jax.jit(model.decode, static_argnames="tiled")
    for tiled in (False, True):
        theirs.use_tiling = tiled
        for frames in (1, 5, 9, 17):
            rng = np.random.default_rng(frames)
            video = rng.uniform(-1, 1, (1, frames, 32, 48, 3)).astype(np.float32)
            with torch.no_grad():
                expected = theirs.encode(torch.tensor(np.moveaxis(video, -1, 1))).latent_dist
                decoded = theirs.decode(expected.mean).sample
            mean, logvar, decoded = (
                np.moveaxis(x.numpy(), 1, -1) for x in (expected.mean, expected.logvar, decoded)
            )
            ours = encode(params, jnp.asarray(video), tiled=tiled)
            how = "tiled" if tiled else "whole"
            error = max(relative_error(ours.mean, mean), relative_error(ours.logvar, logvar))
            yield Row("VAE, encode", f"{how}, {frames} x 32 x 48", 5e-5, error)
            error = relative_error(decode(params, jnp.asarray(mean), tiled=tiled), decoded)
            case = f"{how}, {mean.shape[1]} x 8 x 12 latents to {decoded.shape[1]} x 32 x 48"
            yield Row("VAE, decode", case, 5e-5, error)


def measure_samplers(folder: pathlib.Path) -> Iterator[Row]:
    """Compares whole trajectories of a smooth velocity with those of diffusers in float64."""
    for name in ("ddim", "dpm"):
        for shift in (1.0, 3.0):
            options = trajectories.RELEASED | {"snr_shift_scale": shift}
            place = folder / f"{name}-{shift}"
            theirs = trajectories.reference(name, options)
            theirs.save_pretrained(str(place))
            for steps in (50, 30):
                sampler = load_scheduler(place, steps)
                rng = np.random.default_rng(0)
                shape = trajectories.SHAPE
                latents, noise = rng.normal(size=shape), rng.normal(size=(steps, *shape))
                table = theirs.alphas_cumprod.numpy()
                expected = trajectories.run_reference(theirs, table, steps, latents, noise)
                ours = trajectories.trajectory(sampler, *map(np.float32, (latents, noise)))
                case = f"{name.upper()}, all {steps} steps, s={shift:.0f}"
                yield Row("sampler", case, 1e-6, relative_error(ours, expected))


def measure_pipelines(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the frames of guided pipelines on the same prompts and noise."""
    import diffusers

    tokenizer = pipelines.make_tokenizer(folder / "tokenizer")
    encoder, steps, scale = pipelines.make_text_encoder(), 10, 6.0
    for variant, name in (("2b", "ddim"), ("2b", "dpm"), ("5b", "dpm"), ("1.5-5b", "dpm")):
        cfg = pipelines.VARIANTS[variant]
        theirs = diffusers.CogVideoXPipeline(
            tokenizer=tokenizer,
            text_encoder=encoder,
            vae=vae_reference.make_reference(pipelines.VAE),
            transformer=dit_reference.make_reference(cfg),
            scheduler=pipelines.make_scheduler(name, pipelines.SCHEDULERS[variant][1]),
        )
        theirs.set_progress_bar_config(disable=True)
        theirs.save_pretrained(str(folder / f"pipeline-{variant}-{name}"))
        ours = mimir_jax.load_pipeline(folder / f"pipeline-{variant}-{name}")
        shape = (2, dit.padded_frames(3, cfg), 8, 12, 4)
        _, error = pipelines.compare(
            theirs,
            ours,
            *pipelines.draw(shape, steps),
            size={"num_frames": 9, "height": 32, "width": 48},
            prompt=pipelines.PROMPTS,
            guidance_scale=scale,
            num_inference_steps=steps,
        )
        case = f"{variant}, {name.upper()}, {steps} steps, guidance {scale:.0f}, 9 x 32 x 48"
        yield Row("pipeline, prompts to frames", case, 1e-4, error)


def measure_image_to_video(folder: pathlib.Path) -> Iterator[Row]:
    """Compares the frames of guided pipelines on the same first frame, prompts and noise."""
    tokenizer = pipelines.make_tokenizer(folder / "tokenizer")
    encoder, steps, scale = pipelines.make_text_encoder(), 10, 6.0
    for variant, (_, *size) in image_to_video.SIZES.items():
        theirs = image_to_video.make_pipeline(variant, tokenizer, encoder)
        theirs.save_pretrained(str(folder / variant))
        ours = mimir_jax.load_pipeline(folder / variant)
        *_, error = image_to_video.compare(theirs, ours, variant, steps, scale)
        name, shape = image_to_video.SCHEDULERS[variant].upper(), " x ".join(map(str, size))
        case = f"{variant}, {name}, {steps} steps, guidance {scale:.0f}, {shape}"
        yield Row("pipeline, first frame and prompts to frames", case, 1e-4, error)


def measure_edits(folder: pathlib.Path) -> Iterator[Row]:
    """Compares edited videos on the same video, prompt and noise."""
    tokenizer = pipelines.make_tokenizer(folder / "tokenizer")
    encoder, steps, scale = pipelines.make_text_encoder(), 10, 6.0
    for variant in ("2b", "5b"):
        theirs = pipelines.make_pipeline(variant, tokenizer, encoder)
        theirs.save_pretrained(str(folder / variant))
        ours = mimir_jax.load_pipeline(folder / variant)
        for strength in (0.4, 0.8):
            error = edits.compare(theirs, ours, strength, steps=steps, scale=scale)
            name = pipelines.SCHEDULERS[variant][0].upper()
            case = f"{variant}, {name}, strength {strength} of {steps} steps, guidance {scale:.0f}"
            yield Row("pipeline, video and prompt to frames", case, 1e-4, error)


MEASURES: tuple[Callable[[pathlib.Path], Iterator[Row]], ...] = (
    measure_t5,
    measure_llms,
    measure_vits,
    measure_llavas,
    measure_tokenizers,
    measure_transformers,
    measure_vae,
    measure_samplers,
    measure_pipelines,
    measure_image_to_video,
    measure_edits,
)


def page(rows: list[Row], device: str) -> str:
    """Returns the page of the errors on a device."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    lines = [
        INTRODUCTION.format(device=harness.device_name(device) if device == "cuda" else "a CPU"),
        "```bash",
        f"python benchmarks/parity.py --device {device}",
        "```",
        "",
        f"With {versions}:",
        "",
        "| Part | Case | Bound | Error |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.case} | {short(row.bound)} | {row.error:.1e} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def short(bound: float) -> str:
    """Formats a power of ten without a zero in its exponent."""
    return f"{bound:.0e}".replace("e-0", "e-")


def main() -> None:
    """Measures everything and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    default = "parity.md" if args.device == "cpu" else "results/parity-cuda.md"
    out = args.out or ROOT / "docs" / default
    jax.config.update("jax_platforms", args.device)
    jax.config.update("jax_default_matmul_precision", "highest")
    transformers.utils.logging.disable_progress_bar()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for measure in MEASURES:
            for row in measure(pathlib.Path(temporary)):
                rows.append(row)
                print(f"{row.error:.1e} of {short(row.bound)}: {row.what}, {row.case}", flush=True)
    out.write_text(page(rows, args.device))
    if wrong := [row for row in rows if not row.error < row.bound]:  # a NaN is wrong too
        sys.exit(f"{len(wrong)} of {len(rows)} bounds exceeded, such as {wrong[0]}")
    print(f"{len(rows)} comparisons within their bounds -> {out}")


if __name__ == "__main__":
    main()
