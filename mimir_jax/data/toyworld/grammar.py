# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Words, phrases and clauses that captions are put together from.

Phrases are lower case; `sentences` capitalises and ends them.
"""

import dataclasses
from collections.abc import Sequence

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import vocabulary


class Words:
    """Chooses words for one text: the canonical ones, or synonyms by the digits of a number.

    A choice holds for the whole text, so that an object keeps its name.
    """

    def __init__(self, variant: int = 0, *, synonyms: bool = False):
        self._rest = variant
        self._synonyms = synonyms
        self._chosen: dict[tuple[str, str], object] = {}

    def noun(self, shape: str, count: int) -> str:
        """Names a shape, singular or plural."""
        return self._choose("shape", shape, vocabulary.SHAPES[shape])[count != 1]

    def colour(self, name: str) -> str:
        """Names an object colour."""
        return self._choose("colour", name, vocabulary.COLOURS[name].words)

    def size(self, name: str) -> str:
        """Names a size."""
        return self._choose("size", name, vocabulary.SIZES[name])

    def relation(self, name: str) -> str:
        """Names a spatial relation, as a preposition."""
        return self._choose("relation", name, vocabulary.RELATIONS[name])

    def verb(self, name: str, count: int) -> str:
        """Names an action of one object or of several."""
        return self._choose("verb", name, vocabulary.VERBS[name])[count != 1]

    def light(self, name: str) -> str:
        """Tells the light in passing."""
        return self._choose("light", name, vocabulary.LIGHT[name])

    def light_sentence(self, name: str) -> str:
        """Tells the light as a clause."""
        return self._choose("light sentence", name, vocabulary.LIGHT_SENTENCES[name])

    def camera(self, name: str) -> str:
        """Tells the camera as a clause."""
        return self._choose("camera", name, vocabulary.CAMERA[name])

    def backdrop(self, scene: scene_lib.Scene) -> str:
        """Names the background, with its article."""
        kind, tone = scene.background.kind, scene.background.tone
        if tone is None:
            return self._choose("background", kind, vocabulary.LANDSCAPES[kind])
        return self._choose("background", kind, vocabulary.PATTERNS[kind]).format(tone)

    def number(self, count: int) -> str:
        """Spells a number."""
        return vocabulary.NUMBERS[count]

    def phrase(self, group: scene_lib.Group, *, sized: bool = False, arranged: bool = False) -> str:
        """Introduces a group: "two small red circles in a row"."""
        name = f"{self.colour(group.colour)} {self.noun(group.shape, group.count)}"
        if sized:
            name = f"{self.size(group.size)} {name}"
        start = article(name) if group.count == 1 else self.number(group.count)
        end = (
            f" {vocabulary.ARRANGEMENTS[group.arrangement]}"
            if arranged and group.arrangement
            else ""
        )
        return f"{start} {name}{end}"

    def the(self, group: scene_lib.Group) -> str:
        """Refers to a group that was introduced: "the red circles"."""
        return f"the {self.colour(group.colour)} {self.noun(group.shape, group.count)}"

    def _choose(self, kind: str, name: str, options: Sequence) -> object:
        if not self._synonyms:
            return options[0]
        if (kind, name) not in self._chosen:
            self._rest, pick = divmod(self._rest, len(options))
            self._chosen[kind, name] = options[pick]
        return self._chosen[kind, name]


def article(noun: str) -> str:
    """Returns the indefinite article that goes before `noun`."""
    return "an" if noun[0] in "aeiou" else "a"


def be(group: scene_lib.Group) -> str:
    """Returns the verb form that goes with a group."""
    return "is" if group.count == 1 else "are"


def join(parts: Sequence[str]) -> str:
    """Lists phrases: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sentences(*parts: str) -> str:
    """Makes a text of phrases; empty ones are left out."""
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def shape_counts(scene: scene_lib.Scene, words: Words, *, spelled: bool) -> list[str]:
    """Counts objects by shape, whatever their colour; `spelled` says "one", not "a"."""
    totals: dict[str, int] = {}
    for group in scene.groups:
        totals[group.shape] = totals.get(group.shape, 0) + group.count
    result = []
    for shape, count in totals.items():
        noun = words.noun(shape, count)
        start = article(noun) if count == 1 and not spelled else words.number(count)
        result.append(f"{start} {noun}")
    return result


def on(scene: scene_lib.Scene, words: Words) -> str:
    """Tells what the objects are in front of."""
    return f"in front of {words.backdrop(scene)}"


def noun_phrase(
    scene: scene_lib.Scene,
    words: Words,
    *,
    sized: bool,
    arranged: bool = False,
    placed: bool = True,
) -> str:
    """Names everything in the scene and how it lies: "a red star above two blue squares"."""
    names = [words.phrase(group, sized=sized, arranged=arranged) for group in scene.groups]
    match scene.layout:
        case "single":
            where = _where(scene) if placed else ""
            return f"{names[0]} {where}" if where else names[0]
        case "pair":
            return f"{names[0]} {words.relation(scene.relations[0].name)} {names[1]}"
        case "line":
            return f"{join(names)} {_line(scene)}"
        case _:
            first, second = (words.relation(r.name) for r in scene.relations[:2])
            return f"{names[0]} {first} {names[1]} with {names[2]} {second} them"


