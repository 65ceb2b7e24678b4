# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Measurements of the judge of Toyworld clips, for benchmarks/judge.py."""

import collections
import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, optimize

import mimir_jax
from mimir_jax import evaluation
from mimir_jax.data import toyworld
from mimir_jax.data.toyworld import vocabulary
from mimir_jax.evaluation.judge import frames, ground_truth, observation, quality, scoring

FRAMES, SIZE = 17, 64
RENDERED, DECODED = "rendered", "after the VAE"
OTHERS = 40  # prompts of other scenes per clip
MATCH_DISTANCE = 0.5  # largest mean distance of matched groups, in half frames
MATCH_TIME = 0.3  # largest time between matched actions
NONE = "none"


class Clip(NamedTuple):
    """A scene with the observations of its clip.

    Attributes:
        scene: The scene.
        seen: Observations by source: `rendered` and `after the VAE`.
        exact: The exact observation.
        vae_error: Root mean square error of the VAE on objects and their rims, in grey levels.
    """

    scene: toyworld.Scene
    seen: dict[str, evaluation.Observation]
    exact: evaluation.Observation
    vae_error: float


class Tally:
    """Successes among trials."""

    def __init__(self):
        self.good, self.all = 0, 0

    def add(self, good: bool) -> None:
        """Counts one trial."""
        self.good += bool(good)
        self.all += 1

    @property
    def share(self) -> float:
        """Share of successes; NaN without trials."""
        return self.good / self.all if self.all else math.nan


Tallies = collections.defaultdict[str, Tally]
Confusions = collections.defaultdict[str, collections.Counter]


@functools.cache
def make_round_trip() -> Callable[[jax.Array], jax.Array]:
    """Returns a function that encodes and decodes a clip by the packaged VAE."""
    model, params = mimir_jax.load("package:tiny/vae")
    trip = jax.jit(lambda params, clip: model.decode(params, model.encode(params, clip).mean))
    return functools.partial(trip, params)


def reconstruct(
    scenes: Sequence[toyworld.Scene], cache: pathlib.Path | None
) -> Iterator[np.ndarray]:
    """Yields every scene's clip as the packaged VAE reconstructs it."""
    if cache is not None and cache.exists():
        yield from np.load(cache)
        return
    trip, clips = make_round_trip(), []
    for scene in scenes:
        clip = jnp.asarray(toyworld.render(scene, FRAMES, SIZE, SIZE)[None], jnp.float32)
        decoded = np.asarray(trip(clip / 127.5 - 1.0)[0])
        clips.append(np.clip(np.round((decoded + 1.0) * 127.5), 0, 255).astype(np.uint8))
        yield clips[-1]
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, np.stack(clips))


def observe_all(scenes: Sequence[toyworld.Scene], cache: pathlib.Path | None) -> Iterator[Clip]:
    """Observes the clips of every scene."""
    for scene, reconstructed in zip(scenes, reconstruct(scenes, cache), strict=True):
        rendered = toyworld.render(scene, FRAMES, SIZE, SIZE)
        seen = {
            RENDERED: evaluation.observe(rendered),
            DECODED: evaluation.observe(reconstructed),
        }
        yield Clip(
            scene,
            seen,
            ground_truth.observe_scene(scene, FRAMES),
            measure_error(rendered, reconstructed),
        )


def measure_error(rendered: np.ndarray, reconstructed: np.ndarray) -> float:
    """Returns the root mean square difference on objects and their rims, in grey levels."""
    near = ~frames.read_clip(rendered).background
    return float(np.sqrt(np.mean((rendered[near].astype(float) - reconstructed[near]) ** 2)))


def measure_accuracy(clips: Iterable[Clip], source: str) -> tuple[Tallies, Tally]:
    """Counts how often clips pass their own prompts: by category, and in all of them."""
    tallies, whole = collections.defaultdict(Tally), Tally()
    for clip in clips:
        scores = evaluation.compare(clip.scene, clip.seen[source])
        for name, score in scores.items():
            if score is not None:
                tallies[name].add(score.passed)
        whole.add(all(score is None or score.passed for score in scores.values()))
    return tallies, whole


