# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Generation of a suite's videos, batch by batch, skipping those that exist."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import UInt8

from mimir_jax import files
from mimir_jax.encoders import interleaved
from mimir_jax.errors import listed, require
from mimir_jax.parallel import distributed
from mimir_jax.sampling import retrieval
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.request import Request

Progress = Callable[[int, int], None]
"""Called with the number of videos that exist and the number of all videos."""

VIDEOS = "videos"


@dataclasses.dataclass(frozen=True)
class EvalSample:
    """A video to generate.

    Attributes:
        name: Unique name of the video, a file name without suffix.
        prompt: Text that the model reads.
        seed: Seed of the noise.
        images: Images at the marks `<img>` of the prompt.
        first_frame: First frame of the video, RGB.
        document: Retrieved document that the model reads before the prompt.
    """

    name: str
    prompt: str
    seed: int
    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...] = dataclasses.field(
        default=(), kw_only=True, compare=False
    )
    first_frame: UInt8[np.ndarray, "_ _ 3"] | None = dataclasses.field(
        default=None, kw_only=True, compare=False
    )
    document: interleaved.Document | None = dataclasses.field(
        default=None, kw_only=True, compare=False
    )


S = TypeVar("S", bound=EvalSample)


@runtime_checkable
class Generator(Protocol):
    """The part of `sampling.pipeline.Pipeline` that suites use."""

    fps: float
    batch_multiple: int
    settings: dict[str, Any]

    def generate(
        self, requests: Sequence[Request], *, batch_size: int
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video per request."""
        ...

    def truncated_text(self, request: Request) -> str:
        """Returns the end of a prompt that is too long for the model."""
        ...


@runtime_checkable
class Describer(Protocol):
    """The part of `systems.base.Agent` that suites use."""

    config: Any

    def describe(
        self, video: UInt8[np.ndarray, "f h w 3"], question: str | None = None, *, seed: int = 0
    ) -> str:
        """Returns the answer to a question about a video, a description without one."""
        ...


def generate_batches(
    samples: Sequence[S],
    done: Sequence[str],
    generator: Generator,
    *,
    batch_size: int,
    progress: Progress,
) -> Iterator[tuple[Sequence[S], UInt8[np.ndarray, "b f h w 3"]]]:
    """Yields batches of the samples whose names are not in `done`, with their videos.

    All processes must call it with the same arguments; only process 0 yields.
    """
    made = set(done)
    missing = [sample for sample in samples if sample.name not in made]
    progress(len(samples) - len(missing), len(samples))
    for first in range(0, len(missing), batch_size):
        batch = missing[first : first + batch_size]
        requests = [
            Request(
                s.prompt,
                seed=s.seed,
                images=s.images,
                first_frame=s.first_frame,
                document=s.document,
            )
            for s in batch
        ]
        videos = generator.generate(requests, batch_size=batch_size)
        if distributed.is_first():
            yield batch, videos
        progress(len(samples) - len(missing) + first + len(batch), len(samples))


def with_documents(
    samples: Sequence[EvalSample], memory: str | None, generator: Generator
) -> list[EvalSample]:
    """Returns samples with the best document of a memory for their prompts.

    Args:
        samples: What to generate.
        memory: Folder of the memory; None leaves the samples as they are.
        generator: Reads documents.

    Raises:
        InputError: for a model that reads none, or as `sampling.retrieval.retrieve`.
    """
    if memory is None:
        return list(samples)
    system = getattr(generator, "system", None)
    require(
        system is not None,
        "--retrieve must be left out for an LLM of clips, which reads no documents; use a run of "
        "vimi",
    )
    prompts = list(dict.fromkeys(sample.prompt for sample in samples))
    found, without = retrieval.retrieve(memory, [Request(prompt) for prompt in prompts], system)
    if without and distributed.is_first():
        logging.warning("%d prompts have no document: %s", len(without), listed(without))
    documents = {request.prompt: request.document for request in found}
    return [dataclasses.replace(s, document=documents[s.prompt]) for s in samples]


def write_video(
    folder: pathlib.Path, name: str, frames: UInt8[np.ndarray, "f h w 3"], fps: float, scale: int
) -> None:
    """Writes `folder/videos/NAME.mp4` atomically, enlarged by `scale`."""
    (folder / VIDEOS).mkdir(exist_ok=True)
    with files.atomic_file(folder / VIDEOS / f"{name}.mp4") as temporary:
        video_lib.write_mp4(temporary, frames, fps=fps, scale=scale)


def warn_of_truncated_prompts(generator: Generator, samples: Sequence[EvalSample]) -> None:
    """Logs the ends of prompts without images that are too long for the model."""
    for prompt in dict.fromkeys(sample.prompt for sample in samples if not sample.images):
        lost = generator.truncated_text(Request(prompt))
        if lost and distributed.is_first():
            logging.warning("prompt %r... is too long, cut: %r", prompt[:40], lost)
