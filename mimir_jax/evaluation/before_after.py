# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Judges a run before and after training, on held-out Toyworld prompts in every wording.

Both sides get the same prompts and noise. Their clips are kept in WORKDIR/judge, so judging can
resume, and a longer run judges only its new end.
"""

import itertools
import pathlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mimir_jax import files, systems, tables
from mimir_jax.config import JudgeConfig, TrainConfig, flag
from mimir_jax.data import video_io
from mimir_jax.data.toyworld import sampling
from mimir_jax.data.toyworld.language import WORDINGS
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation import generation, results
from mimir_jax.evaluation.suites import toyworld
from mimir_jax.parallel import distributed
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling import written_videos
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.weights import initialization, runs

RESULTS = "judge.json"
SHEET = "before_after.png"
FOLDER = "judge"

Table = dict[str, dict[str, dict[str, float]]]
"""`{wording: {category: {before, before_low, before_high, after, ..., scenes}}}`, in percent."""


def judge_run(workdir: pathlib.Path, progress: generation.Progress) -> results.Report:
    """Judges the initial parameters and the newest step of a run; writes `judge.json` and a sheet.

    Args:
        workdir: Folder of the run; its config says how many scenes, see `JudgeConfig`.
        progress: Called with the number of videos that exist and the number of all videos.

    Raises:
        InputError: if the run has no start of its own, or its folder `judge` is of another judging.
    """
    run = runs.read_config(workdir)
    before, after = open_sides(workdir)
    samples = plan(run.judge, run.data.toyworld.variety)
    sides = {"before": before, "after": after}
    judged = {}
    for number, (name, pipeline) in enumerate(sides.items()):
        done = number * len(samples)
        judged[name] = judge_side(
            samples,
            pipeline,
            _folder(workdir, pipeline),
            batch_size=run.judge.batch_size,
            progress=lambda now, _, done=done: progress(done + now, len(sides) * len(samples)),
        )
    shown = list(
        itertools.chain.from_iterable(
            itertools.islice((s for s in samples if s.style == wording), run.judge.shown)
            for wording in WORDINGS
        )
    )
    answers = after.answers([Request(sample.prompt) for sample in shown])
    if not distributed.is_first():
        return results.Report("")
    table = compare(judged["before"], judged["after"])
    folders = [_folder(workdir, pipeline) for pipeline in sides.values()]
    pairs = [[read_video(folder, sample.name) for folder in folders] for sample in shown]
    texts = [
        f"{sample.style}: {sample.prompt}" + (f"\n> {said[0]}" if said else "")
        for sample, said in zip(shown, answers, strict=True)
    ]
    with files.writing(workdir, "results of the judge"):
        draw_sheet(pairs, texts).save(workdir / SHEET)
        files.write_json(workdir / RESULTS, table)
    count = len({sample.index for sample in samples})
    head = f"judged before and after on {count} held-out scenes, passed in % (95 % interval)"
    return results.Report(f"{head}\n{format_table(table)}", workdir, (SHEET, RESULTS))


Side = pipeline_lib.Pipeline | written_videos.WrittenVideos


def check_config(run: TrainConfig) -> None:
    """Checks before a run trains that its videos can be made to judge them; reads no weights.

    Raises:
        InputError: for a run of an agent whose clips nothing decodes.
    """
    if run.system.is_agent:
        systems.find_detokenizer(run, None, flag("system.clip_tokenizer_path"))


def open_sides(workdir: pathlib.Path) -> tuple[Side, Side]:
    """Opens the initial parameters and the newest step of a run, with the same frozen networks.

    For a run of an agent, the de-tokenizer that it was trained with decodes its clips.

    Raises:
        InputError: if the run has no start of its own.
    """
    run = runs.read_config(workdir)
    opener = open_lib.open_pipeline
    if run.system.is_agent:
        opener = written_videos.open_written_videos
    after = opener(workdir, SampleConfig(steps=run.judge.steps))
    start = initialization.start_of(run, after.system.model)
    return after.with_params(start, step=0), after


def plan(config: JudgeConfig, variety: sampling.Scenery) -> list[toyworld.ToyworldSample]:
    """Returns the videos to judge: the first held-out scenes, each in every wording."""
    scenes = [sampling.sample(0, "heldout", index, variety) for index in range(config.scenes)]
    exercised = [toyworld.exercised_categories(scene) for scene in scenes]
    samples = []
    for wording in WORDINGS:
        for index, scene in enumerate(scenes):
            samples += toyworld.ask_for(scene, index, wording, exercised[index])
    return samples


def judge_side(
    samples: Sequence[toyworld.ToyworldSample],
    pipeline: Side,
    folder: pathlib.Path,
    *,
    batch_size: int,
    progress: generation.Progress,
    judge: Callable[..., clips_lib.JudgedClip] | None = None,
) -> list[clips_lib.JudgedClip]:
    """Returns the judged clips of a pipeline; generates those that `folder` lacks.

    Args:
        samples: The videos.
        pipeline: Makes them.
        folder: Folder of results.
        batch_size: Videos at a time.
        progress: Called with the number of videos that exist and the number of all videos.
        judge: As in `toyworld.judge_samples`.

    Raises:
        InputError: if `folder` holds another judging.
    """
    settings: dict[str, Any] = {
        "suite": "judge",
        **pipeline.settings,
        "world": sampling.VERSION,
        "samples": [sample.name for sample in samples],
        "batch_size": batch_size,
    }
    with results.open_results(folder, settings):
        return toyworld.judge_samples(
            samples, pipeline, folder, batch_size=batch_size, progress=progress, judge=judge
        )


def compare(before: Sequence[clips_lib.JudgedClip], after: Sequence[clips_lib.JudgedClip]) -> Table:
    """Returns the shares that pass, by wording and category, with 95 % Wilson intervals."""
    sides = {"before": toyworld.summarise(before), "after": toyworld.summarise(after)}
    table: Table = {wording: {} for wording in WORDINGS}
    for category, cells in sides["before"].items():
        for wording in WORDINGS:
            if wording not in cells:
                continue
            row: dict[str, float] = {}
            for name, summary in sides.items():
                cell = summary[category][wording]
                low, high = cell["interval"]
                row |= {name: 100 * cell["passed"]}
                row |= {f"{name}_low": 100 * low, f"{name}_high": 100 * high}
            table[wording][category] = row | {"scenes": cells[wording]["scenes"]}
    return table


def format_table(table: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Formats a comparison: one row per category, one column per wording."""
    rows = [["", *table]]
    for category in dict.fromkeys(name for cells in table.values() for name in cells):
        rows.append([category, *(_format(cells.get(category)) for cells in table.values())])
    return tables.align(rows)


