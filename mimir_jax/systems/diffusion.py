# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Latent video diffusion: loss and held-out loss that the diffusion systems share.

    clip -> codec -> moments -> x0 --------+-> xt -> denoise -> error
    caption or clip -> features -> condition

A system adds its network, its features and `condition`.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mimir_jax import noise as noise_lib
from mimir_jax.config import ImageVAEConfig, TrainConfig
from mimir_jax.diffusion import objectives, schedules
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import latents
from mimir_jax.errors import require
from mimir_jax.models import dit, functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context
from mimir_jax.systems import base

HELDOUT_BATCH = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Encoded clips with what conditions the network on each.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.

    Attributes:
        moments: `autoencoder.Moments` of the unscaled latents (b, t, h, w, c).
        features: What conditions the network: text features of the captions, or frames.
        null: The same of empty captions, where the null condition is an encoded caption and not a
            rule of the network (M-U17); else None.
    """

    moments: Any
    features: Any
    null: Any = None


class VideoDiffusion(base.Defaults, abc.ABC):
    """The pure half of a system that denoises clips, with a noise schedule of any kind.

    Args:
        config: The run; its section `system` is a `DiffusionSystemConfig`.
    """

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self._run = config
        self.buckets = self._make_buckets()
        self._schedule = schedules.make_schedule(self.config.diffusion)

    def _make_buckets(self) -> tuple[base.Bucket, ...]:
        """Returns the buckets of `data.buckets`, or the one of all clips."""
        data, size = self._run.data, self._run.batch_size
        cfg = data.buckets
        if not cfg.sizes:
            return (base.Bucket(data.frames, data.height, data.width, size),)
        for s in cfg.sizes:
            self.check_size(*s[:3], names=tuple(f"{n} of bucket {s.name}" for n in base.SIZE_NAMES))
        tokens = [math.prod(self.codec.latent_shape(*s[:3])[:3]) for s in cfg.sizes]
        lengths = [self.num_tokens(base.Bucket(*s[:3], batch=1)) for s in cfg.sizes]
        fill = [max(lengths) // n if cfg.batch == "tokens" else 1 for n in lengths]
        batches = [s.batch or size * n for s, n in zip(cfg.sizes, fill, strict=True)]
        counted = {
            "batch": [1] * len(batches),
            "clip": batches,
            "token": [b * n for b, n in zip(batches, tokens, strict=True)],
        }[cfg.weight]
        mean = sum(counted) / len(counted)
        return tuple(
            base.Bucket(*s[:3], batch, weight=n / mean)
            for s, batch, n in zip(cfg.sizes, batches, counted, strict=True)
        )

    @property
    def sample_size(self) -> tuple[int, int, int]:
        """Frames, height and width of a video where a request names none."""
        data = self._run.data
        return data.frames, data.height, data.width

    @functools.cached_property
    @abc.abstractmethod
    def model(self) -> functional.Model:
        """The network that trains."""

    @abc.abstractmethod
    def feature_batch_spec(self, bucket: base.Bucket) -> base.Features:
        """Returns shape and dtype of the features in a `Batch` of `bucket`."""

    @abc.abstractmethod
    def draw_features(self, features: base.Features, key: jax.Array | None = None) -> base.Features:
        """Returns what `condition` takes of the features in a `Batch`; traceable.

        Args:
            features: The field `features` or `null` of a `Batch`.
            key: Draws among the sampled answers of each caption (M-U3); None takes the first.
        """

    @abc.abstractmethod
    def condition(
        self,
        params: functional.Params,
        features: base.Features,
        drop: Bool[Array, " b"] | None = None,
    ) -> Any:
        """Returns the network's condition; rows with `drop` True get the null condition."""

    def denoise(
        self,
        params: functional.Params,
        xt: Float[Array, "b t h w c"],
        time: Array,
        condition: Any,
        aux: Any = None,
    ) -> tuple[Float[Array, "b t h w c_out"], Any]:
        """Returns the network's prediction and the state for the next sampling step, `aux`."""
        return self.model.denoise(params, xt, time, condition), aux

    @functools.cached_property
    def codec(self) -> latents.LatentCodec:
        """That of the VAE of the run: the causal 3D one, or for some systems one of images."""
        return latents.make_codec(self.config.vae)

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """The VAE; a system adds other networks that it reads."""
        cfg, path = self.config.vae, self.config.vae_path
        kind = "image_vae" if isinstance(cfg, ImageVAEConfig) else "vae"
        return {"vae": frozen_lib.FrozenNetwork(kind, path, "vae_path", config=cfg)}

    @property
    def request_fields(self) -> frozenset[str]:
        """Prompt and negative prompt; a system that reads images adds them."""
        return frozenset({"prompt", "negative_prompt"})

    def sampling_options(self) -> Mapping[str, Any]:
        """Returns none: request, sampler and weights determine a video."""
        return {}

    def check_size(
        self,
        frames: int,
        height: int,
        width: int,
        names: tuple[str, str, str] = base.SIZE_NAMES,
    ) -> None:
        """Raises `InputError` for clips that the codec does not return whole."""
        self.codec.check_frames(frames, names[0])
        for name, size in zip(names[1:], (height, width), strict=True):
            check_side(name, size, step=self.codec.spatial_compression)

    def check_latents(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` for latents with other channels than the codec's."""
        require(
            shape[-1] == self.codec.channels,
            f"latents must have {self.codec.channels} channels, got {shape[-1]}; draw as many",
        )

    def padded_frames(self, frames: int) -> int:
        """Returns `frames`: every number of latent frames is taken as it is."""
        return frames

    def feature_spec(self, rows: int) -> base.Features:
        """Returns shape and dtype of the features that `condition` takes."""
        bucket = base.Bucket(*self.sample_size, rows)
        return jax.eval_shape(self.draw_features, self.feature_batch_spec(bucket))

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of a batch."""
        shape = self.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
        mean = jax.ShapeDtypeStruct((bucket.batch, *shape), jnp.float32)
        features = self.feature_batch_spec(bucket)
        return Batch(
            moments=autoencoder.Moments(mean=mean, logvar=mean),
            features=features,
            null=self.null_batch_spec(bucket) if self.encodes_null else None,
        )

    @property
    def encodes_null(self) -> bool:
        """Whether the null condition is an encoded one, that of the empty caption: it is not."""
        return False

    def null_batch_spec(self, bucket: base.Bucket) -> base.Features:
        """Returns shape and dtype of the encoded null condition in a `Batch` of `bucket`."""
        return self.feature_batch_spec(bucket)

    def with_null(
        self, features: base.Features, null: base.Features, drop: Bool[Array, " b"]
    ) -> base.Features:
        """Returns features as `condition` takes them, encoded null ones in rows with `drop`.

        Args:
            features: What `draw_features` returned.
            null: The field `null` of a `Batch`.
            drop: Rows that get the null condition.
        """
        drawn = self.draw_features(null)
        return jax.tree.map(functools.partial(_where_rows, drop), drawn, features)

    def with_clip(
        self, features: base.Features, latents: Float[Array, "b t h w c"], key: jax.Array
    ) -> base.Features:
        """Returns features with what a training step gives of the clip itself: nothing.

        Args:
            features: What `draw_features` returned.
            latents: Unscaled latents of the clips.
            key: Draws which rows are given what.
        """
        del latents, key
        return features

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the error of the prediction, averaged over the batch; pure.

        The posterior is sampled afresh every step, times are stratified over the batch,
        captions are dropped whole (M-U18) and one of the sampled answers is drawn (M-U3).
        """
        names = ("posterior", "noise", "time", "drop", "answer")
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        size = batch.moments.mean.shape[0]
        unscaled = batch.moments.sample(keys["posterior"])
        x0 = self._model_latents(unscaled)
        noise = noise_lib.normal(keys["noise"], x0.shape)
        time = self._schedule.sample_times(keys["time"], size)
        drop = jax.random.bernoulli(keys["drop"], self.config.caption_dropout, (size,))
        features = self.draw_features(batch.features, keys["answer"])
        features = self.with_clip(features, unscaled, jax.random.fold_in(keys["answer"], 1))
        if batch.null is not None:
            features, drop = self.with_null(features, batch.null, drop), None
        return self.prediction_error(params, features, x0, noise, time, drop).mean(), {}

    def band_loss(
        self, params: functional.Params, batch: Batch, band: Int[Array, ""] | int
    ) -> Float[Array, ""]:
        """Returns the loss on one of `loss_bands` bands of times with fixed noise and answers."""
        return self.band_errors(params, batch, band).mean()

    def band_errors(
        self,
        params: functional.Params,
        batch: Batch,
        band: Int[Array, ""] | int,
        *,
        null: bool = False,
    ) -> Float[Array, " b"]:
        """Returns the error of each clip in `band_loss`; `null` gives all the null condition."""
        x0 = self._model_latents(batch.moments.mean)
        size = x0.shape[0]
        time = self._schedule.band_times(band, self.config.loss_bands, size)
        noise = noise_lib.normal(jax.random.fold_in(jax.random.key(0), band), x0.shape)
        features = self.draw_features(batch.features)
        drop = jnp.ones(size, bool) if null else None
        if null and batch.null is not None:
            features, drop = self.with_null(features, batch.null, drop), None
        rows = _fill_mesh((features, x0, noise, time, drop))
        return self.prediction_error(params, *rows)[:size]

    def prediction_error(
        self,
        params: functional.Params,
        features: base.Features,
        x0: Float[Array, "b t h w c"],
        noise: Float[Array, "b t h w c"],
        time: schedules.Times,
        drop: Bool[Array, " b"] | None = None,
    ) -> Float[Array, " b"]:
        """Returns the weighted mean squared error per row, of the velocity with timesteps."""
        xt = objectives.add_noise(self._schedule, x0, noise, time)
        predict = self._schedule.precondition(functools.partial(self.denoise, params))
        pred, _ = predict(xt, time, self.condition(params, features, drop), None)
        return objectives.loss(self._schedule, pred, x0, noise, time)

    def band_names(self) -> list[str]:
        """Returns a name for each of the `loss_bands`, such as `t0_200`."""
        return self._schedule.band_names(self.config.loss_bands)

    def _model_latents(
        self, unscaled: Float[Array, "b t h w c"]
    ) -> Float[Array, "b t_padded h w c"]:
        """Scales latents and prepends copies of their first frame up to `padded_frames`."""
        return self.pad_frames(self.codec.scale(unscaled), unscaled.shape[1])

    def pad_frames(self, latents: Any, frames: int) -> Any:
        """Returns the first latents (b, t, h, w, c) of clips of `frames` as the network sees them.

        Copies of the first latent frame stand in front, up to `padded_frames`.
        """
        extra = self.padded_frames(frames) - frames
        return jnp.concatenate([latents[:, :1]] * extra + [latents], axis=1) if extra else latents


class DiTDiffusion(VideoDiffusion):
    """`VideoDiffusion` whose network is, or contains, the DiT of CogVideoX.

    The run's section `system` has its config as `dit`, and `with_dit` to change it.
    """

    @property
    def backbone(self) -> Any:
        """Config of the DiT."""
        return self.config.dit

    def with_backbone(self, **fields: Any) -> "DiTDiffusion":
        """Returns this system with other `fields` of its DiT."""
        system = self.config.with_dit(**fields)
        return type(self)(dataclasses.replace(self._run, system=system))

    def check_size(
        self,
        frames: int,
        height: int,
        width: int,
        names: tuple[str, str, str] = base.SIZE_NAMES,
    ) -> None:
        """Raises `InputError` for clips that codec, patches or positions do not allow."""
        cfg, scale = self.backbone, self.codec.spatial_compression
        self.codec.check_frames(frames, names[0])
        bounded = cfg.position != "sincos" and cfg.rope_grid == "integer"
        sides = ((height, cfg.sample_height), (width, cfg.sample_width))
        for name, (size, grid) in zip(names[1:], sides, strict=True):
            check_side(name, size, step=cfg.patch * scale, most=grid * scale if bounded else None)
        latent_frames, *rest = self.codec.latent_shape(frames, height, width)
        self.check_latents((1, self.padded_frames(latent_frames), *rest))

    def check_latents(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` for latents that channels, patches or positions do not allow."""
        super().check_latents(shape)
        dit.token_grid(self.backbone, (*shape[:-1], self.backbone.in_channels))  # with an image

    def padded_frames(self, frames: int) -> int:
        """Returns the latent frames that fill the temporal patch of 1.5 models."""
        return dit.padded_frames(frames, self.backbone)

    def num_tokens(self, bucket: base.Bucket) -> int:
        """Returns the number of text and video tokens."""
        frames, *space, _ = self.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
        shape = (bucket.batch, self.padded_frames(frames), *space, self.backbone.in_channels)
        return self.backbone.text_length + int(np.prod(dit.token_grid(self.backbone, shape)))


class HeldoutLoss:
    """The held-out loss, overall and by band of times.

    Clips, posterior means, noise, times and answers are fixed, so two evaluations differ by the
    parameters alone.

    Args:
        system: The pure half.
        encoder: The host half.
    """

    def __init__(self, system: VideoDiffusion, encoder: base.DiffusionEncoder):
        self._system, self._encoder = system, encoder
        self._band_loss = jax.jit(base.for_inference(system).band_loss)

    def read(self) -> None:
        """Encodes the held-out clips and captions."""
        _ = self._batches

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss` and, for every band, `loss_tLOW_HIGH` or `loss_sigmaLOW_HIGH`.

        They are means over the clips. A run with buckets adds `loss_FRAMESxHEIGHTxWIDTH` of each.
        """
        names = self._system.band_names()
        rows = [len(batch.moments.mean) for _, batch in self._batches]
        table = np.array([
            [float(self._band_loss(params, batch, band)) for _, batch in self._batches]
            for band in range(len(names))
        ])  # fmt: skip
        losses = np.array([np.average(row, weights=rows) for row in table])
        named = {f"loss_{name}": float(x) for name, x in zip(names, losses, strict=True)}
        if len(self._system.buckets) > 1:
            buckets = np.array([bucket for bucket, _ in self._batches])
            for name in dict.fromkeys(buckets.tolist()):
                own, weights = table[:, buckets == name], np.array(rows)[buckets == name]
                named[f"loss_{name}"] = float(np.average(own.mean(0), weights=weights))
        return {"loss": float(losses.mean()), **named}

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns none: the sampler draws the examples of a diffusion system."""
        del params
        return base.Examples()

    @functools.cached_property
    def _batches(self) -> list[tuple[str, Batch]]:
        """The held-out clips in batches, each with the name of its bucket."""
        made = []
        for videos, captions in self._encoder.heldout_buckets():
            name = "x".join(map(str, videos.shape[1:4]))
            for start in range(0, len(captions), HELDOUT_BATCH):
                part = slice(start, start + HELDOUT_BATCH)
                records = {"video": videos[part], "caption": captions[part]}
                made.append((name, jax.device_put(self._encoder.encode_clips(records))))
        return made


def make_evaluators(
    config: TrainConfig, system: VideoDiffusion, encoder: base.DiffusionEncoder
) -> list[base.Evaluator]:
    """Returns the evaluators of a diffusion system."""
    del config
    return [HeldoutLoss(system, encoder)]


def check_side(
    name: str, size: int, *, step: int, most: int | None = None, of: str = "patch"
) -> None:
    """Raises `InputError` unless `step` divides the height or width of clips.

    Args:
        name: The subject of the message.
        size: Pixels.
        step: Pixels per latent times latents per patch.
        most: Largest size of the rotary grid; None has no limit.
        of: What `step` is made of besides the compression of the VAE.
    """
    nearest = max(1, round(size / step)) * step
    rule = f"a multiple of {step} (VAE compression x {of})"
    if most is not None:
        nearest = min(nearest, most // step * step)
        rule += f" of at most {most} (the rotary grid)"
    require(size == nearest, f"{name} must be {rule}, got {size}; the nearest is {nearest}")


def _fill_mesh(rows: Any) -> Any:
    """Repeats the last row of every array until the mesh splits the rows evenly."""
    size = jax.tree.leaves(rows)[0].shape[0]
    extra = -size % context.num_shards("act_batch")
    fill = lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], extra, axis=0)])  # noqa: E731
    return jax.tree.map(fill, rows) if extra else rows


def _where_rows(drop: Array, a: Array, b: Array) -> Array:
    return jnp.where(jax.lax.expand_dims(drop, range(1, a.ndim)), a, b)
