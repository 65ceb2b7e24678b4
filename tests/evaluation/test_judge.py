# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The judge of Toyworld clips: right clips pass, wrong ones fail where they are wrong."""

import dataclasses
import inspect

import numpy as np
import pytest
from scipy import ndimage

from mimir_jax import evaluation
from mimir_jax.data import toyworld
from mimir_jax.data.toyworld import Action, Background, Group, Relation, Scene, vocabulary
from mimir_jax.evaluation.judge import frames, ground_truth, recognition

SQUARE = Group("square", "blue", "large", 1, None, ((-0.5, -0.1),))
STARS = Group("star", "yellow", "small", 2, "column", ((0.5, -0.2), (0.5, 0.55)))
EXTRA = Group("ring", "pink", "small", 1, None, ((0.0, 0.6),))
ACTING = Scene(
    background=Background("dots", "mint", (0.2, 0.4)),
    light="dusk",
    camera="still",
    groups=(SQUARE, STARS),
    layout="pair",
    relations=(Relation(0, "left", 1),),
    timing="then",
    actions=(
        Action(0, "shrink", 0.05, 0.47),
        Action(1, "jump", 0.53, 0.95, 0.5),
    ),
)
"""Two groups that act, one after the other."""
LONE = Scene(
    background=Background("meadow", None, (0.1, 0.3)),
    light="day",
    camera="pan left",
    groups=(Group("heart", "red", "small", 3, "pyramid", ((-0.3, 0.4), (0.3, 0.4), (0.0, -0.2))),),
    layout="single",
    relations=(),
    timing="none",
    actions=(),
)
"""One group under a camera that pans."""


def edit(scene, group=None, background=None, action=None, **fields):
    """The scene with fields of its first group, background, first action, or itself changed."""
    if group is not None:
        fields["groups"] = (dataclasses.replace(scene.groups[0], **group), *scene.groups[1:])
    if background is not None:
        fields["background"] = dataclasses.replace(scene.background, **background)
    if action is not None:
        fields["actions"] = (dataclasses.replace(scene.actions[0], **action), *scene.actions[1:])
    return dataclasses.replace(scene, **fields)


def failures(scene, clip):
    """Categories that a clip fails."""
    verdict = evaluation.judge(scene, clip)
    assert tuple(verdict) == evaluation.CATEGORIES
    assert all(score.reason and 0 <= score.value <= 1 for score in verdict.values() if score)
    return {name for name, score in verdict.items() if score is not None and not score.passed}


@pytest.fixture(scope="module")
def sampled():
    """Scenes of the validation and held-out splits, with what is seen in their clips."""
    scenes = [
        toyworld.sample(4, split, index, variety)
        for split, variety, number in (
            ("validation", "varied", 9), ("heldout", "varied", 6), ("heldout", "single", 3)
        )
        for index in range(number)
    ]  # fmt: skip
    return [(scene, evaluation.observe(toyworld.render(scene))) for scene in scenes]


def test_rendered_clips_are_right_in_every_category(sampled):
    verdicts = [evaluation.compare(scene, seen) for scene, seen in sampled]
    wrong = [
        (index, name, score.reason)
        for index, verdict in enumerate(verdicts)
        for name, score in verdict.items()
        if score is not None and not score.passed
    ]
    assert not wrong
    summary = evaluation.summarise(verdicts)
    assert all(part.passed == 1.0 and part.scenes for part in summary.values())


def test_credit_for_other_prompts_is_that_of_a_perfect_eye(sampled):
    pairs, false = 0, []
    for a, (asked, _) in enumerate(sampled):
        for b, (shown, seen) in enumerate(sampled):
            if a == b:
                continue
            exact = evaluation.compare(asked, ground_truth.observe_scene(shown))
            for name, score in evaluation.compare(asked, seen).items():
                if score is not None and not exact[name].passed:
                    pairs += 1
                    false += [(a, b, name)] * score.passed
    assert pairs > 1500 and len(false) < 0.005 * pairs, false


def test_a_perfect_eye_passes_every_scene_and_fails_wrong_ones():
    for index in range(40):
        scene = toyworld.sample(5, "validation", index)
        verdict = evaluation.compare(scene, ground_truth.observe_scene(scene))
        assert all(score is None or score.passed for score in verdict.values())
        light = "night" if scene.light == "day" else "day"
        dark = ground_truth.observe_scene(edit(scene, light=light))
        assert not evaluation.compare(scene, dark)["light"].passed


@pytest.mark.parametrize("scene", [ACTING, LONE], ids=["acting", "lone"])
def test_scenes_of_these_tests_pass(scene):
    assert failures(scene, toyworld.render(scene)) == set()


