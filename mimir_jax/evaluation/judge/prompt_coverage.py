# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The categories that a prompt mentions, so that a clip is judged in no other.

It knows all phrases of the three wordings, in both spellings.
"""

import re
from collections.abc import Iterable

from mimir_jax.data.toyworld import language, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib

_LINES = tuple(form for value in language.TABLE["line"] for form in language.every("line", value))
_ALWAYS = ("background_consistency", "imaging_quality")


def mentioned_categories(scene: scene_lib.Scene, text: str) -> frozenset[str]:
    """Returns the categories of `scoring.CATEGORIES` that `text`, a caption of `scene`, fixes.

    A category counts as mentioned when everything that its score compares is: sizes of all groups,
    all actions, and so on. A long caption mentions every category that its scene exercises.
    """
    text = language.british(text.lower())
    groups = scene.groups
    shaped = all(_says(text, shapes(g.shape)) for g in groups)
    coloured = all(_says(text, colours(g.colour)) for g in groups)
    named = len(groups) == 1 or (shaped and coloured)  # which group is which
    return frozenset(_ALWAYS) | {
        name
        for name, holds in {
            "object_class": shaped,
            "multiple_objects": shaped and coloured,
            "colour": coloured and named,
            "size": named and all(_says(text, sizes(g.size)) for g in groups),
            "count": named and all(_numbered(text, g.count) for g in groups),
            "spatial_relation": named and _tells_relations(scene, text),
            "layout": named and _tells_layout(scene, text),
            "action": _tells_actions(scene, text),
            "action_order": _tells_actions(scene, text),
            "light": _says(text, light(scene.light)),
            "temporal_style": _says(text, _camera(scene.camera)),
            "background": _says(text, backgrounds(scene.background.kind, scene.background.tone)),
        }.items()
        if holds
    }


def _says(text: str, phrases: Iterable[str]) -> bool:
    return any(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text) for phrase in phrases)


def _forms(forms: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(word for pair in forms for word in pair)


def shapes(name: str) -> tuple[str, ...]:
    """Returns all words for a shape."""
    return (*_forms(vocabulary.SHAPES[name]), *language.every("shape", name))


def colours(name: str) -> tuple[str, ...]:
    """Returns all words for a colour."""
    return (*vocabulary.COLOURS[name].words, *language.every("colour", name))


def sizes(name: str) -> tuple[str, ...]:
    """Returns all words for a size."""
    return (*vocabulary.SIZES[name], *language.every("size", name))


def light(name: str) -> tuple[str, ...]:
    """Returns all phrases for a kind of light."""
    passing, clauses = vocabulary.LIGHT[name], vocabulary.LIGHT_SENTENCES[name]
    return (*passing, *clauses, *language.every("light", name))


def _camera(name: str) -> tuple[str, ...]:
    return (*vocabulary.CAMERA[name], *language.every("camera", name))


def verbs(name: str) -> tuple[str, ...]:
    """Returns all forms of a verb."""
    return (*_forms(vocabulary.VERBS[name]), *language.every("verb", name))


def backgrounds(kind: str, tone: str | None) -> tuple[str, ...]:
    """Returns all phrases for a background; landscapes have no tone."""
    if tone is None:
        return (*vocabulary.LANDSCAPES[kind], *language.every("landscape", kind))
    known = dict.fromkeys((*vocabulary.PATTERNS[kind], *language.every("pattern", kind)))
    filled = [words.format(name) for words in known for name in language.every("tone", tone)]
    articled = [f"an {words[2:]}" for words in filled if re.match("a [aeiou]", words)]
    return (*filled, *articled)


def _numbered(text: str, count: int) -> bool:
    name = vocabulary.NUMBERS[count]
    known = language.every("number", name) if name in language.TABLE["number"] else (name,)
    return count == 1 or _says(text, known)


def _tells_relations(scene: scene_lib.Scene, text: str) -> bool:
    """Whether every relation is worded: one way, its inverse, or as a line."""
    return _says(text, _LINES) or all(
        _says(text, (*vocabulary.RELATIONS[name], *language.every("relation", name)))
        or _says(text, (*vocabulary.RELATIONS[other], *language.every("relation", other)))
        for name, other in ((r.name, vocabulary.INVERSE[r.name]) for r in scene.relations)
    )


def _tells_layout(scene: scene_lib.Scene, text: str) -> bool:
    arranged = [g.arrangement for g in scene.groups if g.arrangement is not None]
    placed = scene.place is None or _says(text, language.every("place", " ".join(scene.place)))
    return placed and all(_says(text, language.every("arrangement", name)) for name in arranged)


def _tells_actions(scene: scene_lib.Scene, text: str) -> bool:
    forms = [verbs(action.verb) for action in scene.actions]
    if len(forms) == 2:  # the second verb loses words that it shares: "moves left and then right"
        after = [rest for form in forms[1] if (rest := form.partition(" ")[2])]
        forms[1] = (*forms[1], *(f"and then {rest}" for rest in after))
    return all(_says(text, phrases) for phrases in forms)
