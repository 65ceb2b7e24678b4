# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact replies to a caption: answers to the four instructions, and its elaboration.

They are functions of the meaning, in canonical words, so a reply never needs a fact of the scene
that its caption leaves out.
"""

from mimir_jax.data.toyworld import grammar, language, vocabulary
from mimir_jax.data.toyworld.meaning import Meaning, Thing

NOT_TOLD = {
    "count": "the number is not told",
    "shape": "the shapes are not told",
    "colour": "the colours are not told",
    "size": "the sizes are not told",
    "background": "the background is not told",
    "relation": "the relation is not told",
    "arrangement": "the arrangement is not told",
    "place": "the place is not told",
    "action": "the actions are not told",
    "light": "the light is not told",
    "camera": "the camera is not told",
}
"""How a reply says that the caption leaves something out."""


def every(meaning: Meaning) -> list[str]:
    """Returns the four answers and the elaboration last, as an LLM learns them."""
    return [*answers(meaning), elaboration(meaning)]


def answers(meaning: Meaning) -> tuple[str, str, str, str]:
    """Returns exact replies to the four instructions of the semantic stabilizer (M-U12).

    They tell what the caption tells, as `captions.answers` does, and say what it leaves out.
    """
    return (
        _answer_objects(meaning),
        _answer_attributes(meaning),
        _answer_layout(meaning),
        _answer_time(meaning),
    )


def elaboration(meaning: Meaning) -> str:
    """Returns the long canonical caption of what is told: objects, events, light and camera.

    It adds nothing. Where everything is told it equals `captions.caption(scene, "long", 2)`.
    """
    start = f"the video shows {_noun_phrase(meaning)}"
    if meaning.background:
        start += f", in front of {_backdrop(meaning.background)}"
    return grammar.sentences(start, *_time_parts(meaning))


def _answer_objects(meaning: Meaning) -> str:
    totals: dict[str | None, int | None] = {}
    for thing in meaning.things:
        known = totals.get(thing.shape, 0)
        unknown = thing.count is None or known is None
        totals[thing.shape] = None if unknown else known + thing.count
    things = grammar.join([f"{_number(n)} {_noun(shape, n)}" for shape, n in totals.items()])
    total = meaning.total
    verb, noun = ("is", "object") if total == 1 else ("are", "objects")
    return _reply(
        f"there {verb} {_number(total)} {noun}: {things}",
        total is not None or NOT_TOLD["count"],
        all(thing.shape for thing in meaning.things) or NOT_TOLD["shape"],
    )


def _answer_attributes(meaning: Meaning) -> str:
    parts = []
    for thing in meaning.things:
        if thing.size or thing.colour:
            size = f"{thing.size} " if thing.size else ""
            verb = "are" if thing.plural else "is"
            colour = f" {verb} {thing.colour}" if thing.colour else ""
            parts.append(f"{_number(thing.count)} {size}{_noun(thing.shape, thing.count)}{colour}")
    behind = NOT_TOLD["background"]
    if meaning.background:
        it = "it" if meaning.total == 1 else "them"
        behind = f"behind {it} is {_backdrop(meaning.background)}"
    return _reply(
        "; ".join(parts),
        all(thing.colour for thing in meaning.things) or NOT_TOLD["colour"],
        all(thing.size for thing in meaning.things) or NOT_TOLD["size"],
        behind,
    )


def _answer_layout(meaning: Meaning) -> str:
    things = meaning.things
    parts: list[str | bool] = [
        f"{_the(things[r.subject])} {'are' if things[r.subject].plural else 'is'} "
        f"{vocabulary.RELATIONS[r.name][0]} {_the(things[r.object])}"
        for r in meaning.relations
    ]
    parts.append(len(things) == 1 or bool(parts) or NOT_TOLD["relation"])
    for thing in things:
        if thing.arrangement:
            parts.append(f"{_the(thing)} are {vocabulary.ARRANGEMENTS[thing.arrangement]}")
    arranged = all(thing.arrangement or not thing.plural for thing in things)
    parts.append(arranged or NOT_TOLD["arrangement"])
    if meaning.place:
        verb = "starts" if meaning.travels else "is"
        parts.append(f"{_the(things[0])} {verb} {vocabulary.PLACES[meaning.place]}")
    elif meaning.total == 1:
        parts.append(NOT_TOLD["place"])
    return _reply(*parts)


def _answer_time(meaning: Meaning) -> str:
    action, light, camera = _time_parts(meaning)
    return _reply(
        action or NOT_TOLD["action"], light or NOT_TOLD["light"], camera or NOT_TOLD["camera"]
    )


def _time_parts(meaning: Meaning) -> tuple[str, str, str]:
    light = vocabulary.LIGHT_SENTENCES[meaning.light][0] if meaning.light else ""
    camera = vocabulary.CAMERA[meaning.camera][0] if meaning.camera else ""
    return _events(meaning), light, camera


def _events(meaning: Meaning) -> str:
    things = meaning.things
    if meaning.timing is None:
        return ""
    if meaning.timing == "none":
        if len(things) > 1:
            return "all objects stay in place"
        return f"{_the(things[0])} {'stay' if things[0].plural else 'stays'} in place"
    verbs = [vocabulary.VERBS[verb][0][things[index].plural] for index, verb in meaning.actions]
    names = [_the(things[index]) for index, _ in meaning.actions]
    if len(verbs) == 1:
        return f"{names[0]} {verbs[0]}"
    if names[0] == names[1]:
        start = verbs[0].split()[0]
        return f"{names[0]} {verbs[0]} and then {verbs[1].removeprefix(f'{start} ')}"
    if meaning.timing == "while":
        return f"{names[0]} {verbs[0]} while {names[1]} {verbs[1]}"
    return f"first {names[0]} {verbs[0]}, then {names[1]} {verbs[1]}"


def _noun_phrase(meaning: Meaning) -> str:
    names = [_introduce(thing) for thing in meaning.things]
    relations = [vocabulary.RELATIONS[r.name][0] for r in meaning.relations]
    if meaning.place:
        start = "starting " if meaning.travels else ""
        return f"{names[0]} {start}{vocabulary.PLACES[meaning.place]}"
    if not relations:
        return grammar.join(names)
    if len(names) == 2:
        return f"{names[0]} {relations[0]} {names[1]}"
    if [(r.subject, r.object) for r in meaning.relations] == [(0, 1), (1, 2)]:
        return f"{grammar.join(names)} {language.canonical('line', meaning.relations[0].name)}"
    if len(relations) == 3:
        return f"{names[0]} {relations[0]} {names[1]} with {names[2]} {relations[1]} them"
    return f"{names[0]} and {names[1]} with {names[2]} {relations[0]} them"


def _introduce(thing: Thing) -> str:
    words = [thing.size, thing.colour, _noun(thing.shape, thing.count)]
    name = " ".join(word for word in words if word)
    start = grammar.article(name) if thing.count == 1 else _number(thing.count)
    end = f" {vocabulary.ARRANGEMENTS[thing.arrangement]}" if thing.arrangement else ""
    return f"{start} {name}{end}"


def _the(thing: Thing) -> str:
    colour = f"{thing.colour} " if thing.colour else ""
    return f"the {colour}{_noun(thing.shape, thing.count)}"


def _noun(shape: str | None, count: int | None) -> str:
    if shape is None:
        return "shape" if count == 1 else "shapes"
    return vocabulary.SHAPES[shape][0][count != 1]


def _number(count: int | None) -> str:
    return "several" if count is None else vocabulary.NUMBERS[count]


def _backdrop(background: tuple[str, str | None]) -> str:
    kind, tone = background
    if tone is None:
        return vocabulary.LANDSCAPES[kind][0]
    return vocabulary.PATTERNS[kind][0].format(tone)


def _reply(*parts: object) -> str:
    """Makes sentences of the parts that are text; a part that holds is True and says nothing."""
    return grammar.sentences(*(part for part in parts if isinstance(part, str)))
