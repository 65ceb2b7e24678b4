# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the preparation of footage; every threshold of M-U22 and M-U23 is a field.

A rule whose bound is None is off. Plug-ins are names of the package, or MODULE:FUNCTION of yours.
"""

import dataclasses

from mimir_jax.config import checks


def require_order(config: object, low: str, high: str) -> None:
    """Raises `FieldError` where two fields have values and the first is above the second."""
    one, other = getattr(config, low), getattr(config, high)
    fine = one is None or other is None or one <= other
    checks.check(config, fine, f"{{{low}}} must be at most {{{high}}}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShotsConfig:
    """Where a video is cut into clips.

    Attributes:
        detector: Plug-in of cuts: adaptive or content (of PySceneDetect), transnetv2, or none.
        threshold: Score of a cut; None takes the detector's own.
        min_frames: Frames between two cuts.
        max_seconds: Longer shots are divided into clips of this length.
        side: Pixels along the shorter side of the frames that the detector reads.
    """

    detector: str = "adaptive"
    threshold: float | None = None
    min_frames: int = 8
    max_seconds: float = 20.0
    side: int = 72

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "threshold", 0, above=True)
        checks.within(self, "max_seconds", 0, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BasicConfig:
    """Step 1: length, size, aspect and rate (M-U22).

    Attributes:
        min_seconds: Least length of a clip; 49 frames at 8 per second.
        min_side: Least pixels along the shorter side.
        min_aspect: Least width over height.
        max_aspect: Most width over height.
        min_fps: Least frames per second.
        max_fps: Most frames per second.
    """

    min_seconds: float | None = 6.1
    min_side: float | None = 480.0
    min_aspect: float | None = 1.2
    max_aspect: float | None = 2.0
    min_fps: float | None = 8.0
    max_fps: float | None = None

    def __post_init__(self):
        for name in ("min_seconds", "min_side", "min_aspect", "max_aspect", "min_fps", "max_fps"):
            checks.within(self, name, 0)
        require_order(self, "min_aspect", "max_aspect")
        require_order(self, "min_fps", "max_fps")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Step 2: black areas, brightness, blur and motion (M-U22).

    Attributes:
        fps: Frames per second that are measured.
        side: Pixels along the shorter side of these frames.
        detail_seconds: Time between the larger frames that sharpness and later steps read.
        detail_side: Pixels along their shorter side.
        black_luma: Luma, of 255, below which a pixel is black.
        black_frame: Share of black pixels from which a frame is black.
        max_black_area: Most mean share of black pixels.
        max_black_frames: Most share of black frames.
        min_luma: Least mean luma, of 255.
        max_luma: Most mean luma, of 255.
        min_contrast: Least luma, of 255, between the 5th and the 95th percentile of a frame.
        max_blur: Most blur, from 0 to 1, of Crete et al. (2007).
        flow: Plug-in of optical flow: dis (of OpenCV), or none.
        min_motion: Least motion, in shorter sides of the frame per second.
        max_jitter: Most change of the camera's motion from frame to frame, in shorter sides of
            the frame per second.
    """

    fps: float = 8.0
    side: int = 128
    detail_seconds: float = 1.0
    detail_side: int = 480
    black_luma: float = 16.0
    black_frame: float = 0.98
    max_black_area: float | None = 0.20
    max_black_frames: float | None = 0.05
    min_luma: float | None = 20.0
    max_luma: float | None = 235.0
    min_contrast: float | None = 32.0
    max_blur: float | None = 0.6
    flow: str = "dis"
    min_motion: float | None = 0.005
    max_jitter: float | None = 0.3

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "fps", 0, above=True)
        checks.within(self, "detail_seconds", 0, above=True)
        for name in ("black_luma", "min_luma", "max_luma", "min_contrast"):
            checks.within(self, name, 0, 255)
        for name in ("black_frame", "max_black_area", "max_black_frames", "max_blur"):
            checks.within(self, name, 0, 1)
        checks.within(self, "min_motion", 0)
        checks.within(self, "max_jitter", 0)
        require_order(self, "min_luma", "max_luma")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AestheticConfig:
    """Step 3: a predicted score of aesthetics (M-U22).

    Attributes:
        scorer: Plug-in that scores frames: clip_head (a CLIP and an aesthetic head), onnx, or none.
        folder: Folder of its weights.
        frames: Frames that it reads of a clip.
        min_score: Least mean score, on the scale of the scorer; the default is one of clip_head.
    """

    scorer: str = "none"
    folder: str | None = None
    frames: int = 5
    min_score: float | None = 4.5

    def __post_init__(self):
        checks.positive_sizes(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatermarkConfig:
    """Step 4: watermarks and text laid over the frame (M-U22).

    Attributes:
        detector: Plug-in that scores frames: rapidocr, onnx (a classifier or detector), or none.
        folder: Folder of its weights.
        frames: Frames that it reads of a clip.
        max_score: Most score; None takes the detector's own: of rapidocr, the share of the frame
            that text covers in most of the frames.
    """

    detector: str = "rapidocr"
    folder: str | None = None
    frames: int = 3
    max_score: float | None = None

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "max_score", 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicatesConfig:
    """Clips that look like one that is kept.

    Attributes:
        min_distance: Least mean number of bits, of 64, in which the perceptual hashes of two clips
            differ; None keeps duplicates.
    """

    min_distance: float | None = 7.0

    def __post_init__(self):
        checks.within(self, "min_distance", 0, 8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Step 5: a short and a long caption for each clip (M-U23).

    Attributes:
        captioner: Plug-in: given takes the captions that RAW has, as data.folder reads them;
            llava describes the middle frame, divot_llm clips by a trained run.
        folder: Folder of its weights.
        short_prompt: What llava is asked for the short caption, the first sentence of its answer.
        long_prompt: What it is asked for the long one.
        frames: Most frames that it reads of a clip.
        fps: Frames per second that it reads.
        max_words: Words to which the long caption is cut, after a whole sentence if it has one.
    """

    captioner: str = "given"
    folder: str | None = None
    short_prompt: str = "Provide a one-sentence caption for the provided image."
    long_prompt: str = "Describe the image in detail."
    frames: int = 24
    fps: float = 1.0
    max_words: int = 100

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "fps", 0, above=True)
        for name in ("short_prompt", "long_prompt"):
            fine = bool(getattr(self, name).strip())
            checks.check(self, fine, f"{{{name}}} must be a question")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """The clips that are written, and the limits of reading.

    Attributes:
        crf: Quality of H.264, lower is better; a clip that is a whole file is copied.
        seconds: Processor time that one video may take.
        gigabytes: Memory that one video may take.
        attempts: Processes that a video may end before it counts as unreadable.
    """

    crf: int = 18
    seconds: float = 3600.0
    gigabytes: float = 8.0
    attempts: int = 3

    def __post_init__(self):
        checks.within(self, "crf", 0, 51)
        checks.within(self, "seconds", 1)
        checks.within(self, "gigabytes", 0, above=True)
        checks.within(self, "attempts", 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FootageConfig:
    """From raw footage to clean, captioned clips.

    Attributes:
        shots: Where a video is cut.
        basic: Step 1.
        quality: Step 2.
        aesthetic: Step 3.
        watermark: Step 4.
        duplicates: Clips that look alike.
        captions: Step 5.
        output: The clips that are written.
    """

    shots: ShotsConfig = ShotsConfig()
    basic: BasicConfig = BasicConfig()
    quality: QualityConfig = QualityConfig()
    aesthetic: AestheticConfig = AestheticConfig()
    watermark: WatermarkConfig = WatermarkConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    captions: CaptionsConfig = CaptionsConfig()
    output: OutputConfig = OutputConfig()
