# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What Toyworld scenes are made of, and the words for it.

Every table maps a value of the scene graph to its words; the first entry is canonical, the others
are synonyms for paraphrases. Verbs carry their singular and plural forms.
"""

import dataclasses

Rgb = tuple[int, int, int]
Forms = tuple[str, str]  # singular, plural


@dataclasses.dataclass(frozen=True)
class Colour:
    """A named object colour: saturated, far from the other colours and from every background."""

    rgb: Rgb
    words: tuple[str, ...]


COLOURS: dict[str, Colour] = {
    "red": Colour((226, 38, 40), ("red", "scarlet")),
    "orange": Colour((252, 130, 12), ("orange", "tangerine")),
    "yellow": Colour((253, 228, 50), ("yellow", "golden")),
    "green": Colour((38, 168, 62), ("green", "emerald")),
    "cyan": Colour((30, 204, 226), ("cyan", "turquoise")),
    "blue": Colour((38, 76, 222), ("blue", "cobalt")),
    "purple": Colour((138, 48, 196), ("purple", "violet")),
    "pink": Colour((255, 84, 182), ("pink", "magenta")),
}

SHAPES: dict[str, tuple[Forms, ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs"), ("ball", "balls")),
    "square": (("square", "squares"), ("box", "boxes"), ("block", "blocks")),
    "triangle": (("triangle", "triangles"), ("wedge", "wedges")),
    "star": (("star", "stars"), ("five-pointed star", "five-pointed stars")),
    "heart": (("heart", "hearts"),),
    "diamond": (("diamond", "diamonds"), ("rhombus", "rhombuses")),
    "ring": (("ring", "rings"), ("hoop", "hoops")),
    "cross": (("cross", "crosses"), ("plus sign", "plus signs")),
    "crescent": (("crescent", "crescents"), ("crescent moon", "crescent moons")),
    "oval": (("oval", "ovals"), ("ellipse", "ellipses")),
}

SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "little"),
    "large": ("large", "big"),
}

RELATIONS: dict[str, tuple[str, ...]] = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}

VERBS: dict[str, tuple[Forms, ...]] = {
    "left": (
        ("moves left", "move left"),
        ("slides to the left", "slide to the left"),
        ("drifts left", "drift left"),
    ),
    "right": (
        ("moves right", "move right"),
        ("slides to the right", "slide to the right"),
        ("drifts right", "drift right"),
    ),
    "up": (("moves up", "move up"), ("rises", "rise"), ("glides upward", "glide upward")),
    "down": (("moves down", "move down"), ("sinks", "sink"), ("glides downward", "glide downward")),
    "grow": (("grows", "grow"), ("gets bigger", "get bigger"), ("expands", "expand")),
    "shrink": (("shrinks", "shrink"), ("gets smaller", "get smaller"), ("contracts", "contract")),
    "spin": (("spins", "spin"), ("turns around", "turn around"), ("rotates", "rotate")),
    "jump": (("jumps", "jump"), ("hops", "hop"), ("leaps up and lands", "leap up and land")),
    "appear": (("appears", "appear"), ("fades in", "fade in")),
    "disappear": (("disappears", "disappear"), ("fades away", "fade away"), ("vanishes", "vanish")),
}
DIRECTIONS = ("left", "right", "up", "down")

LIGHT: dict[str, tuple[str, ...]] = {  # adverbials
    "day": ("in daylight", "in bright light"),
    "night": ("at night", "in the dark"),
    "dawn": ("as night turns into day", "while it slowly gets light"),
    "dusk": ("as day turns into night", "while it slowly gets dark"),
    "dim": ("while the light dims and comes back",),
    "glow": ("while the light brightens and fades again",),
}
LIGHT_SENTENCES: dict[str, tuple[str, ...]] = {
    "day": ("the light stays bright", "it is bright throughout"),
    "night": ("the light stays dark", "it is dark throughout"),
    "dawn": ("the light goes from dark to bright", "it is dark at first and then grows bright"),
    "dusk": ("the light goes from bright to dark", "it is bright at first and then grows dark"),
    "dim": ("the light dims and then comes back", "it is bright, then dark, then bright again"),
    "glow": ("the light brightens and then fades", "it is dark, then bright, then dark again"),
}

CAMERA: dict[str, tuple[str, ...]] = {
    "still": ("the camera stays still", "the camera does not move"),
    "pan left": ("the camera pans left", "the view pans to the left"),
    "pan right": ("the camera pans right", "the view pans to the right"),
    "zoom in": ("the camera zooms in", "the view zooms in"),
    "zoom out": ("the camera zooms out", "the view zooms out"),
}

TONES: dict[str, Rgb] = {  # muted background colours, by name
    "grey": (156, 156, 158),
    "beige": (204, 192, 152),
    "mint": (160, 202, 176),
    "slate": (120, 136, 155),
    "lavender": (184, 172, 212),
    "rose": (208, 158, 172),
}
PATTERNS: dict[str, tuple[str, ...]] = {  # backgrounds drawn in a tone
    "plain": ("a plain {} background", "a plain {} wall"),
    "horizontal stripes": (
        "a {} background with horizontal stripes",
        "a {} wall with horizontal stripes",
    ),
    "vertical stripes": (
        "a {} background with vertical stripes",
        "a {} wall with vertical stripes",
    ),
    "diagonal stripes": (
        "a {} background with diagonal stripes",
        "a {} wall with diagonal stripes",
    ),
    "checks": ("a {} checkerboard background", "a {} checkerboard"),
    "dots": ("a {} dotted background", "a {} wall with dots"),
}
LANDSCAPES: dict[str, tuple[str, ...]] = {  # backgrounds with colours of their own
    "meadow": ("a grassy meadow", "grassy hills"),
    "desert": ("a sandy desert", "sand dunes"),
    "sea": ("a calm sea", "calm water"),
    "snow": ("a snowy field", "snow and mountains"),
}

ARRANGEMENTS: dict[str, str] = {
    "row": "in a row",
    "column": "in a column",
    "pyramid": "in a pyramid",
    "grid": "in a two by two grid",
}

PLACES: dict[tuple[str, str], str] = {  # (column, row)
    ("left", "top"): "in the upper left",
    ("centre", "top"): "at the top",
    ("right", "top"): "in the upper right",
    ("left", "middle"): "on the left",
    ("centre", "middle"): "in the centre",
    ("right", "middle"): "on the right",
    ("left", "bottom"): "in the lower left",
    ("centre", "bottom"): "at the bottom",
    ("right", "bottom"): "in the lower right",
}

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
