# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of Divot's tokenizer: the frozen VAE, and the frames that the tokenizer reads."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, UInt8

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import InputError
from mimir_jax.systems import base, clip_encoder, diffusion
from mimir_jax.systems.divot import system as system_lib
from mimir_jax.systems.divot import written_tokens

make_evaluators = diffusion.make_evaluators


class DivotEncoder(clip_encoder.ClipEncoder):
    """`base.DiffusionEncoder` of clips that are conditioned on themselves."""

    def encode_features(self, records: Mapping[str, Any]) -> system_lib.ClipFeatures:
        """Returns the frames of `records["video"]` that the tokenizer reads, or written tokens."""
        if self._written is not None:
            return system_lib.ClipFeatures(tokens=self._written.encode(records["caption"]))
        return self._pick(records["video"])

    def feature_identity(self) -> dict[str, Any]:
        """Returns which frames those are, or what writes the tokens."""
        if self._written is not None:
            return {"agent": self._written.identity()}
        picked = self._system.config.model.tokenizer.frames
        positions = clip_tokens.frame_positions(self._config.data.frames, picked)
        return {"frames": positions.tolist()}

    def features(self, requests: Sequence[base.Request]) -> system_lib.ClipFeatures:
        """Returns the frames of the clip of each request, or the tokens where it has these.

        Raises:
            InputError: for requests with neither, or some with one and some with the other.
        """
        tokens = [request.tokens for request in requests]
        if all(token is not None for token in tokens):
            return system_lib.ClipFeatures(tokens=np.stack(tokens))
        clips = [request.clip for request in requests]
        if any(clip is None for clip in clips):
            raise InputError(
                "a request to Divot's de-tokenizer must have a clip to reconstruct, got none; pass "
                "clip (--reconstruct)"
            )
        return self._pick(np.stack(clips))

    def null_features(
        self, requests: Sequence[base.Request]
    ) -> tuple[system_lib.ClipFeatures, Bool[np.ndarray, " b"]]:
        """Returns the frames of each request, all rows of which are dropped."""
        return self.features(requests), np.ones(len(requests), bool)

    @functools.cached_property
    def _written(self) -> written_tokens.WrittenTokens | None:
        """What writes tokens of captions; opened when the first one is wanted."""
        path = self._system.config.agent_path
        if path is None:
            return None
        return written_tokens.open_written(path, self._system.config.model.tokenizer)

    def _pick(self, videos: UInt8[np.ndarray, "b f h w 3"]) -> system_lib.ClipFeatures:
        picked = self._system.config.model.tokenizer.frames
        positions = clip_tokens.frame_positions(videos.shape[1], picked)
        return system_lib.ClipFeatures(frames=np.asarray(videos)[:, positions])


def make_encoder(
    config: TrainConfig, system: system_lib.DivotSystem, mesh: Mesh | None = None
) -> DivotEncoder:
    """Loads the frozen VAE of a run of Divot.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process; the VAE stays whole.

    Raises:
        InputError: for a VAE that is missing or of another config.
    """
    del mesh
    _, codec_params = system.frozen["vae"].load()
    return DivotEncoder(config, system, codec_params)
