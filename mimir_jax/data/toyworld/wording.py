# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions in every wording, what each of them tells, and exact replies that follow from that.

A `Meaning` holds what a caption tells and nothing else. Answers and elaborations are functions of
the meaning, so a reply never needs a fact of the scene that its caption leaves out.
"""

import dataclasses
from collections.abc import Sequence

from mimir_jax.data.toyworld import captions, grammar, language, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws
from mimir_jax.data.toyworld.language import Wording

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


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and its meaning."""

    text: str
    meaning: Meaning
    wording: Wording


def caption(scene: scene_lib.Scene, wording: Wording, variant: int = 0) -> Caption:
    """Returns a caption of `scene` with its meaning.

    Args:
        scene: What to describe.
        wording: `narrow` selects a style and template of `captions`; `wide` and `reserved` draw
            what to tell, the sentences that tell it, and phrases of `language.TABLE`.
        variant: 0 to 2^64 - 1; equal numbers give equal captions.
    """
    if wording == "narrow":
        variant, number = divmod(variant, len(captions.STYLES))
        style = captions.STYLES[number]
        text = captions.caption(scene, style, variant)
        return Caption(text, narrow_meaning(scene, style, variant), wording)
    return _Writer(scene, wording, Draws(variant, 0, 0)).write()


# Meanings of narrow captions.

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
            return _tell(_as_told(scene), tells)
        case "long", _:
            return _tell(scene, _EVERYTHING)
        case "coarse", 0 | 3:
            merged = _merge(scene, "shape")
            return Meaning(merged, light=scene.light if number == 3 else None)
        case "coarse", 1:
            return Meaning((Thing(scene.num_objects),), background=_background(scene))
        case "coarse", _:
            merged = _merge(scene, "colour")
            return Meaning(
                tuple(Thing(1 if t.count == 1 else None, None, t.colour) for t in merged)
            )
        case "paraphrase", 0:
            meaning = _tell(scene, {"size", "relation", "place", "action"})
            if scene.layout == "apex":
                meaning = dataclasses.replace(meaning, relations=meaning.relations[1:])
            return meaning
        case "paraphrase", 1:
            return _tell(scene, {"size", "relation", "place", "action", "light"})
        case "paraphrase", 2:
            return _tell(scene, {"size", "relation", "place", "action"})
        case _:
            tells = {"size", "relation", "place", "action"}
            if scene.camera == "still":
                return _tell(_as_told(scene), tells)
            return _tell(scene, tells | {"camera"})


