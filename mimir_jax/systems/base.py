# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a system: the pure half, the host half and the evaluators.

    System        network, frozen networks, batch shapes, loss; pure, reads no weights
    Encoder       loads the frozen networks once; records or requests -> arrays on the host
    Evaluator     held-out metrics, and examples for people to look at
    Agent         describes videos and writes clips as tokens; few systems have one

The trainer, the memory estimate, the FLOP counter, the ahead-of-time compiler, precomputation,
sampling and evaluation use these interfaces alone, whatever the system.
"""

import dataclasses
import os
import pathlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from mimir_jax.data import feature_store, sources
from mimir_jax.diffusion import samplers
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import interleaved, latents
from mimir_jax.models import functional
from mimir_jax.models.attention import kernels

Metrics = Mapping[str, Any]
Batch = Any
"""A registered dataclass of arrays with a leading batch axis; each system defines its own."""

SIZE_NAMES = ("frames", "height", "width")

Features = Any
"""A pytree of arrays with a leading batch axis that conditions a diffusion network."""


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Size of the clips of one batch; the train step is compiled once per bucket.

    Attributes:
        frames: Frames per clip.
        height: Pixel rows.
        width: Pixel columns.
        batch: Clips (or texts) per batch over all processes.
        weight: Factor of the gradient of a batch.
    """

    frames: int
    height: int
    width: int
    batch: int
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Frames, height and width as text, such as 17x64x96."""
        return f"{self.frames}x{self.height}x{self.width}"


@runtime_checkable
class System(Protocol):
    """A network with its training loss, described without reading weights.

    Attributes:
        config: The system's section of the run's config.
        model: The network that trains.
        frozen: The frozen networks that its `Encoder` loads, by name.
        buckets: Batch sizes that training uses.
        backbone: Config of the network's scanned transformer, which has `attention`, `remat`,
            `num_layers` and `unroll`; None for a network without one.
    """

    config: Any
    model: functional.Model
    frozen: Mapping[str, frozen_lib.FrozenNetwork]
    buckets: tuple[Bucket, ...]
    backbone: Any

    def with_backbone(self, **fields: Any) -> "System":
        """Returns this system with other `fields` of its backbone's config."""
        ...

    def num_tokens(self, bucket: Bucket) -> int:
        """Returns the length of the sequence over which the backbone attends."""
        ...

    def batch_spec(self, bucket: Bucket) -> Batch:
        """Returns shape and dtype of every array that `Encoder.encode` returns for `bucket`."""
        ...

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the mean loss over the batch and scalar metrics; pure."""
        ...

    def counts(self, batch: Batch) -> Any:
        """Returns the number of tokens in each mean of the loss; None for means over rows.

        Micro-batches have different numbers of tokens. Where this is a pytree of counts, `loss`
        takes one of factors after the key, by which it multiplies its means, so that their average
        over the micro-batches is the mean over the batch.
        """
        ...


class Defaults:
    """Members of a `System` without frozen networks, without a backbone, with a loss over rows."""

    frozen: Mapping[str, frozen_lib.FrozenNetwork] = types.MappingProxyType({})
    backbone: Any = None

    def with_backbone(self, **fields: Any) -> "System":
        """Returns this system; it has no backbone to change."""
        del fields
        return self

    def num_tokens(self, bucket: Bucket) -> int:
        """Returns 0: there is no attention."""
        del bucket
        return 0

    def counts(self, batch: Batch) -> Any:
        """Returns None: the loss is a mean over rows."""
        del batch
        return None


@runtime_checkable
class DiffusionSystem(System, Protocol):
    """A system that denoises the latents of clips.

    Attributes:
        codec: Clips to latents and back.
        request_fields: Fields of a `sampling.request.Request`, besides seed and size, that its
            videos depend on.
        sample_size: Frames, height and width of a video where a request names none.
    """

    codec: latents.LatentCodec
    request_fields: frozenset[str]
    sample_size: tuple[int, int, int]

    def sampling_options(self) -> Mapping[str, Any]:
        """Returns settings of its videos besides request, sampler and weights, as JSON values.

        The keys are names of settings; a `SampleConfig` may set those that it has a field for.
        """
        ...

    def check_size(
        self, frames: int, height: int, width: int, names: tuple[str, str, str] = SIZE_NAMES
    ) -> None:
        """Raises `InputError` for clips that the networks cannot make, with the nearest size.

        Args:
            frames: Frames per clip.
            height: Pixel rows.
            width: Pixel columns.
            names: Names of the three in messages.
        """
        ...

    def check_latents(self, shape: tuple[int, ...]) -> None:
        """Raises `InputError` unless the network takes noisy latents of `shape` (b, t, h, w, c)."""
        ...

    def feature_spec(self, rows: int) -> Features:
        """Returns shape and dtype of what `DiffusionEncoder.features` returns for `rows`."""
        ...

    def padded_frames(self, frames: int) -> int:
        """Returns the number of latent frames the network sees for `frames`.

        The extra ones come first: a sampler draws them and drops them at the end.
        """
        ...

    def condition(
        self, params: functional.Params, features: Features, drop: Bool[Array, " b"] | None = None
    ) -> Any:
        """Returns the network's condition, a pytree with a leading batch axis.

        Args:
            params: Parameters of the network.
            features: What `DiffusionEncoder.features` returns.
            drop: Rows that get the null condition instead; None drops no row.
        """
        ...

    def denoise(
        self,
        params: functional.Params,
        xt: Float[Array, "b t h w c"],
        time: Array,
        condition: Any,
        aux: Any = None,
    ) -> tuple[Float[Array, "b t h w c_out"], Any]:
        """Returns the network's prediction at `xt` and the next `aux`.

        Args:
            params: Parameters of the network.
            xt: Noisy scaled latents, `padded_frames` long.
            time: Timestep per row, or what the schedule's `precondition` makes of noise levels.
            condition: What `condition` returned.
            aux: State carried from one sampling step to the next, of the same structure as the one
                returned; None for a network that carries none.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Published:
    """A published checkpoint, read as a run of a system; its weights are not loaded.

    Attributes:
        path: The folder or file that was read, for records.
        config: The run, a `TrainConfig`.
        load: Loads the parameters of its network; takes `dtype`, `mesh`, `lora` and `quantize` as
            `weights.load` does.
        make_sampler: Returns the sampler of its own noise schedule, with the settings of a section
            `sampler`; None for a system that does not denoise.
        reads_as_published: Whether videos are read by the frames and with the filter of its public
            code.
    """

    path: pathlib.Path
    config: Any
    load: Callable[..., functional.Params]
    make_sampler: Callable[[Any], samplers.Sampler] | None = None
    reads_as_published: bool = False


