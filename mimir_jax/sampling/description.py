# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos to text by a trained run of Divot's LLM (arXiv 2412.04432).

A video is read in clips at the rate of the run, cut as `data.windows` cuts it: one behind the
other, or 20 spread over a long one.
"""

import dataclasses
import os

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int, UInt8

from mimir_jax import files, systems, weights
from mimir_jax.config import ClipWindowConfig, TrainConfig
from mimir_jax.data import transforms, video_io, windows
from mimir_jax.errors import InputError, require
from mimir_jax.systems.divot_llm import encoder as encoder_lib
from mimir_jax.systems.divot_llm import rows, writer
from mimir_jax.weights import runs


@dataclasses.dataclass(frozen=True)
class Agent:
    """A run of Divot's LLM that is ready to read and write.

    Attributes:
        config: The run.
        encoder: Its host half.
        writer: What it writes.
    """

    config: TrainConfig
    encoder: encoder_lib.AgentEncoder
    writer: writer.Writer

    def describe(
        self, video: UInt8[np.ndarray, "f h w 3"], question: str | None = None, *, seed: int = 0
    ) -> str:
        """Returns the answer to a question about a video.

        Args:
            video: Its frames at the rate of the run.
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
        if question is None:
            question = rows.fill([rows.DESCRIBE], self.encoder.rows.kind)[0] if instructed else ""
        return self.writer.describe(self.encoder.clips.encode(video), question, seed=seed)


def open_agent(
    checkpoint: str | os.PathLike[str],
    settings: writer.Settings = writer.Settings(),  # noqa: B008
    *,
    step: int | None = None,
    mesh: Mesh | None = None,
) -> Agent:
    """Opens a run of Divot's LLM with its tokenizers; adapters are merged.

    Args:
        checkpoint: The run.
        settings: How text is decoded and clips are drawn.
        step: A kept step; None takes the newest.
        mesh: Devices to split the LLM over; None keeps it on the first one.

    Raises:
        InputError: for a run of another system, or one whose tokenizers are missing.
    """
    folder = weights.resolve(checkpoint)
    config = runs.read_config(folder)
    if config.system.kind != "divot_llm":
        raise InputError(
            f"--checkpoint must be a run of divot_llm to describe videos and tell stories, got one "
            f"of {config.system.kind} in {folder}; name another"
        )
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    params = weights.load_run(folder, system.model, step=step, mesh=mesh)
    return Agent(config, encoder, writer.Writer(system, encoder.rows, params, settings))


def read_video(
    path: str | os.PathLike[str], config: TrainConfig
) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
    """Reads a video file as the clips of a run.

    Returns:
        The frames of all clips, one clip after the other, and one line that says how the video was
        resampled, "" if it was not.

    Raises:
        InputError: if there is no such file, or it cannot be decoded.
    """
    path = files.expand_path(path)
    require(path.is_file(), f"--describe must be a video file, got {path}; give its path")
    data, notes = config.data, []
    cfg = ClipWindowConfig(fps=data.fps, frames=config.system.clip_frames, stride=1)

    def pick(timeline: video_io.Timeline) -> Int[np.ndarray, " n"]:
        number = len(timeline.times)
        fps = number / timeline.end
        notes.append(windows.describe(number, fps, cfg))
        return windows.windows(number, fps, cfg).reshape(-1)

    def fit(frame: np.ndarray, pixel_aspect: float = 1.0) -> np.ndarray:
        size = (data.height, data.width)
        return transforms.resize_cover(frame, *size, pixel_aspect=pixel_aspect)

    try:
        video = video_io.read_clip(path, pick, fit)
    except video_io.UnreadableClip as error:
        raise InputError(f"video {path} must be readable: {error}; convert it") from None
    return video, f"{path.name}: {notes[0]}" if notes[0] else ""
