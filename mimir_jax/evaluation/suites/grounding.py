# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The grounding suite: what images and documents bring to videos of Toyworld, judged exactly.

Every held-out scene is asked for in several conditions with the same noise:

    names           a shape has an invented name: with the document that explains it, without,
                    with a document of another shape (`wrong`), and with the real word (`words`)
    subjects        the object is an image: with the image, with neither image nor word for it
                    (`without`), and in `words`
    first_frames    the caption with the first frame of the scene, and alone (`words`)

`words` is the ceiling of the same model, `without` the chance level of what the image tells. A
subject prompt without its mark is a broken sentence, so its other categories fall too.
"""

import dataclasses
import functools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from mimir_jax import evaluation, files, tables
from mimir_jax.data.toyworld import (
    grammar,
    invented,
    renderer,
    sampling,
    subject_captions,
    vocabulary,
)
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.encoders import interleaved
from mimir_jax.errors import require
from mimir_jax.evaluation import before_after, checkpoints, confidence, generation, results
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.config import GroundingEvalConfig
from mimir_jax.evaluation.judge import frames as frames_lib
from mimir_jax.evaluation.judge import (
    observation,
    prompt_coverage,
    recognition,
    scoring,
    segmentation,
)
from mimir_jax.evaluation.metrics import colour_difference
from mimir_jax.evaluation.suites import reconstruction, toyworld
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib

CONDITIONS = {
    "names": ("document", "without", "wrong", "words"),
    "subjects": ("image", "without", "words"),
    "first_frames": ("first_frame", "words"),
}
MEASURES = {
    "shows_document": "shape of the document, %",
    "start_psnr": "PSNR of the first frame, dB",
    "start_offset": "start of the object, pixels off",
    "path": "path of the object, widths",
    "swapped": "two objects in each other's place, %",
    "colour_difference": "colour against the image, delta E",
}
"""Measures of a clip that are no categories, and their titles."""

SHEET = "sheet.png"
_SOLID = 0.8  # coverage of a pixel inside an object
_DIGITS = {"path": 2, "shows_document": 0, "swapped": 0}
_SHOWN = 4  # scenes of each demonstration in the sheet


@dataclasses.dataclass(frozen=True)
class GroundedSample(toyworld.ToyworldSample):
    """A video to generate and judge.

    Attributes:
        demo: Key of `CONDITIONS`; `style` is the condition.
        shape: Shape that the document shows.
        given: Image that the model reads, for the sheet.
    """

    demo: str
    shape: str | None = None
    given: UInt8[np.ndarray, "_ _ 3"] | None = dataclasses.field(default=None, compare=False)


def evaluate(
    config: GroundingEvalConfig, generator: generation.Generator, progress: generation.Progress
) -> results.Report:
    """Generates and judges the videos that the folder of results lacks; writes its results.

    Raises:
        InputError: for a model that reads no images, or results of another evaluation.
    """
    system = getattr(generator, "system", None)
    require(
        system is not None and {"images", "document", "first_frame"} <= system.request_fields,
        "--checkpoint must be a run of the second stage of vimi, which reads images, got another; "
        "choose one",
    )
    variety = config.variety or checkpoints.training_variety(config)
    _, height, width = generator.size
    samples = [
        sample
        for demo in config.demos
        for index in range(config.scenes)
        for sample in plan_scene(demo, index, variety, config.seed, height, width)
    ]
    batch_size = config.batch_size or generator.batch_multiple
    settings = {
        "suite": "grounding",
        **generator.settings,
        "world": sampling.VERSION,
        "variety": variety,
        "demos": config.demos,
        "scenes": config.scenes,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    step = generator.settings.get("step")
    folder = checkpoints.find_folder(config, "grounding", step)
    with results.open_results(folder, settings):
        judged = toyworld.judge_samples(
            samples, generator, folder, batch_size=batch_size, progress=progress, judge=judge
        )
    if not distributed.is_first():
        return results.Report("")
    demos = {
        demo: summarise([clip for clip in judged if clip["demo"] == demo], CONDITIONS[demo])
        for demo in config.demos
    }
    files.write_json(folder / results.RESULTS, {**settings, "results": demos})
    with files.writing(folder, "results"):
        _draw_sheet(samples, folder).save(folder / SHEET)
    head = f"{len(judged)} clips, {config.scenes} scenes of each demonstration"
    names = (SHEET, results.RESULTS, clips_lib.CLIPS, generation.VIDEOS)
    return results.Report(f"{head}\n{format_tables(demos)}", folder, names)


def plan_scene(
    demo: str, index: int, variety: sampling.Scenery, seed: int, height: int, width: int
) -> list[GroundedSample]:
    """Returns the videos of one held-out scene, one for each condition of a demonstration.

    Args:
        demo: Key of `CONDITIONS`.
        index: Number of the scene.
        variety: Variety of the scene.
        seed: Seed of the videos of scene 0; that of the others follows.
        height: Rows of the images.
        width: Columns.
    """
    scene = sampling.sample(0, "heldout", index, variety)
    words = grammar.told(scene, grammar.Words(), sized=True)
    mentioned = prompt_coverage.mentioned_categories(scene, words)
    make = functools.partial(
        GroundedSample,
        seed=seed + index,
        index=index,
        scene=scene,
        categories=tuple(n for n in toyworld.exercised_categories(scene) if n in mentioned),
        demo=demo,
    )
    inputs = {"words": {"prompt": words}} | _INPUTS[demo](scene, index, words, height, width)
    return [
        make(name=f"{demo}-{index:05d}-{condition}", style=condition, **inputs[condition])
        for condition in CONDITIONS[demo]
    ]


def judge(sample: GroundedSample, frames: UInt8[np.ndarray, "f h w 3"]) -> clips_lib.JudgedClip:
    """Judges a video by the categories of its scene and by the measures of its demonstration."""
    seen = recognition.observe(frames)
    scene = sample.scene
    verdict = evaluation.compare(sample.scene, seen)
    measures: dict[str, float] = {}
    if sample.shape is not None:
        measures["shows_document"] = 100.0 * any(g.shape == sample.shape for g in seen.groups)
    if seen.groups:
        steps = np.linalg.norm(np.diff(seen.groups[0].positions.mean(1), axis=0), axis=-1)
        measures["path"] = float(steps.sum()) / 2
    if sample.demo == "first_frames":
        start = renderer.render(sample.scene, *frames.shape[:3])[:1]
        measures["start_psnr"] = reconstruction.psnr(start, frames[:1])
        if seen.groups and sample.scene.place is not None:
            offset = seen.groups[0].positions[0, 0] - sample.scene.groups[0].positions[0]
            half = np.array([frames.shape[2], frames.shape[1]]) / 2
            measures["start_offset"] = float(np.linalg.norm(offset * half))
    if sample.demo == "subjects" and scene.layout == "pair":
        measures["swapped"] = 100.0 * _is_swapped(scene, seen)
    if sample.demo == "subjects" and len(scene.groups) == 1:
        difference = _colour_difference(scene.groups[0], frames)
        measures |= {} if difference is None else {"colour_difference": difference}
    return {
        "name": sample.name,
        "demo": sample.demo,
        "index": sample.index,
        "style": sample.style,
        "seed": sample.seed,
        "prompt": sample.prompt,
        "measures": measures,
        "scores": {name: dataclasses.asdict(verdict[name]) for name in sample.categories},
    }


def _is_swapped(scene: scene_lib.Scene, seen: observation.Observation) -> bool:
    """Whether both objects are seen, and the told relation holds the other way round."""
    (relation,) = scene.relations
    first, second = (
        None if index is None else seen.groups[index]
        for index in scoring.match_groups(scene.groups, seen.groups)
    )
    if first is None or second is None:
        return False
    pair = (first, second) if relation.subject == 1 else (second, first)
    return observation.relation_holds(pair[0], relation.name, pair[1])


def _colour_difference(
    group: scene_lib.Group, frames: UInt8[np.ndarray, "f h w 3"]
) -> float | None:
    """Returns CIEDE2000 between the cut-out of an object and what is drawn; None for nothing.

    Medians are compared: outlines and edges are darker or mixed.
    """
    clip = frames_lib.read_clip(frames)
    drawn = clip.video[segmentation.segment_foreground(clip).coverage > _SOLID]
    if not len(drawn):
        return None
    image = renderer.cut_out(group, *frames.shape[1:3])
    given, drawn = (
        colour_difference.to_lab(np.median(x.astype(float), axis=0, keepdims=True))
        for x in (image[(image < 255).any(-1)], drawn)
    )
    return float(colour_difference.delta_e(given, drawn)[0])


def summarise(
    judged: Sequence[clips_lib.JudgedClip], conditions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Averages the clips of a demonstration.

    Returns:
        `{"categories": see toyworld.summarise, "measures": {name: {condition: {"mean", "interval",
        "clips"}}}}`, with 95 % bootstrap intervals over scenes.
    """
    measures: dict[str, dict[str, Any]] = {}
    for name in MEASURES:
        for condition in conditions:
            values = np.array(
                [
                    clip["measures"][name]
                    for clip in judged
                    if clip["style"] == condition and name in clip["measures"]
                ]
            )
            if len(values):
                measures.setdefault(name, {})[condition] = {
                    "clips": len(values),
                    "mean": float(values.mean()),
                    "interval": confidence.bootstrap_interval(values, np.ones(len(values), int)),
                }
    return {"categories": toyworld.summarise(judged), "measures": measures}


