# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of VIMI: frozen VAE, multimodal LLM and T5, and the memory of documents."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Bool, Float, UInt8

from mimir_jax.config import TrainConfig, flag
from mimir_jax.data import covering, loader, sources
from mimir_jax.encoders import first_frames, interleaved, multimodal
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError, require
from mimir_jax.image_files import RGBImage
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import functional
from mimir_jax.systems import base, clip_encoder, diffusion, video_encoder
from mimir_jax.systems.vimi import prompts as prompts_lib
from mimir_jax.systems.vimi import system as system_lib
from mimir_jax.systems.vimi.config import VimiSystemConfig

_OPTIONS = ("invented_names", "reference_latents", "image_dropout", "reads_image")
"""What features depend on where it is not 0."""


class VimiEncoder(clip_encoder.ClipEncoder):
    """`base.DiffusionEncoder` of clips whose prompts have images.

    Args:
        config: The run.
        system: The pure half.
        llm: Encodes the prompts.
        codec_params: Parameters of the system's codec.
        t5: Encodes the captions of the prompts, where the network reads them.
    """

    padded = ("states",)

    def __init__(
        self,
        config: TrainConfig,
        system: system_lib.VimiSystem,
        llm: multimodal.MultimodalEncoder,
        codec_params: functional.Params,
        t5: text_lib.TextEncoder | None = None,
    ):
        super().__init__(config, system, codec_params)
        self._llm, self._t5 = llm, t5
        self._prompts = prompts_lib.RunPrompts(config)
        cfg = config.system.first_frame
        self._frame_encoder = first_frames.FirstFrameEncoder(cfg, system.codec, codec_params, 0)

    def encode_features(self, records: Mapping[str, Any]) -> system_lib.DrawnPrompts:
        """Returns the states of the prompts drawn for `records`.

        Records without `index` are held out: their prompt has the best document.
        """
        count = self._config.system.prompts_per_clip
        if "index" not in records:
            cfg, retrieval = self._config.system, self._prompts.retrieval
            made = [prompts_lib.with_best(cfg, x, retrieval) for x in records["caption"]]
            return self._encode_drawn([[prompt] * count for prompt in made])
        draw = self._prompts.training.draw
        drawn = [[draw(record, n) for n in range(count)] for record in _rows(records)]
        return self._encode_drawn(drawn)

    def encode_task(self, records: Mapping[str, Any], task: str) -> diffusion.Batch:
        """Returns the batch of held-out records with prompts of one task of the second stage."""
        count = self._config.system.prompts_per_clip
        draw = self._prompts.heldout.draw
        made = [[draw(record, 0, task=task)] * count for record in _rows(records)]
        moments = self._moments.encode(records["video"])
        return diffusion.Batch(moments=moments, features=self._encode_drawn(made))

    def has_task(self, record: Mapping[str, Any], task: str) -> bool:
        """Whether a held-out record has prompts of a task."""
        return self._prompts.heldout.has_task(int(record["index"]), task)

    def feature_identity(self) -> dict[str, Any]:
        """Returns what the states of prompts depend on."""
        cfg, retrieval = self._config.system, self._prompts.retrieval
        fields = ("bm25", "retrieval", "stage", "tasks", "prompts_per_clip", "document_dropout")
        return {
            **({} if self._t5 is None else {"captions": self._t5.identity()}),
            **{name: getattr(cfg, name) for name in _OPTIONS if getattr(cfg, name)},
            **({} if cfg.documents == "retrieved" else {"documents": cfg.documents}),
            "llm": self._llm.identity(),
            "wordings": {
                name: list(getattr(cfg.multimodal, name))
                for name in ("subject", "prediction", "retrieval")
            },
            **self._cutouts_identity(),
            "pretraining_instruction": cfg.multimodal.pretraining_instruction,
            "memory": {"checksum": retrieval and retrieval.memory.checksum},
            "prompts": {name: repr(getattr(cfg, name)) for name in fields},
        }

    def _cutouts_identity(self) -> dict[str, Any]:
        cutouts = prompts_lib.open_cutouts(self._config.system)
        return {} if cutouts is None else {"cutouts": cutouts.digest}

    def features(self, requests: Sequence[base.Request]) -> condition_lib.PromptFeatures:
        """Returns the states of the prompt of each request, with its images or document.

        Raises:
            InputError: for images that do not fit the marks of a prompt, or inputs of several
                tasks.
        """
        return self._encode([self._compose(r) for r in requests], self._size(requests))

    def null_features(
        self, requests: Sequence[base.Request]
    ) -> tuple[condition_lib.PromptFeatures, Bool[np.ndarray, " b"]]:
        """Returns the states of negative prompts; the network's null rule applies to the others.

        First frames whose latents the transformer reads stay.
        """
        made = [self._compose(request) for request in requests]
        for row, request in enumerate(requests):
            if request.negative_prompt is not None:
                made[row] = made[row].with_text_alone(request.negative_prompt)
        drop = np.array([request.negative_prompt is None for request in requests])
        return self._encode(made, self._size(requests)), drop

    def text_features(self, requests: Sequence[base.Request]) -> condition_lib.PromptFeatures:
        """Returns the states of captions alone, without images and documents (V-U17).

        First frames whose latents the transformer reads stay.
        """
        made = [self._compose(request) for request in requests]
        alone = [prompt.with_text_alone(prompt.caption) for prompt in made]
        return self._encode(alone, self._size(requests))

    def with_first_frames(
        self, features: base.Features, frames: Sequence[UInt8[np.ndarray, "h w 3"] | None]
    ) -> base.Features:
        """Returns `features`, which first frames are a part of.

        Raises:
            InputError: for a first frame, which the LLM must read with its prompt.
        """
        require(
            all(frame is None for frame in frames),
            "first_frame must be part of a request to vimi, which reads it with the prompt; use "
            "Pipeline.generate",
        )
        return features

    def truncated_text(self, request: base.Request) -> str:
        """Returns the ends of the texts of a request that do not fit LLM or T5, the longer."""
        prompt = self._compose(request)
        rest = " ... ".join(self._llm.truncated(prompt))
        if self._t5 is None:
            return rest
        return max(rest, self._t5.truncated(prompt.caption)["t5"], key=len)

    def _compose(self, request: base.Request) -> interleaved.Prompt:
        if self._config.system.stage == "pretrain":
            cfg = self._config.system
            return prompts_lib.with_document(cfg, request.prompt, request.document)
        return interleaved.compose(
            self._llm.config,
            request.prompt,
            images=request.images,
            first_frame=request.first_frame,
            document=prompts_lib.read_part(self._config.system, request.document),
        )

    def _size(self, requests: Sequence[base.Request]) -> tuple[int, int]:
        """Returns height and width of the videos of requests."""
        _, height, width = self._system.sample_size
        return requests[0].height or height, requests[0].width or width

    def _encode(
        self, prompts: Sequence[interleaved.Prompt], size: tuple[int, int]
    ) -> condition_lib.PromptFeatures:
        """Returns the states of prompts, with T5 and latents of images where these are read.

        Args:
            prompts: The prompts.
            size: Height and width of their videos.
        """
        features = self._llm.encode(prompts)
        if self._t5 is not None:
            t5 = self._t5.encode([prompt.caption for prompt in prompts]).t5
            features = dataclasses.replace(features, t5=t5)
        if self._config.system.reads_image:
            frames = [[] if p.first_frame is None else [p.first_frame] for p in prompts]
            first = np.stack([self._latents(frame, 1, *size)[0] for frame in frames])
            features = dataclasses.replace(features, first_frame=first)
        if count := self._config.system.reference_latents:
            rows = [self._latents(p.images[:count], count, *size) for p in prompts]
            latents, mask = (np.stack(part) for part in zip(*rows, strict=True))
            features = dataclasses.replace(features, reference_latents=latents, reference_mask=mask)
        return features

    def _latents(
        self, images: Sequence[RGBImage], count: int, height: int, width: int
    ) -> tuple[Float[np.ndarray, "p h w c"], Bool[np.ndarray, " p"]]:
        """Returns the latents of at most `count` images, on white, and where they are."""
        fitted = [covering.resize_contain(x, height, width, fill=255) for x in images]
        shape = self._system.codec.latent_shape(1, height, width)[1:]
        latents = np.zeros((count, *shape), np.float32)
        if fitted:
            means = self._frame_encoder.encode_clean(fitted)[:, 0]  # (p, h, w, c)
            latents[: len(fitted)] = self._system.codec.scale(jnp.asarray(means[None]))[0]
        return latents, np.arange(count) < len(fitted)

    def _encode_drawn(
        self, rows: Sequence[Sequence[interleaved.Prompt]]
    ) -> system_lib.DrawnPrompts:
        """Returns the states of the prompts of each row."""
        data = self._config.data
        encoded = [self._encode(row, (data.height, data.width)) for row in rows]
        whole = jax.tree.map(lambda *parts: np.stack(parts), *encoded)
        return system_lib.DrawnPrompts(
            states=whole.states,
            states_mask=whole.mask,
            t5=whole.t5,
            reference_latents=whole.reference_latents,
            reference_mask=whole.reference_mask,
            first_frame=whole.first_frame,
        )


