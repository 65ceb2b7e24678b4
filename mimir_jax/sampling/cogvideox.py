# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to video with the published CogVideoX models (arXiv 2408.06072), as diffusers stores them.

prompts -> T5 -> DiT under one scan, guided -> causal VAE -> frames
"""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Key

from mimir_jax import weights
from mimir_jax.config import DiTConfig, SamplerConfig, VAEConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.diffusion.scheduler_config import load_scheduler
from mimir_jax.encoders import latents as codecs
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError, require
from mimir_jax.models import dit, functional
from mimir_jax.parallel import context
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import sizes
from mimir_jax.weights import loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyArray = Array | np.ndarray

_CLASS = "CogVideoXPipeline"
_NETWORKS = {"text_encoder": "t5", "transformer": "dit", "vae": "vae"}
_DYNAMIC = ("off", "reference", "smooth")
_FOLDERS = ("tokenizer", "scheduler", *_NETWORKS)


class Network(NamedTuple):
    """A network and its parameters, as `weights.load` returns them."""

    model: functional.Model
    params: functional.Params


def load_pipeline(
    folder: str | os.PathLike[str], *, dtype: DTypeLike | None = None, mesh: Mesh | None = None
) -> "CogVideoXPipeline":
    """Loads a text-to-video pipeline saved by diffusers.

    Args:
        folder: Holds `model_index.json` of a `CogVideoXPipeline` and the folders `tokenizer`,
            `text_encoder`, `transformer`, `vae` and `scheduler`; never asks a hub.
        dtype: Dtype of the networks; None keeps the stored one.
        mesh: Devices to spread networks and videos over; None stands for one device.

    Raises:
        ValueError: for another pipeline, a missing folder, or one that does not hold its part.
    """
    folder = pathlib.Path(folder).expanduser()
    _check_index(folder)
    scheduler = load_scheduler(folder / "scheduler")
    tokenizer = tokenizers.load(folder / "tokenizer")
    networks = {
        name: Network(*weights.load(folder / name, dtype=dtype, mesh=mesh, kind=kind))
        for name, kind in _NETWORKS.items()
    }
    return CogVideoXPipeline(tokenizer=tokenizer, scheduler=scheduler, mesh=mesh, **networks)


def read_configs(folder: pathlib.Path) -> tuple[DiTConfig, VAEConfig]:
    """Returns the configs of transformer and VAE of a pipeline, reading no weights.

    Raises:
        ValueError: as `load_pipeline`.
    """
    _check_index(folder)
    opened = {name: weights.open_weights(folder / name) for name in ("transformer", "vae")}
    for name, part in opened.items():
        loading.check_kind(part, _NETWORKS[name])
    return opened["transformer"].config, opened["vae"].config


class CogVideoXPipeline:
    """Samples videos from text; call it, or use its parts.

    Attributes:
        tokenizer: The tokenizer of T5, of Hugging Face.
        text_encoder, transformer, vae: The networks.
        scheduler: The sampler; calls replace its number of steps.
        mesh: Devices that the networks are spread over, or None.

    Raises:
        ValueError: for networks that do not fit each other.
    """

    def __init__(
        self,
        *,
        tokenizer: "PreTrainedTokenizerBase",
        text_encoder: Network,
        transformer: Network,
        vae: Network,
        scheduler: samplers.DDIM | samplers.DPM,
        mesh: Mesh | None = None,
    ):
        cfg, vae_cfg = transformer.model.config, vae.model.config
        for name, value, rule, fit in (
            ("in_channels", cfg.in_channels, "the channels of the VAE", vae_cfg.latent_channels),
            ("out_channels", cfg.out_channels, "the channels of the VAE", vae_cfg.latent_channels),
            ("text_width", cfg.text_width, "the width of T5", text_encoder.model.config.width),
        ):
            require(
                value == fit,
                f"transformer {name} must be {fit}, {rule}, in a text-to-video pipeline, got "
                f"{value}; take both from one pipeline",
            )
        self.tokenizer, self.scheduler, self.mesh = tokenizer, scheduler, mesh
        self.text_encoder, self.transformer, self.vae = text_encoder, transformer, vae

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Float[AnyArray, "b l d"] | None = None,
        negative_prompt_embeds: Float[AnyArray, "b_negative l_negative d_negative"] | None = None,
        latents: Float[AnyArray, "_ _ _ _ _"] | None = None,
        noise: Float[AnyArray, "_ _ _ _ _ _"] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float | int = 6.0,
        dynamic_cfg: str = "off",
        num_videos_per_prompt: int = 1,
        tiled: bool = False,
        output: str = "video",
        key: Key[Array, ""] | Key[Array, " videos"] | None = None,
    ) -> Float32[np.ndarray, "videos _ _ _ _"]:
        """Returns videos (videos, frames, rows, columns, 3) in 0..1, those of one prompt together.

        Sizes default to those of the transformer. The sample size of 1.5 models is no native one:
        it bounds the rotary grid at 2400 x 2400 pixels, so give them `height` and `width`, 768 and
        1360. They sample padded latents; the leading frames that are too many are dropped.

        Args:
            prompt: One text or several.
            negative_prompt: What to guide away from, one text for all prompts or one each; the
                empty text unless given.
            prompt_embeds: Text states (b, l, d) in place of `prompt`, one row a prompt.
            negative_prompt_embeds: Text states in place of `negative_prompt`, of the same shape.
            latents: Noise to start from (videos, t, h, w, c), padded for 1.5 models; sizes follow
                from it. For them `num_frames` says how much is padding: by default what leaves
                the most frames that the VAE keeps whole.
            noise: Noise of every step (num_inference_steps, videos, t, h, w, c), for DPM.
            num_frames: Frames of a video, 8N+1.
            height: Pixel rows, a multiple of 16 in released models.
            width: Pixel columns, likewise.
            num_inference_steps: Sampling steps.
            guidance_scale: Scale of guidance; none at all up to 1.
            dynamic_cfg: How the scale varies over the steps: `off`, `reference` as in diffusers, or
                `smooth`; see `guidance.scales`.
            num_videos_per_prompt: Videos of each prompt.
            tiled: Whether to decode overlapping tiles and blend them, which saves memory.
            output: `video`, or `latent` for scaled latents (videos, t, h, w, c), not decoded.
            key: Draws what of `latents` and `noise` is not given; one, or one a video.

        Raises:
            ValueError: for contradicting arguments or impossible sizes.
        """
        guided = guidance_scale > 1.0
        if not guided:
            negative_prompt = negative_prompt_embeds = None
        text = _Text(prompt, prompt_embeds)
        negative = _Text("" if negative_prompt is None else negative_prompt, negative_prompt_embeds)
        prompts = self._check_text(text, negative, guided=guided)
        require(
            num_videos_per_prompt >= 1,
            f"num_videos_per_prompt must be at least 1, got {num_videos_per_prompt}; raise it",
        )
        require(
            dynamic_cfg in _DYNAMIC,
            f"dynamic_cfg must be one of {', '.join(_DYNAMIC)}, got {dynamic_cfg!r}; choose one",
        )
        require(
            output in ("video", "latent"),
            f"output must be 'video' or 'latent', got {output!r}; choose one",
        )
        rows = prompts * num_videos_per_prompt
        networks = (self.transformer.model.config, self.vae.model.config, rows)
        size = {"num_frames": num_frames, "height": height, "width": width}
        if latents is None:
            shape = sizes.latent_shape(*networks, **size)
        else:
            shape = sizes.latent_shape_of(*networks, tuple(latents.shape), **size)
        sampler = self._sampler(num_inference_steps)
        self._check_noise(sampler, shape, latents, noise, key)
        table = self._scales(sampler, float(guidance_scale), dynamic_cfg) if guided else None

        parts = [negative, text] if guided else [text]
        states = [self._encode(part, prompts) for part in parts]
        condition = jnp.concatenate([jnp.repeat(x, num_videos_per_prompt, axis=0) for x in states])
        condition, key = self._on_rows(condition), self._on_rows(key)
        with context.use_mesh(self.mesh):
            drawn = self._denoise(
                self.transformer.params,
                condition,
                table,
                key,
                None if latents is None else jnp.asarray(latents),
                None if noise is None else jnp.asarray(noise),
                sampler=sampler,
                shape=shape,
            )
        return (
            np.asarray(drawn, np.float32) if output == "latent" else self.decode(drawn, tiled=tiled)
        )

    def encode_prompt(self, prompts: Sequence[str]) -> Float[Array, "b l d"]:
        """Returns the T5 states of `prompts`, padded or cut to the text length of the transformer.

        No mask is used: CogVideoX is trained to attend to padding.
        """
        length, prompts = self.transformer.model.config.text_length, list(prompts)
        whole = self.tokenizer(prompts, verbose=False)["input_ids"]
        if longest := max((len(ids) for ids in whole if len(ids) > length), default=0):
            logging.warning("prompts are cut to %d tokens, the longest has %d", length, longest)
        tokens = self.tokenizer(prompts, padding="max_length", max_length=length, truncation=True)
        ids = self._on_rows(jnp.asarray(np.array(tokens["input_ids"], np.int32)))
        with context.use_mesh(self.mesh):
            return self._text_states(self.text_encoder.params, ids)

    def decode(
        self, latents: Float[AnyArray, "b t h w c"], *, tiled: bool = False
    ) -> Float32[np.ndarray, "b frames pixel_rows pixel_columns 3"]:
        """Returns the frames of scaled latents in 0..1, decoded video by video.

        On a mesh every device takes a band of pixel rows, which changes nothing but rounding.

        Args:
            latents: What the transformer denoises, without padding.
            tiled: Whether to decode overlapping tiles and blend them, which saves memory.
        """
        videos = [self._decode(jnp.asarray(row)[None], tiled=tiled)[0] for row in latents]
        return np.clip(np.stack(videos) * 0.5 + 0.5, 0.0, 1.0)

    @functools.cached_property
    def _text_states(self):
        return jax.jit(lambda params, ids: self.text_encoder.model.apply(params, ids, None))

    @functools.cached_property
    def _denoise(self):
        model = self.transformer.model

        @functools.partial(jax.jit, static_argnames=("sampler", "shape"))
        def denoise(params, text, table, key, latents, noise, *, sampler, shape):
            def predict(xt, timestep, text, aux):
                return model.apply(params, xt, text, timestep), aux

            return latents_lib.denoise(
                predict if table is None else guidance.guided_by(predict, table),
                sampler,
                dit.padded_frames(shape[1], model.config),
                shape,
                text,
                key=key,
                latents=latents,
                noise=noise,
            )

        return denoise

    @functools.cached_property
    def _decode(self):
        return latents_lib.Decoder(
            codecs.CausalVAECodec(self.vae.model.config), self.vae.params, self.mesh
        )

    def _encode(self, text: "_Text", prompts: int) -> Float[Array, "b l d"]:
        if text.states is not None:
            return jnp.asarray(text.states)
        one = isinstance(text.words, str)
        return self.encode_prompt([text.words] * prompts if one else text.words)

    def _on_rows(self, x: Array | None) -> Array | None:
        """Splits the rows of an array over the devices that videos are spread over."""
        if self.mesh is None or x is None:
            return x
        axes = ("act_batch", *[None] * x.ndim)[: x.ndim]
        spec = rules_lib.spec(axes, rules_lib.table("fsdp"), self.mesh, shape=x.shape)
        return jax.device_put(x, NamedSharding(self.mesh, spec))

    def _sampler(self, num_steps: int) -> samplers.DDIM | samplers.DPM:
        most = self.scheduler.schedule.num_train_steps
        require(
            1 <= num_steps <= most,
            f"num_inference_steps must be within 1..{most}, got {num_steps}; choose another",
        )
        sampler = dataclasses.replace(self.scheduler, num_steps=num_steps)
        sampler.coefficients()  # raises for step counts that other options forbid
        return sampler

    def _scales(
        self, sampler: samplers.DDIM | samplers.DPM, scale: float, dynamic: str
    ) -> Float[Array, " steps"]:
        cfg = SamplerConfig(
            steps=sampler.num_steps, guidance_scale=float(scale), dynamic_guidance=dynamic
        )
        return jnp.asarray(guidance.scales(cfg, sampler.schedule, sampler.times()))

    def _check_text(self, text: "_Text", negative: "_Text", *, guided: bool) -> int:
        """Returns the number of prompts.

        Raises:
            ValueError: for texts and states that contradict each other.
        """
        cfg = self.transformer.model.config
        require(
            (text.words is None) != (text.states is None),
            "one of prompt and prompt_embeds must be given, got "
            f"{'neither' if text.words is None else 'both'}; pass one",
        )
        shape = text.shape(1, cfg)
        require(
            len(shape) == 3 and shape[0] > 0 and shape[2] == cfg.text_width,
            f"prompts must be at least one, as states (b, l, {cfg.text_width}), got shape {shape}; "
            "pass a text or what encode_prompt returns",
        )
        if guided:
            require(
                negative.words == "" or negative.states is None,
                "one of negative_prompt and negative_prompt_embeds must be left out, got both; "
                "pass one",
            )
            other = negative.shape(shape[0], cfg)
            require(
                other == shape,
                f"the negative prompt must have the shape {shape} of the prompt, got {other}; pass "
                "as many negative prompts as prompts, or states that encode_prompt returns",
            )
        return shape[0]

    def _check_noise(
        self,
        sampler: samplers.DDIM | samplers.DPM,
        shape: tuple[int, ...],
        latents: AnyArray | None,
        noise: AnyArray | None,
        key: Array | None,
    ) -> None:
        padded = dit.padded_frames(shape[1], self.transformer.model.config)
        expected = (sampler.num_steps, shape[0], padded, *shape[2:])
        require(
            noise is None or sampler.stochastic,
            f"noise must be left out with {type(sampler).__name__}, which draws none; leave it out",
        )
        require(
            noise is None or noise.shape == expected,
            f"noise must have the shape {expected}, got {None if noise is None else noise.shape}; "
            "give it one clip a step",
        )
        drawn = latents is None or (sampler.stochastic and noise is None)
        require(
            key is not None or not drawn,
            "key must be a random key where noise is drawn, got None; pass jax.random.key(0)",
        )


class _Text(NamedTuple):
    """A prompt, as words or as states."""

    words: str | Sequence[str] | None
    states: AnyArray | None

    def shape(self, prompts: int, cfg: DiTConfig) -> tuple[int, ...]:
        """Returns the shape of its states; one text stands for all `prompts`."""
        if self.states is not None:
            return tuple(self.states.shape)
        rows = prompts if isinstance(self.words, str) else len(self.words)
        return (rows, cfg.text_length, cfg.text_width)


def _check_index(folder: pathlib.Path) -> None:
    """Raises `ValueError` unless `folder` holds a text-to-video pipeline."""
    path = folder / "model_index.json"
    try:
        index: Any = json.loads(path.read_text())
        name = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"pipeline {folder} must hold the model_index.json of diffusers, got none: {reason}; "
            "name the folder that a pipeline was saved to"
        ) from None
    require(
        name == _CLASS,
        f"pipeline {folder} must be a {_CLASS}, text to video, got {name}; use one of those models",
    )
    missing = [part for part in _FOLDERS if not (folder / part).is_dir()]
    require(
        not missing,
        f"pipeline {folder} must hold the folders {', '.join(_FOLDERS)}, got no "
        f"{', '.join(missing)}; download it whole",
    )
