# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The aligner suite: which shape and colour the tokens of VIMI's aligner tell, without any video.

Held-out scenes of Toyworld with one kind of object are asked for in three ways:

    words       the caption alone, the ceiling
    image       an image in place of the object's shape and colour
    document    a shape has an invented name, which a document with an image explains; the colour
                is told in words, and the image has another one

The tokens of each prompt are compared with T5's states of its caption in words, and with those of
the captions in which every other shape, or colour, stands there. What the nearest of them names is
what the tokens tell. Before a video transformer trains, this shows what it can be told (V-U23).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from mimir_jax import config as c
from mimir_jax import files, systems, tables
from mimir_jax.data.toyworld import grammar, invented, sampling, subject_captions, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.encoders import interleaved, multimodal
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError, require
from mimir_jax.evaluation import checkpoints, confidence, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import AlignerEvalConfig
from mimir_jax.models import functional
from mimir_jax.models.vimi import aligner
from mimir_jax.parallel import distributed
from mimir_jax.weights import runs

PROMPTS = ("words", "image", "document")
ATTRIBUTES = {"shape": tuple(vocabulary.SHAPES), "colour": tuple(vocabulary.COLOURS)}
PART = "aligner"
"""Name of the aligner among the parts of a run of `vimi`."""


class Opened(NamedTuple):
    """An aligner with the two frozen networks that it joins.

    Attributes:
        run: The run that it is of.
        tokens: Returns the tokens of a prompt.
        text: Encodes captions by T5.
    """

    run: c.TrainConfig
    tokens: Callable[[interleaved.Prompt], Float[Array, "n d"]]
    text: text_lib.TextEncoder


def evaluate(config: AlignerEvalConfig) -> results.Report:
    """Reads the tokens of every prompt; writes what they tell and the shares right.

    Raises:
        InputError: for a run without an aligner, results of another evaluation, or scenes none of
            which has one kind of object.
    """
    step, run = checkpoints.find_step(config), checkpoints.find_run(config)
    opened = open_aligner(config)
    variety = config.variety or checkpoints.training_variety(config)
    settings = {
        "suite": "aligner",
        "checkpoint": str(run),
        "step": step,
        "world": sampling.VERSION,
        "split": config.split,
        "variety": variety,
        "scenes": config.scenes,
    }
    folder = checkpoints.find_folder(config, "aligner", step)
    with results.open_results(folder, settings):
        drawn = {i: sampling.sample(0, config.split, i, variety) for i in range(config.scenes)}
        scenes = {i: scene for i, scene in drawn.items() if len(scene.groups) == 1}
        if not scenes:
            raise InputError(
                f"--scenes must give a scene with one kind of object, got none in {config.scenes} "
                f"of variety {variety}; use more, or --variety=single"
            )
        lines = [line for i, scene in scenes.items() for line in read_scene(opened, i, scene)]
    if not distributed.is_first():
        return results.Report("")
    (folder / clips_lib.CLIPS).unlink(missing_ok=True)
    clips_lib.append_clips(folder, lines)
    summary = summarise(lines)
    files.write_json(folder / results.RESULTS, {**settings, "prompts": summary})
    text = f"{len(scenes)} scenes with one kind of object, step {step}\n{format_table(summary)}"
    return results.Report(text, folder, (results.RESULTS, clips_lib.CLIPS))


def open_aligner(config: AlignerEvalConfig) -> Opened:
    """Opens the aligner of a run, LLM and T5.

    Raises:
        InputError: for a run that has none.
    """
    run = runs.read_config(checkpoints.find_run(config))
    whole = systems.make_system(run).model
    alone = isinstance(whole.config, c.AlignerConfig)
    require(
        alone or PART in whole.abstract_params,
        f"--checkpoint must be a run of {PART} or vimi with an {PART}, got one of "
        f"{run.system.kind}; name one",
    )
    cfg = whole.config if alone else whole.config.aligner
    model = functional.build(aligner.Aligner, cfg)
    params = checkpoints.load_params(config, run, whole)
    params = params if alone else params[PART]
    llm = multimodal.MultimodalEncoder(run.system.multimodal)
    apply = jax.jit(lambda params, features: model.apply(params, features).tokens[0])
    text = text_lib.TextEncoder(run.system.text, use_llm=False, seed=run.seed)
    return Opened(run, lambda prompt: apply(params, llm.encode([prompt])), text)


