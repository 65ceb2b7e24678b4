# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The course of suites that embed generated clips with networks and score what these give.

samples -> clips -> Measures.embed -> a JSON line each -> Measures.score -> results.json
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mimir_jax import files
from mimir_jax.evaluation import checkpoints, embedded_clips, generation, results
from mimir_jax.evaluation.extractors import base
from mimir_jax.parallel import distributed


@runtime_checkable
class Measures(Protocol):
    """The networks that were asked for, and the scores of what they give.

    Attributes:
        settings: What scores depend on besides the clips, as JSON values.
    """

    settings: Mapping[str, Any]

    def read_reference(self, folder: pathlib.Path, progress: generation.Progress) -> None:
        """Embeds the real clips that a folder of results lacks, on process 0."""
        ...

    def embed(
        self, batch: Sequence[generation.EvalSample], videos: embedded_clips.Clips
    ) -> dict[str, np.ndarray]:
        """Returns features and scores of generated videos by name, each with a row per video."""
        ...

    def score(self, lines: Sequence[embedded_clips.Line]) -> dict[str, Any]:
        """Returns the scores of embedded clips, as JSON values."""
        ...

    def format_table(self, scores: Mapping[str, Any]) -> str:
        """Formats the scores."""
        ...


def evaluate(
    suite: str,
    config: Any,
    generator: generation.Generator,
    progress: generation.Progress,
    *,
    samples: Sequence[generation.EvalSample],
    measures: Measures,
    settings: Mapping[str, Any],
    subject: str,
) -> results.Report:
    """Embeds the clips that the folder of results lacks; writes scores.

    Args:
        suite: Name of the suite.
        config: Its settings, a `CheckpointConfig` with `clip_frames`, `seed` and `batch_size`.
        generator: Makes the clips.
        progress: Called with the number of clips that exist and the number of all clips.
        samples: The clips.
        measures: Embeds and scores them.
        settings: What the clips depend on besides `generator.settings`, `config.clip_frames` and
            `config.seed`, as JSON values.
        subject: What they are clips of, for the report.

    Raises:
        InputError: for too few clips, or results of another evaluation.
    """
    batch_size = config.batch_size or generator.batch_multiple
    settings = {
        "suite": suite,
        **generator.settings,
        **settings,
        "clip_frames": config.clip_frames,
        **measures.settings,
        "seed": config.seed,
        "batch_size": batch_size,
    }
    folder = checkpoints.find_folder(config, suite, generator.settings.get("step"))
    with results.open_results(folder, settings):
        measures.read_reference(folder, progress)
        generation.warn_of_truncated_prompts(generator, samples)
        lines = embedded_clips.embed_samples(
            samples, generator, measures.embed, folder, batch_size=batch_size, progress=progress
        )
        if not distributed.is_first():
            return results.Report("")
        scores = measures.score(lines)
        files.write_json(folder / results.RESULTS, {**settings, **scores})
    text = f"{len(lines)} clips of {subject}\n{measures.format_table(scores)}"
    names = (results.RESULTS, embedded_clips.CLIPS, generation.VIDEOS)
    return results.Report(text, folder, names)


def describe_networks(**networks: Any) -> dict[str, Any]:
    """Returns the settings of networks by name, None for those that were not asked for."""
    return {name: None if net is None else net.settings for name, net in networks.items()}


def embed_windows(
    videos: Mapping[str, pathlib.Path],
    extractor: base.ClipExtractor | None,
    config: Any,
    folder: pathlib.Path,
    progress: generation.Progress,
    *,
    size: tuple[int, int],
    make_rng: Callable[[str], np.random.Generator],
) -> list[embedded_clips.Line]:
    """Embeds a window of each real video, from a random start.

    Args:
        videos: The videos by name.
        extractor: Makes the features; without one, nothing is embedded.
        config: Settings of the suite, with `clip_frames` and `reference_fps`.
        folder: Folder of results.
        progress: Called with the number of clips that are embedded.
        size: Height and width of the window.
        make_rng: Returns what draws the start of the video of a name.

    Raises:
        InputError: for a video that cannot be read or is too short.
    """
    if extractor is None:
        return []
    return embedded_clips.embed_reference(
        videos,
        lambda path, name: embedded_clips.read_window(
            path,
            frames=config.clip_frames,
            fps=config.reference_fps,
            size=size,
            rng=make_rng(name),
        ),
        lambda clips: {"features": extractor.embed_clips(clips)},
        folder,
        progress=progress,
    )