def format_tables(demos: Mapping[str, Mapping[str, Any]]) -> str:
    """Formats the results: a table for each demonstration, one column per condition."""
    parts = []
    for demo, summary in demos.items():
        conditions = CONDITIONS[demo]
        rows = [[demo, *conditions]]
        for category, cells in summary["categories"].items():
            shown = [
                _shown(100 * cells[c]["passed"], *(100 * x for x in cells[c]["interval"]))
                for c in conditions
            ]
            rows.append([f"{category}, %", *shown])
        for name, cells in summary["measures"].items():
            digits = _DIGITS.get(name, 1)
            shown = [
                _shown(cells[c]["mean"], *cells[c]["interval"], digits) if c in cells else "-"
                for c in conditions
            ]
            rows.append([MEASURES[name], *shown])
        parts.append(tables.align(rows))
    return "\n\n".join(parts)


def _shown(value: float, low: float, high: float, digits: int = 0) -> str:
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


Inputs = dict[str, dict[str, Any]]


def _named(scene: scene_lib.Scene, index: int, words: str, height: int, width: int) -> Inputs:
    del words
    names = invented.NAMES["heldout"]
    shown = {group.shape for group in scene.groups}
    others = [name for name in vocabulary.SHAPES if name not in shown]
    explain = functools.partial(
        invented.explain, scene, names[index % len(names)], index, height=height, width=width
    )
    right, wrong = explain(), explain(shown=others[index % len(others)])

    def ask(found: invented.Explained) -> dict[str, Any]:
        document = interleaved.Document(found.explanation, found.image)
        return {
            "prompt": found.text, "document": document, "shape": found.shape,
            "given": found.image,
        }  # fmt: skip

    return {
        "document": ask(right),
        "wrong": ask(wrong),
        "without": {"prompt": right.text, "shape": wrong.shape},
    }


