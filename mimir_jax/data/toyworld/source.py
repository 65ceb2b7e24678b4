# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Toyworld as a random-access data source: any index, any time, no files."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex

from mimir_jax.data.bucket_config import BucketsConfig
from mimir_jax.data.toyworld import captions, renderer, sampling, wording
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws
from mimir_jax.errors import InputError

_MIXED = {"short": 0.4, "long": 0.35, "paraphrase": 0.25}
_CAPTION_STREAM = 1


@dataclasses.dataclass(frozen=True)
class _Dealt(Sequence[int]):
    """The numbers below `stop` whose remainder by `turn` is one of `share` from `first` on."""

    first: int
    share: int
    turn: int
    stop: int

    def __len__(self) -> int:
        turns, rest = divmod(self.stop, self.turn)
        return turns * self.share + min(max(rest - self.first, 0), self.share)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        turns, rest = divmod(range(len(self))[place], self.share)
        return turns * self.turn + self.first + rest


@dataclasses.dataclass(frozen=True)
class ToyworldSource:
    """Clips and captions by index; equal fields give equal records in every process.

    The repr names every field and the version of the generator, so that a restored iterator
    notices a change of data.

    Attributes:
        split: `train`, `validation`, or `heldout` (combinations that the others never show).
        seed: Names the dataset.
        num_scenes: Length; the first scenes of a longer source are those of a shorter one.
        caption_style: A style of `captions.caption`; `mixed`: short, long or paraphrase; `wide`
            wording; or `both`: three in ten mixed, the others wide. Nothing captions a video in
            reserved words.
        scenery: `varied` backgrounds, light and camera; `plain`, where only objects vary; or
            `single`, where they are of one kind.
        deal: Scenes that each bucket gets in turn; empty gives one to each.
        version: Of the generator; only the present one can be made.
    """

    split: str = "train"
    seed: int = 0
    num_scenes: int = 1 << 30
    frames: int = 17
    height: int = 64
    width: int = 64
    caption_style: Literal["short", "long", "coarse", "paraphrase", "mixed", "wide", "both"] = (
        "mixed"
    )
    scenery: sampling.Scenery = "varied"
    deal: tuple[int, ...] = ()
    version: int = sampling.VERSION

    def __post_init__(self):
        sampling.split_number(self.split)
        if self.caption_style not in ("mixed", "wide", "both"):
            captions.num_templates(self.caption_style)
        for name in ("num_scenes", "frames", "height", "width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.seed < 1 << 64:
            raise InputError(f"seed must be within 0..2^64-1, got {self.seed}")
        if self.version != sampling.VERSION:
            raise InputError(
                f"version must be {sampling.VERSION}, the one that this code makes, got "
                f"{self.version}; leave it out"
            )

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Returns `{"video": uint8 (frames, height, width, 3), "caption": str, "index": int}`."""
        number = self._check(index)
        scene = self.scene(number)
        video = renderer.render(scene, self.frames, self.height, self.width)
        return {"video": video, "caption": self.describe(scene, number), "index": number}

    def scene(self, index: SupportsIndex) -> scene_lib.Scene:
        """Returns the scene graph, without rendering."""
        return sampling.sample(self.seed, self.split, self._check(index), self.scenery)

    def resized(
        self, frames: int, height: int, width: int, clips: Sequence[int] | None = None
    ) -> "ToyworldSource":
        """Returns the same scenes as clips of another size."""
        del clips
        return dataclasses.replace(self, frames=frames, height=height, width=width)

    def assign(self, config: BucketsConfig) -> tuple[Sequence[int], ...]:
        """Returns the scenes of each bucket, dealt out in turn: a scene can have any size."""
        deal = self.deal or (1,) * len(config.sizes)
        return tuple(
            _Dealt(sum(deal[:n]), count, sum(deal), self.num_scenes) for n, count in enumerate(deal)
        )

    def text(self, index: SupportsIndex) -> str:
        """Returns the caption, without rendering."""
        return self.describe(self.scene(index), operator.index(index))

    def describe(self, scene: scene_lib.Scene, number: int) -> str:
        """Returns the caption of a scene in the style and words of record `number`."""
        split = sampling.split_number(self.split)
        draws = Draws(self.seed, split, number, stream=_CAPTION_STREAM)
        style = draws.weighted(_MIXED)
        if self.caption_style in captions.STYLES:
            style = self.caption_style
        variant = draws.below(1 << 32)
        if self.caption_style == "wide" or (self.caption_style == "both" and draws.chance(0.7)):
            return wording.caption(scene, "wide", variant).text
        return captions.caption(scene, style, variant)

    def _check(self, index: SupportsIndex) -> int:
        number = operator.index(index)
        if not 0 <= number < self.num_scenes:
            raise IndexError(f"index must be within 0..{self.num_scenes - 1}, got {number}")
        return number
