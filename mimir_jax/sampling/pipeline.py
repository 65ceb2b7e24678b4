# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From requests to videos with any diffusion system, of a run or of a published folder.

requests -> encoder -> features -> condition -> denoise under one scan -> codec -> frames
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Key, UInt8

from mimir_jax.config import SamplerConfig, TrainConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed
from mimir_jax.sampling import arguments, denoiser, edits, first_frames, long, request_checks
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import request as request_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base

AnyArray = Array | np.ndarray


class Network(NamedTuple):
    """A network and its parameters."""

    model: functional.Model
    params: functional.Params


class Pipeline:
    """Samples videos; call it as a pipeline of diffusers, or use `generate`.

    Args:
        system: Network, codec and null rule.
        encoder: The frozen networks.
        params: Parameters of the network.
        sampler: Takes the steps.
        guidance: Scale, dynamics and rescaling of guidance.
        fps: Frames per second of the videos.
        tiled: Whether `generate` decodes overlapping tiles and blends them, which saves memory.
        mesh: Spreads the videos of a batch over its `data` and `fsdp` axes, each over `context` and
            `tensor`, and the rows of each over all its devices when it is decoded. None stands for
            one device, or for the mesh of the training run around it.
        settings: What the videos depend on besides requests and sampling, for their records.
        reads_as_published: Whether files are read as in the public code of the model
            (`reconstruction`).

    Attributes:
        system, encoder, params, mesh, fps, reads_as_published: As above.
        scheduler: The sampler.
        size: Size of a video where a request names none.
        denoiser: Features to latents.
        decoder: Latents to frames.
    """

    def __init__(
        self,
        system: base.DiffusionSystem,
        encoder: base.DiffusionEncoder,
        params: functional.Params | None,
        *,
        sampler: samplers.Sampler,
        guidance: SamplerConfig,
        fps: float,
        tiled: bool = False,
        mesh: Mesh | None = None,
        settings: Mapping[str, Any] | None = None,
        reads_as_published: bool = False,
    ):
        self.system, self.encoder, self.params, self.mesh = system, encoder, params, mesh
        self.scheduler, self.fps = sampler, fps
        self.reads_as_published = reads_as_published
        self._guidance, self._tiled = guidance, tiled
        self.size = request_lib.Size(*system.sample_size)
        self._settings = dict(settings or {})
        self.denoiser = denoiser.Denoiser(system, mesh)
        self.decoder = latents_lib.Decoder(system.codec, encoder.codec_params, mesh)

    def with_params(self, params: functional.Params, **settings: Any) -> "Pipeline":
        """Returns this pipeline with other parameters of the network; nothing compiles again.

        Args:
            params: The parameters.
            **settings: What changes in the records of its videos.
        """
        other = copy.copy(self)
        other.params, other._settings = params, self._settings | settings
        return other

    @property
    def settings(self) -> dict[str, Any]:
        """What a video depends on besides its request, as JSON values, for its record."""
        return {
            **self._settings,
            "sampler": dataclasses.asdict(self._guidance),
            **self.size._asdict(),
            "fps": self.fps,
            "tiled": self._tiled,
            **self.system.sampling_options(),
        }

    @property
    def batch_multiple(self) -> int:
        """Fewest videos at a time that give every device work."""
        return self._own_multiple * (jax.process_count() if self._shares else 1)

    @property
    def transformer(self) -> Network:
        """The network that denoises, by its name in diffusers."""
        return Network(self.system.model, self.params)

    @property
    def vae(self) -> Network:
        """The codec, by its name in diffusers."""
        return Network(self.system.codec.model, self.encoder.codec_params)

    @property
    def text_encoder(self) -> Any:
        """T5 (`model`, `params`, `tokenizer`), by its name in diffusers."""
        return self.encoder.text.networks["t5"]

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of T5."""
        return self.text_encoder.tokenizer

    @context.in_32_bits()
    def generate(
        self, requests: Sequence[Request], *, batch_size: int = 1
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video per request, each from the noise of its own seed.

        All processes must call it alike, and all get all videos. Where each process has a model of
        its own they share the videos; where the parameters lie on many processes they all work on
        each.

        Args:
            requests: At least one, all of one size.
            batch_size: Fewer requests are padded to as many by copies that are not decoded, so that
                every batch runs the same program and a video does not depend on the others.

        Raises:
            InputError: for a request that the system cannot follow, or sizes that differ.
        """
        shape = self._latent_shape(requests)
        if long.are_long(requests):
            return np.stack([self._generate_long(request) for request in requests])
        if not self._shares:
            return self._generate(requests, shape, batch_size)
        rows = distributed.split_rows(len(requests))
        each = -(-batch_size // jax.process_count())
        made = self._generate([requests[i] for i in rows], shape, each)
        return distributed.join_rows(made, len(requests))

    def check(self, requests: Sequence[Request]) -> None:
        """Raises `InputError` for a request that the system cannot follow or does not read."""
        sizes = (self.size, self.fps)
        request_checks.check(requests, self.system, self._guidance, *sizes, tiled=self._tiled)

    def truncated_text(self, request: Request) -> str:
        """Returns the end of the prompt that is too long for the network, "" if none is."""
        return self.encoder.truncated_text(request)

    def answers(self, requests: Sequence[Request]) -> list[list[str]]:
        """Returns what an LLM answered to each prompt when `generate` made its video.

        The first answer conditions the video; there are none where no answer does, and for videos
        with a `length`, whose windows have answers of their own.
        """
        if any(map(long.is_long, requests)):
            return [[] for _ in requests]
        if not self._shares:
            return [self.encoder.answers(request.prompt) for request in requests]
        rows = distributed.split_rows(len(requests))
        own = [self.encoder.answers(requests[i].prompt) for i in rows]
        parts = distributed.gather(own)
        return [answers for part in parts for answers in part][: len(requests)]

    @context.in_32_bits()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        first_frame: Any = None,
        video: UInt8[np.ndarray, "_ _ _ 3"] | None = None,
        strength: float | int | None = None,
        mask: Bool[np.ndarray, "..."] | None = None,
        prompt_embeds: Any = None,
        negative_prompt_embeds: Any = None,
        latents: Float[AnyArray, "_ _ _ _ _"] | None = None,
        noise: Float[AnyArray, "_ _ _ _ _ _"] | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        dynamic_guidance: str | None = None,
        num_videos_per_prompt: int = 1,
        tiled: bool = False,
        output: str = "video",
        key: Key[Array, ""] | Key[Array, " videos"] | None = None,
    ) -> Float32[np.ndarray, "videos _ _ _ _"]:
        """Returns videos (videos, frames, rows, columns, 3) in 0..1, those of one prompt together.

        What is left out is as in the run, for a published folder its size, 50 steps and guidance 6.
        The sample size of 1.5 models is no native one: it bounds the rotary grid at 2400 x 2400
        pixels, so give them `height` and `width`, 768 and 1360. They sample padded latents; the
        extra leading frames are dropped.

        Args:
            prompt: One text or several.
            negative_prompt: Text that guidance leads away from, one for all prompts or one each; by
                default the null condition of the model, for CogVideoX the empty text.
            first_frame: First frame of the videos for image-to-video models, (h, w, 3) of uint8;
                one for all prompts or one each. Other sizes are fitted. None leaves it to the
                model.
            video: Clip (frames, h, w, 3) of uint8 to edit, for all prompts; sizes follow from it.
            strength: Share of the steps that it is edited by; see `Request.strength`.
            mask: Pixels of it that are made anew; see `Request.mask`.
            prompt_embeds: What `encode_prompt` returns in place of `prompt`, one row per prompt.
            negative_prompt_embeds: The same in place of `negative_prompt`, of the same shape.
            latents: Noise to start from (videos, t, h, w, c), padded for 1.5 models; sizes follow
                from it. For 1.5 models `num_frames` decides how much is padding, by default as
                little as leaves frames that the VAE returns whole.
            noise: Noise of every step (steps, videos, t, h, w, c), for stochastic samplers.
            num_frames: Frames per video, 8N+1.
            height: Pixel rows, a multiple of 16 in released models.
            width: Pixel columns, likewise.
            num_inference_steps: Sampling steps.
            guidance_scale: Scale of guidance; none at all up to 1.
            dynamic_guidance: How the scale varies over the steps: `off`, `reference` as in
                diffusers, or `smooth`; see `guidance.scales`.
            num_videos_per_prompt: Videos per prompt.
            tiled: Whether to decode overlapping tiles and blend them, which saves memory.
            output: `video`, or `latent` for scaled latents (videos, t, h, w, c), not decoded.
            key: Draws what of `latents` and `noise` is not given; one, or one per video.

        Raises:
            InputError: for contradicting arguments or impossible sizes.
        """
        cfg = arguments.guidance(self._guidance, guidance_scale, dynamic_guidance)
        guided = guidance.guides(cfg)
        text = arguments.Text(prompt, prompt_embeds)
        negative = arguments.Text(negative_prompt, negative_prompt_embeds)
        prompts = arguments.count_prompts(self.system, text, negative if guided else None)
        arguments.check_choices(num_videos_per_prompt, output)
        rows = prompts * num_videos_per_prompt
        size = {"num_frames": num_frames, "height": height, "width": width}
        if video is not None and latents is None:
            size = dict(zip(size, video.shape, strict=False))
        if latents is None:
            shape = arguments.latent_shape(self.system, self.size, rows, **size)
        else:
            shape = arguments.latent_shape_of(self.system, tuple(latents.shape), rows, **size)
        frames = self._first_frames(first_frame, prompts, shape)
        sampler = arguments.with_steps(self.scheduler, num_inference_steps)
        edit = Request("", video=video, strength=strength, mask=mask)
        edits.check(self.system, [edit], edit.video.shape[:3] if edits.is_edit(edit) else ())
        sampler = edits.with_skip(sampler, edits.strength_of([edit]))
        padded = (rows, self.system.padded_frames(shape[1]), *shape[2:])
        arguments.check_noise(sampler, padded, latents, noise, key)

        words = text.listed(prompts)
        features = self.encode_prompt(words) if text.features is None else text.features
        features = self.encoder.with_first_frames(features, frames)
        null = self._null_features(words, negative, frames) if guided else None
        features, null = jax.tree.map(
            lambda x: jnp.repeat(jnp.asarray(x), num_videos_per_prompt, axis=0), (features, null)
        )
        options = {"key": key, "latents": latents, "noise": noise}
        options["known"] = edits.known(self.system, self.encoder, [edit] * rows)
        drawn = self.denoiser(self.params, features, null, shape, sampler, cfg, **options)
        if output == "latent":
            return np.asarray(drawn, np.float32)
        return self.decode(drawn, tiled=tiled)

    @context.in_32_bits()
    def encode_prompt(self, prompts: Sequence[str]) -> Any:
        """Returns what conditions the network on `prompts`; for CogVideoX T5 states (b, l, d)."""
        return self.encoder.features([Request(prompt) for prompt in prompts])

    @context.in_32_bits()
    def decode(
        self, latents: Float[AnyArray, "b t h w c"], *, tiled: bool = False
    ) -> Float32[np.ndarray, "b frames pixel_rows pixel_columns 3"]:
        """Returns the frames of scaled latents in 0..1, decoded video by video.

        On a mesh every device takes a band of pixel rows, which changes nothing but rounding.

        Args:
            latents: What the network denoises, without padding.
            tiled: Whether to decode overlapping tiles and blend them, which saves memory.
        """
        videos = self.decoder.rows(jnp.asarray(latents), tiled=tiled)
        return np.clip(np.stack(videos) * 0.5 + 0.5, 0.0, 1.0)

    @property
    def _own_multiple(self) -> int:
        """`batch_multiple` of the devices that the parameters are on."""
        with context.use_mesh(self.mesh):
            return latents_lib.batch_multiple(guidance.branches(self._guidance))

    @property
    def _shares(self) -> bool:
        """Whether each of many processes has the parameters to itself."""
        leaves = jax.tree.leaves(self.params)
        return jax.process_count() > 1 and all(x.is_fully_addressable for x in leaves)

    def _prepared(self, request: Request) -> Request:
        """Returns a request that names its size, with a first frame of it."""
        request = dataclasses.replace(request, **self.size.of(request)._asdict())
        return first_frames.fitted(request, self.size, self.system)

    def _latent_shape(self, requests: Sequence[Request]) -> tuple[int, ...]:
        """Returns the shape (t, h, w, c) of the latents of each request."""
        self.check(requests)
        sizes = set(map(self.size.of, requests))
        require(
            len(sizes) == 1,
            f"requests made together must have one size, got {len(sizes)}; make them one by one",
        )
        return self.system.codec.latent_shape(*sizes.pop())

    def _generate(
        self, requests: Sequence[Request], shape: tuple[int, ...], batch_size: int
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Makes the videos of requests with the parameters that this process has a part of."""
        count = len(requests)
        requests = latents_lib.pad_batch(
            [self._prepared(request) for request in requests],
            self._own_multiple,
            batch_size,
        )
        latents = self.denoiser(
            self.params,
            self.encoder.features(requests),
            self._null_of(requests),
            (len(requests), *shape),
            edits.with_skip(self.scheduler, edits.strength_of(requests)),
            self._guidance,
            key=request_lib.make_keys([request.seed for request in requests]),
            known=edits.known(self.system, self.encoder, requests),
            text=self._text_of(requests),
        )
        if latents.is_fully_addressable:
            return self._to_frames(latents[:count])
        rows = distributed.to_host(latents)[distributed.split_rows(count)]
        return distributed.join_rows(self._to_frames(rows), count)

    def _generate_long(self, request: Request) -> UInt8[np.ndarray, "f h w 3"]:
        """Makes a video of overlapping windows; only its latents are on the device as a whole."""
        request = self._prepared(request)
        plan = long.plan(self.system, request, self.size.of(request), self.fps)
        rows = self._own_multiple
        requests = list(plan.requests) * rows
        latents = self.denoiser(
            self.params,
            self.encoder.features(requests),
            self._null_of(requests),
            (rows, *plan.shape),
            self.scheduler,
            self._guidance,
            key=request_lib.make_keys([request.seed] * rows),
            windows=plan.windows,
            text=self._text_of(requests),
        )
        chunks = self.decoder.stream(distributed.to_host(latents)[:1])
        return np.concatenate([self._to_uint8(chunk[0]) for chunk in chunks])

    def _null_of(self, requests: Sequence[Request]) -> tuple[Any, Bool[np.ndarray, " rows"]] | None:
        """Returns the features of the unconditional branch, and its rows with the null rule."""
        guided = guidance.guides(self._guidance)
        return self.encoder.null_features(requests) if guided else None

    def _text_of(self, requests: Sequence[Request]) -> Any:
        """Returns the features of the prompts alone, where images have a scale of their own."""
        if guidance.branches(self._guidance) < 3:
            return None
        return self.encoder.text_features(requests)

    def _first_frames(self, given: Any, prompts: int, shape: tuple[int, ...]) -> list[Any]:
        """Returns the first frame of each prompt, of the size of the videos, or None."""
        scale = self.system.codec.spatial_compression
        height, width = (size * scale for size in shape[2:4])
        images = first_frames.listed(given, prompts)
        first_frames.check(self.system, images)
        how = getattr(self.system.config, "first_frame", None)
        return [p if p is None else first_frames.fit(p, height, width, how.fit)[0] for p in images]

    def _null_features(
        self, words: Sequence[str], negative: arguments.Text, frames: Sequence[Any]
    ) -> tuple[Any, Bool[np.ndarray, " b"]]:
        """Returns the features of the unconditional branch, and its rows with the null rule."""
        drop = np.zeros(len(frames), bool)
        if negative.features is None:
            pairs = zip(words, negative.listed(len(frames), default=None), strict=True)
            requests = [Request(a, negative_prompt=b) for a, b in pairs]
            features, drop = self.encoder.null_features(requests)
        else:
            features = negative.features
        return self.encoder.with_first_frames(features, frames), drop

    def _to_frames(self, latents: AnyArray) -> UInt8[np.ndarray, "b f h w 3"]:
        videos = self.decoder.rows(latents, tiled=self._tiled)
        return np.stack([self._to_uint8(video) for video in videos])

    def _to_uint8(self, video: Float[np.ndarray, "f h w 3"]) -> UInt8[np.ndarray, "f h w 3"]:
        return video_lib.to_uint8(video, truncate=self._guidance.variant == "reference")


def make_pipeline(
    config: TrainConfig,
    system: base.DiffusionSystem,
    encoder: base.DiffusionEncoder,
    params: functional.Params | None = None,
    **options: Any,
) -> Pipeline:
    """Returns the pipeline of a run, which samples as its config says.

    Args:
        config: The run.
        system: The pure half of its system.
        encoder: The host half.
        params: Parameters of the network; None where `with_params` gives them.
        **options: Further arguments of `Pipeline`.
    """
    cfg = config.system.sampler
    options.setdefault("sampler", latents_lib.make_sampler(config.system))
    return Pipeline(system, encoder, params, guidance=cfg, fps=config.data.fps, **options)
