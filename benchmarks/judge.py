# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""How often the judge of Toyworld clips is right: rendered, through the shipped VAE, mismatched.

    python benchmarks/judge.py [--scenes 400] [--seed 2] [--out docs/judge.md] [--clips FOLDER]

Every scene is judged from its rendered clip and from what the VAE makes of that, against its own
prompt, the prompts of other scenes, and its own with one thing changed. Writes a page of accuracy,
false credit and confusion tables; ends with exit code 1 where a target is missed. `--clips` keeps
the clips of the VAE for the next run.
"""

import argparse
import collections
import dataclasses
import functools
import importlib.metadata
import math
import pathlib
import sys
import time
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
from mimir_jax.evaluation import confidence
from mimir_jax.evaluation.judge import frames, ground_truth, observation, quality, scoring

ROOT = pathlib.Path(__file__).parents[1]
FRAMES, SIZE = 17, 64
SPLITS, SCENERIES = ("validation", "heldout"), ("varied", "single")
RENDERED, RECODED = "rendered", "after the VAE"
TARGETS = {RENDERED: 0.99, RECODED: 0.97}
FALSE_CREDIT = 0.02
OTHERS = 40  # prompts of other scenes for every clip
SPOILT = 40  # clips that are spoilt on purpose, by scenery
APART = 0.5  # way from an object beyond which another one is not it, in half frames
TOGETHER = 0.3  # time between an action and what it is seen as
NONE = "none"

INTRODUCTION = """# The judge

`mimir_jax.evaluation` reads a clip of Toyworld by pixels and rules alone. It learns nothing and is
told nothing: `observe` turns frames into shapes, colours, counts, sizes, paths, actions with their
times, light, camera and background, and `compare` holds that against the scene graph of a prompt.

```python
from mimir_jax import evaluation

print(evaluation.observe(clip).describe())  # uint8 [frames, height, width, 3]
verdict = evaluation.judge(scene, clip)
print(verdict["colour"].passed, verdict["colour"].reason)
print(evaluation.summarise(verdicts)["colour"].passed)  # share of the scenes that exercise it
```

| category | passes when |
|---|---|
| `object_class` | every shape that is asked for is there |
| `multiple_objects` | of two or three groups, each is there with its own shape and colour |
| `colour` | every group has its colour |
| `size` | every group begins small or large, as asked |
| `count` | every group has its number, and nothing else is there |
| `spatial_relation` | one group is left, right, above or below of the other throughout |
| `layout` | rows, columns, pyramids and grids are formed; a lone object is in its place |
| `action` | every group does what it must |
| `action_order` | the second action follows the first, or both are at once; nothing else happens |
| `light` | day, night, or the change between them runs as asked |
| `temporal_style` | the camera pans or zooms as asked |
| `background` | pattern and tone, or landscape, are right |
| `background_consistency` | at least 85 % of the background looks the same throughout, once light \
and camera are taken away |
| `imaging_quality` | edges are sharp and flat parts clean, at 0.25 of 1 or more |

A scene counts only in the categories that it exercises. Clips may have any size from 32 pixels and
any number of frames; everything below is measured at the embedded default's 17 frames of 64 x 64.
"""


class Clip(NamedTuple):
    """A scene with what is seen in its clip, by source: `rendered` and `after the VAE`.

    `damage` is how far the VAE is off on objects and their rims, root mean square in grey levels.
    """

    scene: toyworld.Scene
    seen: dict[str, evaluation.Observation]
    exact: evaluation.Observation
    damage: float


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
def round_trip() -> Callable[[jax.Array], jax.Array]:
    """Returns the shipped VAE, there and back."""
    model, params = mimir_jax.load("package:tiny/vae")
    trip = jax.jit(lambda params, clip: model.decode(params, model.encode(params, clip).mean))
    return functools.partial(trip, params)


def recode(scenes: Sequence[toyworld.Scene], cache: pathlib.Path | None) -> Iterator[np.ndarray]:
    """Yields every scene's clip after a round trip through the shipped VAE."""
    if cache is not None and cache.exists():
        yield from np.load(cache)
        return
    trip, clips = round_trip(), []
    for scene in scenes:
        clip = jnp.asarray(toyworld.render(scene, FRAMES, SIZE, SIZE)[None], jnp.float32)
        decoded = np.asarray(trip(clip / 127.5 - 1.0)[0])
        clips.append(np.clip(np.round((decoded + 1.0) * 127.5), 0, 255).astype(np.uint8))
        yield clips[-1]
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.save(cache, np.stack(clips))


