# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Toyworld: determinism, splits, geometry, and what can be read off the pixels."""

import collections
import hashlib
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from mimir_jax import config as c
from mimir_jax.data import toyworld
from mimir_jax.data.toyworld import captions, layout, motion, renderer, sampling, shapes, vocabulary

FRAMES = 17
SIGNS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}


def object_mask(frame):
    """Pixels that belong to objects: backgrounds are muted, objects saturated."""
    frame = frame.astype(np.float64)
    high, low = frame.max(axis=-1), frame.min(axis=-1)
    return (high - low) / np.maximum(high, 1.0) > 0.5


# Determinism


def test_sample_is_random_access(scenes):
    for index in (99, 0, 17):
        assert toyworld.sample(0, "train", index) == scenes["train"][index]
    assert toyworld.sample(1, "train", 0) != scenes["train"][0]


def test_sample_golden():
    scene = toyworld.sample(0, "train", 34)
    assert toyworld.caption(scene, "short") == (
        "an orange heart above a yellow square moves down and then left"
    )
    digest = hashlib.sha256(
        "".join(toyworld.to_json(toyworld.sample(3, "heldout", i)) for i in range(20)).encode()
    )
    assert digest.hexdigest()[:16] == "5206c8828082c2e7"  # a change needs a new sampling.VERSION