def read_scene(opened: Opened, index: int, scene: scene_lib.Scene) -> list[dict[str, Any]]:
    """Returns what the tokens of each prompt of a scene tell, as lines of `clips.jsonl`."""
    return [
        {
            "name": f"{index:05d}-{name}",
            "index": index,
            "style": name,
            "prompt": prompt.caption,
            "scores": {
                attribute: _score(true, told)
                for attribute, (true, told) in _told(opened, scene, prompt).items()
            },
        }
        for name, prompt in make_prompts(opened.run, index, scene).items()
    ]


def make_prompts(
    run: c.TrainConfig, index: int, scene: scene_lib.Scene
) -> dict[str, interleaved.Prompt]:
    """Returns the prompts of a scene with one kind of object, by their name in `PROMPTS`."""
    cfg, size = run.system.multimodal, {"height": run.data.height, "width": run.data.width}
    compose = interleaved.pretraining if run.system.stage == "pretrain" else interleaved.retrieved
    names = invented.NAMES["heldout"]
    subject = subject_captions.caption(scene, [0], mark=interleaved.MARK, **size)
    named = invented.explain(scene, names[index % len(names)], index, **size)
    document = interleaved.Document(named.explanation, named.image)
    return {
        "words": compose(cfg, named.words, None),
        "image": interleaved.subjects(cfg, subject.text, subject.images),
        "document": compose(cfg, named.text, document),
    }


def summarise(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns by prompt and attribute the scenes, the share right and its Wilson interval."""
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for name in PROMPTS:
        scores = [line["scores"] for line in lines if line["style"] == name]
        summary[name] = {}
        for attribute, values in ATTRIBUTES.items():
            share = float(np.mean([score[attribute]["passed"] for score in scores]))
            summary[name][attribute] = {
                "scenes": len(scores),
                "right": share,
                "interval": confidence.wilson_interval(share, len(scores)),
                "chance": 1 / len(values),
            }
    return summary


def format_table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Formats a summary: a row for each attribute, a column for each kind of prompt."""
    rows = [["right, %", *summary, "chance"]]
    for attribute in ATTRIBUTES:
        cells = [prompts[attribute] for prompts in summary.values()]
        shown = [
            "{:.0f} ({:.0f} to {:.0f})".format(*(100 * y for y in (x["right"], *x["interval"])))
            for x in cells
        ]
        rows.append([attribute, *shown, f"{100 * cells[0]['chance']:.0f}"])
    return tables.align(rows)


def _score(true: str, told: str) -> dict[str, Any]:
    return {"value": float(told == true), "passed": told == true, "reason": f"{told}, is {true}"}


def _told(
    opened: Opened, scene: scene_lib.Scene, prompt: interleaved.Prompt
) -> dict[str, tuple[str, str]]:
    """Returns the true value of each attribute and the one that the tokens of a prompt tell."""
    tokens, group = opened.tokens(prompt), scene.groups[0]
    found = {}
    for attribute, values in ATTRIBUTES.items():
        others = [dataclasses.replace(group, **{attribute: value}) for value in values]
        captions = [
            grammar.told(dataclasses.replace(scene, groups=(other,)), grammar.Words(), sized=True)
            for other in others
        ]
        t5 = opened.text.encode(captions)
        nearest = int(np.argmin(_losses(tokens, t5.t5, t5.t5_mask)))
        found[attribute] = (getattr(group, attribute), values[nearest])
    return found


@jax.jit
def _losses(
    tokens: Float[Array, "t d"], t5: Float[Array, "n t d"], mask: Bool[Array, "n t"]
) -> Float[Array, " n"]:
    """Returns how far tokens are from T5's states of each caption, pads left out."""
    return jax.vmap(lambda x, m: aligner.compare(tokens[None], x[None], m[None]).loss)(t5, mask)
