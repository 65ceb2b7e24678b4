# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of Divot's LLM as a `base.Agent`, and the de-tokenizer that draws what it writes.

Source: arXiv 2412.04432.
"""

import dataclasses
import os
import pathlib

import numpy as np
from jaxtyping import UInt8

from mimir_jax import weights
from mimir_jax.config import TrainConfig
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.systems import base, clip_turns
from mimir_jax.systems.divot_llm import encoder as encoder_lib
from mimir_jax.systems.divot_llm import system as system_lib
from mimir_jax.systems.divot_llm import video_files
from mimir_jax.systems.divot_llm import writer as writer_lib
from mimir_jax.weights import divot_pair, runs


@dataclasses.dataclass(frozen=True)
class Agent:
    """A run of Divot's LLM that is ready to read and write; `base.Agent`.

    Attributes:
        config: The run.
        system: Its pure half.
        encoder: Its host half.
        writer: What it writes.
        reads_as_published: Whether it is a published LLM, which reads frames as the public code
            does.
    """

    config: TrainConfig
    system: system_lib.DivotLLMSystem
    encoder: encoder_lib.AgentEncoder
    writer: writer_lib.Writer
    reads_as_published: bool = False

    def read(
        self, path: str | os.PathLike[str], span: tuple[float, float] | None = None
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
        """Reads a video or an image; see `video_files.read_video`."""
        published = self.reads_as_published
        return video_files.read_video(path, self.config, published=published, span=span)

    def describe(
        self, video: UInt8[np.ndarray, "f h w 3"], question: str | None = None, *, seed: int = 0
    ) -> str:
        """Returns the answer to a question about a video or an image.

        Args:
            video: Its frames at the rate of the run; an image has one.
            question: None asks for a description.
            seed: Of the draws.

        Raises:
            InputError: for a question to a model that was only pretrained, which has none.
        """
        instructed = self.config.system.form == "instruct"
        require(
            question is None or instructed,
            "--question must be left out for a model that was only pretrained, which describes "
            "videos alone; use a run with system.form=instruct",
        )
        kind = "image" if len(video) == 1 else self.encoder.rows.kind
        if question is None:
            question = clip_turns.fill([clip_turns.DESCRIBE], kind)[0] if instructed else ""
        tokens = self.encoder.clip_tokens.encode(video)
        return self.writer.describe(tokens, question, kind=kind, seed=seed)

    def write_clip(self, caption: str, *, seed: int = 0) -> base.Page:
        """Writes a clip of a caption; see `Writer.write_clip`."""
        return self.writer.write_clip(caption, seed=seed)

    def write_story(self, request: str, *, pages: int = 3, seed: int = 0) -> list[base.Page]:
        """Writes texts with clips behind them; see `Writer.write_story`."""
        return self.writer.write_story(request, pages=pages, seed=seed)

    def log_likelihood(self, video: UInt8[np.ndarray, "f h w 3"], caption: str) -> float:
        """Returns log p of the tokens of a clip after its caption; see `Writer.log_likelihood`."""
        (clip,) = self.encoder.clip_tokens.encode(video)
        return self.writer.log_likelihood(clip, caption)

    def with_params(self, params: functional.Params) -> "Agent":
        """Returns this agent with other parameters of the LLM; nothing compiles again."""
        return dataclasses.replace(self, writer=self.writer.with_params(params))

    def with_var_scale(self, var_scale: float) -> "Agent":
        """Returns this agent with another factor of the variances of its draws."""
        return dataclasses.replace(self, writer=self.writer.with_var_scale(var_scale))


def make_writer(
    config: TrainConfig, system: system_lib.DivotLLMSystem, params: functional.Params
) -> writer_lib.Writer:
    """Returns what writes clips with a run, without its tokenizer of clips.

    Args:
        config: The run.
        system: Its pure half.
        params: Parameters of `system.model`, adapters included.
    """
    kind = "image" if config.data.frames == 1 else "video"
    maker = clip_turns.RowMaker(system.tokenizer, system.rows, kind)
    return writer_lib.Writer(system, maker, params)


def make_agent(
    config: TrainConfig,
    system: system_lib.DivotLLMSystem,
    encoder: encoder_lib.AgentEncoder,
    params: functional.Params,
    *,
    temperature: float,
    text_length: int | None,
    reads_as_published: bool,
) -> Agent:
    """Returns a run that is ready to read and write; see `systems.make_agent`."""
    length = config.system.answer_length if text_length is None else text_length
    settings = writer_lib.Settings(temperature=temperature, text_length=length)
    written = writer_lib.Writer(system, encoder.rows, params, settings)
    return Agent(config, system, encoder, written, reads_as_published)


def find_detokenizer(
    config: TrainConfig, path: str | None, flag: str, *, generates: bool
) -> pathlib.Path:
    """Returns the checkpoint of the de-tokenizer of a run; reads no weights.

    Args:
        config: The run.
        path: A run of `divot`, or the published folder; None takes the one whose tokenizer the LLM
            reads.
        flag: What names it, for messages.
        generates: Whether it draws what the LLM writes, not tokens of real clips. It decides
            between the two published de-tokenizers.

    Raises:
        InputError: for a checkpoint of anything else, or none.
    """
    path = config.system.clip_tokenizer_path if path is None else path
    require(path is not None, f"{flag} must name a run of divot, got none; name one")
    folder = weights.resolve(path)
    if divot_pair.is_published(folder):
        return divot_pair.find_detokenizer(folder, generates=generates)
    kind = None
    if (folder / runs.CONFIG_FILE).is_file() and runs.has_checkpoint(folder):
        kind = runs.read_config(folder).system.kind
    require(
        kind == "divot",
        f"{flag} must be a run of divot, which draws clips from tokens, got {path}; "
        f"name one, or the folder {divot_pair.FOLDER}",
    )
    return folder


def check_detokenizer(config: TrainConfig, system: base.System, path: str | None) -> None:
    """Raises `InputError` unless a de-tokenizer draws the tokens that the LLM writes.

    Args:
        config: The run of the LLM.
        system: The system of the de-tokenizer.
        path: As for `find_detokenizer`.
    """
    path = config.system.clip_tokenizer_path if path is None else path
    clip_tokens.require_fits(system.config.model.tokenizer, config.system.model, str(path))