def measure_others(clips: Sequence[Clip], source: str, tallies: Tallies) -> None:
    """Counts credit for clips of other scenes where the exact observation gets none."""
    for index, clip in enumerate(clips):
        for step in range(1, min(OTHERS, len(clips) - 1) + 1):
            other = clips[(index + step) % len(clips)]
            exact = evaluation.compare(clip.scene, other.exact)
            seen = evaluation.compare(clip.scene, other.seen[source])
            for name in exact:
                if exact[name] is not None and not exact[name].passed:
                    tallies[name].add(seen[name].passed)


def measure_changes(clips: Sequence[Clip], source: str, tallies: Tallies) -> None:
    """Counts credit for prompts with one change where the exact observation gets none."""
    for index, clip in enumerate(clips):
        for name, scene in change_scene(clip.scene, index):
            exact = evaluation.compare(scene, clip.exact)[name]
            if exact is not None and not exact.passed:
                tallies[name].add(evaluation.compare(scene, clip.seen[source])[name].passed)


def change_scene(scene: toyworld.Scene, index: int) -> Iterator[tuple[str, toyworld.Scene]]:
    """Yields categories, each with a scene that differs only there; `index` selects how."""

    def edit(**fields) -> toyworld.Scene:
        return dataclasses.replace(scene, **fields)

    def other(names: Iterable[str], *present: str) -> str:
        rest = [name for name in names if name not in present]
        return rest[index % len(rest)]

    def regroup(**fields) -> toyworld.Scene:
        return edit(groups=(dataclasses.replace(first, **fields), *scene.groups[1:]))

    first = scene.groups[0]
    shapes = [group.shape for group in scene.groups]
    yield "object_class", regroup(shape=other(vocabulary.SHAPES, *shapes))
    if len(scene.groups) > 1:
        second = scene.groups[1]
        swapped = (
            dataclasses.replace(first, colour=second.colour),
            dataclasses.replace(second, colour=first.colour),
        )
        yield "multiple_objects", edit(groups=(*swapped, *scene.groups[2:]))
    colours = [group.colour for group in scene.groups]
    yield "colour", regroup(colour=other(vocabulary.COLOURS, *colours))
    yield "size", regroup(size=other(vocabulary.SIZES, first.size))
    more = first.count == 1 or (first.count < 4 and index % 2)
    count = first.count + (1 if more else -1)
    yield "count", regroup(count=count, positions=(first.positions * 2)[:count])
    mirrored = tuple(
        dataclasses.replace(relation, name=vocabulary.INVERSE[relation.name])
        for relation in scene.relations
    )
    yield "spatial_relation", edit(relations=mirrored)
    if first.arrangement is None:
        yield "layout", regroup(positions=tuple((-x, -y) for x, y in first.positions))
    else:
        yield "layout", regroup(arrangement=other(vocabulary.ARRANGEMENTS, first.arrangement))
    for action in scene.actions[:1]:
        done = [act.verb for act in scene.actions]
        verb = dataclasses.replace(action, verb=other(vocabulary.VERBS, *done))
        yield "action", edit(actions=(verb, *scene.actions[1:]))
    if scene.timing == "then" and index % 2:
        yield "action_order", edit(actions=scene.actions[::-1])
    elif scene.timing in ("then", "while"):
        yield "action_order", edit(timing="while" if scene.timing == "then" else "then")
    yield "light", edit(light=other(vocabulary.LIGHT, scene.light))
    if scene.camera != "still":
        yield "temporal_style", edit(camera=other(vocabulary.CAMERA, scene.camera, "still"))
        yield "background_consistency", edit(camera="still")
    back = scene.background
    if back.tone is not None and index % 2:
        back = dataclasses.replace(back, tone=other(vocabulary.TONES, back.tone))
    else:
        kinds = vocabulary.PATTERNS if back.tone is not None else vocabulary.LANDSCAPES
        back = dataclasses.replace(back, kind=other(kinds, back.kind))
    yield "background", edit(background=back)


