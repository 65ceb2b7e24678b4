# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions with images in place of words: exact cut-outs of objects, and places without objects.

A caption names each object that an image shows by a mark, such as "a <img> moves left, in front of
<img>", and nothing else tells its shape or colour (VIMI, V-U9).
"""

import dataclasses
import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mimir_jax.data.toyworld import grammar, renderer
from mimir_jax.data.toyworld import scene as scene_lib

_PLACE = "place"
_SLOT = re.compile(r"\{(\d+|place)\}")


class SubjectCaption(NamedTuple):
    """A caption with images.

    Attributes:
        text: Has a mark for each image.
        images: In the order of their marks; an object that is named again has its image again.
        words: The same caption in words.
    """

    text: str
    images: list[UInt8[np.ndarray, "_ _ 3"]]
    words: str


class _Slots(grammar.Words):
    """Words that leave a slot with the number of the group where an image shows an object."""

    def __init__(self, scene: scene_lib.Scene, shown: Collection[int]):
        super().__init__()
        self._numbers = {scene.groups[i]: i for i in shown}

    def phrase(self, group: scene_lib.Group, *, sized: bool = False, arranged: bool = False) -> str:
        if group not in self._numbers:
            return super().phrase(group, sized=sized, arranged=arranged)
        start = "a" if group.count == 1 else self.number(group.count)
        return f"{start} {self.size(group.size)} {{{self._numbers[group]}}}"

    def the(self, group: scene_lib.Group) -> str:
        if group not in self._numbers:
            return super().the(group)
        return f"the {{{self._numbers[group]}}}"


def caption(
    scene: scene_lib.Scene,
    objects: Collection[int],
    *,
    mark: str,
    place: bool = False,
    height: int = 64,
    width: int = 64,
) -> SubjectCaption:
    """Returns a short caption of a scene with images of some of its groups.

    Args:
        scene: What to describe.
        objects: Numbers of the groups that images show.
        mark: Stands for an image.
        place: Whether the background is told, by its image.
        height: Rows of the images.
        width: Columns.
    """
    text = grammar.told(scene, _Slots(scene, objects), sized=True)
    words = grammar.told(scene, grammar.Words(), sized=True)
    if place:
        text += f", in front of {{{_PLACE}}}"
        words += f", {grammar.on(scene, grammar.Words())}"
    images = [_render(scene, slot, height, width) for slot in _SLOT.findall(text)]
    return SubjectCaption(_SLOT.sub(mark, text), images, words)


def _render(
    scene: scene_lib.Scene, slot: str, height: int, width: int
) -> UInt8[np.ndarray, "_ _ 3"]:
    if slot == _PLACE:
        empty = dataclasses.replace(scene, groups=(), relations=(), actions=(), timing="none")
        return renderer.render(empty, 1, height, width)[0]
    return renderer.cut_out(scene.groups[int(slot)], height, width)
