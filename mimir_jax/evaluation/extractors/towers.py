# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP and plain vision transformers of a user's folder, run by JAX.

Frames follow the folder's own `preprocessor_config.json`. Features have unit length.
"""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from mimir_jax import hashing, weights
from mimir_jax.config import ClipConfig, ViTConfig
from mimir_jax.encoders import images as images_lib
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import require
from mimir_jax.models import functional

_AT_ONCE = 32


class VisionTower:
    """The normed class token of a vision transformer, such as DINO.

    Args:
        folder: Opened as `mimir_jax.load` does.

    Raises:
        InputError: for weights of another kind, without a last norm, or without the rules of their
            frames.
    """

    def __init__(self, folder: pathlib.Path):
        model, params = weights.load(folder, kind="vit")
        config: ViTConfig = model.config
        require(
            config.post_norm,
            f"extractor {folder} must have a norm of its class token, got none; name a whole tower",
        )
        require(
            images_lib.find_file(folder) is not None,
            f"extractor {folder} must hold preprocessor_config.json, which says how frames are "
            "resized and normalised; add it",
        )
        self._folder, self._rules = folder, images_lib.read_config(folder, config.image_size)

        def embed(params: functional.Params, images: jax.Array) -> jax.Array:
            return model.pool(params, model.apply(params, images))

        self._embed, self._params = jax.jit(embed), params

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Folder and hash of its weights."""
        return _describe(self._folder, "vit")

    def embed_images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Returns the features of each image, of unit length."""
        prepare = functools.partial(images_lib.prepare, cfg=self._rules)
        return _in_batches(images, prepare, functools.partial(self._embed, self._params))


class ClipTowers:
    """Both towers of a CLIP.

    Args:
        folder: A `CLIPModel` of transformers with its tokenizer.

    Raises:
        InputError: for weights of another kind, or without their tokenizer.
    """

    def __init__(self, folder: pathlib.Path):
        model, params = weights.load(folder, kind="clip")
        self._config: ClipConfig = model.config
        self._folder, self._params = folder, params
        self._rules = images_lib.read_config(folder, self._config.vit.image_size)
        self._tokenizer = tokenizers.load(folder)
        tokenizers.check_ids(self._tokenizer, self._config.text.vocab_size)
        tokenizers.require(self._tokenizer, "eos")
        self._images, self._texts = jax.jit(model.embed_images), jax.jit(model.embed_texts)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Folder and hash of its weights."""
        return _describe(self._folder, "clip")

    def embed_images(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Returns the embeddings of images, of unit length."""
        prepare = functools.partial(images_lib.prepare, cfg=self._rules)
        return _in_batches(images, prepare, functools.partial(self._images, self._params))

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Returns the embeddings of texts, of unit length; the end of a long one is not read."""
        return _in_batches(
            np.stack([self._ids(text) for text in texts]),
            lambda ids: ids,
            functools.partial(self._texts, self._params),
        )

    def _ids(self, text: str) -> Int32[np.ndarray, " l"]:
        length = self._config.text.length
        ids = self._tokenizer(text, truncation=True, max_length=length)["input_ids"]
        pad = tokenizers.masked_pad_id(self._tokenizer, self._config.text.vocab_size)
        return tokenizers.pad([ids], length, pad)[0][0]


def _in_batches(
    rows: np.ndarray, prepare: Callable[[np.ndarray], np.ndarray], embed: Callable
) -> Float32[np.ndarray, "n d"]:
    """Runs one compiled program over batches of one size, the last filled with copies."""
    parts = []
    for first in range(0, len(rows), _AT_ONCE):
        part = np.stack([prepare(row) for row in rows[first : first + _AT_ONCE]])
        filled = part[np.minimum(np.arange(_AT_ONCE), len(part) - 1)]
        parts.append(np.asarray(embed(filled), np.float32)[: len(part)])
    features = np.concatenate(parts)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _describe(folder: pathlib.Path, kind: str) -> dict[str, Any]:
    opened = weights.open_weights(folder, kind=kind)
    listed = opened.files or sorted(p for p in folder.rglob("*") if p.is_file())
    digests = (f"{path.name} {hashing.sha256_file(path)}" for path in listed)
    return {"extractor": folder.name, "sha256": hashing.sha256("\n".join(digests))[:16]}
