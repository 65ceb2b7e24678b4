# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The Toyworld suite: videos for prompts of scenes, judged exactly.

Each scene has prompts in several caption styles, each with several seeds. A clip counts in a
category only if its scene exercises it and its prompt mentions it.
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import UInt8

from mimir_jax import evaluation, files, tables
from mimir_jax.data.toyworld import captions, language, sampling, wording
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation import checkpoints, compbench, confidence, generation, plots, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import ToyworldEvalConfig
from mimir_jax.evaluation.judge import ground_truth, prompt_coverage
from mimir_jax.parallel import distributed

_SCANNED = 40  # scenes examined for each that is asked for, before a rare category is given up


@dataclasses.dataclass(frozen=True)
class ToyworldSample(generation.EvalSample):
    """A video to generate and judge.

    Attributes:
        index: Number of the scene in its split.
        scene: The scene that the prompt describes.
        style: Style of the caption.
        categories: Categories that the clip is judged in.
    """

    index: int
    scene: scene_lib.Scene
    style: str
    categories: tuple[str, ...]


def evaluate(
    config: ToyworldEvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Generates and judges the videos that the folder of results lacks; writes its results.

    Raises:
        InputError: if the folder of results is of another evaluation.
    """
    variety = config.variety or checkpoints.training_variety(config)
    samples = plan_samples(
        split=config.split,
        variety=variety,
        scenes=config.scenes,
        styles=config.styles,
        seeds=config.seeds,
        seed=config.seed,
    )
    generation.warn_of_truncated_prompts(generator, samples)
    batch_size = config.batch_size or generator.batch_multiple
    settings = {
        "suite": "toyworld",
        **generator.settings,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
        "styles": config.styles,
        "seeds": config.seeds,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    step = generator.settings.get("step")
    folder = checkpoints.find_folder(config, "toyworld", step)
    with results.open_results(folder, settings):
        judged = judge_samples(samples, generator, folder, batch_size=batch_size, progress=progress)
    if not distributed.is_first():
        return results.Report("")
    summary = summarise(judged)
    composition = compbench.summarise({s.index: s.scene for s in samples}, judged)
    files.write_json(
        folder / results.RESULTS, {**settings, "categories": summary, "compbench": composition}
    )
    files.write_text(folder / "results.csv", format_csv(summary))
    shares = {
        name: (cells["all"]["passed"], *cells["all"]["interval"]) for name, cells in summary.items()
    }
    title = checkpoints.make_title(config)
    plots.plot_bars(folder / "results.png", {title: shares}, label="clips that pass, %")
    scenes = len({clip["index"] for clip in judged})
    head = f"{len(judged)} clips of {scenes} scenes, step {'-' if step is None else step}"
    names = (results.RESULTS, "results.csv", "results.png", clips_lib.CLIPS, generation.VIDEOS)
    tables_of = f"{format_table(summary)}\n\n{compbench.format_table(composition)}"
    return results.Report(f"{head}\n{tables_of}", folder, names)


def plan_samples(
    *,
    split: str,
    variety: sampling.Scenery,
    scenes: int,
    styles: Sequence[str] = captions.STYLES,
    seeds: int = 1,
    seed: int = 0,
    data_seed: int = 0,
) -> list[ToyworldSample]:
    """Chooses scenes so that at least `scenes` exercise each category, as far as the split has any.

    Args:
        split: `heldout` for combinations that training never shows, or `validation`.
        variety: Variety of the scenes.
        scenes: Least number of scenes per category.
        styles: Styles of narrow captions, or wordings; each asks for every scene.
        seeds: Videos per prompt.
        seed: Seed of the first video of each prompt.
        data_seed: Seed of the dataset.
    """
    numbers = range(seed, seed + seeds)
    lacking = dict.fromkeys(evaluation.CATEGORIES, scenes)
    samples = []
    for index in range(_SCANNED * scenes):
        scene = sampling.sample(data_seed, split, index, variety)
        exercised = exercised_categories(scene)
        if not any(lacking[name] > 0 for name in exercised):
            continue
        for name in exercised:
            lacking[name] -= 1
        for style in styles:
            samples += ask_for(scene, index, style, exercised, numbers)
    return samples


def ask_for(
    scene: scene_lib.Scene,
    index: int,
    style: str,
    exercised: Sequence[str],
    seeds: Sequence[int] = (0,),
) -> list[ToyworldSample]:
    """Returns a video for each of `seeds` of one scene in one style of caption.

    Args:
        scene: The scene.
        index: Its number, which also chooses the caption.
        style: Style of narrow captions, or wording.
        exercised: Categories that the scene exercises; those that its caption mentions are judged.
        seeds: Seed of each video.
    """
    if style in language.WORDINGS:
        prompt = wording.caption(scene, style, index).text
    else:
        prompt = captions.caption(scene, style, index)
    mentioned = prompt_coverage.mentioned_categories(scene, prompt)
    return [
        ToyworldSample(
            name=f"{index:05d}-{style}-{seed}",
            prompt=prompt,
            seed=seed,
            index=index,
            scene=scene,
            style=style,
            categories=tuple(name for name in exercised if name in mentioned),
        )
        for seed in seeds
    ]


S = TypeVar("S", bound=ToyworldSample)


def judge_samples(
    samples: Sequence[S],
    generator: generation.Generator,
    folder: pathlib.Path,
    *,
    batch_size: int,
    progress: generation.Progress,
    judge: Callable[[S, UInt8[np.ndarray, "f h w 3"]], clips_lib.JudgedClip] | None = None,
) -> list[clips_lib.JudgedClip]:
    """Generates and judges the samples that `clips.jsonl` in `folder` lacks.

    Of several processes, all generate; process 0 judges, writes and returns.

    Args:
        samples: The videos.
        generator: Generates them.
        folder: Folder of results.
        batch_size: Videos at a time.
        progress: Called with the number of videos that exist and the number of all videos.
        judge: Judges a video; by default in the categories of its sample.

    Returns:
        All judged clips in the order of `samples`; none but on process 0.
    """
    recovered = distributed.from_first(lambda: clips_lib.recover_clips(folder))
    judged = {clip["name"]: clip for clip in recovered}
    for batch, videos in generation.generate_batches(
        samples, list(judged), generator, batch_size=batch_size, progress=progress
    ):
        for sample, frames in zip(batch, videos, strict=True):
            scale = max(1, 256 // min(frames.shape[1:3]))
            generation.write_video(folder, sample.name, frames, generator.fps, scale)
            judged[sample.name] = (judge or _judge)(sample, frames)
        clips_lib.append_clips(folder, [judged[sample.name] for sample in batch])
    return [judged[sample.name] for sample in samples] if distributed.is_first() else []


def summarise(judged: Sequence[clips_lib.JudgedClip]) -> dict[str, dict[str, Any]]:
    """Averages judged clips by category and, within it, by style and over `all` of them.

    Returns:
        `{category: {style: {"scenes", "clips", "value", "passed", "interval"}}}`: means of value
        and of passing, and the 95 % Wilson interval of the latter at the number of scenes. A
        category without clips is left out.
    """
    table: dict[str, dict[str, Any]] = {}
    for category in evaluation.CATEGORIES:
        scored = [clip for clip in judged if category in clip["scores"]]
        styles = dict.fromkeys(clip["style"] for clip in scored)
        groups = {"all": scored} | {s: [x for x in scored if x["style"] == s] for s in styles}
        if scored:
            table[category] = {name: _cell(group, category) for name, group in groups.items()}
    return table


def format_table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats a summary: one row per category, one column per style."""
    styles = [s for s in dict.fromkeys(s for c in summary.values() for s in c) if s != "all"]
    rows = [["passed, %", "scenes", "all", *styles]]
    for category, cells in summary.items():
        low, high = cells["all"]["interval"]
        share = f"{100 * cells['all']['passed']:.1f} ({100 * low:.0f} to {100 * high:.0f})"
        rows.append([category, str(cells["all"]["scenes"]), share])
        rows[-1] += [f"{100 * cells[s]['passed']:.1f}" if s in cells else "-" for s in styles]
    return tables.align(rows)


def format_csv(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats a summary as CSV: one line per category and style."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["category", "style", "scenes", "clips", "value", "passed", "low", "high"])
    for category, cells in summary.items():
        for style, cell in cells.items():
            numbers = (cell["value"], cell["passed"], *cell["interval"])
            counts = (cell["scenes"], cell["clips"])
            writer.writerow([category, style, *counts, *(f"{x:.6f}" for x in numbers)])
    return file.getvalue()


def exercised_categories(scene: scene_lib.Scene) -> tuple[str, ...]:
    """Returns the categories that a clip of `scene` can be judged in."""
    scores = evaluation.compare(scene, ground_truth.observe_scene(scene))
    return tuple(name for name, score in scores.items() if score is not None)


def _judge(sample: ToyworldSample, frames: np.ndarray) -> clips_lib.JudgedClip:
    verdict = evaluation.judge(sample.scene, frames)
    return {
        "name": sample.name,
        "index": sample.index,
        "style": sample.style,
        "seed": sample.seed,
        "prompt": sample.prompt,
        "scores": {name: dataclasses.asdict(verdict[name]) for name in sample.categories},
    }


def _cell(judged: Sequence[clips_lib.JudgedClip], category: str) -> dict[str, Any]:
    scenes = len({clip["index"] for clip in judged})
    passed = float(np.mean([clip["scores"][category]["passed"] for clip in judged]))
    return {
        "scenes": scenes,
        "clips": len(judged),
        "value": float(np.mean([clip["scores"][category]["value"] for clip in judged])),
        "passed": passed,
        "interval": confidence.wilson_interval(passed, scenes),
    }
