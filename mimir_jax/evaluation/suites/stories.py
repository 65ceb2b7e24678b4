# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The stories suite: Divot's LLM tells held-out Toyworld stories, judged exactly.

A story passes

    told      if it has as many texts as pages, each with one kind of object, colour and action
    shown     if the clip of every page passes the judge in object, colour, number and action of
              its own text
    constant  if every text and clip has the object and colour that the request names, and all
              clips have the same background
    whole     if all of these hold
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mimir_jax import evaluation, files, tables
from mimir_jax.data.toyworld import sampling, stories
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import source as source_lib
from mimir_jax.evaluation import checkpoints, confidence, generation, results
from mimir_jax.evaluation.config import StoriesEvalConfig
from mimir_jax.evaluation.judge import texts as texts_lib
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib

QUESTIONS = ("told", "shown", "constant", "whole")
STORIES = "stories.jsonl"

_SHOWN = ("object_class", "colour", "count", "action")
_SPAN = (0.1, 0.9)

Clip = UInt8[np.ndarray, "f h w 3"]


@runtime_checkable
class Teller(Protocol):
    """The part of `sampling.written_videos.WrittenVideos` that the suite uses."""

    fps: float
    settings: dict[str, Any]

    def tell(self, request: str, *, pages: int, seed: int) -> tuple[list[str], Sequence[Clip]]:
        """Returns the texts of a story and its clips."""
        ...


def evaluate(
    config: StoriesEvalConfig, teller: Teller, progress: generation.Progress
) -> results.Report:
    """Tells and judges the stories that the folder of results lacks; writes its results.

    Raises:
        InputError: if the folder of results is of another evaluation.
    """
    variety = config.variety or checkpoints.training_variety(config)
    settings = {
        "suite": "stories",
        **teller.settings,
        "world": sampling.VERSION,
        "variety": variety,
        "stories": config.stories,
        "pages": config.pages,
        "seed": config.seed,
    }
    folder = checkpoints.find_folder(config, "stories", teller.settings.get("step"))
    scenes = source_lib.ToyworldSource("heldout", scenery=variety)
    source = stories.ToyworldStories(scenes, config.pages)
    path = folder / STORIES
    with results.open_results(folder, settings):
        lines = distributed.from_first(lambda: results.recover_lines(path))
        for index in range(len(lines), config.stories):
            progress(index, config.stories)
            story = source.story(index)
            texts, clips = teller.tell(story.request, pages=config.pages, seed=config.seed + index)
            lines.append(judge_story(story, texts, clips))
            if distributed.is_first():
                if len(clips):
                    shown = np.concatenate(clips)
                    scale = video_lib.display_scale(shown)
                    generation.write_video(folder, f"{index:05d}", shown, teller.fps, scale)
                results.append_line(path, lines[-1])
        progress(config.stories, config.stories)
    if not distributed.is_first():
        return results.Report("")
    summary = summarise(lines)
    files.write_json(folder / results.RESULTS, {**settings, "questions": summary})
    names = (results.RESULTS, STORIES, generation.VIDEOS)
    return results.Report(f"{len(lines)} stories\n{format_table(summary)}", folder, names)


def judge_story(
    story: stories.Story, texts: Sequence[str], clips: Sequence[Clip]
) -> dict[str, Any]:
    """Returns the line of a story: its request and texts, and whether it passes each question.

    Args:
        story: What was asked for; its pages tell the object.
        texts: What was written.
        clips: What was drawn behind them.
    """
    page = story.pages[0]
    group = page.groups[0]
    seen = [evaluation.observe(clip) for clip in clips]
    said = [texts_lib.read(text) for text in texts]
    single = ("object_class", "colour", "action")
    told = len(texts) == len(story.pages) and all(
        len(values[name]) == 1 for values in said for name in single
    )
    complete = told and len(clips) == len(texts)
    shown = complete and all(
        _shows(page, values, clip) for values, clip in zip(said, seen, strict=True)
    )
    asked = {"object_class": (group.shape,), "colour": (group.colour,)}
    same = complete and all(values[name] == asked[name] for values in said for name in asked)
    constant = same and all(_has(page, clip, tuple(asked)) for clip in seen)
    constant = constant and _keeps_background(seen)
    passed = dict(zip(QUESTIONS, (told, shown, constant, told and shown and constant), strict=True))
    return {"request": story.request, "texts": list(texts), "passed": passed}


def summarise(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the share of stories that pass each question, with its Wilson interval."""
    lines, summary = list(lines), {}
    for name in QUESTIONS:
        share = float(np.mean([line["passed"][name] for line in lines]))
        interval = confidence.wilson_interval(share, len(lines))
        summary[name] = {"stories": len(lines), "passed": share, "interval": interval}
    return summary


def format_table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats a summary: a row for each question."""
    rows = [["question", "passed, %"]]
    for name, cell in summary.items():
        low, high = (100 * x for x in cell["interval"])
        rows.append([name, f"{100 * cell['passed']:.1f} ({low:.0f} to {high:.0f})"])
    return tables.align(rows)


def _shows(
    page: scene_lib.Scene, said: Mapping[str, texts_lib.Values], clip: evaluation.Observation
) -> bool:
    """Whether a clip shows what a text says, with the number of objects of the story."""
    (shape,), (colour,), (verb,) = (said[n] for n in ("object_class", "colour", "action"))
    group = dataclasses.replace(page.groups[0], shape=shape, colour=colour)
    action = scene_lib.Action(0, verb, *_SPAN)
    return _has(dataclasses.replace(page, groups=(group,), actions=(action,)), clip, _SHOWN)


def _has(scene: scene_lib.Scene, clip: evaluation.Observation, categories: Iterable[str]) -> bool:
    """Whether a clip passes the judge in some categories."""
    verdict = evaluation.compare(scene, clip)
    scores = [verdict[name] for name in categories]
    return all(score is None or score.passed for score in scores)


def _keeps_background(clips: Iterable[evaluation.Observation]) -> bool:
    """Whether all clips have one background, which the judge knows."""
    found = {(clip.background, clip.tone) for clip in clips}
    return len(found) == 1 and all(kind is not None for kind, _ in found)
