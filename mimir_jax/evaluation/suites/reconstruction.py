# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The reconstruction suite: held-out clips of Toyworld through tokens and back, judged exactly.

Each scene gives three videos: `tokens`, its reconstruction; `vae`, the round trip of its clip
through the VAE, the ceiling; and `null`, one of a few videos sampled from the tokens of a mid-grey
clip, the chance level.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from mimir_jax import evaluation, files, tables
from mimir_jax.data.toyworld import captions, renderer, sampling
from mimir_jax.errors import require
from mimir_jax.evaluation import checkpoints, confidence, generation, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import ReconstructionEvalConfig
from mimir_jax.evaluation.suites import toyworld
from mimir_jax.parallel import distributed
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.request import Request

COLUMNS = ("tokens", "vae", "null")
_NULL_VIDEOS = 8
_GREY = 128

Clip = UInt8[np.ndarray, "f h w 3"]


def evaluate(
    config: ReconstructionEvalConfig,
    pipeline: pipeline_lib.Pipeline,
    progress: generation.Progress,
) -> results.Report:
    """Reconstructs and judges the scenes that the folder of results lacks; writes its results.

    Raises:
        InputError: for a checkpoint of another system, or results of another evaluation.
    """
    require(
        "clip" in pipeline.system.request_fields,
        "--checkpoint must be a run of divot, which reconstructs clips, got one of "
        f"{pipeline.system.config.kind}; choose another",
    )
    variety = config.variety or checkpoints.training_variety(config)
    batch_size = config.batch_size or pipeline.batch_multiple
    settings = {
        "suite": "reconstruction",
        **pipeline.settings,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    step = pipeline.settings.get("step")
    folder = checkpoints.find_folder(config, "reconstruction", step)
    with results.open_results(folder, settings):
        judged = _judge_scenes(config, variety, pipeline, folder, batch_size, progress)
    if not distributed.is_first():
        return results.Report("")
    summary, psnr = toyworld.summarise(judged), summarise_psnr(judged)
    content = {**settings, "categories": summary, "psnr": psnr}
    files.write_json(folder / results.RESULTS, content)
    head = f"{config.scenes} scenes, step {'-' if step is None else step}"
    names = (results.RESULTS, clips_lib.CLIPS, generation.VIDEOS)
    return results.Report(f"{head}\n{format_table(summary, psnr)}", folder, names)


def summarise_psnr(judged: Sequence[clips_lib.JudgedClip]) -> dict[str, dict[str, Any]]:
    """Returns the mean PSNR in dB of each column, with its 95 % bootstrap interval over scenes."""
    summary = {}
    for column in COLUMNS:
        values = np.array([clip["psnr"] for clip in judged if clip["style"] == column])
        interval = confidence.bootstrap_interval(values, np.ones(len(values), int))
        summary[column] = {"mean": float(values.mean()), "interval": interval}
    return summary


def format_table(
    summary: Mapping[str, Mapping[str, Any]], psnr: Mapping[str, Mapping[str, Any]]
) -> str:
    """Formats both summaries: one row per category and one of PSNR, one column per video."""
    rows = [["passed, %", "scenes", *COLUMNS]]
    for category, cells in summary.items():
        shown = [
            _shown(100 * cells[name]["passed"], *(100 * x for x in cells[name]["interval"]))
            for name in COLUMNS
        ]
        rows.append([category, str(cells[COLUMNS[0]]["scenes"]), *shown])
    measured = [_shown(psnr[name]["mean"], *psnr[name]["interval"], digits=1) for name in COLUMNS]
    rows.append(["PSNR, dB", "", *measured])
    return tables.align(rows)


def psnr(clip: Clip, other: Clip) -> float:
    """Returns the peak signal-to-noise ratio of two clips in dB, at most 100."""
    error = np.mean((clip.astype(np.float64) - other) ** 2)
    return float(min(100.0, 10 * np.log10(255.0**2 / max(error, 1e-12))))


def _judge_scenes(
    config: ReconstructionEvalConfig,
    variety: sampling.Scenery,
    pipeline: pipeline_lib.Pipeline,
    folder: pathlib.Path,
    batch_size: int,
    progress: generation.Progress,
) -> list[clips_lib.JudgedClip]:
    """Judges the scenes that `clips.jsonl` in `folder` lacks; returns all on process 0."""
    judged = distributed.from_first(lambda: clips_lib.recover_clips(folder))
    done = {clip["index"] for clip in judged}
    missing = [index for index in range(config.scenes) if index not in done]
    progress(config.scenes - len(missing), config.scenes)
    nulls = _null_videos(config.seed, pipeline, batch_size) if missing else []
    for first in range(0, len(missing), batch_size):
        indices = missing[first : first + batch_size]
        scenes = [sampling.sample(0, config.split, index, variety) for index in indices]
        clips = [renderer.render(scene, *pipeline.size) for scene in scenes]
        titles = [
            captions.caption(scene, "short", i) for i, scene in zip(indices, scenes, strict=True)
        ]
        requests = [
            Request(title, seed=config.seed + index, clip=clip)
            for title, index, clip in zip(titles, indices, clips, strict=True)
        ]
        made = pipeline.generate(requests, batch_size=batch_size)
        for request, index, scene, video in zip(requests, indices, scenes, made, strict=True):
            if distributed.is_first():
                trip = _round_trip(request, pipeline)
                videos = (video, trip, nulls[index % len(nulls)])
                rows = _judge(request, index, scene, dict(zip(COLUMNS, videos, strict=True)))
                shown = video_lib.side_by_side(request.clip, trip, video)
                scale = video_lib.display_scale(shown)
                generation.write_video(folder, f"{index:05d}", shown, pipeline.fps, scale)
                clips_lib.append_clips(folder, rows)
                judged += rows
        progress(config.scenes - len(missing) + first + len(indices), config.scenes)
    return judged


def _null_videos(seed: int, pipeline: pipeline_lib.Pipeline, batch_size: int) -> list[Clip]:
    grey = np.full((*pipeline.size, 3), _GREY, np.uint8)
    requests = [Request("grey", seed=seed + i, clip=grey) for i in range(_NULL_VIDEOS)]
    parts = [requests[i : i + batch_size] for i in range(0, len(requests), batch_size)]
    return [video for part in parts for video in pipeline.generate(part, batch_size=batch_size)]


def _round_trip(request: Request, pipeline: pipeline_lib.Pipeline) -> Clip:
    """Returns the clip of a request through the codec and back."""
    records = {"video": request.clip[None], "caption": [request.prompt]}
    mean = pipeline.encoder.encode_clips(records).moments.mean
    video = pipeline.decode(pipeline.system.codec.scale(jnp.asarray(mean)))[0]
    return video_lib.to_uint8(video * 2 - 1)


def _judge(
    request: Request, index: int, scene: Any, videos: Mapping[str, Clip]
) -> list[clips_lib.JudgedClip]:
    exercised = toyworld.exercised_categories(scene)
    rows = []
    for column, video in videos.items():
        verdict = evaluation.judge(scene, video)
        rows.append(
            {
                "name": f"{index:05d}-{column}",
                "index": index,
                "style": column,
                "seed": request.seed,
                "prompt": request.prompt,
                "psnr": psnr(request.clip, video),
                "scores": {name: dataclasses.asdict(verdict[name]) for name in exercised},
            }
        )
    return rows


def _shown(value: float, low: float, high: float, *, digits: int = 0) -> str:
    return f"{value:.1f} ({low:.{digits}f} to {high:.{digits}f})"