def draw_sheet(
    pairs: Sequence[Sequence[UInt8[np.ndarray, "f h w 3"]]], texts: Sequence[str]
) -> Image.Image:
    """Draws one row per prompt: its text, four frames before, four frames after."""
    height, margin, gap, words = 96, 24, 6, 330
    strips = [[video_lib.strip(v, columns=4, height=height) for v in pair] for pair in pairs]
    wide = strips[0][0].width
    size = (words + 2 * (wide + 2 * gap), margin + len(pairs) * (height + gap))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    lefts = [words, words + wide + 2 * gap]
    for left, name in zip(lefts, ("before", "after"), strict=True):
        draw.text((left, 4), name, fill="black", font=font)
    for row, (pair, text) in enumerate(zip(strips, texts, strict=True)):
        top = margin + row * (height + gap)
        lines = [line for part in text.splitlines() for line in textwrap.wrap(part, 52)]
        draw.multiline_text((gap, top), "\n".join(lines[:6]), fill="black", font=font, spacing=2)
        for left, strip in zip(lefts, pair, strict=True):
            sheet.paste(strip, (left, top))
    return sheet


def _folder(workdir: pathlib.Path, pipeline: Side) -> pathlib.Path:
    return workdir / FOLDER / str(pipeline.settings["step"])


def read_video(folder: pathlib.Path, name: str) -> UInt8[np.ndarray, "f h w 3"]:
    """Reads a judged video back from its folder of results."""
    return video_io.read_clip(
        folder / generation.VIDEOS / f"{name}.mp4",
        lambda timeline: np.arange(len(timeline.times)),
        lambda frame, _: frame,
    )


def _format(cell: Mapping[str, float] | None) -> str:
    if cell is None:
        return "-"
    sides = [
        f"{cell[name]:.0f} ({cell[f'{name}_low']:.0f}-{cell[f'{name}_high']:.0f})"
        for name in ("before", "after")
    ]
    return " -> ".join(sides)
