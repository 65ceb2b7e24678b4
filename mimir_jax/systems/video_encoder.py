# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of text-to-video systems: captions and first frames to features, cached by content.

Each caption is encoded alone at one fixed shape, as each clip is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, UInt8

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import first_frames
from mimir_jax.models import functional
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.systems import base, clip_encoder, diffusion, text_to_video


@runtime_checkable
class CaptionEncoder(Protocol):
    """Turns captions into the features of a `diffusion.Batch`.

    Attributes:
        padded: Names of the features whose pads are zeros; the feature store leaves those out.
    """

    padded: Sequence[str]

    def encode(self, captions: Sequence[str]) -> base.Features:
        """Returns the features of `captions` as a pytree of numpy arrays, one row per caption."""
        ...

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that the features are a function of, besides caption and seed."""
        ...

    def answers(self, caption: str) -> list[str]:
        """Returns the sampled answers among the features, none without an LLM."""
        ...

    def truncated(self, caption: str) -> dict[str, str]:
        """Returns the end of `caption` that each part of the features leaves out."""
        ...


class VideoEncoder(clip_encoder.ClipEncoder):
    """`base.DiffusionEncoder` of clips with captions.

    Args:
        config: The run.
        system: The pure half.
        text: Encodes the captions.
        codec_params: Parameters of the system's codec.

    Attributes:
        text: Encodes the captions.
        first_frames: Encodes first frames; None where the network reads none.
    """

    def __init__(
        self,
        config: TrainConfig,
        system: diffusion.VideoDiffusion,
        text: CaptionEncoder,
        codec_params: functional.Params,
    ):
        super().__init__(config, system, codec_params)
        self.text, self.padded = text, text.padded
        self.first_frames = None
        if "first_frame" in system.request_fields:
            self.first_frames = first_frames.FirstFrameEncoder(
                config.system.first_frame, system.codec, codec_params, config.seed
            )

    def encode_features(self, records: Mapping[str, Any]) -> base.Features:
        """Returns the features of `records["caption"]`, and those of first frames where read."""
        text = self.text.encode(records["caption"])
        if self.first_frames is None:
            return text
        mean, logvar = self.first_frames.encode(np.asarray(records["video"])[:, 0])
        return text_to_video.FirstFrameMoments(text, mean, logvar)

    def feature_identity(self) -> dict[str, Any]:
        """Returns what the features of captions and first frames depend on."""
        identity = self.text.identity()
        if self.first_frames is None:
            return identity
        return identity | {"first_frame": self.first_frames.identity()}

    def null_batch_features(self, rows: int) -> base.Features | None:
        """Returns the features of empty captions, where the system encodes its null."""
        return self.text.encode([""] * rows) if self._system.encodes_null else None

    def features(self, requests: Sequence[base.Request]) -> base.Features:
        """Returns what conditions the network on prompt and first frame of each request."""
        return self._with_images(self._read([request.prompt for request in requests]), requests)

    def null_features(
        self, requests: Sequence[base.Request]
    ) -> tuple[base.Features, Bool[np.ndarray, " b"]]:
        """Returns the features of the unconditional branch, and which rows to drop.

        Both branches see the first frame. A negative prompt is encoded, and so is "" where the
        system encodes its null condition. The network's own null rule applies to the other rows,
        which hold the features of their prompt.
        """
        negatives = [request.negative_prompt for request in requests]
        if self._system.encodes_null:
            texts, drop = [text or "" for text in negatives], np.zeros(len(negatives), bool)
        else:
            texts = [r.prompt if r.negative_prompt is None else r.negative_prompt for r in requests]
            drop = np.array([text is None for text in negatives])
        return self._with_images(self._read(texts), requests), drop

    def with_first_frames(
        self, features: base.Features, frames: Sequence[UInt8[np.ndarray, "h w 3"] | None]
    ) -> base.Features:
        """Returns the features of prompts with first frames of the size of the videos.

        Args:
            features: Features of the prompts.
            frames: One per prompt, or None, which stands for latents of zeros.
        """
        if self.first_frames is None or all(frame is None for frame in frames):
            return features
        given = [frame for frame in frames if frame is not None]
        latents = iter(self._system.scale_image(self.first_frames.encode_clean(given)))
        shape = self._system.codec.latent_shape(1, *given[0].shape[:2])
        rows = [np.zeros(shape, np.float32) if f is None else next(latents) for f in frames]
        return text_to_video.FirstFrameFeatures(features, np.stack(rows))

    def truncated_text(self, request: base.Request) -> str:
        """Returns the longest end of the prompt that a part of the condition leaves out."""
        return max(self.text.truncated(request.prompt).values(), key=len)

    def answers(self, prompt: str) -> list[str]:
        """Returns the answers of the LLM to `prompt`."""
        return self.text.answers(prompt)

    def _with_images(
        self, features: base.Features, requests: Sequence[base.Request]
    ) -> base.Features:
        if self.first_frames is None:
            return features
        continues = [request.extend is not None for request in requests]
        if self._config.system.first_frame.continuation and all(continues):
            clips = np.concatenate([self._repeated(request) for request in requests])
            return text_to_video.FirstFrameFeatures(features, clips)
        return self.with_first_frames(features, [request.first_frame for request in requests])

    def _repeated(self, request: base.Request) -> Float[np.ndarray, "1 t h w c"]:
        """Returns the latents of the frames that a continuation repeats, zero behind them."""
        clip = request.extend[-request.overlap :][None]
        latents = self._system.scale_image(self.encode_moments(clip).mean)
        total = self._system.codec.latent_shape(request.frames, *clip.shape[2:4])[0]
        latents = np.asarray(self._system.pad_frames(latents, total))
        after = self._system.padded_frames(total) - latents.shape[1]
        return np.pad(latents, ((0, 0), (0, after), *[(0, 0)] * 3))

    def _read(self, texts: Sequence[str]) -> base.Features:
        """Returns the features of texts as `System.condition` takes them."""
        return self._system.draw_features(self.text.encode(texts))


def text_mesh(config: TrainConfig, mesh: Mesh | None) -> Mesh | None:
    """Returns the mesh that text encoders are split over; None keeps them on the first device.

    Args:
        config: The run; `mesh.shard_frozen` splits them.
        mesh: Devices of this process; text encoders are split too where it would split parameters.
    """
    splits = mesh is not None and mesh.shape["fsdp"] * mesh.shape["tensor"] > 1
    return mesh_lib.own_mesh((1, -1, 1, 1)) if config.mesh.shard_frozen or splits else None
