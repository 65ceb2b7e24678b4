# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One way to ask for videos, whatever makes them: a run of ours, or a published pipeline."""

import abc
import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from mimir_jax import systems, weights
from mimir_jax.config import MimirConfig, TrainConfig
from mimir_jax.diffusion import samplers
from mimir_jax.encoders import text as features_lib
from mimir_jax.errors import InputError, require
from mimir_jax.parallel import context, distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import cogvideox, pipeline, sizes
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.systems import base
from mimir_jax.weights import initialization, runs

_SIZES = ("--frames", "--height", "--width")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How to sample; None leaves a setting as the checkpoint has it.

    Errors call them by the flags of the launch scripts.

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
        mesh: Sizes of `parallel.mesh.AXES`: how the devices of a process split the model and its
            videos, which changes nothing but rounding; -1 takes what is left.
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
    mesh: tuple[int, ...] = (-1, 1, 1, 1)

    def __post_init__(self):
        for name in ("frames", "height", "width", "steps"):
            value = getattr(self, name)
            require(
                value is None or value >= 1,
                f"--{name} must be at least 1, got {value}; leave it out for the checkpoint's own",
            )
        require(
            self.guidance is None or math.isfinite(self.guidance),
            f"--guidance must be a finite number, got {self.guidance}; 1 guides not at all",
        )
        temperature = self.answer_temperature
        require(
            temperature is None or (math.isfinite(temperature) and temperature >= 0),
            f"--answer_temperature must be a finite number from 0, got {temperature}; 0 always "
            "gives the likeliest answer",
        )

    def make_mesh(self) -> Mesh | None:
        """Returns the mesh of this process; None where it has one device.

        Raises:
            ValueError: if its devices cannot be laid out as `mesh` asks.
        """
        return mesh_lib.own_mesh(self.mesh, setting="--mesh")

    def check_steps(self, most: int) -> None:
        """Raises `ValueError` for more steps than the model was trained for."""
        require(
            self.steps is None or self.steps <= most,
            f"--steps must be at most the {most} of training, got {self.steps}; lower it",
        )

    def check_read(
        self, checkpoint: pathlib.Path, what: str, *, instructions: bool, answers: bool
    ) -> None:
        """Raises `ValueError` for an option that changes nothing.

        Args:
            checkpoint: Where the model lies.
            what: What it is.
            instructions: Whether it reads the stabilizer's questions.
            answers: Whether it reads answers of an LLM.
        """
        readers = {
            "instructions": instructions,
            "answer_temperature": answers,
            "answer_seed": answers,
        }
        for name, read in readers.items():
            require(
                read or getattr(self, name) is None,
                f"checkpoint {checkpoint} must be a Mimir that reads "
                f"{'instructions' if name == 'instructions' else 'answers'} of an LLM for --{name} "
                f"to change a video, got {what}; leave --{name} out",
            )


