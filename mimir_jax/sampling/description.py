# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos to text, and text to clip tokens, by a trained run of Divot's LLM (arXiv 2412.04432).

A video is read in clips at the rate of the run, cut as `data.windows` cuts it: one behind the
other, or 20 spread over a long one. An image is one clip that stands still.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, UInt8

from mimir_jax import files, image_files, systems, weights
from mimir_jax.config import ClipWindowConfig, TrainConfig
from mimir_jax.data import covering, transforms, video_io, windows
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling import pipeline, published_divot
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.systems import clip_turns
from mimir_jax.systems.divot_llm import encoder as encoder_lib
from mimir_jax.systems.divot_llm import system as system_lib
from mimir_jax.systems.divot_llm import writer
from mimir_jax.weights import runs


@dataclasses.dataclass(frozen=True)
class Agent:
    """A run of Divot's LLM that is ready to read and write.

    Attributes:
        config: The run.
        system: Its pure half.
        encoder: Its host half.
        writer: What it writes.
        published: Whether it is a published LLM, which reads frames as the public code does.
    """

    config: TrainConfig
    system: system_lib.DivotLLMSystem
    encoder: encoder_lib.AgentEncoder
    writer: writer.Writer
    published: bool = False

    def read(
        self, path: str | os.PathLike[str], span: tuple[float, float] | None = None
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
        """Reads a video or an image; see `read_video`."""
        return read_video(path, self.config, published=self.published, span=span)

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

    def write_clips(self, requests: Sequence[Request]) -> list[Request]:
        """Returns requests to draw the clips that the LLM writes of their prompts."""
        return [
            dataclasses.replace(r, tokens=self.writer.write_clip(r.prompt, seed=r.seed).clip)
            for r in requests
        ]

    def tell(self, request: str, *, pages: int, seed: int = 0) -> tuple[list[str], list[Request]]:
        """Tells a story.

        Args:
            request: What it is about.
            pages: Most clips.
            seed: Of all draws.

        Returns:
            Its texts, and requests to draw its clips, whose prompts are the texts before them.
        """
        story = self.writer.write_story(request, pages=pages, seed=seed)
        clips = [
            Request(page.text or request, tokens=page.clip, seed=seed + number)
            for number, page in enumerate(story)
            if page.clip is not None
        ]
        return [page.text for page in story], clips

    def open_detokenizer(
        self, checkpoint: str | None, config: SampleConfig, mesh: Mesh | None = None
    ) -> pipeline.Pipeline:
        """Opens what draws clips that the LLM writes; see `open_detokenizer`."""
        return open_detokenizer(self.config, checkpoint, config, mesh)


def open_detokenizer(
    run: TrainConfig,
    checkpoint: str | None,
    config: SampleConfig,
    mesh: Mesh | None = None,
    *,
    generates: bool = True,
) -> pipeline.Pipeline:
    """Opens the de-tokenizer that draws the clip tokens of a run of Divot's LLM.

    Args:
        run: The run.
        checkpoint: A run of `divot`, or the published folder; None takes the one whose tokenizer
            the LLM reads.
        config: How to sample it.
        mesh: Devices to spread networks and videos over.
        generates: Whether it draws what the LLM writes, not tokens of real clips. It decides
            between the two published de-tokenizers.

    Raises:
        InputError: for a checkpoint of anything else, or of other tokens.
    """
    path = run.system.clip_tokenizer_path if checkpoint is None else checkpoint
    folder = find_detokenizer(path, "--detokenizer", generates=generates)
    opened = open_lib.open_pipeline(folder, config, mesh)
    tokenizer = opened.system.config.model.tokenizer
    clip_tokens.require_fits(tokenizer, run.system.model, str(path))
    return opened


def find_detokenizer(path: str | None, flag: str, *, generates: bool = True) -> pathlib.Path:
    """Returns the checkpoint of the de-tokenizer that `path` names; reads no weights.

    Args:
        path: A run of `divot`, or the published folder.
        flag: What names it, for messages.
        generates: As for `open_detokenizer`.

    Raises:
        InputError: for a checkpoint of anything else, or none.
    """
    require(path is not None, f"{flag} must name a run of divot, got none; name one")
    folder = weights.resolve(path)
    if published_divot.is_pair(folder):
        return published_divot.find_detokenizer(folder, generates=generates)
    kind = None
    if (folder / runs.CONFIG_FILE).is_file() and runs.has_checkpoint(folder):
        kind = runs.read_config(folder).system.kind
    require(
        kind == "divot",
        f"{flag} must be a run of divot, which draws clips from tokens, got {path}; "
        f"name one, or the folder {published_divot.CLIPS}",
    )
    return folder


class WrittenVideos:
    """Videos of prompts whose clip tokens an LLM writes and a de-tokenizer draws.

    It generates for suites of evaluation as a pipeline does.

    Args:
        agent: Writes the tokens.
        drawn: Draws them.
        settings: What a record says of the LLM.
    """

    def __init__(self, agent: Agent, drawn: pipeline.Pipeline, settings: dict[str, Any]):
        self._agent, self._pipeline = agent, drawn
        self.fps, self.batch_multiple = drawn.fps, drawn.batch_multiple
        self.settings = {
            **drawn.settings,
            "detokenizer": drawn.settings["checkpoint"],
            "detokenizer_step": drawn.settings.get("step"),
            **settings,
        }

    def generate(
        self, requests: Sequence[Request], *, batch_size: int
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video per request."""
        return self._pipeline.generate(self._agent.write_clips(requests), batch_size=batch_size)

    def tell(
        self, request: str, *, pages: int, seed: int
    ) -> tuple[list[str], Sequence[UInt8[np.ndarray, "f h w 3"]]]:
        """Returns the texts of a story and its clips; see `Agent.tell`."""
        texts, requests = self._agent.tell(request, pages=pages, seed=seed)
        if not requests:
            return texts, []
        return texts, list(self._pipeline.generate(requests, batch_size=self.batch_multiple))

    @property
    def system(self) -> system_lib.DivotLLMSystem:
        """The LLM's."""
        return self._agent.system

    @property
    def config(self) -> TrainConfig:
        """The run of the LLM."""
        return self._agent.config

    def log_likelihood(self, video: UInt8[np.ndarray, "f h w 3"], caption: str) -> float:
        """Returns log p of the tokens of a clip after its caption; see `Writer.log_likelihood`."""
        (clip,) = self._agent.encoder.clip_tokens.encode(video)
        return self._agent.writer.log_likelihood(clip, caption)

    def with_var_scale(self, var_scale: float) -> "WrittenVideos":
        """Returns these videos, their tokens drawn with variances times `var_scale`."""
        written = self._agent.writer.with_var_scale(var_scale)
        agent = dataclasses.replace(self._agent, writer=written)
        return WrittenVideos(agent, self._pipeline, self.settings)

    def with_params(self, params: functional.Params, **settings: Any) -> "WrittenVideos":
        """Returns these videos with other parameters of the LLM.

        Args:
            params: The parameters.
            **settings: What changes in the records of its videos.
        """
        written = self._agent.writer.with_params(params)
        agent = dataclasses.replace(self._agent, writer=written)
        return WrittenVideos(agent, self._pipeline, self.settings | settings)

    def answers(self, requests: Sequence[Request]) -> list[list[str]]:
        """Returns none for each request: no answer conditions a video."""
        return [[] for _ in requests]

    def truncated_text(self, request: Request) -> str:
        """Returns "": a prompt that leaves no room for a clip is refused."""
        del request
        return ""


def open_written_videos(
    checkpoint: str | os.PathLike[str],
    config: SampleConfig,
    mesh: Mesh | None = None,
    *,
    step: int | None = None,
) -> WrittenVideos:
    """Opens a run of Divot's LLM with the de-tokenizer whose tokens it reads.

    Args:
        checkpoint: The run.
        config: How to sample the de-tokenizer.
        mesh: Devices to spread the de-tokenizer and videos over.
        step: A kept step; None takes the newest.

    Raises:
        InputError: as `open_agent` and `open_detokenizer`.
    """
    require(
        config.quantize in (None, "off"),
        "--quantize must be off for a run of divot_llm, whose LLM is not quantised, got "
        f"{config.quantize}; leave --quantize out",
    )
    folder = weights.resolve(checkpoint)
    agent = open_agent(folder, step=step)
    if step is None and not published_divot.is_agent(folder):
        step = runs.latest_step(folder)
    drawn = agent.open_detokenizer(None, config, mesh)
    return WrittenVideos(agent, drawn, {"checkpoint": str(folder), "step": step})


def is_agent(checkpoint: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is a run of Divot's LLM, or a published one."""
    folder = weights.resolve(checkpoint)
    if published_divot.is_agent(folder):
        return True
    if not (folder / runs.CONFIG_FILE).is_file() or not runs.has_checkpoint(folder):
        return False
    return runs.read_config(folder).system.kind == "divot_llm"


def read_run(folder: pathlib.Path) -> TrainConfig:
    """Returns the config of a run of Divot's LLM, or that of a published one.

    Raises:
        InputError: for anything else.
    """
    if published_divot.is_agent(folder):
        return published_divot.read_agent(folder)
    config = runs.read_config(folder)
    if config.system.kind != "divot_llm":
        raise InputError(
            f"--checkpoint must be a run of divot_llm to describe videos and tell stories, got one "
            f"of {config.system.kind} in {folder}; name another"
        )
    return config


def open_agent(
    checkpoint: str | os.PathLike[str],
    settings: writer.Settings | None = None,
    *,
    step: int | None = None,
    mesh: Mesh | None = None,
) -> Agent:
    """Opens a run of Divot's LLM with its tokenizers; adapters are merged.

    Args:
        checkpoint: The run, or the folder of a published LLM.
        settings: How text is decoded and clips are drawn; None takes the likeliest tokens, at most
            `system.answer_length`.
        step: A kept step; None takes the newest.
        mesh: Devices to split the LLM over; None keeps it on the first one.

    Raises:
        InputError: for a run of another system, or one whose tokenizers are missing.
    """
    folder = weights.resolve(checkpoint)
    config = read_run(folder)
    if settings is None:
        settings = writer.Settings(text_length=config.system.answer_length)
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    published = published_divot.is_agent(folder)
    if published:
        require(
            step is None,
            f"--step must be left out for {folder}, which is published and has one alone",
        )
        _, params = weights.load(folder, kind=config.system.network_kind, mesh=mesh)
    else:
        params = weights.load_run(folder, system.model, step=step, mesh=mesh)
    written = writer.Writer(system, encoder.rows, params, settings)
    return Agent(config, system, encoder, written, published)


def read_video(
    path: str | os.PathLike[str],
    config: TrainConfig,
    *,
    published: bool = False,
    span: tuple[float, float] | None = None,
) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
    """Reads a video file as the clips of a run, or an image as one frame.

    Args:
        path: The file.
        config: The run.
        published: Whether frames are resized as in Divot's public code, with a bilinear filter.
        span: Seconds of a video to read, from the first of them to before the second; None reads
            all of it.

    Returns:
        The frames of all clips, one clip after the other, and one line that says how the video was
        resampled, "" if it was not.

    Raises:
        InputError: if there is no such file, it cannot be decoded, or it has no frame in `span`.
    """
    path = files.expand_path(path)
    require(path.is_file(), f"--describe must be a video or image file, got {path}; give its path")
    data, notes = config.data, []

    def fit(frame: np.ndarray, pixel_aspect: float = 1.0) -> np.ndarray:
        if published:
            return covering.resize_crop(frame, data.height)
        size = (data.height, data.width)
        return transforms.resize_cover(frame, *size, pixel_aspect=pixel_aspect)

    if path.suffix.lower() in video_io.IMAGE_SUFFIXES:
        return fit(image_files.read(path))[None], ""
    cfg = ClipWindowConfig(fps=data.fps, frames=config.system.clip_frames, stride=1)

    def pick(timeline: video_io.Timeline) -> Int[np.ndarray, " n"]:
        first, last = 0, len(timeline.times)
        fps = last / timeline.end
        if span is not None:
            first, last = np.searchsorted(timeline.times, span).tolist()
        if last == first:
            raise video_io.UnreadableClip(
                f"has no frame from {span[0]:g} to {span[1]:g} s of {timeline.end:g}"
            )
        notes.append(windows.describe(last - first, fps, cfg))
        return first + windows.windows(last - first, fps, cfg).reshape(-1)

    try:
        video = video_io.read_clip(path, pick, fit)
    except video_io.UnreadableClip as error:
        remedy = "convert it" if span is None else "convert it, or name another part of it"
        raise InputError(f"video {path} must be readable: {error}; {remedy}") from None
    return video, f"{path.name}: {notes[0]}" if notes[0] else ""