def clause(scene: scene_lib.Scene, words: Words, *, arranged: bool = True) -> str:
    """Says how everything lies: "a red star is above two blue squares"."""
    names = [words.phrase(group, sized=True, arranged=arranged) for group in scene.groups]
    verbs = [be(group) for group in scene.groups]
    match scene.layout:
        case "single":
            if scene.place is None:
                return f"there {verbs[0]} {names[0]}"
            return f"{names[0]} {_stays(scene)} {vocabulary.PLACES[scene.place]}"
        case "pair":
            relation = words.relation(scene.relations[0].name)
            return f"{names[0]} {verbs[0]} {relation} {names[1]}"
        case "line":
            return f"{join(names)} are placed {_line(scene)}"
        case _:
            first, second = (words.relation(r.name) for r in scene.relations[:2])
            return (
                f"{names[0]} {verbs[0]} {first} {names[1]}, and {names[2]} {verbs[2]} {second} them"
            )


def there(scene: scene_lib.Scene, words: Words) -> str:
    """Says how everything lies, the place first: "above two blue squares there is a red star"."""
    names = [words.phrase(group, sized=True) for group in scene.groups]
    verbs = [be(group) for group in scene.groups]
    match scene.layout:
        case "single":
            where = f"{vocabulary.PLACES[scene.place]} " if scene.place else ""
            return f"{where}there {verbs[0]} {names[0]}"
        case "pair":
            relation = words.relation(scene.relations[0].name)
            return f"{relation} {names[1]} there {verbs[0]} {names[0]}"
        case "line":
            return f"{_line(scene)} we see {join(names)}"
        case _:
            relation = words.relation(scene.relations[1].name)
            return f"{relation} {names[0]} and {names[1]} there {verbs[2]} {names[2]}"


def told(scene: scene_lib.Scene, words: Words, *, sized: bool, placed: bool = True) -> str:
    """Names everything and what it does, in one phrase; a lone actor comes first."""
    if scene.timing == "none":
        return noun_phrase(scene, words, sized=sized, placed=placed)
    if len(scene.actors) == 1 and len(scene.groups) < 3:
        name = noun_phrase(_actor_first(scene), words, sized=sized, placed=placed)
        return f"{name} {_predicate(scene, words)}"
    return f"{noun_phrase(scene, words, sized=sized)}; {events(scene, words)}"


def events(scene: scene_lib.Scene, words: Words, *, still: bool = True) -> str:
    """Says what happens, in order; of a scene without actions only where `still`."""
    if scene.timing == "none":
        if not still:
            return ""
        if len(scene.groups) == 1:
            verb = "stays" if scene.num_objects == 1 else "stay"
            return f"{words.the(scene.groups[0])} {verb} in place"
        return "all objects stay in place"
    names = [words.the(scene.groups[index]) for index in scene.actors]
    if len(names) == 1:
        return f"{names[0]} {_predicate(scene, words)}"
    first, second = (
        words.verb(action.verb, scene.groups[action.group].count) for action in scene.actions
    )
    if scene.timing == "while":
        return f"{names[0]} {first} while {names[1]} {second}"
    return f"first {names[0]} {first}, then {names[1]} {second}"


def whereabouts(scene: scene_lib.Scene, words: Words) -> str:
    """Says where a lone object is."""
    name = words.the(scene.groups[0])
    if scene.place is None:
        return f"{name} is alone"
    return f"{name} {_stays(scene)} {vocabulary.PLACES[scene.place]}"


def _predicate(scene: scene_lib.Scene, words: Words) -> str:
    """Says what the only actors do: "moves left and then right"."""
    count = scene.groups[scene.actors[0]].count
    first, *rest = [words.verb(action.verb, count) for action in scene.actions]
    if not rest:
        return first
    start = first.split()[0]
    return f"{first} and then {rest[0].removeprefix(f'{start} ')}"


def _actor_first(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns the scene with its actor told first."""
    if scene.actors[0] == 0:
        return scene
    (relation,) = scene.relations
    return dataclasses.replace(
        scene,
        groups=scene.groups[::-1],
        relations=(scene_lib.Relation(0, relation.inverse.name, 1),),
        actions=(),
    )


def _where(scene: scene_lib.Scene) -> str:
    if scene.place is None:
        return ""
    start = "starting " if _travels(scene) else ""
    return start + vocabulary.PLACES[scene.place]


def _stays(scene: scene_lib.Scene) -> str:
    return "starts" if _travels(scene) else "is"


def _travels(scene: scene_lib.Scene) -> bool:
    return any(action.verb in vocabulary.DIRECTIONS for action in scene.actions)


def _line(scene: scene_lib.Scene) -> str:
    ends = "left to right" if scene.relations[0].name == "left" else "top to bottom"
    return f"from {ends}"