def _subjects(scene: scene_lib.Scene, index: int, words: str, height: int, width: int) -> Inputs:
    del index, words
    found = subject_captions.caption(
        scene, range(len(scene.groups)), mark=interleaved.MARK, height=height, width=width
    )
    images = tuple(found.images)
    return {
        "image": {"prompt": found.text, "images": images, "given": images[0]},
        "without": {"prompt": interleaved.without_marks(found.text)},
    }


def _begun(scene: scene_lib.Scene, index: int, words: str, height: int, width: int) -> Inputs:
    del index
    frame = renderer.render(scene, 17, height, width)[0]
    return {"first_frame": {"prompt": words, "first_frame": frame, "given": frame}}


_INPUTS = {"names": _named, "subjects": _subjects, "first_frames": _begun}


def _draw_sheet(samples: Sequence[GroundedSample], folder: Any) -> Image.Image:
    """Draws a row per scene: the prompt, the image given, and four frames in each condition."""
    height, gap, words, columns = 80, 6, 250, 4
    chosen = [
        [s for s in samples if s.demo == demo and s.index == index]
        for demo in dict.fromkeys(s.demo for s in samples)
        for index in range(_SHOWN)
    ]
    rows = [row for row in chosen if row]
    strips = [
        [
            video_lib.strip(before_after.read_video(folder, s.name), columns=columns, height=height)
            for s in row
        ]
        for row in rows
    ]
    wide = max(strip.width for row in strips for strip in row)
    most = max(len(row) for row in strips)
    step, line = height + gap + 16, words + height + 2 * gap
    sheet = Image.new("RGB", (line + most * (wide + 2 * gap), len(rows) * step), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for number, (row, shown) in enumerate(zip(rows, strips, strict=True)):
        top = number * step
        text = textwrap.wrap(f"{row[0].demo}: {row[0].prompt}", 40)
        draw.multiline_text((gap, top + 16), "\n".join(text[:5]), fill="black", font=font)
        if row[0].given is not None:
            given = Image.fromarray(row[0].given)
            sheet.paste(
                given.resize((height * given.width // given.height, height)), (words, top + 16)
            )
        for place, (sample, strip) in enumerate(zip(row, shown, strict=True)):
            left = line + place * (wide + 2 * gap)
            draw.text((left, top), sample.style, fill="black", font=font)
            sheet.paste(strip, (left, top + 16))
    return sheet
