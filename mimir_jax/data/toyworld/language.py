# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The wide language of Toyworld: one table of phrases, and the part of it that is reserved.

The narrow language is `vocabulary` and `captions`: all that the shipped T5 and base have read. The
table below holds further phrases for the same things. `wide` phrases may caption videos; `reserved`
ones never do and no T5 reads them, so that only a language model can know what they mean.

Every phrase has one meaning. Nouns and verbs carry singular and plural; `{}` in a background is
its tone, in a frame what is shown, and `{a}` and `{b}` are two clauses.
"""

import functools
import hashlib
import re
from typing import Literal

from mimir_jax.data.toyworld import vocabulary

Phrase = str | tuple[str, str]
Wording = Literal["narrow", "wide", "reserved"]
WORDINGS: tuple[Wording, ...] = ("narrow", "wide", "reserved")

RESERVED_SHARE = 1 / 3
"""Part of the phrases of each meaning that is reserved."""


def _forms(*verbs: str) -> tuple[tuple[str, str], ...]:
    """Pairs each third person with its plural: the words before `|` change, those after do not."""
    pairs = []
    for verb in verbs:
        word, _, rest = verb.partition(" ")
        stem = word[:-2] if word.endswith(("shes", "ches", "xes", "oes")) else word[:-1]
        pairs.append((verb, f"{stem} {rest}".strip()))
    return tuple(pairs)


def _plurals(*nouns: str) -> tuple[tuple[str, str], ...]:
    return tuple((noun, f"{noun}s") for noun in nouns)


def _corner(row: str, column: str, edge: str, wind: str, way: str) -> tuple[str, ...]:
    return (
        f"in the {row} {column}-hand corner",
        f"in the {wind} corner",
        f"where the {edge} and the {column} edge meet",
        f"near the {column} end of the {edge}",
        f"{way} on the {column}-hand side",
        f"in the {wind}ern part",
    )


TABLE: dict[str, dict[str, tuple[Phrase, ...]]] = {
    "colour": {
        "red": ("crimson", "ruby", "cherry", "vermilion", "carmine", "tomato"),
        "orange": ("amber", "pumpkin", "carrot", "apricot", "marmalade", "persimmon"),
        "yellow": ("lemon", "canary", "sunflower", "mustard", "buttercup", "saffron"),
        "green": ("jade", "clover", "shamrock", "fern", "malachite", "grass-coloured"),
        "cyan": ("teal", "aqua", "cerulean", "peacock", "glacier", "robin-egg"),
        "blue": ("sapphire", "navy", "ultramarine", "indigo", "denim", "lapis"),
        "purple": ("amethyst", "plum", "grape", "aubergine", "mulberry", "wine-coloured"),
        "pink": ("fuchsia", "bubblegum", "flamingo", "cerise", "raspberry", "watermelon"),
    },
    "shape": {
        "circle": _plurals("orb", "globe", "roundel", "sphere", "bead", "puck"),
        "square": _plurals("tile", "cube", "pixel", "brick", "slab", "parcel"),
        "triangle": _plurals("delta", "trigon", "arrowhead", "pennant", "tepee", "shark fin"),
        "star": (
            *_plurals("pentagram", "asterisk", "starburst", "sparkle", "pentacle"),
            ("starfish", "starfish"),
        ),
        "heart": _plurals(
            "valentine", "love symbol", "sweetheart", "cupid sign", "like icon", "love token"
        ),
        "diamond": _plurals("lozenge", "rhomb", "kite", "gem", "jewel", "argyle"),
        "ring": _plurals("doughnut", "loop", "wreath", "halo", "circlet", "washer"),
        "cross": (
            *_plurals("addition mark", "swiss emblem", "first-aid symbol", "crosshair", "rood"),
            ("crucifix", "crucifixes"),
        ),
        "crescent": _plurals(
            "new moon", "sickle", "half-moon", "croissant", "lunette", "waning moon"
        ),
        "oval": _plurals("egg", "ellipsoid", "capsule", "zeppelin", "avocado", "almond"),
    },
    "size": {
        "small": ("tiny", "mini", "petite", "miniature", "wee", "pint-sized"),
        "large": ("huge", "giant", "massive", "enormous", "jumbo", "oversized"),
    },
    "number": {
        "one": ("a single", "a lone", "a solitary", "a sole", "just one", "exactly one"),
        "two": ("a pair of", "a couple of", "2", "twin", "a duo of", "a brace of"),
        "three": ("a trio of", "3", "a triplet of", "a threesome of", "a triad of", "triple"),
        "four": ("a quartet of", "4", "a foursome of", "a tetrad of", "quadruple", "a quad of"),
    },
    "relation": {
        "left": (
            "on the left-hand side of", "west of", "leftward of", "on the left side of",
            "further left than", "on the left flank of",
        ),
        "right": (
            "on the right-hand side of", "east of", "rightward of", "on the right side of",
            "further right than", "on the right flank of",
        ),
        "above": (
            "higher than", "north of", "atop", "on top of", "overlooking", "upward of",
        ),
        "below": (
            "lower than", "south of", "beneath", "underneath", "at the foot of", "downward of",
        ),
    },
    "line": {  # three groups, the first one leftmost, rightmost, topmost or lowest
        "left": (
            "from west to east", "in sequence towards the right", "lined up rightward",
            "reading left-to-right", "one after another to the east", "the first one leftmost",
        ),
        "right": (
            "from east to west", "in sequence towards the left", "lined up leftward",
            "reading right-to-left", "one after another to the west", "the first one rightmost",
        ),
        "above": (
            "from north to south", "in sequence towards the floor", "lined up downward",
            "reading top-down", "one after another to the south", "the first one topmost",
        ),
        "below": (
            "from south to north", "in sequence towards the ceiling", "lined up upward",
            "reading bottom-up", "one after another to the north", "the first one lowest",
        ),
    },
    "arrangement": {
        "row": (
            "side by side", "in a horizontal line", "abreast", "shoulder to shoulder",
            "in a rank", "next to each other",
        ),
        "column": (
            "in a vertical line", "stacked up", "in a tower", "in a pile", "in a totem",
            "in a tall stack",
        ),
        "pyramid": (
            "pyramid-wise", "in a bowling-pin formation", "heaped to a point", "in a mound",
            "in a tent formation", "with a peak",
        ),
        "grid": (
            "in a matrix", "like windowpanes", "at the corners of a frame", "in a lattice",
            "in a mesh", "quadrant by quadrant",
        ),
    },
    "place": {
        "left top": _corner("top", "left", "ceiling", "north-west", "high"),
        "right top": _corner("top", "right", "ceiling", "north-east", "high"),
        "left bottom": _corner("bottom", "left", "floor", "south-west", "low"),
        "right bottom": _corner("bottom", "right", "floor", "south-east", "low"),
        "centre top": (
            "in the middle of the ceiling", "up high in the middle", "at the northern edge",
            "halfway along the upper edge", "near the ceiling", "topmost and central",
        ),
        "centre bottom": (
            "in the middle of the floor", "down low in the middle", "at the southern edge",
            "halfway along the lower edge", "near the floor", "lowermost and central",
        ),
        "left middle": (
            "in the middle of the left edge", "at half height on the left-hand side",
            "at the western edge", "halfway down the left edge", "near the left border",
            "leftmost and central",
        ),
        "right middle": (
            "in the middle of the right edge", "at half height on the right-hand side",
            "at the eastern edge", "halfway down the right edge", "near the right border",
            "rightmost and central",
        ),
        "centre middle": (
            "in the very centre", "in the midst of it all", "dead centre", "amid the frame",
            "at the midpoint", "at the bull's-eye",
        ),
    },
    "start": {  # goes before the place of something that travels
        "start": (
            "setting out", "beginning", "departing", "initially", "launching", "at the outset",
        ),
    },
    "verb": {
        "left": _forms(
            "heads west", "travels leftward", "shuffles left", "wanders towards the left edge",
            "sails to the left-hand side", "scoots left",
        ),
        "right": _forms(
            "heads east", "travels rightward", "shuffles right", "wanders towards the right edge",
            "sails to the right-hand side", "scoots right",
        ),
        "up": _forms(
            "climbs", "ascends", "floats skyward", "lifts off", "soars", "heads north",
        ),
        "down": _forms(
            "drops", "falls to earth", "descends", "plunges", "tumbles floorward", "heads south",
        ),
        "grow": _forms(
            "swells", "inflates", "enlarges", "balloons", "puffs up", "becomes bulkier",
        ),
        "shrink": _forms(
            "dwindles", "deflates", "diminishes", "shrivels", "wanes", "becomes slighter",
        ),
        "spin": _forms(
            "twirls", "pirouettes", "revolves", "whirls", "gyrates", "wheels round",
        ),
        "jump": _forms(
            "bounces", "bounds", "vaults", "skips", "hurdles", "leapfrogs",
        ),
        "appear": _forms(
            "materialises", "emerges", "shows up", "comes into view", "pops into existence",
            "becomes visible",
        ),
        "disappear": _forms(
            "dissolves", "melts away", "evaporates", "leaves the scene", "fizzles out",
            "becomes invisible",
        ),
        "none": _forms(
            "remains motionless", "holds still", "freezes in position", "stays put",
            "rests quietly", "idles on the spot",
        ),
    },
    "lie": {  # joins a subject and where it is
        "lie": _forms("sits", "hangs", "lies", "waits", "stands", "perches"),
    },
    "sequence": {
        "then": (
            "{a} and afterwards {b}", "after {a}, {b}", "{a} before {b}", "{a}, and next {b}",
            "once {a}, {b}", "{a}, whereupon {b}",
        ),
        "while": (
            "{a} at the same time as {b}", "{a} and meanwhile {b}", "simultaneously {a} and {b}",
            "{a}, and in parallel {b}", "all along as {a}, {b}", "{a} in sync with how {b}",
        ),
    },
    "light": {
        "day": (
            "the sun shines all along", "it is full daytime", "sunlight lasts to the end",
            "the picture is sunny", "it is noon throughout", "everything is well lit",
        ),
        "night": (
            "darkness reigns all along", "it is pitch-dark", "gloom lasts to the end",
            "the picture is nocturnal", "it is midnight throughout", "everything is unlit",
        ),
        "dawn": (
            "the sun comes up", "morning breaks", "darkness gives way to daytime",
            "the night ends", "daybreak arrives", "sunrise unfolds",
        ),
        "dusk": (
            "the sun sets", "evening arrives", "daytime gives way to darkness",
            "the day ends", "nightfall comes", "sunset unfolds",
        ),
        "dim": (
            "a shadow passes by", "brightness dips and returns", "it darkens for a moment",
            "an eclipse comes and goes", "the sun hides briefly", "the lamps go out for a while",
        ),
        "glow": (
            "a flash of light comes and goes", "brightness surges and ebbs",
            "it lights up for a moment", "a lantern flares and dies", "darkness lifts briefly",
            "the lamps come on for a while",
        ),
    },
    "camera": {
        "still": (
            "the shot is fixed", "the lens is locked off", "the viewpoint never budges",
            "the picture is filmed from a tripod", "the framing is constant",
            "the viewer is immobile",
        ),
        "pan left": (
            "the lens swings leftward", "the viewpoint sweeps to the west",
            "the shot tracks left", "the viewer looks further left", "the framing slips westward",
            "the shot turns towards the left",
        ),
        "pan right": (
            "the lens swings rightward", "the viewpoint sweeps to the east",
            "the shot tracks right", "the viewer looks further right",
            "the framing slips eastward", "the shot turns towards the right",
        ),
        "zoom in": (
            "the lens pushes in", "the viewpoint closes in", "the shot tightens",
            "the viewer comes nearer", "the framing narrows", "the picture is magnified",
        ),
        "zoom out": (
            "the lens pulls back", "the viewpoint retreats", "the shot widens",
            "the viewer backs away", "the framing broadens", "the picture is demagnified",
        ),
    },
    "behind": {  # joins the objects and the background
        "behind": (
            "against {}", "set before {}", "displayed on {}", "backed by {}", "ahead of {}",
            "in the foreground of {}",
        ),
    },
    "tone": {
        "grey": ("ashen", "smoky", "pewter", "stone-coloured", "silvery", "cement"),
        "beige": ("tan", "cream", "biscuit", "oatmeal", "khaki", "buff"),
        "mint": ("sage", "celadon", "pistachio", "seafoam", "spearmint", "eucalyptus"),
        "slate": ("steel", "gunmetal", "graphite", "flint", "anthracite", "shale"),
        "lavender": ("lilac", "mauve", "wisteria", "heather", "orchid", "thistle"),
        "rose": ("blush", "rosy", "carnation", "peony", "petal", "rosewood"),
    },
    "pattern": {
        "plain": (
            "a uniform {} backdrop", "a blank {} screen", "an unpatterned {} sheet",
            "a bare {} canvas", "smooth {} wallpaper", "solid {} cloth",
        ),
        "horizontal stripes": (
            "a {} backdrop with level bands", "a {} screen with flat bars",
            "a {} sheet ruled from side to side", "a {} canvas lined across",
            "{} wallpaper with stripes running sideways", "horizontally banded {} cloth",
        ),
        "vertical stripes": (
            "a {} backdrop with upright bands", "a {} screen with standing bars",
            "a {} sheet ruled from head to toe", "a {} canvas lined lengthwise",
            "{} wallpaper with stripes running floorward", "vertically banded {} cloth",
        ),
        "diagonal stripes": (
            "a {} backdrop with slanted bands", "a {} screen with tilted bars",
            "a {} sheet ruled from corner to corner", "a {} canvas lined aslant",
            "{} wallpaper with oblique stripes", "diagonally banded {} cloth",
        ),
        "checks": (
            "a {} backdrop like a chessboard", "a {} screen with a draughts pattern",
            "a chequered {} sheet", "a {} canvas of checks", "{} gingham wallpaper",
            "{} tartan cloth",
        ),
        "dots": (
            "a {} backdrop with polka spots", "a {} screen with specks", "a speckled {} sheet",
            "a {} canvas full of freckles", "spotted {} wallpaper", "{} cloth with stipples",
        ),
    },
    "landscape": {
        "meadow": (
            "a pasture", "rolling grassland", "a lush lawn", "a prairie", "a country hillside",
            "a verdant lea",
        ),
        "desert": (
            "the sahara", "arid badlands", "a barren wilderness", "drifting dunes",
            "a parched waste", "a scorched flatland",
        ),
        "sea": (
            "the open ocean", "a quiet bay", "still waters", "a glassy lake",
            "a smooth seascape", "a placid lagoon",
        ),
        "snow": (
            "a winter landscape", "a frozen tundra", "an icy plateau", "an arctic expanse",
            "wintry slopes", "a snowbound valley",
        ),
    },
    "frame": {
        "plain": (
            "here we have {}", "we can see {}", "look at {}", "the screen holds {}",
            "on display: {}", "in this film we meet {}",
        ),
        "request": (
            "please show me {}", "could you draw {}", "i would like to see {}",
            "make me an animation of {}", "give me {}", "kindly film {}",
        ),
        "story": (
            "once upon a time there lived {}", "this is the tale of {}",
            "imagine a world with {}", "our fable begins with {}", "a legend tells of {}",
            "long ago people met {}",
        ),
    },
}  # fmt: skip
"""Phrases by kind and meaning. None of them occurs in a narrow caption."""

AMERICAN = {
    "colour": "color", "coloured": "colored", "centre": "center", "grey": "gray",
    "materialises": "materializes", "materialise": "materialize", "chequered": "checkered",
    "doughnut": "donut", "doughnuts": "donuts", "draughts": "checkers", "towards": "toward",
}  # fmt: skip
"""British words of the wide language and how American texts spell them."""

_CANONICAL = {
    "colour": lambda value: vocabulary.COLOURS[value].words[0],
    "shape": lambda value: vocabulary.SHAPES[value][0],
    "size": lambda value: vocabulary.SIZES[value][0],
    "number": lambda value: value,
    "relation": lambda value: vocabulary.RELATIONS[value][0],
    "line": lambda value: _LINES[value],
    "arrangement": lambda value: vocabulary.ARRANGEMENTS[value],
    "place": lambda value: vocabulary.PLACES[tuple(value.split())],
    "start": lambda value: "starting",
    "verb": lambda value: vocabulary.VERBS[value][0] if value != "none" else _STILL,
    "lie": lambda value: ("is", "are"),
    "sequence": lambda value: {"then": "first {a}, then {b}", "while": "{a} while {b}"}[value],
    "light": lambda value: vocabulary.LIGHT_SENTENCES[value][0],
    "camera": lambda value: vocabulary.CAMERA[value][0],
    "behind": lambda value: "in front of {}",
    "tone": lambda value: value,
    "pattern": lambda value: vocabulary.PATTERNS[value][0],
    "landscape": lambda value: vocabulary.LANDSCAPES[value][0],
}
_LINES = {
    "left": "from left to right",
    "right": "from right to left",
    "above": "from top to bottom",
    "below": "from bottom to top",
}
_STILL = ("stays in place", "stay in place")


def canonical(kind: str, value: str) -> Phrase | None:
    """Returns the narrow phrase for a meaning; None for frames, which have none."""
    return _CANONICAL[kind](value) if kind in _CANONICAL else None


@functools.cache
def phrases(kind: str, value: str, wording: Wording) -> tuple[Phrase, ...]:
    """Returns the phrases of one meaning that captions in `wording` choose from.

    Wide captions also use the canonical phrase, reserved captions only what is reserved.
    """
    narrow = canonical(kind, value)
    own = () if narrow is None else (narrow,)
    if wording == "narrow":
        return own
    new = TABLE[kind][value]
    ranked = sorted(new, key=lambda phrase: _rank(kind, value, phrase))
    reserved = set(ranked[: round(RESERVED_SHARE * len(new))])
    if wording == "reserved":
        return tuple(phrase for phrase in new if phrase in reserved)
    return (*own, *(phrase for phrase in new if phrase not in reserved))


def _rank(kind: str, value: str, phrase: Phrase) -> str:
    text = phrase if isinstance(phrase, str) else phrase[0]
    return hashlib.sha256(f"{kind}/{value}/{text}".encode()).hexdigest()


def every(kind: str, value: str) -> tuple[str, ...]:
    """Returns all phrases of one meaning, canonical or not, every form a string of its own."""
    narrow = canonical(kind, value)
    found = [*([] if narrow is None else [narrow]), *TABLE[kind][value]]
    return tuple(form for p in found for form in (p if isinstance(p, tuple) else (p,)))


def markdown() -> str:
    """Lays out the table: a row for each meaning, its narrow, wide and reserved phrases apart."""
    lines = ["| kind | meaning | narrow | wide | reserved |", "|---|---|---|---|---|"]
    for kind, row in TABLE.items():
        for value in row:
            narrow = canonical(kind, value)
            columns = [
                [p for p in phrases(kind, value, words) if words != "wide" or p != narrow]
                for words in WORDINGS
            ]
            cells = [", ".join(p if isinstance(p, str) else p[0] for p in c) for c in columns]
            lines.append(f"| {' | '.join([kind, value, *cells])} |")
    return "\n".join(lines) + "\n"


def american(text: str) -> str:
    """Spells a text the American way."""
    return _respell(text, AMERICAN)


def british(text: str) -> str:
    """Spells a text the British way, as the tables do."""
    return _respell(text, _BRITISH)


_BRITISH = {new: old for old, new in AMERICAN.items()}


def _respell(text: str, words: dict[str, str]) -> str:
    pattern = rf"\b({'|'.join(words)})\b"
    return re.sub(pattern, lambda match: words[match[0]], text)