class HeldoutTask(diffusion.HeldoutLoss):
    """The held-out loss with the prompts of one task of the second stage.

    Args:
        config: The run.
        system: The pure half.
        encoder: The host half.
        task: The task.
    """

    def __init__(
        self,
        config: TrainConfig,
        system: system_lib.VimiSystem,
        encoder: VimiEncoder,
        task: str,
    ):
        super().__init__(system, encoder)
        self._config, self._task = config, task

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss_TASK`, nothing where no held-out clip has prompts of the task."""
        if not self.batches:
            return {}
        return {f"loss_{self._task}": super().evaluate(params)["loss"]}

    def records(self) -> list[dict[str, Any]]:
        """Reads those of the held-out clips that have prompts of the task."""
        source = sources.make_source(self._config.data, "heldout", seed=self._config.seed)
        count = min(self._config.system.heldout_clips, len(source))
        records = (source[i] for i in range(count))
        return [record for record in records if self._encoder.has_task(record, self._task)]

    @functools.cached_property
    def batches(self) -> list[tuple[str, diffusion.Batch]]:
        """Held-out batches of the task, each with the name of its bucket."""
        sizes: dict[str, list[dict[str, Any]]] = {}  # clips of one bucket in a batch
        for record in self.records():
            sizes.setdefault("x".join(map(str, record["video"].shape[:3])), []).append(record)
        made = []
        for name, records in sizes.items():
            for start in range(0, len(records), diffusion.HELDOUT_BATCH):
                part = loader.stack(records[start : start + diffusion.HELDOUT_BATCH])
                made.append((name, jax.device_put(self._encoder.encode_task(part, self._task))))
        return made


def make_encoder(
    config: TrainConfig, system: system_lib.VimiSystem, mesh: Mesh | None = None
) -> VimiEncoder:
    """Loads the frozen networks of a run of VIMI.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process that would split parameters; None keeps the LLM whole unless
            the run splits it.

    Raises:
        InputError: for a network that is missing or of another width than the model reads.
    """
    section, mesh = config.system, video_encoder.text_mesh(config, mesh)
    llm_width = multimodal.read_width(section.multimodal)  # checked before weights are read
    _check_width(section, "llm_width", llm_width, section.multimodal.path)
    if section.reads_t5:
        t5_width = text_lib.read_t5_width(section.text)
        _check_width(section, "text_width", t5_width, section.text.t5_path)
    _, codec_params = system.frozen["vae"].load()
    llm = multimodal.MultimodalEncoder(section.multimodal, mesh=mesh)
    t5 = None
    if section.reads_t5:
        t5 = text_lib.TextEncoder(section.text, use_llm=False, seed=config.seed, mesh=mesh)
    return VimiEncoder(config, system, llm, codec_params, t5)


def _check_width(section: VimiSystemConfig, name: str, width: int, path: str | None) -> None:
    """Raises `InputError` unless the aligner has the width of a frozen network."""
    stated = getattr(section.model.aligner, name)
    if width != stated:
        raise InputError(
            f"aligner.{name} must be the width {width} of {path}, got {stated}; set it with "
            f"{flag(f'system.model.aligner.{name}')}"
        )


def make_evaluators(
    config: TrainConfig, system: system_lib.VimiSystem, encoder: VimiEncoder
) -> list[base.Evaluator]:
    """Returns the held-out loss, and in the second stage those of its tasks."""
    evaluators = diffusion.make_evaluators(config, system, encoder)
    if config.system.stage == "instruct":
        tasks = config.system.tasks.shares
        evaluators += [HeldoutTask(config, system, encoder, task) for task in tasks]
    return evaluators


def _rows(records: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a batch of records one by one."""
    names = ("video", "caption", "index")
    return [
        dict(zip(names, row, strict=True))
        for row in zip(*(records[name] for name in names), strict=True)
    ]
