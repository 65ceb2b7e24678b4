# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One way to ask for videos, whatever makes them: a run of ours, or a published pipeline."""

import abc
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from mimir_jax import weights
from mimir_jax.config import MimirConfig, TextToVideoConfig, TrainConfig
from mimir_jax.diffusion import samplers
from mimir_jax.models import functional, kernels, mimir
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import cogvideox, pipeline, sizes
from mimir_jax.sampling import video as video_lib
from mimir_jax.text import features as features_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to sample; None leaves a setting as the checkpoint has it.

    Attributes:
        sampler: Which one.
        steps: Sampling steps.
        guidance: Guidance scale.
        dynamic_cfg: How the scale varies over the steps.
        frames, height, width: Size of a video in pixels.
        tiled: Whether to decode overlapping tiles and blend them, which saves memory.
        instructions: The stabilizer's questions to the LLM, in place of the trained ones.
        answer_temperature: How freely the LLM answers.
        answer_seed: Draws other answers.
        start: Whether to sample from what a run started from, in place of its newest checkpoint.
    """

    sampler: Literal["ddim", "dpm"] | None = None
    steps: int | None = None
    guidance: float | None = None
    dynamic_cfg: Literal["off", "reference", "smooth"] | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    tiled: bool = False
    instructions: tuple[str, ...] | None = None
    answer_temperature: float | None = None
    answer_seed: int | None = None
    start: bool = False


class Generator(abc.ABC):
    """Makes videos.

    Attributes:
        fps: Frames a second of what it makes.
        settings: Everything besides prompt and seed that a video depends on, for its record.
    """

    fps: float
    settings: dict[str, Any]

    @abc.abstractmethod
    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt, each from the noise of its own seed."""

    @abc.abstractmethod
    def cut(self, prompt: str) -> tuple[str, str]:
        """Splits `prompt` into what fits the text encoder and the rest, empty if all of it does."""

    def answers(self, prompt: str) -> list[str]:
        """Returns what the LLM answers to `prompt`, nothing without one."""
        del prompt
        return []


def open_generator(checkpoint: str | os.PathLike[str], options: Options) -> Generator:
    """Opens a run of a text-to-video task, or the folder of a published pipeline.

    Every one of many processes must open it and ask it for the same videos.

    Raises:
        ValueError: if `checkpoint` is neither, or cannot do what `options` ask.
    """
    place = weights.resolve(checkpoint)
    published = (place / "model_index.json").is_file()
    generator = Published(place, options) if published else Trained(place, options)
    return generator if jax.process_count() == 1 else Spread(generator)


class Trained(Generator):
    """The newest checkpoint of a run, with the frozen networks it was trained with."""

    def __init__(self, workdir: pathlib.Path, options: Options):
        from mimir_jax.training import checkpoint, export, init  # training builds on sampling
        from mimir_jax.training.tasks import text_to_video

        config = export.read_config(workdir)
        if not isinstance(config.task, TextToVideoConfig):
            raise ValueError(
                f"checkpoint {workdir} must be a run of a text-to-video model, got one of a "
                f"{config.task.kind}; choose another --checkpoint"
            )
        config = _with_options(config, options)
        self._config = config
        task = config.task
        if options.start:
            model = functional.build(mimir.Mimir, task.network)
            self._params = init.start_of(config, model)
        else:
            model, self._params = weights.load(workdir, kind="mimir")
        model = functional.build(mimir.Mimir, _with_kernel(model.config))
        seed = config.seed if options.answer_seed is None else options.answer_seed
        use_llm = text_to_video.uses_llm(task)
        self._text = features_lib.TextEncoder(task.text, use_llm=use_llm, seed=seed)
        self._uses_llm, self._tiled = use_llm, options.tiled
        devices = jax.local_devices()
        mesh = None if len(devices) == 1 else mesh_lib.make_mesh(devices=devices)
        self._pipeline = pipeline.Pipeline(
            task,
            model,
            self._text,
            functional.build(autoencoder.VAE, task.vae),
            text_to_video.load_vae(task),
            mesh=mesh,
        )
        self.fps = config.data.fps
        self.settings = {
            "checkpoint": str(workdir),
            "step": 0 if options.start else checkpoint.latest_step(workdir),
            "sampler": dataclasses.asdict(task.sampler),
            **{name: getattr(config.data, name) for name in ("frames", "height", "width", "fps")},
            "tiled": options.tiled,
            "ablation": task.ablation,
        }
        if use_llm:
            self.settings |= {
                "instructions": list(task.text.instructions),
                "answer_temperature": task.text.answer_temperature,
                "answer_seed": seed,
            }

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        return self._pipeline.generate(
            self._params, prompts, self._config.data, seeds=seeds, tiled=self._tiled
        )

    def cut(self, prompt: str) -> tuple[str, str]:
        """Splits `prompt` into what T5 reads and the rest."""
        return self._text.cut(prompt)

    def answers(self, prompt: str) -> list[str]:
        """Returns the answers that condition the video of `prompt`."""
        return self._text.answers(prompt) if self._uses_llm else []


