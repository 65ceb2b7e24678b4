# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions in every wording, each with the meaning that it tells."""

import dataclasses

from mimir_jax.data.toyworld import captions, grammar, language, vocabulary
from mimir_jax.data.toyworld import meaning as meaning_lib
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws
from mimir_jax.data.toyworld.language import Wording
from mimir_jax.data.toyworld.meaning import Meaning, Thing


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
        return Caption(text, meaning_lib.narrow_meaning(scene, style, variant), wording)
    return _Writer(scene, wording, Draws(variant, 0, 0)).write()


class _Writer:
    """Writes one caption; a choice of words holds for the whole text."""

    def __init__(self, scene: scene_lib.Scene, wording: Wording, draws: Draws):
        self._draws, self._wording = draws, wording
        self._chosen: dict[tuple[str, str], language.Phrase] = {}
        if scene.layout in ("pair", "apex") and self._draws.chance(0.5):
            scene = meaning_lib.swapped(scene)
        elif scene.layout == "line" and self._draws.chance(0.5):
            scene = meaning_lib.reversed_line(scene)
        self._scene = scene

    def write(self) -> Caption:
        """Draws what to tell and how."""
        if self._draws.chance(0.1):
            meaning, text = self._coarse()
        else:
            meaning = meaning_lib.tell(self._scene, self._facts())
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
            colours = meaning_lib.merge(self._scene, "colour")
            things = tuple(Thing(1 if t.count == 1 else None, None, t.colour) for t in colours)
        else:
            things = meaning_lib.merge(self._scene, "shape")
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
        return f"{self._say('start', 'start')} {where}" if meaning.travels else where

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
