# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a caption tells: a `Meaning`, nothing of the scene beyond it."""

import dataclasses
from collections.abc import Sequence

from mimir_jax.data.toyworld import captions, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib


@dataclasses.dataclass(frozen=True)
class Thing:
    """One or more equal objects as a caption tells them; None is what it leaves out.

    Attributes:
        count: None for several, their number untold.
    """

    count: int | None
    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    arrangement: str | None = None

    @property
    def plural(self) -> bool:
        """Whether there is more than one."""
        return self.count != 1


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What a caption tells, its things in telling order.

    Attributes:
        relations: Between things, by their numbers here.
        place: Column and row of a lone object.
        timing: As in `Scene`; None where actions are not told, `none` where stillness is.
        actions: (thing, verb), by time.
    """

    things: tuple[Thing, ...]
    relations: tuple[scene_lib.Relation, ...] = ()
    place: tuple[str, str] | None = None
    timing: str | None = None
    actions: tuple[tuple[int, str], ...] = ()
    light: str | None = None
    camera: str | None = None
    background: tuple[str, str | None] | None = None

    @property
    def total(self) -> int | None:
        """Number of objects, None where it is not told."""
        counts = [thing.count for thing in self.things]
        return None if None in counts else sum(counts)

    @property
    def travels(self) -> bool:
        """Whether a thing moves in a direction, so that a place is where it starts."""
        return any(verb in vocabulary.DIRECTIONS for _, verb in self.actions)


_EVERYTHING = frozenset({
    "size", "relation", "arrangement", "place", "action", "light", "camera", "background", "still",
})  # fmt: skip


def narrow_meaning(scene: scene_lib.Scene, style: str, variant: int = 0) -> Meaning:
    """Returns what `captions.caption(scene, style, variant)` tells."""
    number = variant % captions.num_templates(style)
    plain = captions.caption(scene, "short", 0)
    view = "background" if scene.camera == "still" else "camera"
    match style, number:
        case "short", _:
            tells = {"relation", "action"}
            if number and captions.caption(scene, "short", number) != plain:
                extra = (None, {"size"}, {"light"}, {view})[number]
                tells |= {"place"} | extra
            # A line or pair without a place is told alike at any length that fits.
            return tell(_as_told(scene), tells)
        case "long", _:
            return tell(scene, _EVERYTHING)
        case "coarse", 0 | 3:
            merged = merge(scene, "shape")
            return Meaning(merged, light=scene.light if number == 3 else None)
        case "coarse", 1:
            return Meaning((Thing(scene.num_objects),), background=_background(scene))
        case "coarse", _:
            merged = merge(scene, "colour")
            return Meaning(
                tuple(Thing(1 if t.count == 1 else None, None, t.colour) for t in merged)
            )
        case "paraphrase", 0:
            meaning = tell(scene, {"size", "relation", "place", "action"})
            if scene.layout == "apex":
                meaning = dataclasses.replace(meaning, relations=meaning.relations[1:])
            return meaning
        case "paraphrase", 1:
            return tell(scene, {"size", "relation", "place", "action", "light"})
        case "paraphrase", 2:
            return tell(scene, {"size", "relation", "place", "action"})
        case _:
            tells = {"size", "relation", "place", "action"}
            if scene.camera == "still":
                return tell(_as_told(scene), tells)
            return tell(scene, tells | {"camera"})


def _as_told(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns a pair with its only actor first, as `grammar.told` has it."""
    if len(scene.actors) != 1 or len(scene.groups) != 2 or scene.actors[0] == 0:
        return scene
    return swapped(scene)


def swapped(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns the scene with its first two groups told in the other order."""
    swap = {0: 1, 1: 0, 2: 2}
    first, *rest = scene.relations
    return dataclasses.replace(
        scene,
        groups=(scene.groups[1], scene.groups[0], *scene.groups[2:]),
        relations=(
            scene_lib.Relation(0, first.inverse.name, 1),
            # An apex names the lower number first.
            *sorted(
                (scene_lib.Relation(swap[r.subject], r.name, swap[r.object]) for r in rest),
                key=lambda r: r.object,
            ),
        ),
        actions=tuple(dataclasses.replace(a, group=swap[a.group]) for a in scene.actions),
    )


def reversed_line(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns the scene with its line told from the other end."""
    name = vocabulary.INVERSE[scene.relations[0].name]
    return dataclasses.replace(
        scene,
        groups=scene.groups[::-1],
        relations=(scene_lib.Relation(0, name, 1), scene_lib.Relation(1, name, 2)),
        actions=tuple(dataclasses.replace(a, group=2 - a.group) for a in scene.actions),
    )


def tell(scene: scene_lib.Scene, tells: set[str] | frozenset[str]) -> Meaning:
    """Returns the meaning of a caption that names all groups, and `tells` besides."""
    action = "action" in tells and (scene.timing != "none" or "still" in tells)
    return Meaning(
        things=tuple(
            Thing(
                group.count,
                group.shape,
                group.colour if "no colour" not in tells else None,
                group.size if "size" in tells else None,
                group.arrangement if "arrangement" in tells else None,
            )
            for group in scene.groups
        ),
        relations=scene.relations if "relation" in tells else (),
        place=scene.place if "place" in tells else None,
        timing=scene.timing if action else None,
        actions=tuple((a.group, a.verb) for a in scene.actions) if action else (),
        light=scene.light if "light" in tells else None,
        camera=scene.camera if "camera" in tells else None,
        background=_background(scene) if "background" in tells else None,
    )


def _background(scene: scene_lib.Scene) -> tuple[str, str | None]:
    return scene.background.kind, scene.background.tone


def merge(scene: scene_lib.Scene, name: str) -> tuple[Thing, ...]:
    """Adds up the groups that share a shape or a colour."""
    totals: dict[str, int] = {}
    for group in scene.groups:
        value = getattr(group, name)
        totals[value] = totals.get(value, 0) + group.count
    return tuple(Thing(count, **{name: value}) for value, count in totals.items())


def categories(scene: scene_lib.Scene, meaning: Meaning) -> frozenset[str]:
    """Returns the categories of the judge that a meaning fixes, as `prompt_coverage` finds them."""
    things: Sequence[Thing] = meaning.things
    shapes = all(thing.shape for thing in things)
    colours = all(thing.colour for thing in things)
    named = len(scene.groups) == 1 or (shapes and colours)
    whole = len(things) == len(scene.groups)
    relations = len(meaning.relations) == len(scene.relations)
    arranged = all(group.arrangement is None for group in scene.groups) or (
        whole and all(thing.arrangement or not thing.plural for thing in things)
    )
    acted = scene.timing == "none" or meaning.timing is not None
    holds = {
        "object_class": shapes,
        "multiple_objects": shapes and colours,
        "colour": colours and named,
        "size": named and all(thing.size for thing in things),
        "count": named and meaning.total is not None,
        "spatial_relation": named and relations,
        "layout": named and arranged and (scene.place is None or meaning.place is not None),
        "action": acted,
        "action_order": acted,
        "light": meaning.light is not None,
        "temporal_style": meaning.camera is not None,
        "background": meaning.background is not None,
        "background_consistency": True,
        "imaging_quality": True,
    }
    return frozenset(name for name, held in holds.items() if held)