def measure_corrupted(scenes: Sequence[toyworld.Scene], tallies: Tallies) -> None:
    """Counts credit for clips with a change of background half way, blur, or noise."""
    rng = np.random.default_rng(0)
    for scene, other in zip(scenes, [*scenes[1:], scenes[0]], strict=True):
        clip = toyworld.render(scene, FRAMES, SIZE, SIZE)
        if scene.background != other.background:
            behind = dataclasses.replace(scene, background=other.background)
            half = FRAMES // 2
            mixed = np.concatenate(
                [clip[:half], toyworld.render(behind, FRAMES, SIZE, SIZE)[half:]]
            )
            score = evaluation.judge(scene, mixed)["background_consistency"]
            tallies["another background half way: `background_consistency`"].add(score.passed)
        blurred = ndimage.gaussian_filter(clip.astype(np.float32), (0, 2, 2, 0))
        noisy = np.clip(clip + rng.normal(0, 15, clip.shape), 0, 255).astype(np.float32)
        for how, corrupted in (
            ("blur of 2 pixels", blurred),
            ("noise of 15 grey levels", noisy),
        ):
            passed = quality.imaging_quality(corrupted) >= scoring.MIN_QUALITY
            tallies[f"{how}: `imaging_quality`"].add(passed)


def count_confusions(clips: Iterable[Clip], source: str) -> Confusions:
    """Counts pairs of truth and observation; objects are matched by position."""
    table = collections.defaultdict(collections.Counter)
    for scene, seen, exact, _ in clips:
        seen = seen[source]
        matched, extra = _match_groups(exact.groups, seen.groups)
        for group, other in zip(exact.groups, matched, strict=True):
            for name in ("shape", "colour", "size", "count", "arrangement"):
                asked = getattr(group, name)
                if asked is not None:
                    shown = None if other is None else getattr(other, name)
                    table[name][str(asked), str(shown or NONE)] += 1
            if other is not None:
                table["action"].update(_match_verbs(group, other))
        for other in extra:
            table["shape"][NONE, other.shape] += 1
            table["colour"][NONE, other.colour] += 1
        for relation in scene.relations:
            a, b = matched[relation.subject], matched[relation.object]
            holds = [
                name
                for name in vocabulary.RELATIONS
                if a is not None and b is not None and observation.relation_holds(a, name, b)
            ]
            table["relation"][relation.name, holds[0] if holds else NONE] += 1
        for name in ("light", "camera", "background", "tone"):
            if getattr(exact, name) is not None:
                table[name][getattr(exact, name), getattr(seen, name) or NONE] += 1
    return table


def _match_groups(
    exact: Sequence[observation.Group], seen: Sequence[observation.Group]
) -> tuple[list[observation.Group | None], list[observation.Group]]:
    """Matches every group with the observed one nearest to it; returns the unmatched ones, too."""
    distances = np.full((len(exact), len(seen)), np.inf)
    for a, group in enumerate(exact):
        for b, other in enumerate(seen):
            offset = group.positions.mean(axis=1) - other.positions.mean(axis=1)  # (f, 2)
            distances[a, b] = np.hypot(offset[:, 0], offset[:, 1]).mean()
    matched: list[observation.Group | None] = [None] * len(exact)
    for a, b in zip(*optimize.linear_sum_assignment(distances), strict=True):
        if distances[a, b] < MATCH_DISTANCE:
            matched[a] = seen[b]
    return matched, [group for group in seen if not any(group is other for other in matched)]


def _match_verbs(group: observation.Group, other: observation.Group) -> Iterator[tuple[str, str]]:
    """Yields every action with the observed one nearest in time, and unmatched observed ones."""
    rest = list(other.events)
    for event in group.events:
        near = [e for e in rest if abs(e.middle - event.middle) < MATCH_TIME]
        best = min(
            near, key=lambda e: (e.verb != event.verb, abs(e.middle - event.middle)), default=None
        )
        if best is not None:
            rest.remove(best)
        yield event.verb, NONE if best is None else best.verb
    for event in rest:
        yield NONE, event.verb


def passes(clip: Clip, source: str) -> bool:
    """Returns whether a clip passes its own prompt in every category."""
    scores = evaluation.compare(clip.scene, clip.seen[source]).values()
    return all(score is None or score.passed for score in scores)
