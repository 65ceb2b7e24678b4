# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to video, with a first frame where the transformer reads one.

    caption     -> text features --------------------------+-> condition -> denoise
    first frame -> noise -> VAE -> moments -> image latents -+

Training and sampling take the image latents through `draw_features` and `models.dit.with_image`, so
scale, place and padding are the same for both. A row without a first frame has latents of zeros.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mimir_jax import noise as noise_lib
from mimir_jax.encoders import text as text_lib
from mimir_jax.models import block_cache, dit, functional
from mimir_jax.models import condition as condition_lib
from mimir_jax.systems import base, diffusion

Latents = Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FirstFrameMoments:
    """Features of captions with first frames in a `diffusion.Batch`.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.

    Attributes:
        text: Features of the captions.
        image_mean, image_logvar: Moments of the unscaled latents of the clean first frame and,
            after it, of its noisy copies (b, 1 + copies, 1, h, w, c).
    """

    text: Any
    image_mean: Any
    image_logvar: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FirstFrameFeatures:
    """What `condition` takes of captions with first frames.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.

    Attributes:
        text: Features of the captions.
        image_latents: Latents of the first frames in the scale of the network (b, 1, h, w, c), or
            of more frames of a clip to continue, zero behind them (b, t, h, w, c).
    """

    text: Any
    image_latents: Any


