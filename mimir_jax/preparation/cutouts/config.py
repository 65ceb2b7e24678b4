# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of cut-outs. Plug-ins are names of the package, or MODULE:FUNCTION of yours."""

import dataclasses

from mimir_jax.config import checks

PROMPT = (
    "List the things in this caption that can be seen, one per line, as `subject: words`, "
    "`object: words` or `background: words`. Copy the words of the caption. Leave out things that "
    "there are several of.\nCaption: {caption}"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EntitiesConfig:
    """Which words of a caption name things.

    Attributes:
        finder: Plug-in that finds them: rules (noun phrases by their articles) or llm.
        folder: LLM with a chat template, for llm.
        prompt: Question to the LLM, with `{caption}`.
        max_tokens: Longest answer of the LLM.
        max_things: Most things of a clip, besides the background.
    """

    finder: str = "rules"
    folder: str | None = None
    prompt: str = PROMPT
    max_tokens: int = 96
    max_things: int = 3

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, "{caption}" in self.prompt, "{prompt} must hold {{caption}}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Where in a frame a thing is.

    Attributes:
        detector: Plug-in that finds the box of a thing by its words: centre (most of the frame,
            for clips of one thing) or onnx.
        folder: Network of onnx, with `extractor.json` and `labels.txt`.
        min_score: Least score of a box.
    """

    detector: str = "centre"
    folder: str | None = None
    min_score: float = 0.3

    def __post_init__(self):
        checks.within(self, "min_score", 0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """Which pixels of a box are the thing.

    Attributes:
        segmenter: Plug-in that finds them: grabcut (of OpenCV), onnx, or none (the whole box).
        folder: Network of onnx, with `extractor.json`.
        min_area: Least share of the frame that a thing covers.
        max_area: Most.
    """

    segmenter: str = "grabcut"
    folder: str | None = None
    min_area: float = 0.01
    max_area: float = 0.7

    def __post_init__(self):
        checks.within(self, "min_area", 0, 1)
        checks.within(self, "max_area", 0, 1)
        checks.check(self, self.min_area <= self.max_area, "{min_area} must be at most {max_area}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaceConfig:
    """The middle frame without its things.

    Attributes:
        inpainter: Plug-in that fills them: telea (of OpenCV), or none for no image of the place.
        dilation: Rim around the things that is filled too, as a share of the shorter side.
    """

    inpainter: str = "telea"
    dilation: float = 0.03

    def __post_init__(self):
        checks.within(self, "dilation", 0, 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CutoutsConfig:
    """How images of things are made from clips.

    Attributes:
        entities: Words that name things.
        detect: Boxes.
        segment: Masks.
        place: Background.
        times: Where in a clip its frames are taken, from 0 to 1.
        side: Most pixels of an image, along its longer side.
        clip_seconds: Most processor time to decode a clip.
        clip_gigabytes: Most memory to decode a clip.
    """

    entities: EntitiesConfig = EntitiesConfig()
    detect: DetectorConfig = DetectorConfig()
    segment: SegmenterConfig = SegmenterConfig()
    place: PlaceConfig = PlaceConfig()
    times: tuple[float, ...] = (0.05, 0.5, 0.95)
    side: int = 672
    clip_seconds: float = 60.0
    clip_gigabytes: float = 4.0

    def __post_init__(self):
        for name in ("clip_seconds", "clip_gigabytes"):
            checks.within(self, name, 0, above=True)
        checks.positive_sizes(self)
        fine = bool(self.times) and all(0 <= time <= 1 for time in self.times)
        checks.check(self, fine, "{times} must be numbers from 0 to 1")
