# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of contrast: first frames of clips, and captions through a frozen T5."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from mimir_jax.config import TrainConfig, flag
from mimir_jax.data import sources
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.systems import base, heldout, video_encoder
from mimir_jax.systems.contrast import system as system_lib


class ContrastEncoder:
    """`base.Encoder` of frames with captions.

    Args:
        config: The run.
        text: The frozen text encoder.
    """

    def __init__(self, config: TrainConfig, text: text_lib.TextEncoder):
        self._config, self._text = config, text

    def source(self, split: sources.Split) -> sources.Source:
        """Returns the first frames of a split, with captions."""
        return sources.make_source(self._config.data, split, seed=self._config.seed)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the batch of `records["video"]` and `records["caption"]`."""
        features = self._text.encode(records["caption"])
        images = np.asarray(records["video"])[:, 0]
        return system_lib.Batch(images=images, states=features.t5, mask=features.t5_mask)

    @functools.cached_property
    def heldout(self) -> system_lib.Batch:
        """The held-out frames and captions, encoded."""
        data, count = self._config.data, self._config.system.heldout_clips
        videos, captions = sources.read_heldout(data, count, seed=self._config.seed)
        return self.encode({"video": videos, "caption": captions})


def make_encoder(
    config: TrainConfig, system: system_lib.ContrastSystem, mesh: Mesh | None = None
) -> ContrastEncoder:
    """Loads the frozen T5 of a run of contrast.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process that would split parameters.

    Raises:
        InputError: for a T5 that is missing, or of another width than the model expects.
    """
    text = text_lib.TextEncoder(
        config.system.text,
        use_llm=False,
        seed=config.seed,
        mesh=video_encoder.text_mesh(config, mesh),
    )
    stated, path = system.config.model.text_width, config.system.text.t5_path
    if text.t5_width != stated:
        raise InputError(
            f"model.text_width must be the width {text.t5_width} of {path}, got {stated}; set it "
            f"with {flag('system.model.text_width')}"
        )
    return ContrastEncoder(config, text)


def make_evaluators(
    config: TrainConfig, system: system_lib.ContrastSystem, encoder: ContrastEncoder
) -> list[base.Evaluator]:
    """Returns the evaluator of held-out frames and captions."""
    del config
    return [heldout.HeldoutBatch(system, lambda: encoder.heldout)]