@runtime_checkable
class Request(Protocol):
    """The part of a `sampling.request.Request` that conditions a network."""

    @property
    def prompt(self) -> str: ...  # noqa: D102

    @property
    def negative_prompt(self) -> str | None: ...  # noqa: D102

    @property
    def images(self) -> tuple[UInt8[np.ndarray, "_ _ 3"], ...]: ...  # noqa: D102

    @property
    def first_frame(self) -> UInt8[np.ndarray, "h w 3"] | None: ...  # noqa: D102

    @property
    def document(self) -> interleaved.Document | None: ...  # noqa: D102

    @property
    def extend(self) -> UInt8[np.ndarray, "n h w 3"] | None: ...  # noqa: D102

    @property
    def overlap(self) -> int: ...  # noqa: D102

    @property
    def frames(self) -> int | None: ...  # noqa: D102

    @property
    def clip(self) -> UInt8[np.ndarray, "f h w 3"] | None: ...  # noqa: D102

    @property
    def tokens(self) -> Float[np.ndarray, "q d"] | None: ...  # noqa: D102


@runtime_checkable
class Encoder(Protocol):
    """The host half of a system: reads records and runs the frozen networks, loaded once."""

    def source(self, split: sources.Split) -> sources.Source:
        """Returns the records of a split, random access."""
        ...

    def encode(self, records: Mapping[str, Any]) -> Batch:
        """Turns a batch of records into the arrays that `System.loss` takes.

        Training calls it outside the train step, in a thread while the step before runs, unless
        frozen networks are split over devices (`mesh.shard_frozen`). Every row must be a function
        of its record alone, bit for bit, and not of the rest of the batch: resuming relies on it.
        """
        ...