WRONG = {
    "shape": (edit(ACTING, group={"shape": "circle"}), {"object_class", "multiple_objects"}),
    "colour": (edit(ACTING, group={"colour": "green"}), {"multiple_objects", "colour"}),
    "size": (
        edit(ACTING, group={"size": "small"}, action={"verb": "grow"}),
        {"size", "action", "action_order"},
    ),
    "missing": (
        edit(ACTING, groups=(STARS,), actions=(), relations=(), timing="none"),
        {
            "object_class", "multiple_objects", "colour", "size", "count", "spatial_relation",
            "action", "action_order",
        },
    ),
    "extra": (
        edit(ACTING, groups=(SQUARE, STARS, EXTRA)),
        {"count"},
    ),
    "mirrored": (
        edit(ACTING, groups=tuple(
            dataclasses.replace(g, positions=tuple((0.1 - x, y) for x, y in g.positions))
            for g in (SQUARE, STARS)
        )),
        {"spatial_relation"},
    ),
    "verb": (edit(ACTING, action={"verb": "spin", "amount": 6.2832}), {"action", "action_order"}),
    "order": (
        edit(ACTING, actions=(
            Action(0, "shrink", 0.53, 0.95), Action(1, "jump", 0.05, 0.47, 0.5)
        )),
        {"action_order"},
    ),
    "at once": (
        edit(ACTING, actions=(Action(0, "shrink", 0.1, 0.9), Action(1, "jump", 0.25, 0.75, 0.5))),
        {"action_order"},
    ),
    "light": (edit(ACTING, light="dawn"), {"light"}),
    "steady light": (edit(ACTING, light="night"), {"light"}),
    "pattern": (edit(ACTING, background={"kind": "checks"}), {"background"}),
    "tone": (edit(ACTING, background={"tone": "rose"}), {"background"}),
    "camera moves": (
        edit(ACTING, camera="pan right", actions=(), timing="none"),
        {"action", "action_order", "background_consistency"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_clip_fails_where_it_is_wrong(name):
    wrong, expected = WRONG[name]
    assert failures(ACTING, toyworld.render(wrong)) == expected


WRONG_LONE = {
    "count": (
        edit(LONE, group={"count": 2, "positions": LONE.groups[0].positions[:2]}),
        {"count", "layout"},
    ),
    "arrangement": (
        edit(LONE, group={"positions": ((-0.5, 0.3), (0.0, 0.3), (0.5, 0.3))}),
        {"layout"},
    ),
    "pan": (edit(LONE, camera="pan right"), {"temporal_style"}),
    "zoom": (edit(LONE, camera="zoom in"), {"temporal_style"}),
    "no pan": (edit(LONE, camera="still"), {"temporal_style"}),
    "landscape": (edit(LONE, background={"kind": "sea"}), {"background"}),
}


@pytest.mark.parametrize("name", WRONG_LONE)
def test_wrong_clip_of_one_group_fails_where_it_is_wrong(name):
    wrong, expected = WRONG_LONE[name]
    assert failures(LONE, toyworld.render(wrong)) == expected


def test_place_of_a_lone_object_counts():
    scene = edit(
        LONE,
        camera="still",
        group={"count": 1, "arrangement": None, "positions": ((-0.5, 0.5),)},
    )
    assert failures(scene, toyworld.render(scene)) == set()
    moved = edit(scene, group={"positions": ((0.5, 0.5),)})
    assert failures(scene, toyworld.render(moved)) == {"layout"}


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_object_that_never_rests_has_its_size(size):
    lone = Group("heart", "red", size, 1, None, ((-0.55, 0.0),))
    scene = edit(LONE, camera="still", groups=(lone,))
    away = edit(scene, group={"positions": ((0.55, 0.0),)})
    near = edit(scene, group={"positions": ((-0.3, 0.0),)})
    clip, other = (toyworld.render(s) for s in (scene, near))
    clip[1::2] = other[1::2]  # it trembles
    clip[0, :, :32] = toyworld.render(away)[0, :, :32]  # and comes late
    (group,) = evaluation.observe(clip).groups
    assert group.size == size and np.isfinite(group.radius)


def test_background_that_changes_is_inconsistent():
    clip = toyworld.render(ACTING)
    other = toyworld.render(edit(ACTING, background={"kind": "diagonal stripes", "tone": "slate"}))
    mixed = np.concatenate([clip[:8], other[8:]])
    assert "background_consistency" in failures(ACTING, mixed)


def test_blur_and_noise_lower_imaging_quality():
    clip = toyworld.render(LONE).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 20, clip.shape)
    best = evaluation.judge(LONE, clip.astype(np.uint8))["imaging_quality"].value
    for spoilt in (ndimage.gaussian_filter(clip, (0, 2, 2, 0)), np.clip(clip + noise, 0, 255)):
        score = evaluation.judge(LONE, spoilt.astype(np.uint8))["imaging_quality"]
        assert not score.passed and score.value < 0.5 * best


def test_objects_that_come_and_go_are_not_one_that_leaps():
    groups = (
        Group("crescent", "orange", "small", 1, None, ((-0.4, 0.0),)),
        Group("oval", "orange", "small", 1, None, ((0.4, 0.1),)),
    )
    actions = (Action(0, "disappear", 0.1, 0.9), Action(1, "appear", 0.1, 0.9))
    scene = edit(ACTING, groups=groups, actions=actions, timing="while")
    assert failures(scene, toyworld.render(scene)) == set()


@pytest.mark.parametrize(
    "size",
    [
        (17, 96, 128),
        pytest.param((9, 128, 96), marks=pytest.mark.slow),
        (12, 64, 64),
        pytest.param((33, 48, 64), marks=pytest.mark.slow),
        pytest.param((17, 256, 320), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_clips_of_other_sizes_are_read(size):
    assert failures(ACTING, toyworld.render(ACTING, *size)) == set()
    if size[0] == 17:
        assert failures(LONE, toyworld.render(LONE, *size)) == set()


def test_one_frame_shows_what_does_not_move():
    failed = failures(LONE, toyworld.render(LONE, 1, 64, 64))
    assert failed == {"temporal_style"}


CLIPS = {
    "black": np.zeros((17, 64, 64, 3), np.uint8),
    "white": np.full((17, 64, 64, 3), 255, np.uint8),
    "red": np.broadcast_to(np.array([226, 38, 40], np.uint8), (17, 64, 64, 3)),
    "noise": np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), np.uint8),
    "small": np.zeros((2, 32, 32, 3), np.uint8),
    "frame of noise": np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3), np.uint8),
}


@pytest.mark.parametrize("name", CLIPS)
def test_clip_that_shows_nothing_earns_nothing(name):
    assert evaluation.observe(CLIPS[name]).describe()
    for scene in (ACTING, LONE):
        exercised = {
            n for n, s in evaluation.compare(scene, ground_truth.observe_scene(scene)).items() if s
        }
        assert failures(scene, CLIPS[name]) >= exercised - {"light"}
    assert "light" in failures(edit(ACTING, light="dim"), CLIPS[name])


@pytest.mark.parametrize(
    "clip, words",
    [
        (np.zeros((17, 64, 64, 3), np.float32), "float32 .*scale floats to 0..255"),
        (np.zeros((64, 64, 3), np.uint8), r"\[64, 64, 3\]"),
        (np.zeros((17, 3, 64, 64), np.uint8), r"\[17, 3, 64, 64\].* channels last"),
        (np.zeros((0, 64, 64, 3), np.uint8), r"\[0, 64, 64, 3\]"),
        (np.zeros((17, 24, 64, 3), np.uint8), "at least 32 pixels high and wide, got 24x64"),
    ],
    ids=["float", "no frames", "channels first", "empty", "too small"],
)
def test_bad_clip_gives_one_clear_line(clip, words):
    with pytest.raises(ValueError, match=words) as error:
        inspect.unwrap(frames.read_clip)(clip)  # annotations are checked in tests alone
    assert "\n" not in str(error.value)


def test_describe_tells_what_is_seen():
    text = evaluation.observe(toyworld.render(ACTING)).describe()
    for words in (
        "a large blue square", "two small yellow stars in a column", "to the left of", "shrinks",
        "jump", "mint dots", vocabulary.LIGHT_SENTENCES["dusk"][0],
        vocabulary.CAMERA["still"][0],
    ):  # fmt: skip
        assert words in text.lower(), (words, text)


def test_observe_finds_times_and_places():
    seen = evaluation.observe(toyworld.render(ACTING))
    square, stars = sorted(seen.groups, key=lambda group: group.count)
    np.testing.assert_allclose(square.positions[0], SQUARE.positions, atol=0.02)
    assert square.radius == pytest.approx(toyworld.RADII["large"], abs=0.02)
    (shrink,), (jump,) = square.events, stars.events
    assert shrink.middle == pytest.approx(0.26, abs=0.06)
    assert jump.middle == pytest.approx(0.74, abs=0.06)
    assert stars.arrangement == "column" and seen.num_objects == 3
    assert {(r.subject, r.name) for r in seen.relations} == {
        (seen.groups.index(square), "left"), (seen.groups.index(stars), "right"),
    }  # fmt: skip


def test_judge_reads_the_clip_alone():
    clip = toyworld.render(LONE)
    before = clip.copy()
    assert list(inspect.signature(recognition.observe).parameters) == ["clip"]
    verdicts = [evaluation.judge(scene, clip) for scene in (LONE, ACTING)]
    assert verdicts[0] == evaluation.compare(LONE, evaluation.observe(clip))
    np.testing.assert_array_equal(clip, before)


def test_summarise_averages_over_scenes_that_exercise_a_category():
    good, bad = evaluation.Score(1.0, True, ""), evaluation.Score(0.5, False, "")
    empty = dict.fromkeys(evaluation.CATEGORIES)
    verdicts = [{**empty, "colour": good}, {**empty, "colour": bad}, {**empty, "size": bad}]
    summary = evaluation.summarise(verdicts)
    assert tuple(summary) == evaluation.CATEGORIES
    assert summary["colour"] == evaluation.Summary(2, 0.75, 0.5)
    assert summary["size"] == evaluation.Summary(1, 0.5, 0.0)
    assert summary["light"] is None
    assert set(evaluation.summarise([]).values()) == {None}
