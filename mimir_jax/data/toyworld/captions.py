# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact captions of a scene, short to long, and the other texts it answers to.

Every sentence follows from the scene graph; a short caption may leave things out, never add any. A
`variant` number selects template and, in paraphrases, synonyms: equal numbers give equal text.
"""

from collections.abc import Callable, Sequence

from mimir_jax.data.toyworld import grammar, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.grammar import Words
from mimir_jax.errors import InputError

STYLES = ("short", "long", "coarse", "paraphrase")

MAX_SHORT = 24
"""Most words of a short caption."""


def caption(scene: scene_lib.Scene, style: str = "long", variant: int = 0) -> str:
    """Returns a caption.

    Args:
        scene: What to describe.
        style: `short` names objects, relation and actions; `long` everything; `coarse` less than
            short; `paraphrase` is a short caption in other words.
        variant: Any non-negative integer; `num_templates(style)` tells how many templates it
            selects from.
    """
    templates = _templates(style)
    words = Words(variant // len(templates), synonyms=style == "paraphrase")
    return templates[variant % len(templates)](scene, words)


def num_templates(style: str) -> int:
    """Returns the number of templates of a style."""
    return len(_templates(style))


def expansions(scene: scene_lib.Scene) -> tuple[tuple[str, str], ...]:
    """Returns (short caption, long caption) pairs: requests to elaborate, and exact replies."""
    return tuple(
        (caption(scene, "short", number), caption(scene, "long", number))
        for number in range(num_templates("short"))
    )


def answers(scene: scene_lib.Scene) -> tuple[str, str, str, str]:
    """Returns exact replies to the four instructions of the semantic stabilizer (M-U12).

    They tell objects and their number; colours and attributes; spatial layout; actions in order
    and light over time.
    """
    words = Words()
    return (
        _answer_objects(scene, words),
        _answer_attributes(scene, words),
        _answer_layout(scene, words),
        _answer_time(scene, words),
    )


def _templates(style: str) -> Sequence[Callable[[scene_lib.Scene, Words], str]]:
    if style not in _TEMPLATES:
        raise InputError(f"style must be one of {', '.join(STYLES)}, got {style!r}")
    return _TEMPLATES[style]


# Short: one phrase, no capital, no full stop, the richest that fits.


def _short_plain(scene, words):
    return grammar.told(scene, words, sized=False, placed=False)


def _short_sized(scene, words):
    return _fit(grammar.told(scene, words, sized=True), scene, words)


def _short_light(scene, words):
    text = f"{words.light(scene.light)}, {grammar.told(scene, words, sized=False)}"
    return _fit(text, scene, words)


def _short_view(scene, words):
    text = grammar.told(scene, words, sized=False)
    if scene.camera == "still":
        text = f"{grammar.on(scene, words)}, {text}"
    else:
        text = f"{text}, {words.camera(scene.camera)}"
    return _fit(text, scene, words)


def _fit(text, scene, words):
    return text if len(text.split()) <= MAX_SHORT else _short_plain(scene, words)


# Long: everything that is true.


def _long_background_first(scene, words):
    return grammar.sentences(
        f"{grammar.on(scene, words)}, {grammar.clause(scene, words)}",
        grammar.events(scene, words),
        f"{words.light_sentence(scene.light)}, and {words.camera(scene.camera)}",
    )


def _long_background_last(scene, words):
    return grammar.sentences(
        f"{grammar.clause(scene, words)}, {grammar.on(scene, words)}",
        f"{words.camera(scene.camera)}, and {words.light_sentence(scene.light)}",
        grammar.events(scene, words),
    )


def _long_video(scene, words):
    things = grammar.noun_phrase(scene, words, sized=True, arranged=True)
    return grammar.sentences(
        f"the video shows {things}, {grammar.on(scene, words)}",
        grammar.events(scene, words),
        words.light_sentence(scene.light),
        words.camera(scene.camera),
    )


# Coarse: a first impression.


def _coarse_shapes(scene, words):
    return grammar.join(grammar.shape_counts(scene, words, spelled=False))


def _coarse_number(scene, words):
    number = scene.num_objects
    text = "a coloured shape" if number == 1 else f"{words.number(number)} coloured shapes"
    return f"{text} {grammar.on(scene, words)}"


def _coarse_colours(scene, words):
    totals: dict[str, int] = {}
    for group in scene.groups:
        totals[group.colour] = totals.get(group.colour, 0) + group.count
    parts = []
    for colour, count in totals.items():
        name = words.colour(colour)
        parts.append(f"{grammar.article(name)} {name} shape" if count == 1 else f"{name} shapes")
    return grammar.join(parts)


def _coarse_light(scene, words):
    things = grammar.join(grammar.shape_counts(scene, words, spelled=False))
    return f"{things} {words.light(scene.light)}"


# Paraphrase: the short caption in other words and orders.


def _paraphrase_there(scene, words):
    return grammar.sentences(grammar.there(scene, words), grammar.events(scene, words, still=False))


def _paraphrase_light(scene, words):
    return grammar.sentences(
        f"{words.light(scene.light)}, {grammar.clause(scene, words, arranged=False)}",
        grammar.events(scene, words, still=False),
    )


def _paraphrase_clip(scene, words):
    things = grammar.noun_phrase(scene, words, sized=True)
    return grammar.sentences(f"a clip of {things}", grammar.events(scene, words, still=False))


def _paraphrase_view(scene, words):
    camera = words.camera(scene.camera)
    if scene.camera == "still":
        return grammar.told(scene, words, sized=True)
    return f"{camera}, showing {grammar.noun_phrase(scene, words, sized=True)}"


_TEMPLATES = {
    "short": (_short_plain, _short_sized, _short_light, _short_view),
    "long": (_long_background_first, _long_background_last, _long_video),
    "coarse": (_coarse_shapes, _coarse_number, _coarse_colours, _coarse_light),
    "paraphrase": (_paraphrase_there, _paraphrase_light, _paraphrase_clip, _paraphrase_view),
}


# Answers to the four instructions.


def _answer_objects(scene, words):
    number = scene.num_objects
    verb, noun = ("is", "object") if number == 1 else ("are", "objects")
    things = grammar.join(grammar.shape_counts(scene, words, spelled=True))
    return grammar.sentences(f"there {verb} {words.number(number)} {noun}: {things}")


def _answer_attributes(scene, words):
    parts = []
    for group in scene.groups:
        verb = "is" if group.count == 1 else "are"
        noun = words.noun(group.shape, group.count)
        size, colour = words.size(group.size), words.colour(group.colour)
        parts.append(f"{words.number(group.count)} {size} {noun} {verb} {colour}")
    return grammar.sentences(
        "; ".join(parts),
        f"behind {'it' if scene.num_objects == 1 else 'them'} is {words.backdrop(scene)}",
    )


def _answer_layout(scene, words):
    parts = [
        f"{words.the(scene.groups[r.subject])} {grammar.be(scene.groups[r.subject])} "
        f"{words.relation(r.name)} {words.the(scene.groups[r.object])}"
        for r in scene.relations
    ]
    for group in scene.groups:
        if group.arrangement is not None:
            parts.append(f"{words.the(group)} are {vocabulary.ARRANGEMENTS[group.arrangement]}")
    if scene.num_objects == 1:
        parts.append(grammar.whereabouts(scene, words))
    return grammar.sentences(*parts)


def _answer_time(scene, words):
    return grammar.sentences(
        grammar.events(scene, words),
        words.light_sentence(scene.light),
        words.camera(scene.camera),
    )
