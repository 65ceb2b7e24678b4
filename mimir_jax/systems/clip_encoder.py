# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of systems that denoise clips: clips to latent moments, stored or computed.

A subclass defines the features that condition the network. Moments are cached by content. Each clip
is encoded alone at one fixed shape, so that a row of a batch never depends on the other rows.
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from mimir_jax import files, hashing
from mimir_jax.config import TrainConfig
from mimir_jax.data import buckets, feature_store, sources, transforms
from mimir_jax.encoders import cache, latents
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context
from mimir_jax.systems import base, diffusion


class ClipEncoder(abc.ABC):
    """`base.DiffusionEncoder` of clips and what conditions the network on them.

    Args:
        config: The run.
        system: The pure half.
        codec_params: Parameters of the system's codec.

    Attributes:
        codec_params: Parameters of the system's codec.
        padded: Names of the features whose pads are zeros; the feature store leaves those out.
    """

    padded: Sequence[str] = ()

    def __init__(
        self,
        config: TrainConfig,
        system: diffusion.VideoDiffusion,
        codec_params: functional.Params,
    ):
        self._config, self._system = config, system
        self.codec_params = codec_params
        self._moments = _MomentEncoder(system.codec, codec_params)

    @abc.abstractmethod
    def encode_features(self, records: Mapping[str, Any]) -> base.Features:
        """Returns the features of a `diffusion.Batch` for `records`, as numpy arrays."""

    @abc.abstractmethod
    def feature_identity(self) -> dict[str, Any]:
        """Returns JSON values that the features are a function of, besides record and seed."""

    @abc.abstractmethod
    def features(self, requests: Sequence[base.Request]) -> base.Features:
        """Returns what conditions the network on each request."""

    @abc.abstractmethod
    def null_features(
        self, requests: Sequence[base.Request]
    ) -> tuple[base.Features, Bool[np.ndarray, " b"]]:
        """Returns the features of the unconditional branch, and which rows to drop."""

    def with_first_frames(
        self, features: base.Features, frames: Sequence[UInt8[np.ndarray, "h w 3"] | None]
    ) -> base.Features:
        """Returns `features`: no first frame conditions the network."""
        del frames
        return features

    def text_features(self, requests: Sequence[base.Request]) -> base.Features:
        """Returns `features`: prompts are text alone."""
        return self.features(requests)

    def null_batch_features(self, rows: int) -> base.Features | None:
        """Returns the encoded null condition of `rows`; None where the network has its own rule."""
        del rows
        return None

    def truncated_text(self, request: base.Request) -> str:
        """Returns the end of the prompt that conditions nothing: none."""
        del request
        return ""

    def answers(self, prompt: str) -> list[str]:
        """Returns the answers of an LLM to `prompt`: none."""
        del prompt
        return []

    def source(self, split: sources.Split) -> sources.Source:
        """Returns the clips of a split; for training, what `data.features` stores of them."""
        if split == "train" and self._stored is not None:
            clips = self.clips()
            if isinstance(clips, buckets.Grouped):
                return buckets.GroupedRecords(self._stored, clips.groups)
            return self._stored
        return sources.make_source(self._config.data, split, seed=self._config.seed)

    def clips(self) -> sources.Source:
        """Returns the training clips."""
        return self._training_clips

    @functools.cached_property
    def _training_clips(self) -> sources.Source:
        return sources.make_source(self._config.data, "train", seed=self._config.seed)

    def heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        """Returns the held-out clips of the run in the size of its samples, and their captions."""
        return self._heldout

    def heldout_buckets(self) -> list[tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]]:
        """Returns the held-out clips of each bucket and their captions, of those that have some."""
        config = self._config
        if not config.data.buckets.sizes:
            return [self._heldout]
        count = config.system.heldout_clips
        return sources.read_heldout_buckets(config.data, count, seed=config.seed)

    def encode(self, records: Mapping[str, Any]) -> diffusion.Batch:
        """Returns the batch of clips with captions, or of stored features."""
        if self._stored is None:
            return self.encode_clips(records)
        spec = self._spec(len(records["index"]))
        stored = _from_names((spec.moments, spec.features), records)
        null = None
        if self._system.encodes_null:
            rows = len(records["index"])
            empty = self._stored.empty
            repeated = {name: np.stack([value] * rows) for name, value in empty.items()}
            null = _from_names(spec.null, repeated)
        return diffusion.Batch(*stored, null=null)

    def encode_clips(self, records: Mapping[str, Any]) -> diffusion.Batch:
        """Returns the batch of `records["video"]` and `records["caption"]`."""
        with futures.ThreadPoolExecutor(1, "features") as thread:  # networks compile side by side
            features = thread.submit(self.encode_features, records)
            moments = self._moments.encode(records["video"])
        null = self.null_batch_features(len(records["caption"]))
        return diffusion.Batch(moments=moments, features=features.result(), null=null)

    def encode_video(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> Float[Array, "b t h2 w2 c"]:
        """Returns the scaled mean latents of clips."""
        return self._system.codec.scale(jnp.asarray(self.encode_moments(clips).mean))

    def encode_moments(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> autoencoder.Moments:
        """Returns the moments of the unscaled latents of clips as numpy arrays."""
        return self._moments.encode(clips)

    def identity(self) -> dict[str, Any]:
        """Returns everything that the encoded training clips depend on, as JSON values."""
        data = self._config.data
        return {
            "source": repr(self.clips()),
            "seed": self._config.seed,
            "geometry": {"buckets": [size.name for size in data.buckets.sizes]}
            if data.buckets.sizes
            else {"frames": data.frames, "height": data.height, "width": data.width},
            "vae": {
                "weights": hashing.tree_digest(self.codec_params),
                "config": dataclasses.asdict(self._system.codec.config),
            },
            **self.feature_identity(),
        }

    def least_record_size(self) -> int:
        """Returns the number of floats in a record without features of varying length."""
        sizes = []
        for bucket in self._system.buckets:
            spec = self._system.batch_spec(dataclasses.replace(bucket, batch=1))
            leaves = _names((spec.moments, spec.features))
            sizes.append(
                sum(
                    leaf.size
                    for name, leaf in leaves
                    if leaf.dtype == np.float32 and name not in self.padded
                )
            )
        return min(sizes)

    def encode_record(self, records: Mapping[str, Any]) -> feature_store.Record:
        """Returns the record of the feature store of the one clip in `records`."""
        return self.to_record(self.encode_clips(records))

    def to_record(self, batch: diffusion.Batch) -> feature_store.Record:
        """Returns the first row of a batch by the names of its fields."""
        return {name: np.asarray(x)[0] for name, x in _names((batch.moments, batch.features))}

    def empty_record(self) -> feature_store.Record | None:
        """Returns the features of the encoded null condition, where the system has one."""
        features = self.null_batch_features(1)
        if features is None:
            return None
        return {name: np.asarray(x)[0] for name, x in _names(features)}

    def _spec(self, rows: int) -> diffusion.Batch:
        return self._system.batch_spec(dataclasses.replace(self._system.buckets[0], batch=rows))

    @functools.cached_property
    def _heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        config = self._config
        return sources.read_heldout(config.data, config.system.heldout_clips, seed=config.seed)

    @functools.cached_property
    def _stored(self) -> feature_store.FeatureSource | None:
        folder = self._config.data.features
        if folder is None:
            return None
        return feature_store.FeatureSource(files.expand_path(folder), self.identity())


class _MomentEncoder:
    """Clips to moments, one clip at a time, cached by content."""

    def __init__(self, codec: latents.LatentCodec, params: functional.Params):
        self._params, self._cache = params, cache.ContentCache()
        self._apply = jax.jit(lambda params, clip: codec.encode(params, transforms.to_float(clip)))

    def encode(self, clips: UInt8[np.ndarray, "b f h w 3"]) -> autoencoder.Moments:
        """Returns the moments of `clips` as numpy arrays."""
        rows = [
            self._cache.get(hashing.content_key(clip), functools.partial(self._encode_one, clip))
            for clip in clips
        ]
        mean, logvar = (np.concatenate(part) for part in zip(*rows, strict=True))
        return autoencoder.Moments(mean=mean, logvar=logvar)

    @context.no_mesh()
    def _encode_one(self, clip: UInt8[np.ndarray, "f h w 3"]) -> tuple[Array, Array]:
        moments = self._apply(self._params, clip[None])
        return moments.mean, moments.logvar


def _names(tree: Any) -> list[tuple[str, Any]]:
    """Returns the leaves of a tree of dataclasses by the names of their fields."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path[-1:], simple=True), leaf) for path, leaf in leaves]


def _from_names(spec: Any, values: Mapping[str, Any]) -> Any:
    """Inverse of `_names` for a tree of the structure of `spec`."""
    leaves = [values[name] for name, _ in _names(spec)]
    return jax.tree.unflatten(jax.tree.structure(spec), leaves)
