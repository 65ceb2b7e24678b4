# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The probe suite: what linear classifiers read of Toyworld scenes from the tokens of their clips.

For each attribute, a ridge regression on the tokens of training scenes names the value of other
scenes. Only scenes with exactly one value count, one colour or one action. `chance` is the share
of the most frequent value, `pixels` that of the same classifiers on the frames that the tokenizer
reads, averaged to 8 x 8. `compare --suite probe` sets tokenizers side by side, such as one that
trained by denoising and one that trained by captions (divot.md 13).
"""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from mimir_jax import files, systems, tables
from mimir_jax.data.toyworld import captions, renderer, sampling
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import InputError
from mimir_jax.evaluation import checkpoints, confidence, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import ProbeEvalConfig
from mimir_jax.evaluation.judge import texts
from mimir_jax.evaluation.metrics import ridge
from mimir_jax.models import functional
from mimir_jax.models.divot import tokenizer
from mimir_jax.parallel import distributed
from mimir_jax.weights import runs

_PIXELS = 8
_LEAST = 8
"""Scenes of a kind below which an attribute is left out."""


class Opened(NamedTuple):
    """A tokenizer of clips, and the clips that it reads.

    Attributes:
        tokens: Tokens of clips.
        frames: Frames of a clip.
        height: Rows of a frame.
        width: Columns of a frame.
        picked: Frames of a clip that the tokenizer reads.
        step: Step of its run; None without one.
    """

    tokens: clip_tokens.ClipTokens
    frames: int
    height: int
    width: int
    picked: int
    step: int | None


class Probed(NamedTuple):
    """One attribute of the scenes that have it.

    Attributes:
        scenes: Numbers of the scenes.
        true: Their values.
        tokens: Values read from tokens.
        pixels: Values read from pixels.
    """

    scenes: tuple[int, ...]
    true: tuple[str, ...]
    tokens: tuple[str, ...]
    pixels: tuple[str, ...]


def evaluate(config: ProbeEvalConfig) -> results.Report:
    """Fits and scores the classifiers; writes the values that they name and their shares right.

    Raises:
        InputError: for a checkpoint without a tokenizer of clips, results of another evaluation,
            or too few scenes to fit.
    """
    opened = open_tokenizer(config)
    run = checkpoints.find_run(config)
    settings = {
        "suite": "probe",
        "checkpoint": str(run),
        "step": opened.step,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": config.variety,
        "scenes": config.scenes,
        "fit_scenes": config.fit_scenes,
        "frames": opened.frames,
    }
    folder = checkpoints.find_folder(config, "probe", opened.step)
    with results.open_results(folder, settings):
        fit = [sampling.sample(0, "train", i, config.variety) for i in range(config.fit_scenes)]
        scenes = [sampling.sample(0, config.split, i, config.variety) for i in range(config.scenes)]
        probed = probe(fit, scenes, _features(opened, fit), _features(opened, scenes))
        if not probed:
            raise InputError(
                "--fit_scenes and --scenes must give an attribute with two values and "
                f"{_LEAST} scenes, got {config.fit_scenes} and {config.scenes}; use more"
            )
    if not distributed.is_first():
        return results.Report("")
    _write_clips(folder, scenes, probed)
    summary = summarise(probed)
    files.write_json(folder / results.RESULTS, {**settings, "attributes": summary})
    step = "" if opened.step is None else f", step {opened.step}"
    text = f"{config.fit_scenes} scenes to fit, {config.scenes} to score{step}"
    names = (results.RESULTS, clips_lib.CLIPS)
    return results.Report(f"{text}\n{format_table(summary)}", folder, names)


def open_tokenizer(config: ProbeEvalConfig) -> Opened:
    """Opens the tokenizer of a run, at the step that is evaluated, or of a folder of weights.

    Raises:
        InputError: if there is none, or `--step` or `--start` is given for weights alone.
    """
    path = checkpoints.find_run(config)
    file = path / runs.CONFIG_FILE
    if not (file.is_file() and runs.is_run_config(files.read_json(file, "config"))):
        if config.start or config.step is not None:
            raise InputError(
                f"--step and --start must be left out for {path}, which is no run; leave them out"
            )
        model, params = clip_tokens.ClipTokenizer(str(path)).load()
        frames, height, width, step = 17, *(model.config.frame_size,) * 2, None
    else:
        run = runs.read_config(path)
        whole = systems.make_system(run).model
        part = clip_tokens.tokenizer_config(whole.config, path)
        params = checkpoints.load_params(config, run, whole)
        params = params if part is whole.config else params[clip_tokens.PART]
        model = functional.build(tokenizer.DivotTokenizer, part)
        frames, height, width = run.data.frames, run.data.height, run.data.width
        step = checkpoints.find_step(config)
    tokens = clip_tokens.ClipTokens(model, params, frames)
    return Opened(tokens, frames, height, width, model.config.frames, step)


def probe(
    fit: Sequence[scene_lib.Scene],
    scenes: Sequence[scene_lib.Scene],
    known: Mapping[str, Float[np.ndarray, "n _d"]],
    seen: Mapping[str, Float[np.ndarray, "m _d"]],
) -> dict[str, Probed]:
    """Returns what classifiers on `tokens` and `pixels` name of every attribute.

    Args:
        fit: Scenes to fit.
        scenes: Scenes to classify.
        known: Features of the scenes to fit, by kind.
        seen: Features of the others, by kind.

    Returns:
        An entry for each attribute that differs between scenes to fit, and that enough scenes of
        both have with exactly one value.
    """
    found = {}
    for name in texts.ATTRIBUTES:
        if name == "action_order":  # of two actions
            continue
        (rows, labels), (places, true) = (_single(name, group) for group in (fit, scenes))
        if len(set(labels)) < 2 or min(len(rows), len(places)) < _LEAST:
            continue
        named = {
            kind: tuple(ridge.classify(known[kind][rows], labels, seen[kind][places]))
            for kind in ("tokens", "pixels")
        }
        found[name] = Probed(tuple(places), tuple(true), **named)
    return found


def summarise(probed: Mapping[str, Probed]) -> dict[str, dict[str, Any]]:
    """Returns for each attribute its scenes, shares right with Wilson intervals, and chance."""
    summary = {}
    for name, entry in probed.items():
        number = len(entry.true)
        shares = {
            kind: sum(a == b for a, b in zip(getattr(entry, kind), entry.true, strict=True))
            / number
            for kind in ("tokens", "pixels")
        }
        most = collections.Counter(entry.true).most_common(1)[0][1]
        summary[name] = {
            "scenes": number,
            "values": len(set(entry.true)),
            **shares,
            "interval": confidence.wilson_interval(shares["tokens"], number),
            "chance": most / number,
        }
    return summary


def format_table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats a summary: a row for each attribute."""
    rows = [["attribute", "scenes", "values", "tokens, right %", "pixels %", "chance %"]]
    for name, cell in summary.items():
        low, high = (100 * x for x in cell["interval"])
        right = f"{100 * cell['tokens']:.1f} ({low:.0f} to {high:.0f})"
        rest = (f"{100 * cell[kind]:.0f}" for kind in ("pixels", "chance"))
        rows.append([name, str(cell["scenes"]), str(cell["values"]), right, *rest])
    return tables.align(rows)


