# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions with pictures in place of words: exact cut-outs of objects, and places without objects.

A caption names each object that is pictured by a mark, such as "a <img> moves left, in front of
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


class Pictured(NamedTuple):
    """A caption with pictures.

    Attributes:
        text: Has a mark for each picture.
        pictures: In the order of their marks; an object that is named again has its picture again.
        words: The same caption in words.
    """

    text: str
    pictures: list[UInt8[np.ndarray, "_ _ 3"]]
    words: str


class _Slots(grammar.Words):
    """Words that leave a slot with the number of the group where an object is pictured."""

    def __init__(self, scene: scene_lib.Scene, pictured: Collection[int]):
        super().__init__()
        self._numbers = {scene.groups[i]: i for i in pictured}

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
) -> Pictured:
    """Returns a short caption of a scene with some of its groups pictured.

    Args:
        scene: What to describe.
        objects: Numbers of the groups to picture.
        mark: Stands for a picture.
        place: Whether the background is told, by its picture.
        height: Rows of the pictures.
        width: Columns.
    """
    text = grammar.told(scene, _Slots(scene, objects), sized=True)
    words = grammar.told(scene, grammar.Words(), sized=True)
    if place:
        text += f", in front of {{{_PLACE}}}"
        words += f", {grammar.on(scene, grammar.Words())}"
    pictures = [_picture(scene, slot, height, width) for slot in _SLOT.findall(text)]
    return Pictured(_SLOT.sub(mark, text), pictures, words)


def _picture(
    scene: scene_lib.Scene, slot: str, height: int, width: int
) -> UInt8[np.ndarray, "_ _ 3"]:
    if slot == _PLACE:
        empty = dataclasses.replace(scene, groups=(), relations=(), actions=(), timing="none")
        return renderer.render(empty, 1, height, width)[0]
    return renderer.cut_out(scene.groups[int(slot)], height, width)
