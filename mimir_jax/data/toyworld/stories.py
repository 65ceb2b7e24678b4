# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Stories of Toyworld: scenes of one object, one after the other; it appears, acts and leaves.

Looks, light and background stay, and each scene begins where the one before ends.
"""

import dataclasses
import operator
from typing import Any, SupportsIndex

import numpy as np

from mimir_jax.data.toyworld import captions, grammar, motion, renderer, sampling, shapes
from mimir_jax.data.toyworld import layout as layout_lib
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws
from mimir_jax.data.toyworld.source import ToyworldSource

_STREAM = 2
_SPAN = (0.1, 0.9)
_STEADY = ("day", "night")


@dataclasses.dataclass(frozen=True)
class Story:
    """A story of one object.

    Attributes:
        request: What asks for it.
        pages: Its scenes in order.
        texts: A sentence on each.
    """

    request: str
    pages: tuple[scene_lib.Scene, ...]
    texts: tuple[str, ...]


class ToyworldStories:
    """Stories as records: a video of all their scenes, and a text on each.

    Args:
        scenes: Where the objects come from; `scenes.frames` is the length of a whole video.
        pages: Scenes of a story.
    """

    def __init__(self, scenes: ToyworldSource, pages: int):
        self._scenes, self._pages = scenes, pages

    def __len__(self) -> int:
        return len(self._scenes)

    def __repr__(self) -> str:
        return f"ToyworldStories({self._scenes!r}, pages={self._pages})"

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Returns the fields of a Toyworld record; the caption has a line for each page."""
        told, source = self.story(index), self._scenes
        frames = source.frames // self._pages
        clips = [renderer.render(page, frames, source.height, source.width) for page in told.pages]
        caption = "\n".join(told.texts)
        return {"video": np.concatenate(clips), "caption": caption, "index": operator.index(index)}

    def describe(self, scene: scene_lib.Scene, index: int) -> str:
        """Returns a caption of a page of story `index`, in the style of the scenes."""
        return self._scenes.describe(scene, index)

    def story(self, index: SupportsIndex) -> Story:
        """Returns the story, without rendering."""
        number, source = operator.index(index), self._scenes
        draws = Draws(source.seed, sampling.split_number(source.split), number, stream=_STREAM)
        return tell(source.scene(number), draws, self._pages)


def tell(scene: scene_lib.Scene, draws: Draws, pages: int = 3) -> Story:
    """Tells a story of the first objects of a scene.

    Args:
        scene: Gives the objects, their background and, where it does not change, the light.
        draws: Where chance comes from.
        pages: At least 3 scenes.
    """
    group = dataclasses.replace(scene.groups[0], positions=())
    light = scene.light if scene.light in _STEADY else "day"
    shown = dataclasses.replace(
        scene, light=light, camera="still", groups=(group,), layout="single", relations=(),
        timing="single", actions=(),
    )  # fmt: skip
    made = _pages(shown, draws, pages)
    things = grammar.noun_phrase(shown, grammar.Words(), sized=False, placed=False)
    texts = tuple(captions.caption(page, "short", 0) for page in made)
    return Story(f"Tell a story about {things}.", made, texts)


def _pages(scene: scene_lib.Scene, draws: Draws, count: int) -> tuple[scene_lib.Scene, ...]:
    """Draws what happens until all of it fits the frame."""
    while True:
        middle: list[scene_lib.Scene] = []
        group = scene.groups[0]
        for _ in range(count - 2):
            verbs = [v for v in sampling.verbs(group) if v not in ("appear", "disappear")]
            acted = _acting(scene, group, sampling.act(draws, group, draws.choice(verbs)))
            placed = acted if middle else layout_lib.place(acted, draws, grid=True)
            if placed is None or not _fits(placed):
                break
            middle.append(placed)
            group = _after(placed)
        else:
            begins, ends = (scene_lib.Action(0, verb, *_SPAN) for verb in ("appear", "disappear"))
            first = middle[0].groups[0]
            return _acting(scene, first, begins), *middle, _acting(scene, group, ends)


def _acting(
    scene: scene_lib.Scene, group: scene_lib.Group, action: scene_lib.Action
) -> scene_lib.Scene:
    return dataclasses.replace(scene, groups=(group,), actions=(action,))


def _after(scene: scene_lib.Scene) -> scene_lib.Group:
    """Returns the group of a scene as its last frame shows it."""
    (group,), (action,) = scene.groups, scene.actions
    moves = motion.group_motion(scene, 0, np.array([1.0]))
    shift = np.array([moves.dx[0], moves.dy[0]])
    places = np.round(np.array(group.positions) + shift, 4)
    size = {"grow": "large", "shrink": "small"}.get(action.verb, group.size)
    return dataclasses.replace(group, size=size, positions=tuple(map(tuple, places.tolist())))


def _fits(scene: scene_lib.Scene) -> bool:
    """Whether a scene that has a place stays in the frame."""
    return all(
        abs(shape.x) + reach <= 1 and abs(shape.y) + reach <= 1
        for state in motion.states(scene)
        for shape in state.objects
        for reach in (shape.radius * shapes.BOUND[shape.shape] + layout_lib.BORDER,)
    )
