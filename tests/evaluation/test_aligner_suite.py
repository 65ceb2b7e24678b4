# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the tokens of an aligner tell of shape and colour."""

import dataclasses
import json

import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.data.toyworld import grammar, sampling
from mimir_jax.encoders import interleaved, text
from mimir_jax.errors import InputError
from mimir_jax.evaluation import config as config_lib
from mimir_jax.evaluation.suites import aligner as suite
from tests import runs as tiny

SCENES = {i: sampling.sample(0, "heldout", i, "single") for i in range(12)}
LONE = {i: scene for i, scene in SCENES.items() if len(scene.groups) == 1}
RUN = c.TrainConfig(
    system=c.AlignerSystemConfig(
        multimodal=c.MultimodalConfig(path="package:tiny/llava"),
        text=c.TextConfig(t5_path="package:tiny/t5", length=64),
        model=c.AlignerConfig(text_length=64),
    ),
    data=c.DataConfig(height=64, width=64),
)


def words_of(scene, **changes):
    group = dataclasses.replace(scene.groups[0], **changes)
    return grammar.told(dataclasses.replace(scene, groups=(group,)), grammar.Words(), sized=True)


def read(believed):
    """Lines of all scenes, for tokens that are T5's states of the text `believed(scene)`."""
    encoder, lines = text.TextEncoder(RUN.system.text, use_llm=False), []
    for index, scene in LONE.items():
        opened = suite.Opened(RUN, lambda _, s=scene: encoder.encode([believed(s)]).t5[0], encoder)
        lines += suite.read_scene(opened, index, scene)
    return lines


def test_tokens_tell_what_they_are_nearest_to():
    right = suite.summarise(read(words_of))
    assert all(cell["right"] == 1 for cells in right.values() for cell in cells.values())
    red = read(lambda scene: words_of(scene, colour="red"))
    for line, name in zip(red, suite.PROMPTS * len(LONE), strict=True):
        colour = LONE[line["index"]].groups[0].colour
        assert line["style"] == name and line["scores"]["shape"]["passed"]
        assert line["scores"]["colour"]["passed"] == (colour == "red")
        assert line["scores"]["colour"]["reason"] == f"red, is {colour}"
    summary = suite.summarise(red)
    shown = suite.format_table(summary).splitlines()
    assert len(LONE) == summary["image"]["colour"]["scenes"] >= 8
    assert summary["image"]["colour"]["right"] < 0.5 and summary["image"]["shape"]["chance"] == 0.1
    assert shown[-1].split()[0] == "colour" and shown[-2].count("100 (") == len(suite.PROMPTS)


def test_images_and_documents_alone_tell_what_is_asked():
    for index, scene in LONE.items():
        (group,) = scene.groups
        made = suite.make_prompts(RUN, index, scene)
        noun = grammar.Words().noun(group.shape, group.count)
        assert made["words"].caption == words_of(scene) and not made["words"].images
        assert noun in made["words"].caption and group.colour in made["words"].caption
        image = made["image"]
        said = " ".join(s.text for s in image.segments if isinstance(s, interleaved.Text))
        assert len(image.images) == 1 and not {noun, group.colour} & set(said.split())
        document = made["document"]
        assert len(document.images) == 1 and noun not in document.caption.split()
        assert group.colour in document.caption


def test_a_run_of_either_kind_is_read(frozen, llava_folder, tmp_path):
    whole = tiny.vimi_run(frozen, llava_folder, tmp_path)
    section = dataclasses.replace(
        whole.system, text=c.TextConfig(t5_path=str(frozen / "t5"), length=24), memory_path=None
    )
    alone = c.AlignerSystemConfig(
        model=section.model.aligner, multimodal=section.multimodal, text=section.text
    )
    counts = []
    for number, system in enumerate((section, alone)):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = dataclasses.replace(whole, system=system)
        (folder / "config.json").write_text(bridge.to_json(run))
        config = config_lib.AlignerEvalConfig(
            checkpoint=str(folder), start=True, variety="single", scenes=4
        )
        report = suite.evaluate(config)
        results = json.loads((report.folder / "results.json").read_text())["prompts"]
        counts.append(results["document"]["colour"]["scenes"])
        lines = (report.folder / "clips.jsonl").read_text().splitlines()
        assert len(lines) == 3 * counts[-1] and "right, %" in report.text
    assert counts[0] == counts[1] > 0


def test_what_has_no_aligner_is_one_line(frozen, llava_folder, tmp_path):
    (tmp_path / "config.json").write_text(bridge.to_json(tiny.divot_run(frozen)))
    config = config_lib.AlignerEvalConfig(checkpoint=str(tmp_path), start=True)
    with pytest.raises(InputError, match="must be a run of aligner or vimi .* got one of divot;"):
        suite.evaluate(config)
