# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The judge of texts: the attributes of a scene that a description names correctly.

It knows the phrases of all wordings (`prompt_coverage`). An attribute counts as right only if the
text names every value of the scene and no other.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping

from mimir_jax.data.toyworld import language, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation.judge import prompt_coverage

ATTRIBUTES = (
    "object_class", "colour", "count", "size", "layout", "action", "action_order", "light",
    "background",
)  # fmt: skip
"""In the order of reports; the names are those of the judge of videos."""

Values = tuple[str, ...]

# An arrangement, and the objects of all groups by shape.
_NO_COUNT = re.compile(r"two by two|there (?:is|are) \w+ objects?: [^.]*")


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a text says of one attribute.

    Attributes:
        told: Whether it says anything of it.
        passed: Whether it names what is true, all of it and nothing else.
        true: The values of the scene.
        said: The values of the text.
    """

    told: bool
    passed: bool
    true: Values
    said: Values


def judge_text(scene: scene_lib.Scene, text: str) -> dict[str, Reading]:
    """Compares a description with its scene.

    Returns:
        A reading of each attribute that the scene has: `layout` is the place of a lone object, and
        `action_order` needs two actions one after the other.
    """
    said, readings = read(text), {}
    for name, true in truth(scene).items():
        found = said[name]
        told = bool(found) or not true
        readings[name] = Reading(told, found == true, true, found)
    return readings


def truth(scene: scene_lib.Scene) -> dict[str, Values]:
    """Returns the values of every attribute that a scene has, as `read` would find them."""
    groups, background = scene.groups, scene.background
    values = {
        "object_class": _sorted(g.shape for g in groups),
        "colour": _sorted(g.colour for g in groups),
        "count": _sorted(vocabulary.NUMBERS[g.count] for g in groups if g.count > 1),
        "size": _sorted(g.size for g in groups),
        "action": _sorted(a.verb for a in scene.actions),
        "light": (scene.light,),
        "background": (_background_name(background.kind, background.tone),),
    }
    if scene.place is not None:
        values["layout"] = (" ".join(scene.place),)
    if scene.timing == "then":
        values["action_order"] = tuple(a.verb for a in scene.actions)
    return {name: values[name] for name in ATTRIBUTES if name in values}


def read(text: str) -> dict[str, Values]:
    """Returns the values that a text names of every attribute; actions also in their order."""
    text = language.british(text.lower())
    patterns = _patterns()
    found = {name: _find(pattern, text) for name, pattern in patterns.items()}
    counts = _find(patterns["count"], _NO_COUNT.sub("", text))
    said = {name: _sorted(values) for name, values in found.items()}
    said["count"] = _sorted(value for value in counts if value != "one")
    return {**said, "action_order": tuple(found["action"])}


def _sorted(values: Iterable[str]) -> Values:
    return tuple(sorted(set(values)))


def _find(patterns: tuple[re.Pattern[str], Mapping[str, str]], text: str) -> list[str]:
    pattern, names = patterns
    return [names[match[0]] for match in pattern.finditer(text)]


@functools.cache
def _patterns() -> dict[str, tuple[re.Pattern[str], dict[str, str]]]:
    """Returns a pattern of all phrases of each attribute, and the value of each phrase."""
    of = prompt_coverage
    tables = {
        "object_class": {name: of.shapes(name) for name in vocabulary.SHAPES},
        "colour": {name: of.colours(name) for name in vocabulary.COLOURS},
        "count": {name: _numbers(name) for name in vocabulary.NUMBERS[1:5]},
        "size": {name: of.sizes(name) for name in vocabulary.SIZES},
        "layout": {" ".join(k): language.every("place", " ".join(k)) for k in vocabulary.PLACES},
        "action": {name: _verbs(name) for name in vocabulary.VERBS},
        "light": {name: of.light(name) for name in vocabulary.LIGHT},
        "background": _backgrounds(),
    }
    return {name: _pattern(table) for name, table in tables.items()}


def _pattern(table: Mapping[str, tuple[str, ...]]) -> tuple[re.Pattern[str], dict[str, str]]:
    names = {phrase: value for value, phrases in table.items() for phrase in phrases}
    longest = sorted(names, key=len, reverse=True)  # the first alternative that matches is taken
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)"), names


def _numbers(name: str) -> tuple[str, ...]:
    return language.every("number", name) if name in language.TABLE["number"] else (name,)


def _verbs(name: str) -> tuple[str, ...]:
    forms = prompt_coverage.verbs(name)
    short = forms if name in vocabulary.DIRECTIONS else sum(vocabulary.VERBS[name], ())
    shared = [form.partition(" ")[2] for form in short]  # "moves left and then right"
    return (*forms, *(f"and then {rest}" for rest in shared if rest))


def _backgrounds() -> dict[str, tuple[str, ...]]:
    pairs = [(kind, tone) for kind in vocabulary.PATTERNS for tone in vocabulary.TONES]
    pairs += [(kind, None) for kind in vocabulary.LANDSCAPES]
    return {
        _background_name(kind, tone): tuple(prompt_coverage.backgrounds(kind, tone))
        for kind, tone in pairs
    }


def _background_name(kind: str, tone: str | None) -> str:
    return kind if tone is None else f"{tone} {kind}"
