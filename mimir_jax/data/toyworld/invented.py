# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Invented names of shapes, which an image alone explains.

A caption names a shape by a word that no network has learnt, such as "a large red zivof moves
left". A document, "a zivof" with an image of the shape in another colour, size and place, tells
what it means. A name stands for a shape in one prompt only, so that no network can learn it
(VIMI, V-U20).
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mimir_jax.data.toyworld import grammar, renderer, sampling, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws

_SYLLABLES = ("bdfgklmnprtvz", "aiou", "bdgkmpvz", "aiou", "bfvx")
_TRAINED, _UNSEEN = 240, 60
_SCENES = 1 << 30  # what images of documents are drawn from


def _names() -> list[str]:
    words = ["".join(letters) for letters in itertools.product(*_SYLLABLES)]
    order = Draws(0, 0, 0, stream=0).uniforms(len(words)).argsort(kind="stable")
    return [words[i] for i in order[: _TRAINED + _UNSEEN]]


_NAMES = _names()
NAMES = {"train": tuple(_NAMES[:_TRAINED]), "heldout": tuple(_NAMES[_TRAINED:])}
"""Names of training prompts, and those that training never shows."""


class Explained(NamedTuple):
    """A caption with an invented name, and the document that explains it.

    Attributes:
        text: The caption.
        words: The same caption with the word for the shape.
        shape: Key of `vocabulary.SHAPES` that the image shows.
        explanation: Text of the document.
        image: Image of the document: the shape in another colour, size and place.
    """

    text: str
    words: str
    shape: str
    explanation: str
    image: UInt8[np.ndarray, "_ _ 3"]


class _Renamed(grammar.Words):
    """The canonical words, but for one shape."""

    def __init__(self, shape: str, name: str):
        super().__init__()
        self._shape, self._name = shape, name

    def noun(self, shape: str, count: int) -> str:
        if shape != self._shape:
            return super().noun(shape, count)
        return self._name if count == 1 else f"{self._name}s"


def explain(
    scene: scene_lib.Scene,
    name: str,
    draw: int,
    *,
    group: int = 0,
    shown: str | None = None,
    height: int = 64,
    width: int = 64,
) -> Explained:
    """Returns a short caption of a scene in which a shape has an invented name.

    Args:
        scene: What to describe.
        name: The invented name.
        draw: Chooses the look of the image, 0 to 2^64 - 1.
        group: Number of the group whose shape is named; others of that shape have the name too.
        shown: Shape in the image; by default the one that is named.
        height: Rows of the image.
        width: Columns.
    """
    named = scene.groups[group]
    shape = shown or named.shape
    return Explained(
        text=grammar.told(scene, _Renamed(named.shape, name), sized=True),
        words=grammar.told(scene, grammar.Words(), sized=True),
        shape=shape,
        explanation=explanation(name),
        image=render_image(shape, draw, unlike=named.colour, height=height, width=width),
    )


def explanation(name: str) -> str:
    """Returns the text of the document that explains a name."""
    return f"{grammar.article(name)} {name}"


def render_image(
    shape: str, draw: int, *, unlike: str | None = None, height: int = 64, width: int = 64
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Renders the image of a document.

    Args:
        shape: Key of `vocabulary.SHAPES`.
        draw: Chooses colour, size, place and background, 0 to 2^64 - 1.
        unlike: A colour that it does not get.
        height: Rows.
        width: Columns.
    """
    draws = Draws(draw, 0, 0, stream=1)
    other = _lone_object(draws)
    colours = [
        colour
        for colour in vocabulary.COLOURS
        if colour != unlike and (colour, shape) not in sampling.HELDOUT_PAIRS
    ]
    one = dataclasses.replace(other.groups[0], shape=shape, colour=draws.choice(colours))
    still = dataclasses.replace(other, groups=(one,), actions=(), timing="none")
    return renderer.render(still, 1, height, width)[0]


def _lone_object(draws: Draws) -> scene_lib.Scene:
    """Draws a scene with one object."""
    while True:
        scene = sampling.sample(0, "train", draws.below(_SCENES), "single")
        if scene.num_objects == 1:
            return scene
