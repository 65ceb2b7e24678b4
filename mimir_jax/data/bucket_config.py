# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of buckets: clips of several shapes and lengths in one run."""

import dataclasses
import math
from typing import Literal, NamedTuple

from mimir_jax.config import checks


class Size(NamedTuple):
    """Size of the clips of a bucket.

    Attributes:
        frames: Frames per clip.
        height: Pixel rows.
        width: Pixel columns.
        batch: Clips per batch over all processes; None leaves it to `BucketsConfig.batch`.
    """

    frames: int
    height: int
    width: int
    batch: int | None = None

    @property
    def name(self) -> str:
        """Frames, height and width as text, such as 17x64x96."""
        return f"{self.frames}x{self.height}x{self.width}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketsConfig:
    """Clips of several shapes and lengths in one run: every batch holds clips of one bucket.

    Buckets are listed, or made by the rule of `area`, `aspects` and `frames`. Without either, all
    clips have `data.frames`, `data.height` and `data.width`.

    Attributes:
        listed: Buckets as (frames, height, width) or (frames, height, width, clips per batch).
        area: For a rule: pixels per frame, as nearly as `multiple` allows; 0 turns the rule off.
        aspects: For a rule: width over height.
        frames: For a rule: frames per clip, each combined with each aspect.
        multiple: For a rule: height and width are multiples of this.
        most: Largest number of buckets; a train step is compiled for each.
        batch: Clips per batch where a bucket lists none: `clips`, always `batch_size`; `tokens`,
            the multiple of it whose text and video tokens fit those of the longest bucket.
        weight: Unit with equal weight in the loss: every `batch`, whose loss is the mean over its
            clips; every `clip`, whatever its bucket; or every video `token`. The gradient of a
            batch is scaled by its number of them over the mean of all buckets.
        crop: Largest share of a frame that may be cropped; a clip that would lose more in every
            bucket that it is long enough for is left out.
    """

    listed: tuple[tuple[int, ...], ...] = ()
    area: int = 0
    aspects: tuple[float, ...] = (1.0,)
    frames: tuple[int, ...] = ()
    multiple: int = 16
    most: int = 32
    batch: Literal["clips", "tokens"] = "clips"
    weight: Literal["batch", "clip", "token"] = "batch"
    crop: float = 0.5

    def __post_init__(self):
        for name, least in (("area", 0), ("multiple", 1), ("most", 1)):
            checks.within(self, name, least)
        checks.within(self, "crop", 0, 1)
        checks.check(self, min(self.frames, default=1) >= 1, "{frames} must be at least 1")
        for size in self.listed:
            checks.check(
                self,
                len(size) in (3, 4) and min(size) >= 1,
                "{listed} must hold (frames, height, width) or (frames, height, width, clips) of "
                "at least 1",
                got=repr(size),
            )
        checks.check(self, not (self.listed and self.area), "{listed} must be left out with {area}")
        checks.check(
            self,
            not self.area or bool(self.frames and self.aspects),
            "{frames} and {aspects} must not be empty with a rule of {area}",
            got=f"{self.frames} and {self.aspects}",
        )
        checks.check(
            self,
            all(math.isfinite(x) and x > 0 for x in self.aspects),
            "{aspects} must be above 0",
        )
        names = [size.name for size in self.sizes]
        twice = next((name for name in names if names.count(name) > 1), None)
        checks.check(self, twice is None, "{listed} must hold a bucket once", got=f"{twice} again")
        checks.check(
            self,
            len(names) <= self.most,
            "buckets must be at most {most}, for each of which a step is compiled",
            got=f"{len(names)} and {self.most}",
        )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """The buckets; none where all clips have one size."""
        if not self.area:
            return tuple(Size(*size) for size in self.listed)
        made = [Size(frames, *self._frame(x)) for frames in self.frames for x in self.aspects]
        return tuple(dict.fromkeys(made))

    def _frame(self, aspect: float) -> tuple[int, int]:
        """Returns height and width of a frame of the rule."""
        height = math.sqrt(self.area / aspect)
        sides = (height, height * aspect)
        return tuple(max(1, round(side / self.multiple)) * self.multiple for side in sides)
