# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scorers of frames in an ONNX file of a user's folder: classifiers, detectors, regressors.

The folder holds `extractor.json` and the network (`encoders.onnx_file`), which reads single frames.
The score of a clip is the mean over its frames of one column of the output: a probability, of
`logits` by softmax, or by the sigmoid where there is one column, or a number of any scale. A
detector of boxes has `places`; its score is that of the surest box.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from mimir_jax import weights
from mimir_jax.encoders import onnx_file
from mimir_jax.errors import require
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib

_HIGH, _WIDE = 480, 854  # of the frame that a network is tried on


class OnnxScorer:
    """Scorer by an ONNX network, which is tried on a black frame at once.

    Args:
        section: Section of the config that names the folder, `aesthetic` or `watermark`.
        folder: The folder.

    Attributes:
        highest: 1 where scores are probabilities, None where they have any scale.

    Raises:
        InputError: without a folder or onnxruntime, or for a network that does not score frames as
            its contract says.
    """

    def __init__(self, section: str, folder: str | None):
        content = f"a folder with {onnx_file.FILE} and its network"
        path = weights.resolve(plugins.require_folder(section, folder, content))
        self._network = onnx_file.OnnxExtractor(path, threads=1)  # processes share the cores
        contract = self._network.contract
        name = f"{section}.folder {path}"
        require(
            not self._network.is_video,
            f"{name} must hold a network that reads frames, got one that reads clips; name another",
        )
        require(
            contract.values != "features",
            f"{name} must hold a network that gives scores, logits or probabilities, got features; "
            f"correct {onnx_file.FILE} or name another",
        )
        self._values, self._column = contract.values, contract.column
        self.highest = None if contract.values == "scores" else 1.0
        columns = self._network.embed_images(np.zeros((1, _HIGH, _WIDE, 3), np.uint8)).shape[1]
        which = 0 if columns == 1 and self._column is None else self._column
        require(
            which is not None and which < columns,
            f"{name} must say which of {columns} columns is the score, got column={which}; correct "
            f"{onnx_file.FILE}",
        )

    def score(self, frames: clip_lib.Detail) -> float:
        """Returns the mean score of the frames."""
        return float(self.scores(frames).mean())

    def scores(self, frames: UInt8[np.ndarray, "k h w 3"]) -> Float32[np.ndarray, " k"]:
        """Returns the score of each frame."""
        output = self._network.embed_images(frames)  # (k, columns)
        if self._values == "logits":
            output = _probabilities(output)
        return output[:, self._column or 0]


def aesthetic(folder: str | None) -> OnnxScorer:
    """Returns the scorer of `aesthetic.folder`."""
    return OnnxScorer("aesthetic", folder)


def watermark(folder: str | None) -> OnnxScorer:
    """Returns the scorer of `watermark.folder`."""
    return OnnxScorer("watermark", folder)


def _probabilities(logits: Float32[np.ndarray, "k c"]) -> Float32[np.ndarray, "k c"]:
    against = [np.zeros_like(logits)] if logits.shape[1] == 1 else []  # makes it a sigmoid
    whole = np.concatenate([logits, *against], axis=1)
    powers = np.exp(whole - whole.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True))[:, : logits.shape[1]]