def test_records_agree_across_processes():
    code = (
        "import hashlib\n"
        "from mimir_jax.data.toyworld import ToyworldSource\n"
        "h = hashlib.sha256()\n"
        "for split in ('train', 'validation', 'heldout'):\n"
        "    for i in (0, 5, 2**29):\n"
        "        r = ToyworldSource(split, seed=7)[i]\n"
        "        h.update(r['video'].tobytes() + r['caption'].encode())\n"
        "print(h.hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    digest = hashlib.sha256()
    for split, index in itertools.product(toyworld.SPLITS, (0, 5, 2**29)):
        record = toyworld.ToyworldSource(split, seed=7)[index]
        digest.update(record["video"].tobytes() + record["caption"].encode())
    assert digest.hexdigest() == other


def test_import_needs_no_jax():
    code = "import sys, mimir_jax.data.toyworld; print('jax' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_json_round_trip(every_scene):
    for scene in every_scene:
        assert toyworld.from_json(toyworld.to_json(scene)) == scene


# Splits and variety


def test_splits_share_no_scene(scenes):
    seen = [set(map(toyworld.to_json, part)) for part in scenes.values()]
    assert sum(map(len, seen)) == len(set.union(*seen)) == sum(map(len, scenes.values()))


def test_heldout_combinations_only_in_heldout(scenes):
    for split, part in scenes.items():
        for scene in part:
            assert bool(shown_combinations(scene)) == (split == "heldout"), (split, scene)
            assert toyworld.is_heldout(scene) == (split == "heldout")


def shown_combinations(scene):
    """Held-out combinations found without the code under test."""
    found = []
    for group in scene.groups:
        if (group.colour, group.shape) in toyworld.HELDOUT_PAIRS:
            found.append(group)
    for a, b in itertools.permutations(range(len(scene.groups)), 2):
        told = [r for r in scene.relations if {r.subject, r.object} == {a, b}]
        if scene.layout == "line":
            told = told or scene.relations  # the ends of a line
        for name, (axis, sign) in SIGNS.items():
            if not any(SIGNS[r.name][0] == axis for r in told):
                continue
            first, second = scene.groups[a], scene.groups[b]
            offset = np.mean(first.positions, 0)[axis] - np.mean(second.positions, 0)[axis]
            names = (first.shape, name, second.shape)
            if sign * offset > 0 and names in toyworld.HELDOUT_RELATIONS:
                found.append(names)
    verbs = tuple(action.verb for action in scene.actions)
    if scene.timing == "then" and verbs in toyworld.HELDOUT_ORDERS:
        found.append(verbs)
    return found


def test_training_shows_every_part(scenes):
    train = scenes["train"]
    groups = [group for scene in train for group in scene.groups]
    assert {group.shape for group in groups} == set(vocabulary.SHAPES)
    assert {group.colour for group in groups} == set(vocabulary.COLOURS)
    assert {group.count for group in groups} == {1, 2, 3, 4}
    assert {relation.name for s in train for relation in s.relations} == set(vocabulary.RELATIONS)
    assert {action.verb for s in train for action in s.actions} == set(vocabulary.VERBS)
    assert {s.light for s in train} == set(vocabulary.LIGHT)
    assert {s.camera for s in train} == set(vocabulary.CAMERA)
    kinds = {*vocabulary.PATTERNS, *vocabulary.LANDSCAPES}
    assert {s.background.kind for s in train} == kinds
    assert {s.place for s in train} == {None, *vocabulary.PLACES}


def test_more_than_a_billion_scenes():
    """Counts two single objects under a still camera, and how many of these fit the frame."""
    objects = [
        toyworld.Group(shape, colour, "small", 1)
        for shape, colour in itertools.product(vocabulary.SHAPES, vocabulary.COLOURS)
        if (colour, shape) not in toyworld.HELDOUT_PAIRS
    ]
    verbs = {group: len(sampling.verbs(group)) for group in objects}
    pairs = {group: len(sampling.verb_pairs(group)) for group in objects}
    stories = 0
    for a, b in itertools.combinations(objects, 2):
        # Still; one action; two by the same; two in either order; two at once, not the same.
        different = verbs[a] * verbs[b] - len(set(sampling.verbs(a)) & set(sampling.verbs(b)))
        stories += 1 + verbs[a] + verbs[b] + pairs[a] + pairs[b] + 2 * verbs[a] * verbs[b]
        stories += different
    backgrounds = len(vocabulary.PATTERNS) * len(vocabulary.TONES) + len(vocabulary.LANDSCAPES)
    total = stories * 2**2 * len(vocabulary.RELATIONS) * backgrounds * len(vocabulary.LIGHT)
    assert total > 3e9
    tried = fits = 0
    for index in range(400):
        draws = sampling.Draws(1, 0, index)
        skeleton = sampling.Skeleton(
            "pair",
            "still",
            timing := draws.choice(("single", "then", "while")),
            {"single": 1, "while": 2}.get(timing) or draws.choice((1, 2)),
            toyworld.Background("plain", "grey", (0.0, 0.0)),
            "day",
        )
        plan = sampling.make_plan(draws, skeleton, sampling.SHARES)
        if plan.num_objects == 2:
            tried += 1
            fits += any(layout.place(plan, draws) for _ in range(8))
    assert tried > 100
    assert total * (fits / tried) * 0.5 > 1e9, (total, fits, tried)  # at most half is held out


# Geometry


@pytest.mark.slow
def test_objects_stay_inside_and_apart(every_scene):
    for scene in every_scene:
        kinds = [group.shape for group in scene.groups for _ in range(group.count)]
        bounds = np.array([shapes.BOUND[kind] for kind in kinds])
        for state in toyworld.states(scene, 33):
            centres = np.array([(o.x, o.y) for o in state.objects])
            reach = bounds * [o.radius for o in state.objects]
            assert (np.abs(centres) + reach[:, None] <= 1.0).all(), scene
            for a, b in itertools.combinations(range(len(centres)), 2):
                gap = np.hypot(*(centres[a] - centres[b])) - reach[a] - reach[b]
                assert gap > 0.09, scene


def test_relations_hold_in_every_frame(every_scene):
    for scene in every_scene:
        for state in toyworld.states(scene, FRAMES):
            for relation in scene.relations:
                axis, sign = SIGNS[relation.name]
                subject = [(o.x, o.y)[axis] for o in state.objects if o.group == relation.subject]
                other = [(o.x, o.y)[axis] for o in state.objects if o.group == relation.object]
                for a, b in itertools.product(subject, other):
                    assert sign * (a - b) > 0.35, scene


def test_relations_dominate_at_the_start(every_scene):
    for scene in every_scene:
        for relation in scene.relations:
            axis, sign = SIGNS[relation.name]
            offset = np.mean(scene.groups[relation.subject].positions, axis=0)
            offset = offset - np.mean(scene.groups[relation.object].positions, axis=0)
            assert sign * offset[axis] > 1.1 * abs(offset[1 - axis]), scene


@pytest.mark.slow
def test_actions_do_what_they_say(every_scene):
    seen = set()
    for scene in every_scene:
        states = toyworld.states(scene, 65)
        for action in scene.actions:
            start, stop = action.frame_span(65)
            first, last = (
                next(o for o in states[t].objects if o.group == action.group) for t in (start, stop)
            )
            middle = next(o for o in states[(start + stop) // 2].objects if o.group == action.group)
            step = np.array([last.x - first.x, last.y - first.y])
            others = {a for a in scene.actions if a.group == action.group} - {action}
            match action.verb:
                case "left" | "right" | "up" | "down":
                    axis = action.verb in ("up", "down")
                    sign = 1 if action.verb in ("right", "down") else -1
                    assert sign * step[int(axis)] > 0.5 and abs(step[1 - int(axis)]) < 1e-9
                case "jump":
                    assert first.y - middle.y > 0.4 and np.abs(step).max() < 0.02
                case "grow":
                    assert first.radius == pytest.approx(scene.radius("small"))
                    assert last.radius == pytest.approx(scene.radius("large"), abs=1e-3)
                case "shrink":
                    assert first.radius == pytest.approx(scene.radius("large"))
                    assert last.radius == pytest.approx(scene.radius("small"), abs=1e-3)
                case "spin":
                    assert last.angle - first.angle > 2.5
                case "appear":
                    assert (first.opacity, last.opacity) == (0.0, 1.0) or others
                case "disappear":
                    assert (first.opacity, last.opacity) == (1.0, 0.0)
            seen.add(action.verb)
    assert seen == set(vocabulary.VERBS)


def test_ordered_actions_do_not_overlap(every_scene):
    for scene in every_scene:
        if scene.timing == "then":
            assert scene.actions[0].frame_span(FRAMES)[1] <= scene.actions[1].frame_span(FRAMES)[0]


def test_spins_end_upright():
    grid = np.linspace(-1.3, 1.3, 60)
    x, y = np.meshgrid(grid, grid)
    for shape, step in sampling.SPIN_STEP.items():
        turn = 2.0 * np.pi * step
        turned = shapes.distance(
            shape, np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        )
        np.testing.assert_allclose(turned < 0, shapes.distance(shape, x, y) < 0)


@pytest.mark.parametrize("shape", vocabulary.SHAPES)
def test_shape_fits_its_bound_and_has_slope_one(shape):
    grid = np.linspace(-1.5, 1.5, 301)
    x, y = np.meshgrid(grid, grid)
    distance = shapes.distance(shape, x, y)
    radius = np.hypot(x, y)[distance <= 0].max()
    assert 0.97 * shapes.BOUND[shape] < radius <= shapes.BOUND[shape]
    slope = np.hypot(*np.gradient(distance, grid[1] - grid[0]))
    near = np.abs(distance) < 0.03
    assert np.median(slope[near]) == pytest.approx(1.0, abs=0.05)


# Pixels


def test_palette_is_far_apart():
    night = np.array(renderer.NIGHT_OBJECTS)
    colours = np.array([colour.rgb for colour in vocabulary.COLOURS.values()], np.float64)
    tones = np.array(list(vocabulary.TONES.values()), np.float64)
    for a, b in itertools.combinations(colours, 2):
        assert np.linalg.norm(a - b) > 90 and np.linalg.norm((a - b) * night) > 72
    for a, b in itertools.combinations(tones, 2):
        assert np.linalg.norm(a - b) > 38
    for colour in colours:
        assert np.linalg.norm(colour - tones, axis=1).min() > 85
        assert 1 - colour.min() / colour.max() > 0.65
    assert (1 - tones.min(axis=1) / tones.max(axis=1)).max() < 0.26


def test_backgrounds_are_muted():
    for kind, tone in [*itertools.product(vocabulary.PATTERNS, vocabulary.TONES)] + [
        (kind, None) for kind in vocabulary.LANDSCAPES
    ]:
        background = toyworld.Background(kind, tone, (0.3, 0.6))
        for light in ("day", "night"):
            scene = toyworld.Scene(background, light, "still", (), "single", (), "none", ())
            assert not object_mask(toyworld.render(scene, 1)[0]).any(), (kind, tone, light)


@pytest.mark.slow
def test_objects_can_be_counted_and_named_in_pixels(scenes):
    """Finds every object of still scenes as one blob of the right colour at the right place."""
    names = list(vocabulary.COLOURS)
    palette = np.array([vocabulary.COLOURS[name].rgb for name in names], np.float64)
    checked = 0
    for scene in scenes["train"][:120]:
        if any(action.verb in ("appear", "disappear", "spin") for action in scene.actions):
            continue
        for frame, clip in zip((0, 8, 16), toyworld.render(scene, 3), strict=True):
            state = toyworld.state(scene, frame, FRAMES)
            blobs, count = ndimage.label(ndimage.binary_opening(object_mask(clip)))
            assert count == scene.num_objects, scene
            gain = 1 - (1 - np.array(renderer.NIGHT_OBJECTS)) * (1 - state.light)
            for item in state.objects:
                here = np.round((np.array([item.y, item.x]) + 1) * 32 - 0.5).astype(int)
                blob = nearest_blob(blobs, here)
                seen = np.median(clip[blobs == blob], axis=0) / gain
                likeness = palette @ seen / np.linalg.norm(palette, axis=1)
                assert names[likeness.argmax()] == item.colour, scene
                rows, columns = np.nonzero(blobs == blob)
                extent = max(np.ptp(rows), np.ptp(columns)) / 2
                assert 0.6 < extent / (item.radius * 32) < 1.25, scene
            checked += 1
    assert checked > 150


def nearest_blob(blobs, here):
    """Label of the blob closest to a pixel (rings are hollow)."""
    rows, columns = np.nonzero(blobs)
    return blobs[rows, columns][((rows - here[0]) ** 2 + (columns - here[1]) ** 2).argmin()]


def test_objects_stay_off_the_frame_edge(scenes):
    for scene in scenes["validation"][:100]:
        clip = toyworld.render(scene, 5)
        for edge in (clip[:, 0], clip[:, -1], clip[:, :, 0], clip[:, :, -1]):
            assert not object_mask(edge).any(), scene


@pytest.mark.parametrize("light", vocabulary.LIGHT)
def test_light_shows_in_the_background(scenes, light):
    for scene in [scene for scene in scenes["train"] if scene.light == light][:8]:
        clip = toyworld.render(scene)
        frames = [clip[t][~object_mask(clip[t])].mean() for t in (0, FRAMES // 2, FRAMES - 1)]
        first, middle, last = (frame / max(frames) for frame in frames)
        match light:
            case "day":
                assert min(frames) > 105 and min(first, middle, last) > 0.9
            case "night":
                assert max(frames) < 105 and min(first, middle, last) > 0.9
            case "dawn":
                assert first < 0.65 < 0.9 < last
            case "dusk":
                assert last < 0.65 < 0.9 < first
            case "dim":
                assert middle < 0.65 < 0.9 < min(first, last)
            case "glow":
                assert max(first, last) < 0.65 < 0.9 < middle


def test_camera_moves_the_whole_world(scenes):
    """Follows the background alone, by the shift that makes four steps of four frames agree."""
    panned = [scene for scene in scenes["validation"] if scene.camera.startswith("pan")][:12]
    assert {scene.camera for scene in panned} == {"pan left", "pan right"}
    for scene in panned:
        clip = toyworld.render(scene).astype(np.float64)
        grey = clip.mean(axis=-1)
        grey = grey / np.median(grey, axis=(1, 2), keepdims=True)
        free = ~np.stack([object_mask(frame) for frame in clip])
        errors = {}
        for shift in range(-7, 8):
            moved, seen = np.roll(grey, shift, axis=2), np.roll(free, shift, axis=2)
            error = ((grey[0:13:4] - moved[4::4]) ** 2)[:, :, 8:-8]
            errors[shift] = error[(free[0:13:4] & seen[4::4])[:, :, 8:-8]].mean()
        best = min(errors, key=errors.get)
        assert best in ((4, 5) if scene.camera == "pan right" else (-4, -5)), scene
        first, last = toyworld.state(scene, 0), toyworld.state(scene, FRAMES - 1)
        assert abs(last.objects[0].x - first.objects[0].x) == pytest.approx(2 * motion.PAN)


def test_zoom_scales_everything(scenes):
    for scene in scenes["train"]:
        if scene.camera == "zoom in":
            first, last = toyworld.state(scene, 0), toyworld.state(scene, FRAMES - 1)
            for a, b in zip(first.objects, last.objects, strict=True):
                assert (b.x, b.y, b.radius) == pytest.approx(
                    (a.x * motion.ZOOM, a.y * motion.ZOOM, a.radius * motion.ZOOM)
                )


@pytest.mark.parametrize("frames, height, width", [(1, 64, 64), (9, 48, 80), (5, 96, 32)])
def test_render_sizes(scenes, frames, height, width):
    for scene in scenes["train"][:12]:
        clip = toyworld.render(scene, frames, height, width)
        assert clip.shape == (frames, height, width, 3) and clip.dtype == np.uint8
        assert clip.flags.c_contiguous and object_mask(clip[0]).any() or scene.actions


# Source


def test_source_records_and_views_agree():
    source = toyworld.ToyworldSource("validation", seed=3, num_scenes=10)
    assert len(source) == 10
    record = source[np.int64(4)]
    assert record["video"].shape == (17, 64, 64, 3) and record["video"].dtype == np.uint8
    assert record["index"] == 4 and record["caption"] == source.text(4)
    assert source.scene(4) == toyworld.sample(3, "validation", 4)
    np.testing.assert_array_equal(record["video"], toyworld.render(source.scene(4)))
    for index in (10, -1):
        with pytest.raises(IndexError):
            source[index]


def test_source_repr_and_pickle():
    source = toyworld.ToyworldSource(seed=3, num_scenes=10, caption_style="long")
    for name in ("split", "seed", "num_scenes", "frames", "height", "width", "caption_style"):
        assert f"{name}={getattr(source, name)!r}" in repr(source)
    assert "version=" in repr(source)
    assert repr(toyworld.ToyworldSource(seed=4, num_scenes=10)) != repr(source)
    again = pickle.loads(pickle.dumps(source))
    assert repr(again) == repr(source) and again.text(2) == source.text(2)


@pytest.mark.slow
def test_source_mixes_styles():
    source = toyworld.ToyworldSource(num_scenes=60)
    lengths = [len(source.text(index).split()) for index in range(60)]
    assert sum(n > 30 for n in lengths) > 10 and sum(n <= captions.MAX_SHORT for n in lengths) > 20
    short = toyworld.ToyworldSource(num_scenes=60, caption_style="short")
    assert max(len(short.text(index).split()) for index in range(60)) <= captions.MAX_SHORT
    assert short.scene(9) == source.scene(9)


@pytest.mark.parametrize(
    "field, match",
    [
        ({"split": "test"}, "split must be one of"),
        ({"frames": 0}, "frames must be positive"),
        ({"seed": -1}, "seed must be within"),
        ({"version": 0}, "version must be"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_source_refuses(field, match):
    with pytest.raises(ValueError, match=match):
        toyworld.ToyworldSource(**field)


@pytest.mark.parametrize("scenery", ["plain", "single"])
def test_scenery_leaves_objects_alone(scenery):
    scenes = [toyworld.ToyworldSource(split, scenery=scenery).scene(i)
              for split in ("train", "heldout") for i in range(40)]  # fmt: skip
    assert {s.background.kind for s in scenes} == {"plain"}
    assert {(s.light, s.camera) for s in scenes} == {("day", "still")}
    assert len({s.background.tone for s in scenes}) > 3
    kinds = {len(s.groups) for s in scenes}
    assert kinds == ({1} if scenery == "single" else {1, 2, 3})
    assert {s.timing for s in scenes} >= {"none", "single", "then"}
    combinations = [bool(sampling.heldout_combinations(s)) for s in scenes]
    assert combinations == [False] * 40 + [True] * 40


def test_single_scenery_has_large_objects_in_nine_places():
    source = toyworld.ToyworldSource("train", scenery="single")
    scenes = [source.scene(i) for i in range(120)]
    assert {scene.radius("large") for scene in scenes} == {0.5}
    groups = [(scene, *scene.groups) for scene in scenes]
    assert {group.count for _, group in groups if group.size == "large"} == {1}
    still = [group for scene, group in groups if group.size == "large" and not scene.actions]
    places = [np.round(group.positions[0], 6) for group in still]
    assert len({tuple(np.sign(place)) for place in places}) == 9
    offsets = collections.defaultdict(set)
    for group, place in zip(still, places, strict=True):
        offsets[group.shape].update(abs(place[place != 0]))
    assert all(len(found) <= 1 for found in offsets.values())  # as far as each shape can go


@pytest.mark.parametrize("num_scenes", [1, 7, 8, 11])
@pytest.mark.parametrize("deal", [(), (3, 1), (1, 2)])
def test_buckets_are_dealt_every_scene_once(num_scenes, deal):
    buckets = c.BucketsConfig(listed=((1, 16, 16), (5, 16, 16)))
    source = toyworld.ToyworldSource(num_scenes=num_scenes, deal=deal)
    first, second = source.assign(buckets)
    turn = sum(deal or (1, 1))
    share = (deal or (1, 1))[0]
    assert list(first) == [n for n in range(num_scenes) if n % turn < share]
    assert list(second) == [n for n in range(num_scenes) if n % turn >= share]
    assert first[:2] == list(first)[:2]
    with pytest.raises(IndexError):
        first[len(first)]


def test_every_bucket_is_dealt_scenes():
    buckets = c.BucketsConfig(listed=((1, 16, 16), (5, 16, 16)))
    with pytest.raises(ValueError, match="deal must give each bucket at least 1 scene, got"):
        c.ToyworldConfig(deal=(3, 0))
    with pytest.raises(ValueError, match="a number for each of buckets, got 3 for 2"):
        c.DataConfig(toyworld=c.ToyworldConfig(deal=(3, 1, 1)), buckets=buckets)
