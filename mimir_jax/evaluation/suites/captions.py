# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The captions suite: how much a run's network learns from captions in each wording.

Held-out clips are denoised with a caption in each wording and with the null condition, with equal
noise. What the loss falls by is what a caption tells the network.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from mimir_jax import files, systems, tables
from mimir_jax.config import TrainConfig
from mimir_jax.data.toyworld import renderer, sampling, wording
from mimir_jax.data.toyworld.language import WORDINGS
from mimir_jax.errors import require
from mimir_jax.evaluation import checkpoints, confidence, results
from mimir_jax.evaluation.config import CaptionsEvalConfig
from mimir_jax.parallel import context, distributed
from mimir_jax.systems import base, text_to_video
from mimir_jax.weights import runs

NULL = "none"
"""Name of the condition without a caption."""

_BATCH = 16


def evaluate(config: CaptionsEvalConfig, mesh: Mesh | None = None) -> results.Report:
    """Measures the losses and writes them.

    Args:
        config: Settings.
        mesh: Devices that model and batches are split over; None takes one.

    Raises:
        InputError: for a run that does not generate videos from text alone, or results of another
            evaluation.
    """
    path, step = checkpoints.find_run(config), checkpoints.find_step(config)
    run = runs.read_config(path)
    variety = config.variety or checkpoints.training_variety(config)
    frames = config.frames or run.data.frames
    settings = {
        "suite": "captions",
        "checkpoint": str(path),
        "step": step,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
        "frames": frames,
    }
    folder = checkpoints.find_folder(config, "captions", step)
    with results.open_results(folder, settings):
        scenes = [sampling.sample(0, config.split, i, variety) for i in range(config.scenes)]
        names, errors = _measure(config, run, scenes, frames, mesh)
    if not distributed.is_first():
        return results.Report("")
    losses = {
        condition: dict(zip(names, values.mean(0).tolist(), strict=True))
        for condition, values in errors.items()
    }
    told = measure_gains({name: values.mean(1) for name, values in errors.items()})
    files.write_json(folder / results.RESULTS, {**settings, "losses": losses, "told": told})
    text = f"{config.scenes} clips of {frames} frames, step {step}\n{format_table(losses, told)}"
    return results.Report(text, folder, (results.RESULTS,))


def measure_gains(
    errors: Mapping[str, Float[np.ndarray, " n"]],
) -> dict[str, dict[str, float]]:
    """Returns what captions in each wording tell, with 95 % bootstrap intervals over scenes.

    Args:
        errors: Loss of each clip by condition, the wordings and `NULL`.

    Returns:
        By wording `gain`, `low` and `high`: by how much the loss falls below that without caption.
    """
    table = {}
    for name, values in errors.items():
        if name == NULL:
            continue
        gains = np.asarray(errors[NULL] - values, float)
        low, high = confidence.bootstrap_interval(gains, np.ones(len(gains), int))
        table[name] = {"gain": float(gains.mean()), "low": low, "high": high}
    return table


def format_table(
    losses: Mapping[str, Mapping[str, float]], told: Mapping[str, Mapping[str, float]]
) -> str:
    """Formats losses by condition and band of times, and what each wording tells."""
    rows = [["loss", *losses[NULL], "mean", "below none (95 % interval)"]]
    for name, bands in losses.items():
        rows.append([name, *(f"{x:.4f}" for x in (*bands.values(), np.mean([*bands.values()])))])
        cell = told.get(name)
        rows[-1].append(
            "-" if cell is None else "{gain:.4f} ({low:.4f} to {high:.4f})".format(**cell)
        )
    return tables.align(rows)


def _measure(
    config: CaptionsEvalConfig, run: TrainConfig, scenes: list, frames: int, mesh: Mesh | None
) -> tuple[list[str], dict[str, Float[np.ndarray, "n bands"]]]:
    """Returns the names of bands of times, and the loss of each clip by condition."""
    system = base.for_inference(systems.make_system(run))
    require(
        isinstance(system, text_to_video.TextToVideo),
        "--checkpoint must be a run that generates videos from text alone, got one of "
        f"{run.system.kind}; name a run of mimir or cogvideox",
    )
    size = (run.data.height, run.data.width)
    system.check_size(frames, *size, names=("--frames", "data.height", "data.width"))
    encoder = systems.make_encoder(run, system, mesh)
    params = checkpoints.load_params(config, run, system.model, mesh)
    measure = jax.jit(system.band_errors, static_argnames="null")
    bands = range(run.system.loss_bands)
    errors: dict[str, list[np.ndarray]] = {name: [] for name in (*WORDINGS, NULL)}
    for start in range(0, len(scenes), _BATCH):
        part = list(enumerate(scenes))[start : start + _BATCH]
        videos = np.stack([renderer.render(scene, frames, *size) for _, scene in part])
        for name in WORDINGS:
            captions = [wording.caption(scene, name, number).text for number, scene in part]
            batch = jax.device_put(encoder.encode_clips({"video": videos, "caption": captions}))
            with context.use_mesh(mesh):
                rows = [measure(params, batch, band) for band in bands]
                errors[name].append(np.stack(jax.device_get(rows), axis=1))
        with context.use_mesh(mesh):
            rows = [measure(params, batch, band, null=True) for band in bands]
            errors[NULL].append(np.stack(jax.device_get(rows), axis=1))
    return system.band_names(), {name: np.concatenate(parts) for name, parts in errors.items()}