def read(scenes: Sequence[toyworld.Scene], cache: pathlib.Path | None) -> Iterator[Clip]:
    """Judges the clips of every scene."""
    for scene, recoded in zip(scenes, recode(scenes, cache), strict=True):
        rendered = toyworld.render(scene, FRAMES, SIZE, SIZE)
        seen = {
            RENDERED: evaluation.observe(rendered),
            RECODED: evaluation.observe(recoded),
        }
        yield Clip(
            scene, seen, ground_truth.observe_scene(scene, FRAMES), damage(rendered, recoded)
        )


def damage(rendered: np.ndarray, recoded: np.ndarray) -> float:
    """Returns the root mean square difference on objects and their rims, in grey levels."""
    near = ~frames.read_clip(rendered).background
    return float(np.sqrt(np.mean((rendered[near].astype(float) - recoded[near]) ** 2)))


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
    """Counts credit for clips of other scenes, where a perfect eye gives none."""
    for index, clip in enumerate(clips):
        for step in range(1, min(OTHERS, len(clips) - 1) + 1):
            other = clips[(index + step) % len(clips)]
            exact = evaluation.compare(clip.scene, other.exact)
            seen = evaluation.compare(clip.scene, other.seen[source])
            for name in exact:
                if exact[name] is not None and not exact[name].passed:
                    tallies[name].add(seen[name].passed)


def measure_changes(clips: Sequence[Clip], source: str, tallies: Tallies) -> None:
    """Counts credit for prompts in which one thing was changed, where a perfect eye gives none."""
    for index, clip in enumerate(clips):
        for name, scene in change(clip.scene, index):
            exact = evaluation.compare(scene, clip.exact)[name]
            if exact is not None and not exact.passed:
                tallies[name].add(evaluation.compare(scene, clip.seen[source])[name].passed)


def change(scene: toyworld.Scene, index: int) -> Iterator[tuple[str, toyworld.Scene]]:
    """Yields categories, each with a scene that differs only there; `index` picks which way."""

    def edit(**fields) -> toyworld.Scene:
        return dataclasses.replace(scene, **fields)

    def other(names: Iterable[str], *known: str) -> str:
        rest = [name for name in names if name not in known]
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


def measure_spoilt(scenes: Sequence[toyworld.Scene], tallies: Tallies) -> None:
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
        for how, spoilt in (
            ("blur of 2 pixels", blurred),
            ("noise of 15 grey levels", noisy),
        ):
            passed = quality.imaging_quality(spoilt) >= scoring.MIN_QUALITY
            tallies[f"{how}: `imaging_quality`"].add(passed)


def confuse(clips: Iterable[Clip], source: str) -> Confusions:
    """Counts what everything is seen as; objects are matched by where they are."""
    table = collections.defaultdict(collections.Counter)
    for scene, seen, exact, _ in clips:
        seen = seen[source]
        found, extra = _match(exact.groups, seen.groups)
        for group, other in zip(exact.groups, found, strict=True):
            for name in ("shape", "colour", "size", "count", "arrangement"):
                asked = getattr(group, name)
                if asked is not None:
                    shown = None if other is None else getattr(other, name)
                    table[name][str(asked), str(shown or NONE)] += 1
            if other is not None:
                table["action"].update(_verbs(group, other))
        for other in extra:
            table["shape"][NONE, other.shape] += 1
            table["colour"][NONE, other.colour] += 1
        for relation in scene.relations:
            a, b = found[relation.subject], found[relation.object]
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