@runtime_checkable
class StoringEncoder(Encoder, Protocol):
    """An encoder that can encode clips ahead of training, for `data.features`."""

    def clips(self) -> sources.Source:
        """Returns the training clips themselves, also where `source` reads stored features."""
        ...

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that the encoded training clips are a function of."""
        ...

    def least_record_size(self) -> int:
        """Returns the number of values in the parts of a record that have a fixed size."""
        ...

    def encode_record(self, records: Mapping[str, Any]) -> feature_store.Record:
        """Returns the record of the feature store of the one clip in `records`."""
        ...

    def empty_record(self) -> feature_store.Record | None:
        """Returns the record of the empty caption; None if training reads none."""
        ...


@runtime_checkable
class DiffusionEncoder(StoringEncoder, Protocol):
    """The host half of a `DiffusionSystem`.

    Attributes:
        codec_params: Parameters of the system's codec.
    """

    codec_params: functional.Params

    def features(self, requests: Sequence[Request]) -> Features:
        """Returns the features that condition the network, a row per request."""
        ...

    def null_features(self, requests: Sequence[Request]) -> tuple[Features, Bool[np.ndarray, " b"]]:
        """Returns the features of the unconditional branch, and the rows to drop.

        Features are encoded negative prompts, or empty ones where the system encodes its null
        condition. The network's own null rule (`drop` of `System.condition`) applies to the rows
        marked True.
        """
        ...

    def text_features(self, requests: Sequence[Request]) -> Features:
        """Returns what conditions the network on the text of each request, without its images.

        Guidance with a scale for images reads it. Latents of a first frame, which the
        unconditional branch has too, stay.
        """
        ...

    def with_first_frames(
        self, features: Features, frames: Sequence[UInt8[np.ndarray, "h w 3"] | None]
    ) -> Features:
        """Returns the features of prompts with those of first frames, where the network reads them.

        Args:
            features: What `features` returned for requests without first frames.
            frames: One per prompt, of the size of the videos, or None for none.
        """
        ...

    def truncated_text(self, request: Request) -> str:
        """Returns the end of the prompt that is too long for the network, "" if none is."""
        ...

    def answers(self, prompt: str) -> list[str]:
        """Returns the LLM's answers that condition the network, the first one when sampling.

        The list is empty for a network that reads no answers.
        """
        ...

    def heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        """Returns the held-out clips of the run in the size of its samples, and their captions."""
        ...

    def heldout_buckets(self) -> list[tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]]:
        """Returns the held-out clips of each bucket and their captions, of those that have some."""
        ...

    def encode_clips(self, records: Mapping[str, Any]) -> Batch:
        """Returns the batch of clips and captions, also where `encode` takes stored features."""
        ...

    def encode_video(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> Float[Array, "b t h2 w2 c"]:
        """Returns the scaled mean latents of clips."""
        ...

    def to_record(self, batch: Batch) -> feature_store.Record:
        """Returns the first row of an encoded batch as a record of the feature store."""
        ...


def for_inference(system: System) -> System:
    """Returns the system for use without gradients, on the default device.

    An attention kernel that the device lacks becomes `xla`. Blocks are scanned: writing them out
    (`unroll`) makes only the gradient faster.
    """
    if system.backbone is None:
        return system
    kernel = kernels.available_or_xla(system.backbone.attention)
    return system.with_backbone(attention=kernel, unroll=1)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Example outputs of a model: captioned videos, or lines of text.

    Attributes:
        videos: Clips (frames, height, width, 3) in uint8.
        captions: One per video.
        lines: Text.
    """

    videos: Sequence[UInt8[np.ndarray, "f h w 3"]] = ()
    captions: Sequence[str] = ()
    lines: Sequence[str] = ()


class Page(NamedTuple):
    """What an agent writes: a text, and the tokens of the clip that follows it, if one does."""

    text: str
    clip: Float[np.ndarray, "q d"] | None


@runtime_checkable
class Writer(Protocol):
    """Writes clips as tokens that a de-tokenizer draws."""

    def write_clip(self, caption: str, *, seed: int = 0) -> Page:
        """Returns a clip of a caption, and what the model says before it.

        Raises:
            InputError: for a caption that leaves no room for the clip.
        """
        ...


@runtime_checkable
class Agent(Writer, Protocol):
    """An LLM that describes videos, writes clips and tells stories.

    Attributes:
        config: The run, a `TrainConfig`.
        system: Its pure half.
    """

    config: Any
    system: System

    def read(
        self, path: str | os.PathLike[str], span: tuple[float, float] | None = None
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
        """Reads a video as the clips of the run, or an image as one frame.

        Args:
            path: The file.
            span: Seconds of a video to read, from the first of them to before the second; None
                reads all of it.

        Returns:
            The frames of all clips, one clip after the other, and one line that says how the video
            was resampled, "" if it was not.

        Raises:
            InputError: if there is no such file, it cannot be decoded, or it has no frame in
                `span`.
        """
        ...

    def describe(
        self, video: UInt8[np.ndarray, "f h w 3"], question: str | None = None, *, seed: int = 0
    ) -> str:
        """Returns the answer to a question about a video or an image.

        Args:
            video: Its frames, as `read` returns them; an image has one.
            question: None asks for a description.
            seed: Of the draws.

        Raises:
            InputError: for a question to a model that learned none.
        """
        ...

    def write_story(self, request: str, *, pages: int = 3, seed: int = 0) -> list[Page]:
        """Returns the pages of a story, at most as many as `pages`.

        Raises:
            InputError: for a request that leaves no room for a clip.
        """
        ...

    def log_likelihood(self, video: UInt8[np.ndarray, "f h w 3"], caption: str) -> float:
        """Returns log p of the tokens of a clip after its caption, per number of a token.

        Raises:
            InputError: for a model without likelihoods.
        """
        ...

    def with_params(self, params: functional.Params) -> "Agent":
        """Returns this agent with other parameters; nothing compiles again."""
        ...

    def with_var_scale(self, var_scale: float) -> "Agent":
        """Returns this agent, whose draws have the variances of clip tokens times `var_scale`."""
        ...


@runtime_checkable
class Evaluator(Protocol):
    """Measures a model while it trains. All processes of a run call it together."""

    def read(self) -> None:
        """Reads and encodes all held-out data.

        Training calls it before it writes anything, so that bad data leaves no files behind.
        """
        ...

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns held-out metrics by name; the system's main loss is called `loss`."""
        ...

    def make_examples(self, params: functional.Params) -> Examples:
        """Returns examples; empty for an evaluator that only measures."""
        ...