class TextToVideo(diffusion.DiTDiffusion):
    """`DiTDiffusion` that is conditioned on captions, and on a first frame if its DiT reads one.

    The run's section `system` is a `TextToVideoSystemConfig`.
    """

    @abc.abstractmethod
    def text_batch_spec(self, rows: int) -> Any:
        """Returns shape and dtype of the features of `rows` captions, all answers included."""

    @abc.abstractmethod
    def draw_text(self, features: Any, key: jax.Array | None = None) -> Any:
        """Returns what `condition_on_text` takes of the features of captions."""

    @abc.abstractmethod
    def condition_on_text(
        self, params: functional.Params, features: Any, drop: Bool[Array, " b"] | None = None
    ) -> condition_lib.Condition:
        """Returns the text tokens; rows with `drop` True get the null condition."""

    @property
    def encodes_null(self) -> bool:
        """Whether the null condition is the encoded empty caption (M-U17)."""
        return self.config.text.null == "empty"

    @property
    def request_fields(self) -> frozenset[str]:
        """Prompts, and the first frame where the DiT reads one."""
        image = {"first_frame"} if self.config.reads_image else set()
        return super().request_fields | image

    def sampling_options(self) -> Mapping[str, Any]:
        """Returns how a first frame is read, where it is."""
        if not self.config.reads_image:
            return {}
        cfg = self.config.first_frame
        return {"image_fit": cfg.fit, "image_latent_scale": cfg.latent_scale}

    def feature_batch_spec(
        self, bucket: base.Bucket
    ) -> text_lib.CaptionFeatures | FirstFrameMoments:
        """Returns shape and dtype of the features of captions and first frames of `bucket`."""
        text = self.text_batch_spec(bucket.batch)
        if not self.config.reads_image:
            return text
        copies = 1 + self.config.first_frame.noise_draws
        latent = self.codec.latent_shape(1, bucket.height, bucket.width)
        moment = jax.ShapeDtypeStruct((bucket.batch, copies, *latent), jnp.float32)
        return FirstFrameMoments(text=text, image_mean=moment, image_logvar=moment)

    def null_batch_spec(self, bucket: base.Bucket) -> Any:
        """Returns shape and dtype of the features of the empty captions of a batch of `bucket`."""
        return self.text_batch_spec(bucket.batch)

    def feature_spec(self, rows: int) -> Any:
        """Returns shape and dtype of the features of `rows` prompts without first frames."""
        return jax.eval_shape(self.draw_text, self.text_batch_spec(rows))

    def draw_features(self, features: Any, key: jax.Array | None = None) -> Any:
        """Returns what `condition` takes; traceable.

        With a `key`, as in training, it draws an answer of the LLM (M-U3), one of the noisy copies
        of the first frame (I-U2), its latents (I-U4) and the rows that lose it (I-U3). Without one
        it takes the first answer and the mean latents of the clean frame.
        """
        if not isinstance(features, FirstFrameMoments):
            return self.draw_text(features, key)
        cfg = self.config.first_frame
        mean, logvar = features.image_mean, features.image_logvar  # (b, copies, 1, h, w, c)
        if key is None:
            latents = mean[:, 0]
            return FirstFrameFeatures(self.draw_text(features.text), self.scale_image(latents))
        rows, copies = mean.shape[:2]
        answer, copy, posterior, drop = jax.random.split(key, 4)
        picked = jax.random.randint(copy, (rows,), min(1, cfg.noise_draws), copies)
        latents = mean[jnp.arange(rows), picked]  # (b, 1, h, w, c)
        if cfg.posterior == "sample":
            deviation = jnp.exp(0.5 * logvar[jnp.arange(rows), picked])
            latents = latents + deviation * noise_lib.normal(posterior, latents.shape)
        keep = jax.random.bernoulli(drop, 1.0 - cfg.dropout, (rows, 1, 1, 1, 1))
        image = jnp.where(keep, self.scale_image(latents), 0.0)
        return FirstFrameFeatures(self.draw_text(features.text, answer), image)

    def with_clip(self, features: Any, latents: Float[Array, "b t h w c"], key: jax.Array) -> Any:
        """Returns features in which some rows read the first latent frames of their clip (I-U7)."""
        share = self.config.first_frame.continuation
        rows, frames = latents.shape[:2]
        if not isinstance(features, FirstFrameFeatures) or not share or frames < 3:
            return features
        chosen, length = jax.random.split(key)
        continues = jax.random.bernoulli(chosen, share, (rows, 1, 1, 1, 1))
        given = jax.random.randint(length, (rows, 1, 1, 1, 1), 2, frames)
        clip = self.pad_frames(self.scale_image(latents), frames)
        extra = clip.shape[1] - frames
        order = jnp.arange(clip.shape[1])[None, :, None, None, None]
        clip = jnp.where(order < given + extra, clip, 0.0)
        image = features.image_latents
        alone = jnp.pad(image, ((0, 0), (0, clip.shape[1] - image.shape[1]), *[(0, 0)] * 3))
        image = jnp.where(continues, clip, alone)
        return dataclasses.replace(features, image_latents=image)

    def scale_image(self, latents: Latents) -> Latents:
        """Scales the VAE's latents of first frames as the network reads them (I-U1)."""
        return latents * self.config.first_frame.factor(self.config.vae.scaling_factor)

    def with_null(self, features: Any, null: Any, drop: Bool[Array, " b"]) -> Any:
        """Returns features whose captions are null where `drop`; first frames stay."""
        if not isinstance(features, FirstFrameFeatures):
            return super().with_null(features, null, drop)
        text = super().with_null(features.text, null, drop)
        return dataclasses.replace(features, text=text)

    def condition(
        self, params: functional.Params, features: Any, drop: Bool[Array, " b"] | None = None
    ) -> condition_lib.Condition:
        """Returns the text tokens, image latents and `ofs`; `drop` leaves the first frame."""
        text, image = features, None
        if isinstance(features, FirstFrameFeatures):
            text, image = features.text, features.image_latents
        condition = self.condition_on_text(params, text, drop)
        if not self.config.reads_image or self.backbone.ofs_width is None:
            ofs = None
        else:
            ofs = jnp.full(condition.tokens.shape[:1], self.config.first_frame.ofs)
        return dataclasses.replace(condition, image_latents=image, ofs=ofs)

    def denoise(
        self,
        params: functional.Params,
        xt: Float[Array, "b t h w c"],
        time: Array,
        condition: condition_lib.Condition,
        aux: Any = None,
    ) -> tuple[Float[Array, "b t h w c_out"], Any]:
        """Returns the predicted velocity; `aux` is None or a first-block cache."""
        if aux is None:
            return super().denoise(params, xt, time, condition)
        return self.model.denoise_cached(params, xt, time, condition, aux)

    def start_cache(
        self, shape: tuple[int, ...], condition: condition_lib.Condition, threshold: float
    ) -> block_cache.BlockCache:
        """Returns the `aux` of the first step with a first-block cache, for `xt` of `shape`."""
        rows, length, _ = condition.tokens.shape
        cfg = self.backbone
        tokens = dit.sequence_length(cfg, shape, length)
        return block_cache.empty((rows, tokens, cfg.width), cfg.dtype, threshold)
