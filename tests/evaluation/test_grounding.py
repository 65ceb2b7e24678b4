# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The grounding suite, by a generator that believes every image."""

import dataclasses
import json
import types

import numpy as np
import pytest

from mimir_jax.data.toyworld import invented, renderer, sampling, vocabulary
from mimir_jax.errors import InputError
from mimir_jax.evaluation import config as config_lib
from mimir_jax.evaluation.judge import recognition
from mimir_jax.evaluation.suites import grounding

SEED = 7


class Believer:
    """Draws the shape that it sees in the image of a request, a circle where it sees none."""

    fps, batch_multiple, size, settings = 8.0, 4, (17, 64, 64), {"step": 1}
    system = types.SimpleNamespace(request_fields={"images", "document", "first_frame"})

    def __init__(self):
        self.prompts = []

    def generate(self, requests, *, batch_size):
        del batch_size
        self.prompts += [request.prompt for request in requests]
        return np.stack([self._draw(request) for request in requests])

    def truncated_text(self, request):
        del request
        return ""

    def _draw(self, request):
        scene = sampling.sample(0, "heldout", request.seed - SEED, "single")
        (group,) = scene.groups
        if request.first_frame is not None or group.shape in request.prompt:
            return renderer.render(scene, *self.size)
        shape = "circle"
        if request.images:
            shape = group.shape
        elif request.document is not None:
            still = np.repeat(request.document.image[None], 17, axis=0)
            shape = recognition.observe(still).groups[0].shape
        changed = dataclasses.replace(group, shape=shape)
        return renderer.render(dataclasses.replace(scene, groups=(changed,)), *self.size)


def silent(done, total):
    del done, total


@pytest.mark.slow
def test_what_images_bring_is_measured(tmp_path):
    config = config_lib.GroundingEvalConfig(
        out=str(tmp_path / "out"), variety="single", scenes=3, seed=SEED
    )
    generator = Believer()
    report = grounding.evaluate(config, generator, silent)
    demos = json.loads((report.folder / "results.json").read_text())["results"]
    names = demos["names"]["categories"]["object_class"]
    assert names["document"]["passed"] == names["words"]["passed"] == 1
    assert names["wrong"]["passed"] == 0 and names["without"]["passed"] <= 1 / 3
    shown = demos["names"]["measures"]["shows_document"]
    assert shown["document"]["mean"] == shown["wrong"]["mean"] == 100
    assert shown["without"]["mean"] < 100
    subjects = demos["subjects"]["categories"]["object_class"]
    assert subjects["image"]["passed"] == 1 and subjects["without"]["passed"] <= 1 / 3
    start = demos["first_frames"]["measures"]
    assert start["start_psnr"]["first_frame"]["mean"] == 100
    assert start["start_offset"]["first_frame"]["mean"] < 2
    assert "shape of the document" in report.text and (report.folder / "sheet.png").is_file()
    made = len(generator.prompts)
    assert made == 3 * (4 + 3 + 2)
    grounding.evaluate(config, generator, silent)  # resumes: nothing is generated again
    assert len(generator.prompts) == made


def test_a_wrong_document_shows_no_shape_of_the_scene():
    for index in range(30):
        (wrong,) = (
            sample
            for sample in grounding.plan_scene("names", index, "varied", SEED, 16, 16)
            if sample.style == "wrong"
        )
        assert wrong.shape not in {group.shape for group in wrong.scene.groups}


def pair():
    """A held-out scene of two objects in daylight, one beside or above the other."""
    scenes = (sampling.sample(0, "heldout", i, "plain") for i in range(99))
    two = (s for s in scenes if s.layout == "pair" and s.num_objects == 2 and not s.actions)
    return next(s for s in two if len({g.colour for g in s.groups}) == 2)


def measures(scene, drawn, condition="image"):
    sample = grounding.GroundedSample(
        "a", "", 0, index=0, scene=scene, style=condition, categories=(), demo="subjects"
    )
    return grounding.judge(sample, renderer.render(drawn, 17, 64, 64))["measures"]


@pytest.mark.parametrize("told", ["as it is", "from the other object"])
def test_objects_in_each_others_place_are_counted(told):
    scene = pair()
    if told == "from the other object":
        (relation,) = scene.relations
        scene = dataclasses.replace(scene, relations=(relation.inverse,))
    first, second = scene.groups
    looks = {"shape": second.shape, "colour": second.colour, "size": second.size}
    other = {"shape": first.shape, "colour": first.colour, "size": first.size}
    turned = dataclasses.replace(
        scene,
        groups=(dataclasses.replace(first, **looks), dataclasses.replace(second, **other)),
    )
    alone = dataclasses.replace(scene, groups=(first, dataclasses.replace(first)))
    assert measures(scene, scene)["swapped"] == 0
    assert measures(scene, turned)["swapped"] == 100
    assert measures(scene, alone)["swapped"] == 0  # one object is not there
    assert "colour_difference" not in measures(scene, scene)


def test_colours_are_compared_with_the_image():
    scene = sampling.sample(0, "heldout", 1, "single")
    (group,) = scene.groups
    differences = {}
    for colour in vocabulary.COLOURS:
        drawn = dataclasses.replace(scene, groups=(dataclasses.replace(group, colour=colour),))
        found = measures(scene, drawn)
        differences[colour] = found["colour_difference"]
        assert "swapped" not in found
    assert differences.pop(group.colour) < 1
    assert min(differences.values()) > 12
    nothing = dataclasses.replace(scene, groups=())
    assert "colour_difference" not in measures(scene, nothing)


def test_only_runs_that_read_images_are_evaluated(tmp_path):
    generator = Believer()
    generator.system = types.SimpleNamespace(request_fields={"prompt"})
    with pytest.raises(InputError, match="second stage of vimi"):
        grounding.evaluate(config_lib.GroundingEvalConfig(out=str(tmp_path)), generator, silent)
    with pytest.raises(InputError, match="--demos must be of names, subjects"):
        config_lib.GroundingEvalConfig(demos=("name",))


def test_an_invented_name_means_what_its_image_shows():
    assert not set(invented.NAMES["train"]) & set(invented.NAMES["heldout"])
    for index in range(12):
        scene = sampling.sample(0, "train", index, "single")
        (group,) = scene.groups
        found = invented.explain(scene, "zivof", index)
        assert "zivof" in found.text and group.shape not in found.text
        assert found.words == found.text.replace("zivofs", "zivof").replace(
            "zivof", found.words.split(group.colour)[1].split()[0]
        )
        (seen,) = recognition.observe(np.repeat(found.image[None], 17, axis=0)).groups
        assert seen.shape == group.shape == found.shape and seen.colour != group.colour
        assert (seen.colour, seen.shape) not in sampling.HELDOUT_PAIRS
        assert not np.array_equal(found.image, invented.explain(scene, "zivof", index + 99).image)
