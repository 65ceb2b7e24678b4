# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of a text-to-video diffusion model on frozen VAE and text encoders."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from mimir_jax import files, hashing, weights
from mimir_jax import noise as noise_lib
from mimir_jax.config import DiffusionSystemConfig, TrainConfig, flag
from mimir_jax.data import feature_store, sources, transforms
from mimir_jax.diffusion import objectives, schedules
from mimir_jax.encoders import text as features_lib
from mimir_jax.encoders.cache import ContentCache
from mimir_jax.errors import InputError
from mimir_jax.models import dit, functional, lora
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context, distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import video as video_lib

Batch = Mapping[str, Array]
HELDOUT_BATCH = 8
WHOLE_PIXELS = 256 * 256
"""Larger frames are decoded in tiles for the samples of a run, beside whose state they must fit."""


class TextToVideoTask:
    """Predict the velocity of noisy latents from caption features (Mimir, section 1.3).

    Attributes:
        model: The Mimir network.
        text: The frozen text encoders.
    """

    def __init__(self, config: TrainConfig):
        task: DiffusionSystemConfig = config.system
        self._config, self._task = config, task
        self.model = make_model(task)
        self._vae_params = load_vae(task)
        self._vae = functional.build(autoencoder.VAE, task.vae)
        self.text = features_lib.TextEncoder(
            task.text, use_llm=uses_llm(task), seed=config.seed, mesh=encoder_mesh(config)
        )
        check_widths(task, self.text)
        self._moments = ContentCache()

    def source(self) -> sources.Source:
        """Returns the training clips, or what `data.features` has of them."""
        return self.clips() if self._prepared is None else self._prepared

    def clips(self) -> sources.Source:
        """Returns the training clips."""
        return sources.make_source(self._config.data, "train", seed=self._config.seed)

    def feature_content(self) -> dict[str, Any]:
        """Returns all that the prepared features of the training clips are a function of."""
        data = self._config.data
        vae = {
            "weights": hashing.tree_digest(self._vae_params),
            "config": dataclasses.asdict(self._task.vae),
        }
        return {
            "source": repr(self.clips()),
            "seed": self._config.seed,
            "geometry": {"frames": data.frames, "height": data.height, "width": data.width},
            "vae": vae,
            **self.text.identity(),
        }

    def prepare(self, records: Mapping[str, Any]) -> dict[str, Any]:
        """Encodes clips to latent moments and captions to features; both are cached by content.

        Every clip goes through the VAE alone, so that its moments do not depend on its batch.
        Records that were prepared before are taken as they are.
        """
        if "mean" in records:
            return self._collect(records)
        with futures.ThreadPoolExecutor(1, "text") as thread:  # networks compile side by side
            text = thread.submit(self.text.encode, records["caption"])
            moments = [
                self._moments.get(
                    hashing.content_key(clip), functools.partial(self._encode_clip, clip)
                )
                for clip in records["video"]
            ]
        mean, logvar = (np.concatenate(part) for part in zip(*moments, strict=True))
        batch = {"mean": mean, "logvar": logvar, "text": text.result()}
        if self._task.text.null == "empty":
            batch["null"] = self.text.encode([""] * len(mean))
        return batch

    def batch_spec(self) -> dict[str, Any]:
        """Returns what `prepare` makes."""
        return batch_spec(self._config)

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns `velocity_loss`."""
        return velocity_loss(self._task, self.model, params, batch, key)

    def read_heldout(self) -> None:
        """Encodes the held-out clips and captions."""
        _ = self._heldout_batches

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns the held-out loss, overall and by timestep band.

        Clips, posterior means, noise, timesteps and answers are fixed, so two evaluations differ
        by the parameters alone.
        """
        bands = self._task.loss_bands
        rows = [len(batch["mean"]) for batch in self._heldout_batches]
        losses = np.array([
            np.average([float(self._band_loss(params, b, band)) for b in self._heldout_batches],
                       weights=rows)
            for band in range(bands)
        ])  # fmt: skip
        edges = np.linspace(0, self._task.diffusion.num_train_steps, bands + 1).astype(int)
        named = {
            f"loss_t{low}_{high}": float(value)
            for low, high, value in zip(edges, edges[1:], losses, strict=False)
        }
        return {"loss": float(losses.mean()), **named}

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Draws a video for each of the first held-out captions, from fixed noise."""
        captions = self._heldout[1][: self._task.sample_prompts]
        if not captions:
            return []
        data = self._config.data
        tiled = data.height * data.width > WHOLE_PIXELS
        videos = self.pipeline.generate(
            params, captions, data, seeds=range(len(captions)), tiled=tiled
        )
        if not distributed.is_first():
            return []
        return video_lib.write_samples(folder, list(videos), captions, fps=self._config.data.fps)

    @functools.cached_property
    def _prepared(self) -> feature_store.FeatureSource | None:
        folder = self._config.data.features
        if folder is None:
            return None
        return feature_store.FeatureSource(files.expand_path(folder), self.feature_content())

    def _collect(self, records: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the batch of prepared records."""
        names = self.text.names
        batch = {"mean": records["mean"], "logvar": records["logvar"]}
        batch["text"] = {name: records[name] for name in names}
        if self._task.text.null == "empty":
            empty = self._prepared.empty
            batch["null"] = {name: np.stack([empty[name]] * len(batch["mean"])) for name in names}
        return batch

    @functools.cached_property
    def pipeline(self) -> pipeline_lib.Pipeline:
        """The sampler of this model, with the frozen networks already loaded."""
        return pipeline_lib.Pipeline(self._task, self.model, self.text, self._vae, self._vae_params)

    @context.no_mesh()
    def _encode_clip(self, clip: UInt8[np.ndarray, "f h w 3"]) -> tuple[Array, Array]:
        moments = self._encode(self._vae_params, clip[None])
        return moments.mean, moments.logvar

    @functools.cached_property
    def _encode(self):
        return jax.jit(lambda params, clip: self._vae.encode(params, transforms.to_float(clip)))

    @functools.cached_property
    def _band_loss(self):
        task, model = self._task, self.model
        bands, steps = task.loss_bands, task.diffusion.num_train_steps

        @jax.jit
        def band_loss(params, batch, band):
            x0 = _model_latents(task, model, batch["mean"])
            size = x0.shape[0]
            place = (jnp.arange(size) + 0.5) / size  # spread evenly over the band
            timestep = ((band + place) * (steps / bands)).astype(jnp.int32)
            noise = noise_lib.normal(jax.random.fold_in(jax.random.key(0), band), x0.shape)
            features = features_lib.to_condition(batch["text"])
            rows = _fill_mesh((features, x0, noise, timestep))
            return _velocity_error(task, model, params, *rows)[:size].mean()

        return band_loss

    @functools.cached_property
    def _heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        config = self._config
        return sources.read_heldout(config.data, self._task.heldout_clips, seed=config.seed)

    @functools.cached_property
    def _heldout_batches(self) -> list[Batch]:
        videos, captions = self._heldout
        parts = [slice(i, i + HELDOUT_BATCH) for i in range(0, len(captions), HELDOUT_BATCH)]
        return [
            jax.device_put(self.prepare({"video": videos[part], "caption": captions[part]}))
            for part in parts
        ]


