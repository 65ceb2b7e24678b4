# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The comprehension suite: an LLM describes held-out clips of Toyworld, judged exactly.

Each scene gives a `description`; of a model that was tuned on instructions also `answers`, those to
four questions about objects, attributes, layout and time. An attribute passes only if the text
names every value of the scene and no other one. `told` is the share of texts that name any value.
`chance` is the share of scenes with the most frequent value, which a model can reach without
looking at clips.
"""

import collections
import itertools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mimir_jax import files, tables
from mimir_jax.config import INSTRUCTIONS
from mimir_jax.data.toyworld import renderer, sampling
from mimir_jax.evaluation import checkpoints, generation, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import ComprehensionEvalConfig
from mimir_jax.evaluation.judge import texts
from mimir_jax.evaluation.suites import toyworld
from mimir_jax.parallel import distributed

STYLES = ("description", "answers")


def evaluate(
    config: ComprehensionEvalConfig, agent: generation.Describer, progress: generation.Progress
) -> results.Report:
    """Describes and judges the scenes that the folder of results lacks; writes its results.

    Raises:
        InputError: if the folder of results is of another evaluation.
    """
    variety = config.variety or checkpoints.training_variety(config)
    step = checkpoints.find_step(config)
    settings = {
        "suite": "comprehension",
        "checkpoint": str(checkpoints.find_run(config)),
        "step": step,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
    }
    folder = checkpoints.find_folder(config, "comprehension", step)
    with results.open_results(folder, settings):
        judged = list(_judge_scenes(config, variety, agent, folder, progress))
    if not distributed.is_first():
        return results.Report("")
    summary, more = toyworld.summarise(judged), summarise_told(judged)
    files.write_json(folder / results.RESULTS, {**settings, "categories": summary, **more})
    text = f"{config.scenes} scenes, step {step}\n{format_table(summary, more)}"
    return results.Report(text, folder, (results.RESULTS, clips_lib.CLIPS))


def summarise_told(judged: Sequence[clips_lib.JudgedClip]) -> dict[str, dict[str, Any]]:
    """Returns `told`, by attribute and style, and `chance`, by attribute."""
    told: dict[str, dict[str, float]] = {}
    chance: dict[str, float] = {}
    for name in texts.ATTRIBUTES:
        scored = [clip for clip in judged if name in clip["scores"]]
        if not scored:
            continue
        styles = dict.fromkeys(clip["style"] for clip in scored)
        told[name] = {
            style: float(np.mean([name in c["told"] for c in scored if c["style"] == style]))
            for style in styles
        }
        first = [clip["true"][name] for clip in scored if clip["style"] == scored[0]["style"]]
        chance[name] = collections.Counter(first).most_common(1)[0][1] / len(first)
    return {"told": told, "chance": chance}


def format_table(summary: Mapping[str, Any], more: Mapping[str, Any]) -> str:
    """Formats a summary: a row for each attribute, share right and told for each style."""
    styles = [style for style in STYLES if any(style in cells for cells in summary.values())]
    heads = itertools.chain.from_iterable((f"{s}, right %", "told %") for s in styles)
    rows = [["attribute", "scenes", *heads, "chance %"]]
    for name, cells in summary.items():
        row = [name, str(cells["all"]["scenes"])]
        for style in styles:
            low, high = (100 * x for x in cells[style]["interval"])
            right = f"{100 * cells[style]['passed']:.1f} ({low:.0f} to {high:.0f})"
            row += [right, f"{100 * more['told'][name][style]:.0f}"]
        rows.append([*row, f"{100 * more['chance'][name]:.0f}"])
    return tables.align(rows)


def _judge_scenes(
    config: ComprehensionEvalConfig,
    variety: str,
    agent: generation.Describer,
    folder: pathlib.Path,
    progress: generation.Progress,
) -> Iterator[clips_lib.JudgedClip]:
    """Yields a judged text for each scene and style, the new ones written to `folder`."""
    found = distributed.from_first(lambda: clips_lib.recover_clips(folder))
    done = {clip["index"] for clip in found}
    yield from found
    data = agent.config.data
    frames = agent.config.system.clip_frames
    for number, index in enumerate(i for i in range(config.scenes) if i not in done):
        progress(len(done) + number, config.scenes)
        scene = sampling.sample(agent.config.seed, config.split, index, variety)
        video = renderer.render(scene, frames, data.height, data.width)
        said = {"description": agent.describe(video)}
        if agent.config.system.form == "instruct":
            said["answers"] = " ".join(agent.describe(video, q) for q in INSTRUCTIONS)
        lines = [_line(scene, index, style, text) for style, text in said.items()]
        if distributed.is_first():
            clips_lib.append_clips(folder, lines)
        yield from lines
    progress(config.scenes, config.scenes)


def _line(scene: Any, index: int, style: str, text: str) -> clips_lib.JudgedClip:
    readings = texts.judge_text(scene, text)
    return {
        "name": f"{index:05d}-{style}",
        "index": index,
        "style": style,
        "prompt": text,
        "told": [name for name, reading in readings.items() if reading.told],
        "true": {name: " ".join(reading.true) for name, reading in readings.items()},
        "scores": {
            name: {
                "value": float(reading.passed),
                "passed": reading.passed,
                "reason": f"says {' '.join(reading.said) or 'nothing'}",
            }
            for name, reading in readings.items()
        },
    }