def _as_told(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns a pair with its only actor first, as `grammar.told` has it."""
    if len(scene.actors) != 1 or len(scene.groups) != 2 or scene.actors[0] == 0:
        return scene
    return _swapped(scene)


def _swapped(scene: scene_lib.Scene) -> scene_lib.Scene:
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


def _reversed_line(scene: scene_lib.Scene) -> scene_lib.Scene:
    name = vocabulary.INVERSE[scene.relations[0].name]
    return dataclasses.replace(
        scene,
        groups=scene.groups[::-1],
        relations=(scene_lib.Relation(0, name, 1), scene_lib.Relation(1, name, 2)),
        actions=tuple(dataclasses.replace(a, group=2 - a.group) for a in scene.actions),
    )


def _tell(scene: scene_lib.Scene, tells: set[str] | frozenset[str]) -> Meaning:
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


def _merge(scene: scene_lib.Scene, name: str) -> tuple[Thing, ...]:
    """Adds up the groups that share a shape or a colour."""
    totals: dict[str, int] = {}
    for group in scene.groups:
        value = getattr(group, name)
        totals[value] = totals.get(value, 0) + group.count
    return tuple(Thing(count, **{name: value}) for value, count in totals.items())


# Captions in wide and reserved wording.


class _Writer:
    """Writes one caption; a choice of words holds for the whole text."""

    def __init__(self, scene: scene_lib.Scene, wording: Wording, draws: Draws):
        self._draws, self._wording = draws, wording
        self._chosen: dict[tuple[str, str], language.Phrase] = {}
        if scene.layout in ("pair", "apex") and self._draws.chance(0.5):
            scene = _swapped(scene)
        elif scene.layout == "line" and self._draws.chance(0.5):
            scene = _reversed_line(scene)
        self._scene = scene

    def write(self) -> Caption:
        """Draws what to tell and how."""
        if self._draws.chance(0.1):
            meaning, text = self._coarse()
        else:
            meaning = _tell(self._scene, self._facts())
            text = self._phrase(meaning) if self._draws.chance(0.4) else self._sentences(meaning)
        if self._draws.chance(0.5):
            text = language.american(text)
        return Caption(text, meaning, self._wording)

    def _facts(self) -> set[str]:
        likely = {
            "size": 0.6, "arrangement": 0.5, "place": 0.7, "action": 0.85, "still": 0.4,
            "light": 0.5, "camera": 0.4, "background": 0.6,
        }  # fmt: skip
        tells = {name for name, share in likely.items() if self._draws.chance(share)} | {"relation"}
        if len(self._scene.groups) == 1 and self._draws.chance(0.1):
            tells.add("no colour")
        return tells

    def _coarse(self) -> tuple[Meaning, str]:
        if self._draws.chance(0.5):
            colours = _merge(self._scene, "colour")
            things = tuple(Thing(1 if t.count == 1 else None, None, t.colour) for t in colours)
        else:
            things = _merge(self._scene, "shape")
        light = self._scene.light if self._draws.chance(0.3) else None
        names = grammar.join([self._name(thing) for thing in things])
        parts = [self._frame(names)] if self._draws.chance(0.5) else [names]
        parts += [self._say("light", light)] if light else []
        return Meaning(things, light=light), ", ".join(parts)

    def _phrase(self, meaning: Meaning) -> str:
        """One line without full stop: objects, what they do, and the rest after commas."""
        lone = len(meaning.things) == 1
        relative = lone and meaning.timing in ("none", "single")
        text = self._objects(meaning, self._that(meaning) if relative else "")
        events = "" if relative else self._events(meaning, pronoun=lone and self._draws.chance(0.5))
        start = self._frame(text) if self._draws.chance(0.5) else text
        rest = self._extras(meaning)
        tail = [events] if events else []
        parts = [start, *rest, *tail] if self._draws.chance(0.3) else [start, *tail, *rest]
        return ", ".join(parts)

    def _sentences(self, meaning: Meaning) -> str:
        lone = len(meaning.things) == 1
        relative = lone and meaning.timing in ("none", "single") and self._draws.chance(0.3)
        if self._draws.chance(0.7):
            first = self._frame(self._objects(meaning, self._that(meaning) if relative else ""))
        else:
            first, relative = self._clause(meaning), False
        events = "" if relative else self._events(meaning, pronoun=lone and self._draws.chance(0.5))
        rest = [first, *([events] if events else []), *self._extras(meaning)]
        if self._draws.chance(0.25) and len(rest) > 1:  # the setting first
            rest = [rest[-1], *rest[:-1]]
        if self._draws.chance(0.5):
            return grammar.sentences(*rest)
        return ". ".join(rest)

    def _extras(self, meaning: Meaning) -> list[str]:
        parts = []
        if meaning.light:
            parts.append(self._say("light", meaning.light))
        if meaning.camera:
            parts.append(self._say("camera", meaning.camera))
        if meaning.background:
            it = "it is" if meaning.total == 1 else "they are"
            parts.append(f"{it} {self._behind(meaning)}")
        return [parts.pop(self._draws.below(len(parts))) for _ in range(len(parts))]

    def _behind(self, meaning: Meaning) -> str:
        kind, tone = meaning.background
        if tone is None:
            name = self._say("landscape", kind)
        else:
            name = self._say("pattern", kind).format(self._say("tone", tone))
            name = _articled(name)
        return self._say("behind", "behind").format(name)

    def _frame(self, text: str) -> str:
        manner = self._draws.choice(("plain", "request", "story"))
        return self._say("frame", manner).format(text)

    def _objects(self, meaning: Meaning, relative: str = "") -> str:
        """Names everything and how it lies: "a ruby orb atop a pair of tiny tiles"."""
        names = [self._name(thing) for thing in meaning.things]
        match self._scene.layout:
            case "single":
                where = self._where(meaning)
                if relative and where and self._draws.chance(0.5):
                    return f"{names[0]} {where} {relative}"
                return " ".join(part for part in (names[0], relative, where) if part)
            case "pair":
                relation = self._say("relation", meaning.relations[0].name)
                return f"{names[0]} {relation} {names[1]}"
            case "line":
                line = self._say("line", meaning.relations[0].name)
                return f"{grammar.join(names)} {line}"
            case _:
                first, second = (self._say("relation", r.name) for r in meaning.relations[:2])
                return f"{names[0]} {first} {names[1]}, with {names[2]} {second} both"

    def _clause(self, meaning: Meaning) -> str:
        """Says how everything lies, sometimes the place first."""
        names = [self._name(thing) for thing in meaning.things]
        lies = [self._say("lie", "lie", thing.plural) for thing in meaning.things]
        match self._scene.layout:
            case "single":
                where = self._where(meaning)
                if not where:
                    return f"there {('is', 'are')[meaning.things[0].plural]} {names[0]}"
                if self._draws.chance(0.5):
                    return f"{where} {lies[0]} {names[0]}"
                return f"{names[0]} {lies[0]} {where}"
            case "pair":
                relation = self._say("relation", meaning.relations[0].name)
                if self._draws.chance(0.5):
                    return f"{relation} {names[1]} {lies[0]} {names[0]}"
                return f"{names[0]} {lies[0]} {relation} {names[1]}"
            case "line":
                many = self._say("lie", "lie", True)
                return (
                    f"{grammar.join(names)} {many} {self._say('line', meaning.relations[0].name)}"
                )
            case _:
                first, second = (self._say("relation", r.name) for r in meaning.relations[:2])
                return (
                    f"{names[0]} {lies[0]} {first} {names[1]}, and {names[2]} {lies[2]} "
                    f"{second} both"
                )

    def _where(self, meaning: Meaning) -> str:
        if meaning.place is None:
            return ""
        where = self._say("place", " ".join(meaning.place))
        return f"{self._say('start', 'start')} {where}" if _travels(meaning) else where

    def _that(self, meaning: Meaning) -> str:
        verb = meaning.actions[0][1] if meaning.actions else "none"
        which = self._draws.choice(("that", "which"))
        return f"{which} {self._say('verb', verb, meaning.things[0].plural)}"

    def _events(self, meaning: Meaning, *, pronoun: bool) -> str:
        if meaning.timing is None:
            return ""
        if meaning.timing == "none":
            if len(meaning.things) > 1:
                return f"all of them {self._say('verb', 'none', True)}"
            return f"{self._the(meaning.things[0], pronoun)} {self._does(meaning, 0, 'none')}"
        clauses = [
            f"{self._the(meaning.things[index], pronoun)} {self._does(meaning, index, verb)}"
            for index, verb in meaning.actions
        ]
        if len(clauses) == 1:
            return clauses[0]
        return self._say("sequence", meaning.timing).format(a=clauses[0], b=clauses[1])

    def _does(self, meaning: Meaning, index: int, verb: str) -> str:
        return self._say("verb", verb, meaning.things[index].plural)

    def _name(self, thing: Thing) -> str:
        """Introduces a thing: "a pair of tiny jade tiles stacked up"."""
        words = [self._say("size", thing.size)] if thing.size else []
        colour = self._say("colour", thing.colour) if thing.colour else ""
        after = ""
        if colour and thing.shape and self._draws.chance(0.25):
            verb = ("is", "are")[thing.plural]
            after = self._draws.choice((f" coloured {colour}", f" that {verb} {colour}"))
        elif colour:
            words.append(colour)
        words.append(self._noun(thing))
        name = " ".join(words)
        if thing.count is not None and (thing.plural or self._draws.chance(0.4)):
            name = f"{self._number(thing.count)} {name}"
        elif thing.count == 1:
            name = f"{grammar.article(name)} {name}"
        if thing.arrangement:
            after += f" {self._say('arrangement', thing.arrangement)}"
        return name + after

    def _number(self, count: int) -> str:
        name = vocabulary.NUMBERS[count]
        return self._say("number", name) if name in language.TABLE["number"] else name

    def _the(self, thing: Thing, pronoun: bool = False) -> str:
        if pronoun:
            return "they" if thing.plural else "it"
        colour = f"{self._say('colour', thing.colour)} " if thing.colour else ""
        return f"the {colour}{self._noun(thing)}"

    def _noun(self, thing: Thing) -> str:
        if thing.shape is None:
            return ("shape", "shapes")[thing.plural]
        return self._say("shape", thing.shape, thing.plural)

    def _say(self, kind: str, value: str, plural: bool = False) -> str:
        if (kind, value) not in self._chosen:
            options = language.phrases(kind, value, self._wording)
            self._chosen[kind, value] = self._draws.choice(options)
        phrase = self._chosen[kind, value]
        return phrase if isinstance(phrase, str) else phrase[plural]


def _articled(name: str) -> str:
    """Corrects the article before a tone that a pattern was filled with."""
    return f"an {name[2:]}" if name.startswith("a ") and name[2] in "aeiou" else name


def _travels(meaning: Meaning) -> bool:
    return any(verb in vocabulary.DIRECTIONS for _, verb in meaning.actions)


# Replies, in narrow words.


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
        verb = "starts" if _travels(meaning) else "is"
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
        start = "starting " if _travels(meaning) else ""
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
