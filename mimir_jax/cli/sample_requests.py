# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From the flags of `sample` to requests: prompts, images, clips, first frames, documents, edits.

It imports JAX, so the host must have been prepared.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from mimir_jax import files, image_files
from mimir_jax.cli import dataclass_flags
from mimir_jax.encoders import interleaved
from mimir_jax.errors import InputError, require
from mimir_jax.sampling import (
    edit_files,
    first_frames,
    long,
    prompts,
    reconstruction,
    retrieval,
    scenes,
)
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request


def read_config(values: flags.FlagValues) -> SampleConfig:
    """Returns how to sample, with the instructions of a file where one is named."""
    instructions = None
    if values.instructions is not None:
        lines = _read(values.instructions, "instruction")
        instructions = tuple(prompts.check(lines, "instruction"))
    return dataclass_flags.read(values, SampleConfig, instructions=instructions)


def find_clips(values: flags.FlagValues) -> Sequence[Any]:
    """Returns where the clips to reconstruct are.

    Raises:
        InputError: for a clip that is not there, or prompts beside clips.
    """
    names = ("prompt", "prompts", "negative_prompt", "image", "first_frame", "retrieve")
    given = [name for name in names if values[name].value]
    require(
        not values.reconstruct or not given,
        f"--{(given or names)[0]} must be left out with --reconstruct, which reads clips alone",
    )
    return reconstruction.find(values.reconstruct)


def read_prompts(values: flags.FlagValues) -> list[Request]:
    """Returns a request for each video of each prompt, those of one prompt together.

    Raises:
        InputError: for prompts, images or scenes that cannot be read or contradict each other.
    """
    given = [name for name in ("image", "first_frame", "retrieve") if values[name].value]
    if len(given) > 1:
        raise InputError(
            f"prompts must have one of images, a first frame and a retrieved document, got "
            f"{' and '.join(f'--{name}' for name in given)}; leave one out"
        )
    texts = [*values.prompt, *(_read(values.prompts, "prompt") if values.prompts else ())]
    shared: dict[str, Any] = {"images": tuple(map(image_files.read, values.image))}
    if values.negative_prompt is not None:
        (shared["negative_prompt"],) = prompts.check([values.negative_prompt], "negative prompt")
    if values.first_frame is not None and not first_frames.is_heldout(values.first_frame):
        shared["first_frame"] = image_files.read(values.first_frame)
    texts = prompts.check(texts)
    for text in texts:
        if values.image or interleaved.MARK in text:
            interleaved.parse(text, shared["images"])  # as many marks as images
    if shown := scenes.parse(texts):
        shared["scenes"], texts = shown, ["; ".join(texts)]
    shared["window_overlap"] = values.window_overlap
    return [
        Request(text, seed=values.seed + number, **shared)
        for text in texts
        for number in range(values.videos_per_prompt)
    ]


def complete(
    values: flags.FlagValues,
    requests: Sequence[Request],
    clips: Sequence[Any],
    edits: edit_files.EditFiles,
    pipeline: Any,
    *,
    shown: bool,
) -> list[Request]:
    """Returns the requests with what depends on the pipeline, checked.

    Args:
        values: The flags.
        requests: Those of prompts.
        clips: Where the clips to reconstruct are, which follow as requests.
        edits: The videos to edit or continue.
        pipeline: Makes the videos.
        shown: Whether to print how files were fitted.

    Raises:
        InputError: for files that cannot be read, or requests that the pipeline cannot follow.
    """
    requests = [*requests, *_reconstructions(values, clips, pipeline, shown=shown)]
    requests = _with_first_frame(values, requests, pipeline, shown=shown)
    requests = _with_documents(values, requests, pipeline, shown=shown)
    requests, notes = edits.apply(requests, pipeline)
    requests = [long.with_length(r, pipeline, values.length) for r in requests]
    if shown and notes:
        print("\n".join(notes), file=sys.stderr)
    pipeline.check(requests)
    return requests


def _reconstructions(
    values: flags.FlagValues, clips: Sequence[Any], pipeline: Any, *, shown: bool
) -> list[Request]:
    """Reads the clips, and prints how they were resampled."""
    kind = pipeline.system.config.kind
    require(
        not clips or "clip" in pipeline.system.request_fields,
        f"--checkpoint must be a run of divot for --reconstruct, got one of {kind}; name another",
    )
    requests = []
    for clip in clips:
        request, note = reconstruction.make_request(clip, pipeline, seed=values.seed)
        if note and shown:
            print(note, file=sys.stderr)
        requests += [
            dataclasses.replace(request, seed=values.seed + number)
            for number in range(values.videos_per_prompt)
        ]
    return requests


def _with_documents(
    values: flags.FlagValues, requests: list[Request], pipeline: Any, *, shown: bool
) -> list[Request]:
    """Gives requests their documents, and prints which prompts have none."""
    if values.retrieve is None:
        return requests
    requests, without = retrieval.retrieve(values.retrieve, requests, pipeline.system)
    for prompt in without if shown else ():
        print(f"no document shares a word with {prompt!r}; made without one", file=sys.stderr)
    return requests


def _with_first_frame(
    values: flags.FlagValues, requests: Sequence[Request], pipeline: Any, *, shown: bool
) -> list[Request]:
    """Returns requests with a held-out first frame where one is named; tells how it is fitted."""
    if values.first_frame is not None:
        first_frames.check_reads(pipeline.system)
    if "first_frame" not in pipeline.system.request_fields:
        return list(requests)
    requests = first_frames.read_heldout(values.first_frame, requests, pipeline)
    if shown and requests and values.extend is None:  # else it is the first of the repeated frames
        note = first_frames.describe(values.first_frame, requests[0].first_frame, pipeline)
        if note:
            print(note, file=sys.stderr)
    return requests


def _read(path: str, kind: prompts.Kind) -> list[str]:
    return prompts.read(files.expand_path(path), kind)