def _match(
    exact: Sequence[observation.Group], seen: Sequence[observation.Group]
) -> tuple[list[observation.Group | None], list[observation.Group]]:
    """Finds for every group the one that is seen in its place; returns what is left over, too."""
    ways = np.full((len(exact), len(seen)), np.inf)
    for a, group in enumerate(exact):
        for b, other in enumerate(seen):
            way = group.positions.mean(axis=1) - other.positions.mean(axis=1)  # (f, 2)
            ways[a, b] = np.hypot(way[:, 0], way[:, 1]).mean()
    found: list[observation.Group | None] = [None] * len(exact)
    for a, b in zip(*optimize.linear_sum_assignment(ways), strict=True):
        if ways[a, b] < APART:
            found[a] = seen[b]
    return found, [group for group in seen if not any(group is other for other in found)]


def _verbs(group: observation.Group, other: observation.Group) -> Iterator[tuple[str, str]]:
    """Yields what every action is seen as, the nearest in time, and what else is seen."""
    rest = list(other.events)
    for event in group.events:
        near = [e for e in rest if abs(e.middle - event.middle) < TOGETHER]
        best = min(
            near, key=lambda e: (e.verb != event.verb, abs(e.middle - event.middle)), default=None
        )
        if best is not None:
            rest.remove(best)
        yield event.verb, NONE if best is None else best.verb
    for event in rest:
        yield NONE, event.verb


ORDER = {
    "shape": vocabulary.SHAPES,
    "colour": vocabulary.COLOURS,
    "size": vocabulary.SIZES,
    "count": "1234",
    "arrangement": vocabulary.ARRANGEMENTS,
    "relation": vocabulary.RELATIONS,
    "action": vocabulary.VERBS,
    "light": vocabulary.LIGHT,
    "camera": vocabulary.CAMERA,
    "background": (*vocabulary.PATTERNS, *vocabulary.LANDSCAPES),
    "tone": vocabulary.TONES,
}


def percent(share: float, digits: int = 1) -> str:
    """Returns a share in percent."""
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f}"


def shown(tally: Tally) -> str:
    """Returns a share in percent with its interval."""
    if not tally.all:
        return "-"
    low, high = confidence.wilson_interval(tally.share, tally.all)
    return f"{percent(tally.share)} ({percent(low)} to {percent(high)})"


def table_of(name: str, counts: collections.Counter) -> Iterator[str]:
    """Yields the lines of a confusion table; zeros are left out."""
    order = list(ORDER[name])
    rows = [row for row in [*order, NONE] if any(a == row for a, _ in counts)]
    columns = [
        column
        for column in [*order, *sorted({b for _, b in counts} - set(order) - {NONE}), NONE]
        if column in order or any(b == column for _, b in counts)
    ]
    yield f"| {name} | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"
    for row in rows:
        yield f"| {row} | " + " | ".join(str(counts[row, c] or "") for c in columns) + " |"


def mistakes(counts: collections.Counter) -> str:
    """Returns what is off the diagonal, in words."""
    wrong = [f"{a} as {b} {n}" for (a, b), n in sorted(counts.items()) if a != b]
    total = sum(counts.values())
    return f"{total - sum(n for (a, b), n in counts.items() if a != b)} of {total} right" + (
        f" ({', '.join(wrong)})" if wrong else ""
    )