def _single(name: str, scenes: Sequence[scene_lib.Scene]) -> tuple[list[int], list[str]]:
    """Returns the scenes with exactly one value of an attribute, and their values."""
    numbers, values = [], []
    for number, scene in enumerate(scenes):
        found = texts.truth(scene).get(name)
        if name == "count" and len(scene.groups) == 1:
            found = found or ("one",)  # which no text has to say
        if found is not None and len(found) == 1:
            numbers.append(number)
            values.append(found[0])
    return numbers, values


def _features(
    opened: Opened, scenes: Sequence[scene_lib.Scene]
) -> dict[str, Float[np.ndarray, "n _d"]]:
    """Returns the tokens of scenes and the pixels that the tokenizer reads, a row for each."""
    positions = clip_tokens.frame_positions(opened.frames, opened.picked)
    rows: dict[str, list[np.ndarray]] = {"tokens": [], "pixels": []}
    for scene in scenes:
        video = renderer.render(scene, opened.frames, opened.height, opened.width)
        rows["tokens"].append(opened.tokens.encode(video).reshape(-1))
        rows["pixels"].append(_average(video[positions]).reshape(-1))
    return {kind: np.stack(values) for kind, values in rows.items()}


def _average(frames: UInt8[np.ndarray, "f h w 3"]) -> Float[np.ndarray, "f rows columns 3"]:
    """Returns the means of at most 8 x 8 parts of each frame."""
    x = frames.astype(np.float32)
    for axis in (1, 2):
        parts = np.array_split(x, min(_PIXELS, x.shape[axis]), axis=axis)
        x = np.stack([part.mean(axis) for part in parts], axis=axis)
    return x


def _write_clips(
    folder: pathlib.Path, scenes: Sequence[scene_lib.Scene], probed: Mapping[str, Probed]
) -> None:
    """Writes what was read of each scene from its tokens, as judged clips."""
    scores: list[dict[str, Any]] = [{} for _ in scenes]
    for name, entry in probed.items():
        for number, true, named in zip(entry.scenes, entry.true, entry.tokens, strict=True):
            right = named == true
            reason = f"reads {named}, is {true}"
            scores[number][name] = {"value": float(right), "passed": right, "reason": reason}
    lines = [
        {
            "name": f"{number:05d}",
            "index": number,
            "style": "probe",
            "prompt": captions.caption(scene, "long"),
            "scores": scores[number],
        }
        for number, scene in enumerate(scenes)
    ]
    (folder / clips_lib.CLIPS).unlink(missing_ok=True)
    clips_lib.append_clips(folder, lines)
