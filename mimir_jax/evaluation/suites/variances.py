# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The variances suite: what Divot's LLM writes for held-out prompts, by variance of its draws.

Clip tokens are drawn with the variances of their mixtures times each of `SCALES`; 0 takes the mean
of a drawn component. The clips are judged exactly. Independent of draws, the negative
log-likelihood of the true clip of each prompt is measured, per number of a token.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mimir_jax import files, tables
from mimir_jax.config import TrainConfig
from mimir_jax.data.toyworld import renderer, sampling
from mimir_jax.evaluation import checkpoints, confidence, generation, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import VariancesEvalConfig
from mimir_jax.evaluation.suites import toyworld
from mimir_jax.parallel import distributed

SCALES = (0.0, 0.1, 0.3, 1.0)


@runtime_checkable
class Writing(generation.Generator, Protocol):
    """The part of `sampling.written_videos.WrittenVideos` that the suite uses."""

    @property
    def config(self) -> TrainConfig:
        """The run of the LLM."""
        ...

    def with_var_scale(self, var_scale: float) -> "Writing":
        """Returns the same with other variances of draws."""
        ...

    def log_likelihood(self, video: UInt8[np.ndarray, "f h w 3"], caption: str) -> float:
        """Returns the log-likelihood of a clip of a caption, per number of a token."""
        ...


def evaluate(
    config: VariancesEvalConfig, writing: Writing, progress: generation.Progress
) -> results.Report:
    """Generates and judges the videos that the folder of results lacks; writes its results.

    Raises:
        InputError: for an LLM without mixtures, or results of another evaluation.
    """
    variety = config.variety or checkpoints.training_variety(config)
    samples = toyworld.plan_samples(
        split=config.split,
        variety=variety,
        scenes=config.scenes,
        styles=("short",),
        seed=config.seed,
    )
    batch_size = config.batch_size or writing.batch_multiple
    settings = {
        "suite": "variances",
        **writing.settings,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
        "scales": SCALES,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    step = writing.settings.get("step")
    folder = checkpoints.find_folder(config, "variances", step)
    judged: list[clips_lib.JudgedClip] = []
    with results.open_results(folder, settings):
        likelihood = measure_likelihood(samples, writing)
        for number, scale in enumerate(SCALES):
            judged += toyworld.judge_samples(
                [_scaled(sample, scale) for sample in samples],
                writing.with_var_scale(scale),
                folder,
                batch_size=batch_size,
                progress=lambda done, total, first=number: progress(
                    first * total + done, len(SCALES) * total
                ),
            )
    if not distributed.is_first():
        return results.Report("")
    summary = toyworld.summarise(judged)
    for cells in summary.values():
        del cells["all"]
    files.write_json(
        folder / results.RESULTS,
        {**settings, "categories": summary, "negative_log_likelihood": likelihood},
    )
    text = f"{len(samples)} prompts, step {'-' if step is None else step}\n"
    text += format_table(summary, likelihood)
    return results.Report(text, folder, (results.RESULTS, clips_lib.CLIPS, generation.VIDEOS))


def measure_likelihood(
    samples: Sequence[toyworld.ToyworldSample], writing: Writing
) -> dict[str, Any]:
    """Returns the mean negative log-likelihood of true clips per number, and its interval."""
    data, frames = writing.config.data, writing.config.system.clip_frames
    values = []
    for sample in samples:
        video = renderer.render(sample.scene, frames, data.height, data.width)
        values.append(-writing.log_likelihood(video, sample.prompt))
    interval = confidence.bootstrap_interval(np.array(values), np.ones(len(values), int))
    return {"mean": float(np.mean(values)), "interval": interval, "clips": len(values)}


def format_table(summary: Mapping[str, Mapping[str, Any]], likelihood: Mapping[str, Any]) -> str:
    """Formats a summary: a row for each category, a column for each factor of the variances."""
    scales = list(map(_name, SCALES))
    rows = [["passed, %", "scenes", *(f"variances x {scale}" for scale in scales)]]
    for category, cells in summary.items():
        rows.append([category, str(cells[scales[0]]["scenes"])])
        for scale in scales:
            low, high = (100 * x for x in cells[scale]["interval"])
            rows[-1].append(f"{100 * cells[scale]['passed']:.1f} ({low:.0f} to {high:.0f})")
    low, high = likelihood["interval"]
    return (
        f"{tables.align(rows)}\n\nnegative log-likelihood per dimension of "
        f"{likelihood['clips']} true clips: {likelihood['mean']:.4f} ({low:.4f} to {high:.4f})"
    )


def _scaled(sample: toyworld.ToyworldSample, scale: float) -> toyworld.ToyworldSample:
    name = _name(scale)
    return dataclasses.replace(sample, name=f"{sample.name}-{name}", style=name)


def _name(scale: float) -> str:
    return f"{scale:g}"