class Generator(abc.ABC):
    """Makes videos.

    Attributes:
        fps: Frames a second of what it makes.
        ways: Fewest videos at a time that give every device work.
        settings: Everything besides prompt and seed that a video depends on, for its record.
    """

    fps: float
    ways: int
    settings: dict[str, Any]

    @abc.abstractmethod
    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int = 1
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt, each from the noise of its own seed.

        Fewer prompts than `batch_size` are sampled as if they were as many, so that every batch
        runs the same program and a video does not depend on what else is asked for.
        """

    @abc.abstractmethod
    def unread(self, prompt: str) -> str:
        """Returns the end of `prompt` that is too long for some encoder to read, empty if none."""

    def answers(self, prompts: Sequence[str]) -> list[list[str]]:
        """Returns what the LLM answered to each prompt when its video was made.

        The first answer is the one that conditions the video; no other does. There are none where
        the video depends on no answer.
        """
        return [[] for _ in prompts]


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
        config = runs.read_config(workdir)
        system = systems.make_system(config)
        if not isinstance(system, base.DiffusionSystem):
            raise InputError(
                f"checkpoint {workdir} must be a run of a text-to-video system, got one of a "
                f"{config.system.kind}; choose another --checkpoint"
            )
        network, text = config.system.network, config.system.text
        mimir = isinstance(network, MimirConfig)
        asks = mimir and network.stabilizer.enabled and network.stabilizer.use_instructions
        self._reads_answers = mimir and network.fuser.use_llm and text.llm_tokens != "query"
        row = getattr(config.system, "ablation", "baseline") or "of its own"
        what = f"the row {row} with llm_tokens={text.llm_tokens}"
        options.check_read(workdir, what, instructions=asks, answers=self._reads_answers)
        config = _with_options(config, options)
        self._config = config
        mesh = options.make_mesh()
        system = base.with_available_kernels(systems.make_system(config))
        self._params = (
            initialization.start_of(config, system.model, mesh)
            if options.start
            else weights.load_run(workdir, system.model, mesh=mesh)
        )
        seed = config.seed if options.answer_seed is None else options.answer_seed
        self._encoder = systems.make_encoder(dataclasses.replace(config, seed=seed), system, mesh)
        self._tiled = options.tiled
        self._pipeline = pipeline.Pipeline(system, self._encoder, mesh=mesh)
        self.fps, self.ways = config.data.fps, self._pipeline.batch_multiple
        self.settings = {
            "checkpoint": str(workdir),
            "step": 0 if options.start else runs.latest_step(workdir),
            "sampler": dataclasses.asdict(config.system.sampler),
            **{name: getattr(config.data, name) for name in ("frames", "height", "width", "fps")},
            "tiled": options.tiled,
            "ablation": getattr(config.system, "ablation", "baseline"),
        }
        if asks:
            self.settings["instructions"] = list(text.instructions)
        if self._reads_answers:
            self.settings["answer_temperature"] = text.answer_temperature
            self.settings["answer_seed"] = seed

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int = 1
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        return self._pipeline.generate(
            self._params,
            prompts,
            self._config.data,
            seeds=seeds,
            batch_size=batch_size,
            tiled=self._tiled,
        )

    def unread(self, prompt: str) -> str:
        """Returns the longest end of `prompt` that a part of the condition leaves out."""
        return self._encoder.truncated_text(prompt)

    def answers(self, prompts: Sequence[str]) -> list[list[str]]:
        """Returns the answers of the LLM, the one that conditions the video first."""
        if not self._reads_answers:
            return super().answers(prompts)
        return [self._encoder.answers(prompt) for prompt in prompts]


class Published(Generator):
    """A pipeline of diffusers."""

    def __init__(self, folder: pathlib.Path, options: Options):
        if options.start:
            raise InputError(
                f"checkpoint {folder} must be a run to have a start; leave --start out"
            )
        options.check_read(folder, "CogVideoX alone", instructions=False, answers=False)
        size = {
            "num_frames": options.frames,
            "height": options.height,
            "width": options.width,
        }
        cfg, vae = cogvideox.read_configs(folder)
        shape = sizes.latent_shape(cfg, vae, 1, **size, names=_SIZES)
        mesh = options.make_mesh()
        loaded = cogvideox.load_pipeline(folder, mesh=mesh)
        if options.sampler is not None:
            loaded.scheduler = samplers.with_name(loaded.scheduler, options.sampler)
        self._pipeline, self._options = loaded, options
        options.check_steps(loaded.scheduler.schedule.num_train_steps)
        scale = vae.spatial_compression
        self.fps = 8.0 if cfg.temporal_patch is None else 16.0
        self.settings = {
            "checkpoint": str(folder),
            "sampler": {
                "name": type(loaded.scheduler).__name__.lower(),
                "steps": 50 if options.steps is None else options.steps,
                "guidance_scale": 6.0 if options.guidance is None else options.guidance,
                "dynamic_guidance": options.dynamic_cfg or "off",
            },
            "frames": (shape[1] - 1) * vae.temporal_compression + 1,
            "height": shape[2] * scale,
            "width": shape[3] * scale,
            "fps": self.fps,
            "tiled": options.tiled,
        }
        with context.use_mesh(mesh):
            self.ways = latents_lib.batch_multiple(
                guided=self.settings["sampler"]["guidance_scale"] > 1.0
            )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int = 1
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        how = self.settings["sampler"]
        length = self._pipeline.transformer.model.config.text_length
        read = [features_lib.cut(self._pipeline.tokenizer, text, length)[0] for text in prompts]
        seeds = jnp.asarray(latents_lib.pad_batch(seeds, self.ways, batch_size), jnp.uint32)
        latents = self._pipeline(
            latents_lib.pad_batch(read, self.ways, batch_size),
            num_frames=self.settings["frames"],
            height=self.settings["height"],
            width=self.settings["width"],
            num_inference_steps=how["steps"],
            guidance_scale=how["guidance_scale"],
            dynamic_cfg=how["dynamic_guidance"],
            output="latent",
            key=jax.vmap(jax.random.key)(seeds),
        )
        frames = self._pipeline.decode(latents[: len(prompts)], tiled=self._options.tiled)
        return video_lib.to_uint8(2.0 * frames - 1.0)

    def unread(self, prompt: str) -> str:
        """Returns the end of `prompt` that T5 leaves out."""
        length = self._pipeline.transformer.model.config.text_length
        return features_lib.cut(self._pipeline.tokenizer, prompt, length)[1]


class Spread(Generator):
    """A generator on each of many processes, which share the videos out and get all of them."""

    def __init__(self, generator: Generator):
        self._own, self.ways = generator, generator.ways * jax.process_count()
        self.fps, self.settings = generator.fps, generator.settings

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], *, batch_size: int = 1
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video a prompt."""
        each = -(-batch_size // jax.process_count())
        rows = distributed.split_rows(len(prompts))
        words, drawn = [prompts[i] for i in rows], [seeds[i] for i in rows]
        made = self._own.generate(words, drawn, batch_size=each)
        return distributed.join_rows(made, len(prompts))

    def unread(self, prompt: str) -> str:
        """Returns the end of `prompt` that is too long."""
        return self._own.unread(prompt)

    def answers(self, prompts: Sequence[str]) -> list[list[str]]:
        """Returns the answers that each process has, those of the videos that it made."""
        rows = distributed.split_rows(len(prompts))
        own = self._own.answers([prompts[i] for i in rows])
        return [said for part in distributed.gather(own) for said in part][: len(prompts)]


def _with_options(config: TrainConfig, options: Options) -> TrainConfig:
    """Puts `options` over the config of a run.

    Raises:
        ValueError: for what its model cannot do.
    """

    def changed(part: Any, **values: Any) -> Any:
        return dataclasses.replace(part, **{k: v for k, v in values.items() if v is not None})

    task, data = config.system, config.data
    sizes.latent_shape(
        task.dit,
        task.vae,
        1,
        num_frames=options.frames or data.frames,
        height=options.height or data.height,
        width=options.width or data.width,
        names=_SIZES,
    )
    options.check_steps(task.diffusion.num_train_steps)
    tokens, given = len(task.text.instructions), options.instructions
    require(
        given is None or len(given) == tokens,
        f"--instructions must hold {tokens} instructions, one for each token of the stabilizer, "
        f"got {len(given or ())}; change the file",
    )
    sampler = changed(
        task.sampler,
        name=options.sampler,
        steps=options.steps,
        guidance_scale=options.guidance,
        dynamic_guidance=options.dynamic_cfg,
    )
    text = changed(task.text, instructions=given, answer_temperature=options.answer_temperature)
    data = changed(data, frames=options.frames, height=options.height, width=options.width)
    task = dataclasses.replace(task, sampler=sampler, text=text)
    return dataclasses.replace(config, system=task, data=data)