def main() -> None:
    """Measures everything and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=400, help="of each scenery")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "docs" / "judge.md")
    parser.add_argument("--clips", type=pathlib.Path, default=None)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    conditions: dict[tuple[str, str], list[Clip]] = {}
    for scenery in SCENERIES:
        for split in SPLITS:
            number = args.scenes // len(SPLITS)
            scenes = [toyworld.sample(args.seed, split, i, scenery) for i in range(number)]
            cache = args.clips and args.clips / f"{split}-{scenery}-{args.seed}-{number}.npy"
            start = time.monotonic()
            conditions[split, scenery] = list(read(scenes, cache))
            seconds = time.monotonic() - start
            print(f"{split}, {scenery}: {number} scenes in {seconds:.0f} s", flush=True)
    text, missed = page(conditions, args.scenes, args.seed)
    args.out.write_text(text)
    print(text)
    if missed:
        sys.exit(f"{len(missed)} targets missed: {'; '.join(missed)}")
    print(f"all targets met -> {args.out}")


def page(
    conditions: dict[tuple[str, str], list[Clip]], scenes: int, seed: int
) -> tuple[str, list[str]]:
    """Returns the page, and the targets that are missed."""
    clips = [clip for part in conditions.values() for clip in part]
    missed: list[str] = []
    lines = [
        INTRODUCTION,
        "```bash",
        "python benchmarks/judge.py",
        "```",
        "",
        f"{len(clips)} scenes of seed {seed}: {scenes} with varied, {scenes} with single scenery,",
        "half of each from the validation and half from the held-out split. The VAE is the shipped",
        f"one, mean of its posterior. With {versions()}.",
        "",
        "The judge's thresholds were set on scenes of the train split. Of seed 2, the clips with",
        "varied scenery that an earlier version failed were looked at to find out why.",
        "",
        *accuracy_section(clips, conditions, missed),
        *credit_section(conditions, missed),
        *spoilt_section(clips),
        *failure_section(conditions),
        *confusion_section(clips),
    ]
    return "\n".join(lines).rstrip() + "\n", missed


def versions() -> str:
    """Returns the libraries that matter, with their versions."""
    names = ("numpy", "scipy", "jax")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def accuracy_section(
    clips: list[Clip], conditions: dict[tuple[str, str], list[Clip]], missed: list[str]
) -> Iterator[str]:
    """Yields accuracy by category and by condition."""
    yield "## Accuracy\n"
    yield "Share of the scenes that exercise a category whose own clip passes, in percent, with"
    yield "Wilson's interval at 95 %. Targets: 99 % of rendered clips, 97 % after the VAE.\n"
    yield f"| category | scenes | {RENDERED} | {RECODED} |\n|---|---|---|---|"
    tallies = {source: measure_accuracy(clips, source)[0] for source in TARGETS}
    for name in evaluation.CATEGORIES:
        columns = []
        for source, target in TARGETS.items():
            tally = tallies[source][name]
            short = tally.all and tally.share < target
            if short:
                missed.append(f"{name}, {source}: {percent(tally.share)} %")
            columns.append(shown(tally) + (", below target" if short else ""))
        yield f"| `{name}` | {tallies[RENDERED][name].all} | {' | '.join(columns)} |"
    yield "\nBy split and scenery: all scores together, and clips that pass in every category.\n"
    yield f"| scenes | scores, {RENDERED} | {RECODED} | whole clips, {RENDERED} | {RECODED} |"
    yield "|---|---|---|---|---|"
    for (split, scenery), part in conditions.items():
        columns = []
        for source in TARGETS:
            tallies, whole = measure_accuracy(part, source)
            good, every = (
                sum(t.good for t in tallies.values()),
                sum(t.all for t in tallies.values()),
            )
            columns.append((percent(good / every, 2), percent(whole.share)))
        scores, wholes = zip(*columns, strict=True)
        cells = " | ".join([*scores, *wholes])
        yield f"| {split}, {scenery} | {cells} |"
    yield ""


def credit_section(
    conditions: dict[tuple[str, str], list[Clip]], missed: list[str]
) -> Iterator[str]:
    """Yields false credit by category."""
    tables = {}
    for how, measure in (("others", measure_others), ("changes", measure_changes)):
        for source in TARGETS:
            tables[how, source] = collections.defaultdict(Tally)
            for part in conditions.values():
                measure(part, source, tables[how, source])
    yield "## False credit\n"
    yield "Share of wrong pairs of prompt and clip that pass, in percent. A pair is wrong where an"
    yield "exact observation of the clip's own scene does not pass either. The prompt is that of"
    yield "another scene, or that of the clip with one thing changed, which is hardest: another"
    yield "shape, colours exchanged, one object more, a relation mirrored, an order reversed."
    yield "Target: under 2 %.\n"
    sources = f"{RENDERED} | {RECODED}"
    yield f"| category | other prompts | {sources} | one change | {sources} |"
    yield "|---|---|---|---|---|---|---|"
    for name in evaluation.CATEGORIES:
        cells = []
        for how in ("others", "changes"):
            cells.append(str(tables[how, RENDERED][name].all or "-"))
            for source in TARGETS:
                tally = tables[how, source][name]
                short = tally.all and tally.share >= FALSE_CREDIT
                if short:
                    missed.append(
                        f"{name}, false credit, {how}, {source}: {percent(tally.share)} %"
                    )
                cells.append(percent(tally.share, 2) + (", over target" if short else ""))
        if cells[0] != "-":
            yield f"| `{name}` | {' | '.join(cells)} |"
    yield ""


def spoilt_section(clips: list[Clip]) -> Iterator[str]:
    """Yields false credit for clips that are spoilt on purpose."""
    tallies: Tallies = collections.defaultdict(Tally)
    measure_spoilt([clip.scene for clip in clips[:SPOILT]], tallies)
    yield "Two categories hardly depend on the prompt. Rendered clips, spoilt on purpose:\n"
    yield "| spoilt by | clips | pass |\n|---|---|---|"
    for how, tally in tallies.items():
        yield f"| {how} | {tally.all} | {tally.good} |"
    yield ""


def passes(clip: Clip, source: str) -> bool:
    """Tells whether a clip passes its own prompt in every category."""
    scores = evaluation.compare(clip.scene, clip.seen[source]).values()
    return all(score is None or score.passed for score in scores)


def failure_section(conditions: dict[tuple[str, str], list[Clip]]) -> Iterator[str]:
    """Yields what is wrong with every clip that fails its own prompt."""
    yield "## Clips that fail\n"
    clips = [clip for part in conditions.values() for clip in part]
    moved = [clip.damage for clip in clips if clip.scene.actions]
    still = [
        clip.damage for clip in clips if not clip.scene.actions and clip.scene.camera == "still"
    ]
    lost = [clip.damage for clip in clips if not passes(clip, RECODED)]
    yield "The shipped VAE keeps one latent frame for four and fades objects that act from place to"
    yield "place, with ghosts and halos that last. On objects and their rims its root mean square"
    yield f"error is {np.mean(still):.0f} grey levels where nothing moves,"
    yield f"{np.mean(moved):.0f} where objects act,"
    yield f"and {np.mean(lost or [math.nan]):.0f} in those of its clips that fail below.\n"
    yield "Every clip that does not pass its own prompt, by number of its scene, and why:\n"
    yield "| clip | fails | because |\n|---|---|---|"
    for (split, scenery), part in conditions.items():
        for index, clip in enumerate(part):
            for source, seen in clip.seen.items():
                scores = evaluation.compare(clip.scene, seen)
                wrong = {n: s.reason for n, s in scores.items() if s is not None and not s.passed}
                if wrong:
                    names = ", ".join(f"`{name}`" for name in wrong)
                    reasons = "; ".join(dict.fromkeys(wrong.values()))
                    yield f"| {split}, {scenery} {index}, {source} | {names} | {reasons} |"
    yield ""


def confusion_section(clips: list[Clip]) -> Iterator[str]:
    """Yields confusion tables after the VAE, and in words what is wrong in rendered clips."""
    tables = {source: confuse(clips, source) for source in TARGETS}
    yield "## Confusions\n"
    yield "What is asked for by rows, what is seen by columns, counted after the VAE; objects are"
    yield f"matched by where they are, and `{NONE}` is what is missed or made up.\n"
    clean = []
    for name in ORDER:
        rendered, recoded = tables[RENDERED][name], tables[RECODED][name]
        if all(a == b for a, b in [*rendered, *recoded]):
            clean.append(f"{name} ({sum(recoded.values())})")
            continue
        yield from table_of(name, recoded)
        yield f"\nRendered: {mistakes(rendered)}.\n"
    if clean:
        yield f"Without a mistake, rendered and after the VAE: {', '.join(clean)}.\n"


if __name__ == "__main__":
    main()
