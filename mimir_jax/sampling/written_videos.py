# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos whose clip tokens an agent writes and a de-tokenizer draws."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jaxtyping import UInt8

from mimir_jax import systems, weights
from mimir_jax.config import TrainConfig
from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.sampling import agents, pipeline
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base
from mimir_jax.weights import runs


def open_detokenizer(
    run: TrainConfig,
    checkpoint: str | None,
    config: SampleConfig,
    mesh: Mesh | None = None,
    *,
    generates: bool = True,
) -> pipeline.Pipeline:
    """Opens the de-tokenizer that draws the clip tokens of an agent.

    Args:
        run: The run of the agent.
        checkpoint: The de-tokenizer; None takes the one whose tokenizer the agent reads.
        config: How to sample it.
        mesh: Devices to spread networks and videos over.
        generates: Whether it draws what the agent writes, not tokens of real clips.

    Raises:
        InputError: for a checkpoint of anything else, or of other tokens.
    """
    folder = systems.find_detokenizer(run, checkpoint, "--detokenizer", generates=generates)
    opened = open_lib.open_pipeline(folder, config, mesh)
    systems.check_detokenizer(run, opened.system, checkpoint)
    return opened


def write_clips(agent: base.Writer, requests: Sequence[Request]) -> list[Request]:
    """Returns requests to draw the clips that an agent writes of their prompts."""
    return [
        dataclasses.replace(r, tokens=agent.write_clip(r.prompt, seed=r.seed).clip)
        for r in requests
    ]


def write_story(
    agent: base.Agent, request: str, *, pages: int, seed: int = 0
) -> tuple[list[str], list[Request]]:
    """Tells a story.

    Args:
        agent: Writes it.
        request: What it is about.
        pages: Most clips.
        seed: Of all draws.

    Returns:
        Its texts, and requests to draw its clips, whose prompts are the texts before them.
    """
    story = agent.write_story(request, pages=pages, seed=seed)
    clips = [
        Request(page.text or request, tokens=page.clip, seed=seed + number)
        for number, page in enumerate(story)
        if page.clip is not None
    ]
    return [page.text for page in story], clips


class WrittenVideos:
    """Videos of prompts whose clip tokens an LLM writes and a de-tokenizer draws.

    It generates for suites of evaluation as a pipeline does.

    Args:
        agent: Writes the tokens.
        drawn: Draws them.
        settings: What a record says of the LLM.
    """

    def __init__(self, agent: base.Agent, drawn: pipeline.Pipeline, settings: dict[str, Any]):
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
        return self._pipeline.generate(write_clips(self._agent, requests), batch_size=batch_size)

    def tell(
        self, request: str, *, pages: int, seed: int
    ) -> tuple[list[str], Sequence[UInt8[np.ndarray, "f h w 3"]]]:
        """Returns the texts of a story and its clips; see `write_story`."""
        texts, requests = write_story(self._agent, request, pages=pages, seed=seed)
        if not requests:
            return texts, []
        return texts, list(self._pipeline.generate(requests, batch_size=self.batch_multiple))

    @property
    def system(self) -> base.System:
        """The LLM's."""
        return self._agent.system

    @property
    def config(self) -> TrainConfig:
        """The run of the LLM."""
        return self._agent.config

    def log_likelihood(self, video: UInt8[np.ndarray, "f h w 3"], caption: str) -> float:
        """Returns log p of the tokens of a clip after its caption; see `base.Agent`."""
        return self._agent.log_likelihood(video, caption)

    def with_var_scale(self, var_scale: float) -> "WrittenVideos":
        """Returns these videos, their tokens drawn with variances times `var_scale`."""
        agent = self._agent.with_var_scale(var_scale)
        return WrittenVideos(agent, self._pipeline, self.settings)

    def with_params(self, params: functional.Params, **settings: Any) -> "WrittenVideos":
        """Returns these videos with other parameters of the LLM.

        Args:
            params: The parameters.
            **settings: What changes in the records of its videos.
        """
        agent = self._agent.with_params(params)
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
    """Opens a run of an agent with the de-tokenizer whose tokens it reads.

    Args:
        checkpoint: The run.
        config: How to sample the de-tokenizer.
        mesh: Devices to spread the de-tokenizer and videos over.
        step: A kept step; None takes the newest.

    Raises:
        InputError: as `agents.open_agent` and `open_detokenizer`.
    """
    require(
        config.quantize in (None, "off"),
        "--quantize must be off for a run of divot_llm, whose LLM is not quantised, got "
        f"{config.quantize}; leave --quantize out",
    )
    folder = weights.resolve(checkpoint)
    agent = agents.open_agent(folder, step=step)
    if step is None and systems.find_published(folder) is None:
        step = runs.latest_step(folder)
    drawn = open_detokenizer(agent.config, None, config, mesh)
    return WrittenVideos(agent, drawn, {"checkpoint": str(folder), "step": step})
