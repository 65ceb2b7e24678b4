# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot (arXiv 2412.04432): the tokens of a clip condition the network that denoises it.

    five frames -> tokenizer -> tokens -> de-tokenizer -> velocity of the latents of the clip

No caption is read. The tokenizer trains through the loss of the de-tokenizer (section 3.1).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mimir_jax.config import TrainConfig
from mimir_jax.data import transforms
from mimir_jax.encoders import clip_tokens
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import functional, lora
from mimir_jax.models.divot import model as model_lib
from mimir_jax.systems import base, diffusion


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClipFeatures:
    """What conditions the network on a clip: its frames, or its tokens.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.

    Attributes:
        frames: Frames that the tokenizer reads (b, n, h, w, 3), uint8; None where tokens are given.
        tokens: Tokens (b, q, d), such as an LLM draws; None where frames are given.
    """

    frames: Any = None
    tokens: Any = None


class DivotSystem(diffusion.VideoDiffusion):
    """Tokenizer and de-tokenizer, whatever network the latter has."""

    @functools.cached_property
    def model(self) -> functional.Model:
        """Tokenizer and de-tokenizer."""
        return functional.build(model_lib.Divot, self.config.model)

    @property
    def request_fields(self) -> frozenset[str]:
        """The clip to reconstruct."""
        return frozenset({"clip"})

    def feature_batch_spec(self, bucket: base.Bucket) -> ClipFeatures:
        """Returns shape and dtype of the frames of the clips of `bucket`, or of written tokens."""
        if self.config.agent_path is not None:
            cfg = self.config.model.tokenizer
            shape = (bucket.batch, cfg.num_tokens, cfg.token_width)
            return ClipFeatures(tokens=jax.ShapeDtypeStruct(shape, jnp.float32))
        wanted = self.config.model.tokenizer.frames
        picked = len(clip_tokens.frame_positions(bucket.frames, wanted))
        shape = (bucket.batch, picked, bucket.height, bucket.width, 3)
        return ClipFeatures(frames=jax.ShapeDtypeStruct(shape, jnp.uint8))

    def draw_features(self, features: ClipFeatures, key: jax.Array | None = None) -> ClipFeatures:
        """Returns the features; there is nothing to draw."""
        del key
        return features

    def condition(
        self,
        params: functional.Params,
        features: ClipFeatures,
        drop: Bool[Array, " b"] | None = None,
    ) -> condition_lib.Condition:
        """Returns the context rows; those of dropped rows are of a mid-grey clip."""
        if features.tokens is None:
            frames = transforms.to_float(features.frames)
            tokens = self.model.tokenize(params, frames, drop)
        else:
            tokens = features.tokens
            if drop is not None:
                null = self.model.null_tokens(self._null_params(params))
                tokens = jnp.where(drop[:, None, None], null.astype(tokens.dtype), tokens)
        return self.model.condition(params, tokens)

    def _null_params(self, params: functional.Params) -> functional.Params:
        """Returns the parameters that null tokens of written clips come from.

        The public code that draws what an LLM writes has rounded its tokenizer to float16 by then.
        """
        if self.config.sampler.variant != "reference":
            return params
        half = jax.tree.map(lambda x: x.astype(jnp.float16), params["tokenizer"])
        half = jax.lax.optimization_barrier(half)  # else XLA may leave the rounding out
        rounded = jax.tree.map(lambda x, y: x.astype(y.dtype), half, params["tokenizer"])
        return {**params, "tokenizer": rounded}


class DiTDivotSystem(DivotSystem, diffusion.DiTDiffusion):
    """Tokenizer and de-tokenizer with a video transformer."""

    @functools.cached_property
    def model(self) -> functional.Model:
        """The network, with the adapters of `lora` on its video transformer."""
        network = functional.build(model_lib.Divot, self.config.model)
        return lora.adapt(network, self.config.lora, base="detokenizer/dit")

    def num_tokens(self, bucket: base.Bucket) -> int:
        """Returns the number of context rows and video tokens."""
        rows = self.config.model.detokenizer.resampler.num_queries
        return super().num_tokens(bucket) - self.backbone.text_length + rows


class UNetDivotSystem(DivotSystem):
    """Tokenizer and de-tokenizer with a U-Net, which has no scanned transformer."""

    def check_size(
        self,
        frames: int,
        height: int,
        width: int,
        names: tuple[str, str, str] = base.SIZE_NAMES,
    ) -> None:
        """Raises `InputError` for clips that the codec or the levels of the U-Net do not allow."""
        self.codec.check_frames(frames, names[0])
        for name, size in zip(names[1:], (height, width), strict=True):
            diffusion.check_side(name, size, step=self.config.side_step, of="levels of the U-Net")

    def num_tokens(self, bucket: base.Bucket) -> int:
        """Returns the number of latents of a frame, which attend to each other."""
        _, height, width, _ = self.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
        return height * width


def make_system(config: TrainConfig) -> DivotSystem:
    """Returns the pure half of a run of Divot."""
    return (UNetDivotSystem if config.system.has_unet else DiTDivotSystem)(config)
