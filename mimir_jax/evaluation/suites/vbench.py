# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos named as VBench (arXiv 2311.17982) expects.

VBench itself runs elsewhere, on a user's copy of its prompts; `vbench_scores` reads its results.
Raw and enhanced prompts give different scores (M-U25), so both are supported; videos are always
named after the raw prompt.
"""

import json
import pathlib
from typing import Any

from mimir_jax import files, hashing
from mimir_jax.errors import InputError, reason
from mimir_jax.evaluation import checkpoints, generation, results
from mimir_jax.evaluation.config import VBenchEvalConfig
from mimir_jax.evaluation.suites import vbench_scores
from mimir_jax.parallel import distributed

SEEDS = "seeds.json"

_SOURCES = {
    "background_consistency": "scene",
    "aesthetic_quality": "overall_consistency",
    "imaging_quality": "overall_consistency",
}
"""Columns that VBench scores on the prompts of another of its dimensions."""


def evaluate(
    config: VBenchEvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Generates the videos that the folder of results lacks.

    Raises:
        InputError: if a file of prompts cannot be used, or the folder is of another evaluation.
    """
    assert config.prompts is not None
    prompts = files.expand_path(config.prompts)
    enhanced = None if config.enhanced is None else files.expand_path(config.enhanced)
    samples = plan_samples(
        prompts, enhanced=enhanced, videos=config.videos_per_prompt, seed=config.seed
    )
    generation.warn_of_truncated_prompts(generator, samples)
    batch_size = config.batch_size or generator.batch_multiple
    settings = {
        "suite": "vbench",
        **generator.settings,
        "prompts": describe_file(prompts),
        "enhanced": enhanced and describe_file(enhanced),
        "videos_per_prompt": config.videos_per_prompt,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    folder = checkpoints.find_folder(config, "vbench", generator.settings.get("step"))
    with results.open_results(folder, settings):
        write_videos(samples, generator, folder, batch_size=batch_size, progress=progress)
    text = (
        f"{len(samples)} videos named as VBench reads them; score them with VBench, then read its "
        "scores with evaluate vbench-scores FILE ..."
    )
    return results.Report(text, folder, (generation.VIDEOS, SEEDS))


def plan_samples(
    prompts: pathlib.Path,
    *,
    enhanced: pathlib.Path | None = None,
    videos: int = 5,
    seed: int = 0,
) -> list[generation.EvalSample]:
    """Reads VBench's prompts: one per line, or its JSON with prompts by dimension.

    Of the JSON, only prompts that a column of Table 1 is scored on are generated.

    Args:
        prompts: VBench's `VBench_full_info.json`, or a text file.
        enhanced: Text file with a longer version of every prompt of the file, line by line.
        videos: Videos per prompt.
        seed: Seed of the first video of each prompt.

    Raises:
        InputError: if a file cannot be read, holds no prompts, or the two do not match.
    """
    listed = _read_prompts(prompts)
    texts = [name for name, _ in listed] if enhanced is None else _read_lines(enhanced)
    if len(texts) != len(listed):
        raise InputError(
            f"enhanced prompts {enhanced} must be as many as the prompts of {prompts}, got "
            f"{len(texts)} for {len(listed)}; give the file that belongs to it"
        )
    # A prompt of two dimensions is generated once.
    text_of = {name: text for (name, scored), text in zip(listed, texts, strict=True) if scored}
    for name in text_of:
        if "/" in name or len(name.encode()) > 240:
            raise InputError(
                f"prompt {name[:60]!r} must fit a file name: no slash, at most 240 bytes; VBench "
                "finds a video by its prompt"
            )
    return [
        generation.EvalSample(f"{name}-{number}", text_of[name], seed + number)
        for name in text_of
        for number in range(videos)
    ]


def describe_file(file: pathlib.Path) -> dict[str, str]:
    """Returns hash and name of a prompt file, which identify the videos of a folder."""
    return {"sha256": hashing.sha256_file(file)[:12], "file": file.name}


def write_videos(
    samples: list[generation.EvalSample],
    generator: generation.Generator,
    folder: pathlib.Path,
    *,
    batch_size: int,
    progress: generation.Progress,
) -> None:
    """Writes the videos that `folder/videos` lacks, and their seeds.

    Of several processes, all generate; process 0 writes.
    """
    if distributed.is_first():
        files.write_json(folder / SEEDS, {f"{sample.name}.mp4": sample.seed for sample in samples})
    videos = folder / generation.VIDEOS
    done = distributed.from_first(lambda: sorted(path.stem for path in videos.glob("*.mp4")))
    for batch, clips in generation.generate_batches(
        samples, done, generator, batch_size=batch_size, progress=progress
    ):
        for sample, frames in zip(batch, clips, strict=True):
            generation.write_video(folder, sample.name, frames, generator.fps, scale=1)


def _read_prompts(path: pathlib.Path) -> list[tuple[str, bool]]:
    """Returns all prompts of a file, and whether a column of Table 1 is scored on each."""
    if path.suffix != ".json":
        return [(line, True) for line in _read_lines(path)]
    columns = vbench_scores.COLUMNS
    wanted = {_SOURCES.get(name, name) for name in columns} | set(columns)
    text = files.read_text(path, "prompt file")
    try:
        entries: Any = json.loads(text)
        prompts = [(e["prompt_en"].strip(), bool(wanted & {*e["dimension"]})) for e in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"prompt file {path} must be VBench's JSON of prompts: {reason(error)}"
        ) from None
    _require_some(path, [prompt for prompt, scored in prompts if scored])
    return prompts


def _read_lines(path: pathlib.Path) -> list[str]:
    return _require_some(path, [line for _, line in files.read_lines(path, "prompt file")])


def _require_some(path: pathlib.Path, prompts: list[str]) -> list[str]:
    if not prompts:
        raise InputError(f"prompt file {path} must hold at least one prompt, got none")
    return prompts
