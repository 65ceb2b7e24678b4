# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Step 4: text that lies over the frame, read by RapidOCR.

Overlays stay where they are while the scene moves, so the score is the share of the frame that
text covers in most of the frames. Logos without letters are not found.
"""

import numpy as np
from jaxtyping import Bool

from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib

_LEAST_CONFIDENCE = 0.7
_LEAST_LENGTH = 3  # readers take wheels and windows for single characters


class RapidOcr:
    """Scorer by the text detector and reader of RapidOCR, with the models that it ships.

    Attributes:
        limit: Score above which a clip is dropped where none is set.

    Raises:
        InputError: if RapidOCR is not installed.
    """

    limit = 0.001

    def __init__(self, folder: str | None):
        del folder
        module = plugins.library("rapidocr", "watermark.detector", "rapidocr")
        plugins.library("onnxruntime", "watermark.detector", "rapidocr")
        threads = "EngineConfig.onnxruntime.intra_op_num_threads"
        self._engine = module.RapidOCR(params={threads: 1, "Global.log_level": "error"})

    def score(self, frames: clip_lib.Detail) -> float:
        """Returns the share of the frame that text covers in more than half of the frames."""
        covered = np.stack([self._text(frame) for frame in frames])  # (k, h, w)
        return float((covered.mean(0) > 0.5).mean())

    def _text(self, frame: np.ndarray) -> Bool[np.ndarray, "h w"]:
        found = self._engine(np.ascontiguousarray(frame[..., ::-1]))
        mask = np.zeros(frame.shape[:2], bool)
        boxes = () if found.boxes is None else found.boxes
        read = zip(boxes, found.txts or (), found.scores or (), strict=True)
        for box, text, confidence in read:
            if confidence >= _LEAST_CONFIDENCE and len(text.strip()) >= _LEAST_LENGTH:
                left, top = np.floor(np.min(box, axis=0)).astype(int).clip(0)
                right, bottom = np.ceil(np.max(box, axis=0)).astype(int).clip(0)
                mask[top:bottom, left:right] = True
        return mask
