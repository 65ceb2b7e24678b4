# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a prompt says about its scene, so that a clip is held to nothing that was not asked for."""

import re
from collections.abc import Iterable

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import vocabulary

_LINES = ("from left to right", "from top to bottom")
_ALWAYS = ("background_consistency", "imaging_quality")


def mentioned_categories(scene: scene_lib.Scene, text: str) -> frozenset[str]:
    """Returns the categories of `scoring.CATEGORIES` that `text`, a caption of `scene`, fixes.

    A category counts as mentioned when everything that its score compares is: sizes of all groups,
    all actions, and so on. A long caption mentions every category that its scene exercises.
    """
    text = text.lower()
    groups = scene.groups
    shapes = all(_says(text, _forms(vocabulary.SHAPES[g.shape])) for g in groups)
    colours = all(_says(text, vocabulary.COLOURS[g.colour].words) for g in groups)
    named = len(groups) == 1 or (shapes and colours)  # which group is which
    return frozenset(_ALWAYS) | {
        name
        for name, holds in {
            "object_class": shapes,
            "multiple_objects": shapes and colours,
            "colour": colours and named,
            "size": named and all(_says(text, vocabulary.SIZES[g.size]) for g in groups),
            "count": named and all(_numbered(text, g.count) for g in groups),
            "spatial_relation": named and _tells_relations(scene, text),
            "layout": named and _tells_layout(scene, text),
            "action": _tells_actions(scene, text),
            "action_order": _tells_actions(scene, text),
            "light": _says(text, vocabulary.LIGHT[scene.light])
            or _says(text, vocabulary.LIGHT_SENTENCES[scene.light]),
            "temporal_style": _says(text, vocabulary.CAMERA[scene.camera]),
            "background": _tells_background(scene.background, text),
        }.items()
        if holds
    }


def _says(text: str, phrases: Iterable[str]) -> bool:
    return any(re.search(rf"\b{re.escape(phrase)}\b", text) for phrase in phrases)


def _forms(forms: Iterable[tuple[str, str]]) -> list[str]:
    return [word for pair in forms for word in pair]


def _numbered(text: str, count: int) -> bool:
    return count == 1 or _says(text, [vocabulary.NUMBERS[count]])


def _tells_relations(scene: scene_lib.Scene, text: str) -> bool:
    """Whether every relation is worded: one way, its inverse, or as a line."""
    return _says(text, _LINES) or all(
        _says(text, vocabulary.RELATIONS[r.name])
        or _says(text, vocabulary.RELATIONS[vocabulary.INVERSE[r.name]])
        for r in scene.relations
    )


def _tells_layout(scene: scene_lib.Scene, text: str) -> bool:
    arranged = [g.arrangement for g in scene.groups if g.arrangement is not None]
    placed = scene.place is None or _says(text, [vocabulary.PLACES[scene.place]])
    return placed and all(_says(text, [vocabulary.ARRANGEMENTS[name]]) for name in arranged)


def _tells_actions(scene: scene_lib.Scene, text: str) -> bool:
    forms = [_forms(vocabulary.VERBS[action.verb]) for action in scene.actions]
    if len(forms) == 2:  # the second verb loses words that it shares: "moves left and then right"
        after = [rest for form in forms[1] if (rest := form.partition(" ")[2])]
        forms[1] = [*forms[1], *(f"and then {rest}" for rest in after)]
    return all(_says(text, phrases) for phrases in forms)


def _tells_background(background: scene_lib.Background, text: str) -> bool:
    if background.tone is None:
        return _says(text, vocabulary.LANDSCAPES[background.kind])
    phrases = [words.format(background.tone) for words in vocabulary.PATTERNS[background.kind]]
    return _says(text, phrases)