def make_model(task: DiffusionSystemConfig) -> functional.Model:
    """Returns the network that trains, with the adapters of `task.lora`."""
    return lora.adapt(functional.build(model_lib.Mimir, task.network), task.lora, base="dit")


def batch_spec(config: TrainConfig) -> dict[str, Any]:
    """Returns shapes and dtypes of the batch that `TextToVideoTask.prepare` makes."""
    task, data = config.system, config.data
    vae, text, fuser = task.vae, task.text, task.network.fuser
    scale, spec = vae.spatial_compression, jax.ShapeDtypeStruct
    rows, length = config.batch_size, text.length
    frames = vae.latent_frames(data.frames)
    size = (rows, frames, data.height // scale, data.width // scale, vae.latent_channels)
    latents = spec(size, jnp.float32)
    features = {
        "t5": spec((rows, length, fuser.t5_width), jnp.float32),
        "t5_mask": spec((rows, length), bool),
    }
    if uses_llm(task):
        answers = (rows, 1 if text.llm_tokens == "query" else text.num_answers, length)
        features["llm"] = spec((*answers, fuser.llm_width), jnp.float32)
        features["llm_mask"] = spec(answers, bool)
        turns = (rows, len(text.instructions), fuser.llm_width)
        features["instructions"] = spec(turns, jnp.float32)
    batch = {"mean": latents, "logvar": latents, "text": features}
    if text.null == "empty":
        batch["null"] = features
    return batch


def velocity_loss(
    task: DiffusionSystemConfig,
    model: functional.Model,
    params: functional.Params,
    batch: Batch,
    key: jax.Array,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Returns the velocity error, averaged over the batch; pure.

    The posterior is sampled afresh every step; timesteps are stratified over the batch; captions
    are dropped whole (M-U18); one of the sampled answers is drawn (M-U3).

    Args:
        task: Schedule, dropout and null rule.
        model: The Mimir network.
        params: Its parameters.
        batch: `mean` and `logvar` of the latents (b, t, h, w, c), and what `TextEncoder.encode`
            returns as `text`; `null` is the same for empty captions, where the null condition is
            an encoded caption and not a rule of the model (M-U17).
        key: Random key of the step.
    """
    names = ("posterior", "noise", "time", "drop", "answer")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    size = batch["mean"].shape[0]
    moments = autoencoder.Moments(mean=batch["mean"], logvar=batch["logvar"])
    x0 = _model_latents(task, model, moments.sample(keys["posterior"]))
    noise = noise_lib.normal(keys["noise"], x0.shape)
    diffusion = task.diffusion
    timestep = objectives.sample_timesteps(
        keys["time"], size, diffusion.num_train_steps, stratified=diffusion.stratified
    )
    drop = jax.random.bernoulli(keys["drop"], task.caption_dropout, (size,))
    answer = None
    if "llm" in batch["text"]:
        answer = jax.random.randint(keys["answer"], (size,), 0, batch["text"]["llm"].shape[1])
    features = features_lib.to_condition(batch["text"], answer)
    if "null" in batch:
        null = features_lib.to_condition(batch["null"])
        features = jax.tree.map(functools.partial(_where_rows, drop), null, features)
        drop = None
    return _velocity_error(task, model, params, features, x0, noise, timestep, drop).mean(), {}


def _model_latents(
    task: DiffusionSystemConfig, model: functional.Model, latents: Float[Array, "b t h w c"]
) -> Float[Array, "b t2 h w c"]:
    """Scales latents of the VAE and pads them to the temporal patch of 1.5 models."""
    return dit.pad_frames(autoencoder.scale_latents(task.vae, latents), model.config.dit)


def _velocity_error(
    task, model, params, features, x0, noise, timestep, drop=None
) -> Float[Array, " b"]:
    """Returns the mean squared velocity error of each row."""
    schedule = schedules.DiscreteSchedule(task.diffusion)
    xt = objectives.add_noise(schedule, x0, noise, timestep)
    pred = model.apply(params, xt, timestep, features, drop)
    return objectives.v_loss(schedule, pred, x0, noise, timestep)


def _fill_mesh(rows: Any) -> Any:
    """Repeats the last row of every array until the mesh divides them and so splits them."""
    size = jax.tree.leaves(rows)[0].shape[0]
    extra = -size % context.num_shards("act_batch")
    fill = lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], extra, axis=0)])  # noqa: E731
    return jax.tree.map(fill, rows) if extra else rows


def _where_rows(drop: Array, a: Array, b: Array) -> Array:
    return jnp.where(jax.lax.expand_dims(drop, range(1, a.ndim)), a, b)


def uses_llm(task: DiffusionSystemConfig) -> bool:
    """Whether the model of `task` reads anything from the LLM."""
    network = task.network
    return network.fuser.use_llm or network.stabilizer.enabled


def encoder_mesh(config: TrainConfig) -> Mesh | None:
    """Returns the mesh of the frozen text encoders, None where they lie on one device."""
    return mesh_lib.own_mesh((1, -1, 1, 1)) if config.mesh.shard_frozen else None


def with_encoders_on(config: TrainConfig, mesh: Mesh | None) -> TrainConfig:
    """Returns `config` with its text encoders split where `mesh` splits parameters."""
    if mesh is None or mesh.shape["fsdp"] * mesh.shape["tensor"] == 1:
        return config
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, shard_frozen=True))


def load_vae(task: DiffusionSystemConfig) -> functional.Params:
    """Loads the frozen VAE of `task`.

    Raises:
        ValueError: if there is none, or its config is not that of the task.
    """
    if task.vae_path is None:
        raise InputError(
            "system.vae_path must name a folder with VAE weights, got None; "
            f"set it with {flag('system.vae_path')}=FOLDER"
        )
    model, params = weights.load(task.vae_path, kind="vae", dtype=task.vae.dtype)
    config = model.config
    if config != task.vae:
        raise InputError(
            f"system.vae must be the config of {task.vae_path}, got {task.vae} and {config}; "
            "set system.vae to the sizes of the weights"
        )
    return params


def check_widths(task: DiffusionSystemConfig, text: features_lib.TextEncoder) -> None:
    """Raises `ValueError` unless the encoders have the widths that the model was built for."""
    network = task.network
    field = f"system.{task.dit_field}.text_width"
    pairs = [(field, network.dit.text_width, text.t5_width, task.text.t5_path)]
    if text.llm_width is not None:
        field = "system.model.fuser.llm_width"
        pairs.append((field, network.fuser.llm_width, text.llm_width, task.text.llm_path))
    for field, value, width, path in pairs:
        if value != width:
            raise InputError(
                f"{field} must be the width {width} of {path}, got {value}; "
                f"set it with {flag(field)}"
            )
