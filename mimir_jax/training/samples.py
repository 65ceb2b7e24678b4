# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Example outputs of a run: the examples of its evaluators as files."""

import functools
import pathlib
from collections.abc import Sequence

from mimir_jax import files
from mimir_jax.config import TrainConfig
from mimir_jax.models import functional
from mimir_jax.parallel import distributed
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base

WHOLE_PIXELS = 256 * 256
"""Larger frames are decoded in tiles, whose memory fits beside the state of a run."""


class SampleSheet:
    """A video for each of the first held-out clips, from fixed noise.

    It is drawn by the caption of the clip, with its first frame where the system reads one; or for
    a system that reads clips from the clip itself, which is then shown on its left.

    Args:
        config: The run.
        system: The pure half of its system.
        encoder: The host half.
    """

    def __init__(
        self, config: TrainConfig, system: base.DiffusionSystem, encoder: base.DiffusionEncoder
    ):
        self._config, self._system, self._encoder = config, system, encoder

    def read(self) -> None:
        """Reads the held-out clips, whose captions it draws."""
        if self._config.system.sample_prompts:
            _ = self._encoder.heldout()

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns no metrics."""
        del params
        return {}

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Samples the videos."""
        clips, captions = self._encoder.heldout()
        captions = captions[: self._config.system.sample_prompts]
        if not captions:
            return base.Examples()
        reads_clips, reads_first = (
            name in self._system.request_fields for name in ("clip", "first_frame")
        )
        requests = [
            Request(
                caption,
                seed=seed,
                clip=clip if reads_clips else None,
                first_frame=clip[0] if reads_first else None,
            )
            for seed, (caption, clip) in enumerate(zip(captions, clips, strict=False))
        ]
        videos = list(self._pipeline.with_params(params).generate(requests))
        if reads_clips:
            videos = [
                video_lib.side_by_side(r.clip, v) for r, v in zip(requests, videos, strict=True)
            ]
        return base.Examples(videos=videos, captions=captions)

    @functools.cached_property
    def _pipeline(self) -> pipeline_lib.Pipeline:
        data = self._config.data
        tiled = data.height * data.width > WHOLE_PIXELS
        system = base.for_inference(self._system)
        return pipeline_lib.make_pipeline(self._config, system, self._encoder, tiled=tiled)


def make_evaluators(
    config: TrainConfig, system: base.System, encoder: base.Encoder
) -> list[base.Evaluator]:
    """Returns the sample sheet of a diffusion system, nothing for another one."""
    if not isinstance(system, base.DiffusionSystem):
        return []
    return [SampleSheet(config, system, encoder)]


def write(
    evaluators: Sequence[base.Evaluator],
    params: functional.Params,
    workdir: pathlib.Path,
    config: TrainConfig,
    step: int,
) -> list[pathlib.Path]:
    """Writes the examples of all evaluators; returns the files, a sheet first.

    All processes must call it; process 0 writes and has files.
    """
    written: list[pathlib.Path] = []
    folder = workdir / "samples" / f"{step:07d}"
    made = [evaluator.make_examples(params) for evaluator in evaluators]
    if not distributed.is_first():
        return written
    with files.writing(folder, "samples"):
        for examples in made:
            if examples.videos:
                written += video_lib.write_samples(
                    folder, list(examples.videos), list(examples.captions), fps=config.data.fps
                )
            if examples.lines:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / "texts.txt"
                files.write_text(path, "\n".join(examples.lines) + "\n")
                written.append(path)
    return written