class Published(Generator):
    """A pipeline of diffusers."""

    def __init__(self, folder: pathlib.Path, options: Options):
        if options.start:
            raise ValueError(
                f"checkpoint {folder} must be a run to have a start; leave --start out"
            )
        if options.instructions is not None or options.answer_temperature is not None:
            raise ValueError(
                f"checkpoint {folder} must be a Mimir to read instructions or to answer, got "
                "CogVideoX alone; leave --instructions and --answer_temperature out"
            )
        loaded = cogvideox.load_pipeline(folder)
        if options.sampler is not None:
            fields = {f.name for f in dataclasses.fields(loaded.scheduler)}
            values = {name: getattr(loaded.scheduler, name) for name in fields}
            loaded.scheduler = samplers.SAMPLERS[options.sampler](**values)
        self._pipeline, self._options = loaded, options
        cfg, vae = loaded.transformer.model.config, loaded.vae.model.config
        size = {
            "num_frames": options.frames,
            "height": options.height,
            "width": options.width,
        }
        shape = sizes.latent_shape(cfg, vae, 1, **size)
        scale = vae.spatial_compression
        self.fps = 8.0 if cfg.temporal_patch is None else 16.0
        self.settings = {
            "checkpoint": str(folder),
            "sampler": {
                "name": type(loaded.scheduler).__name__.lower(),
                "steps": options.steps or 50,
                "guidance": 6.0 if options.guidance is None else options.guidance,
                "dynamic": options.dynamic_cfg or "off",
            },
            "frames": (shape[1] - 1) * vae.temporal_compression + 1,
            "height": shape[2] * scale,
            "width": shape[3] * scale,
            "fps": self.fps,
            "tiled": options.tiled,
        }

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        how = self.settings["sampler"]
        frames = self._pipeline(
            list(prompts),
            num_frames=self.settings["frames"],
            height=self.settings["height"],
            width=self.settings["width"],
            num_inference_steps=how["steps"],
            guidance_scale=how["guidance"],
            dynamic_cfg=how["dynamic"],
            tiled=self._options.tiled,
            key=jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32)),
        )
        return video_lib.to_uint8(2.0 * frames - 1.0)

    def cut(self, prompt: str) -> tuple[str, str]:
        """Splits `prompt` into what T5 reads and the rest."""
        length = self._pipeline.transformer.model.config.text_length
        return features_lib.cut(self._pipeline.tokenizer, prompt, length)


class Spread(Generator):
    """A generator on each of many processes, which share the videos out and get all of them."""

    def __init__(self, generator: Generator):
        self._own = generator
        self.fps, self.settings = generator.fps, generator.settings

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int]
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        rows = distributed.split_rows(len(prompts))
        made = self._own.generate([prompts[i] for i in rows], [seeds[i] for i in rows])
        return distributed.join_rows(made, len(prompts))

    def cut(self, prompt: str) -> tuple[str, str]:
        """Splits `prompt` into what T5 reads and the rest."""
        return self._own.cut(prompt)

    def answers(self, prompt: str) -> list[str]:
        """Returns the answers that condition the video of `prompt`."""
        return self._own.answers(prompt)


def _with_kernel(config: MimirConfig) -> MimirConfig:
    """Returns a model that runs here: a run on a TPU may have trained with a kernel of its own."""
    if kernels.missing(config.dit.attention, jax.default_backend()) is None:
        return config
    return dataclasses.replace(config, dit=dataclasses.replace(config.dit, attention="xla"))


def _with_options(config: TrainConfig, options: Options) -> TrainConfig:
    """Puts `options` over the config of a run; its own checks then apply."""

    def changed(part: Any, **values: Any) -> Any:
        return dataclasses.replace(part, **{k: v for k, v in values.items() if v is not None})

    task = config.task
    sampler = changed(
        task.sampler,
        name=options.sampler,
        steps=options.steps,
        guidance=options.guidance,
        dynamic=options.dynamic_cfg,
    )
    text = changed(
        task.text,
        instructions=options.instructions,
        answer_temperature=options.answer_temperature,
    )
    data = changed(config.data, frames=options.frames, height=options.height, width=options.width)
    task = dataclasses.replace(task, sampler=sampler, text=text)
    return dataclasses.replace(config, task=task, data=data)
