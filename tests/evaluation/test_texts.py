# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The judge of texts: exact captions pass, wrong and missing attributes do not."""

import dataclasses

import pytest

from mimir_jax.data.toyworld import captions, sampling
from mimir_jax.evaluation.judge import texts


@pytest.mark.parametrize("scenery", ["single", "varied"])
def test_exact_answers_and_long_captions_are_right_in_every_attribute(scenery):
    seen = set()
    for index in range(40):
        scene = sampling.sample(0, "heldout", index, scenery)
        for text in (" ".join(captions.answers(scene)), captions.caption(scene, "long", index)):
            readings = texts.judge_text(scene, text)
            assert all(reading.passed for reading in readings.values()), (text, readings)
            seen |= readings.keys()
    assert seen == set(texts.ATTRIBUTES)


def test_what_is_wrong_or_left_out_does_not_pass():
    scene = next(
        scene
        for scene in (sampling.sample(0, "train", i, "single") for i in range(99))
        if scene.num_objects == 1 and scene.timing == "then" and scene.groups[0].shape == "circle"
    )
    told = captions.caption(scene, "long", 0)
    other = "a red or blue circle"
    readings = texts.judge_text(scene, other)
    assert readings["object_class"].passed and not readings["colour"].passed
    assert readings["count"].passed and not readings["size"].told
    assert not texts.judge_text(scene, f"{told} There are two circles.")["count"].passed
    backwards = dataclasses.replace(scene, actions=scene.actions[::-1])
    readings = texts.judge_text(backwards, told)
    assert readings["action"].passed and not readings["action_order"].passed
    told = {name for name, r in texts.judge_text(scene, "nothing").items() if r.told}
    assert told == {"count"}  # one object has no number word
