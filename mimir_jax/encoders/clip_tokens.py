# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos to the tokens of their clips, by a frozen tokenizer of Divot, cached by content."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from mimir_jax import hashing, weights
from mimir_jax.config import AgentConfig, DivotTokenizerConfig, flag
from mimir_jax.data import transforms
from mimir_jax.encoders import cache, frozen
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.divot import tokenizer
from mimir_jax.parallel import context

PART = "tokenizer"
"""Field and top-level name of the tokenizer in a network that holds one."""


class ClipTokenizer(frozen.FrozenNetwork):
    """A tokenizer of clips: its own weights, or those of a network with it as a part.

    Args:
        path: Folder of the weights; None where the run names none.
    """

    def __init__(self, path: str | None):
        super().__init__(kind="divot_tokenizer", path=path, field="clip_tokenizer_path")

    def load(self, mesh: Mesh | None = None) -> tuple[functional.Model, functional.Params]:
        """Loads the tokenizer onto the first device, or split over `mesh`."""
        model, params = weights.load(self.require_path(), mesh=mesh)
        config = tokenizer_config(model.config, self.require_path())
        params = params if config is model.config else params[PART]
        return functional.build(tokenizer.DivotTokenizer, config), params

    def describe(self) -> tuple[functional.Model, functional.Params]:
        """Returns the tokenizer with shapes and dtypes of its parameters; reads no weights."""
        config, dtype = DivotTokenizerConfig(), "bfloat16"
        if self._exists():
            config = tokenizer_config(weights.open_weights(self.path).config, self.path)
            dtype = config.dtype
        model = functional.build(tokenizer.DivotTokenizer, config)
        return model, frozen.param_spec(model, dtype)


class ClipTokens:
    """Tokens of the clips of videos.

    Each clip passes alone through a program of one shape, so that its tokens depend on it alone.

    Args:
        model: The tokenizer.
        params: Its parameters.
        clip_frames: Frames of a clip.
    """

    def __init__(self, model: functional.Model, params: functional.Params, clip_frames: int):
        self._params, self._clip_frames = params, clip_frames
        self._config = model.config
        self._picked = model.config.frames
        self._cache = cache.ContentCache()
        self._apply = jax.jit(
            lambda params, frames: model.apply(params, transforms.to_float(frames))
        )

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that the tokens of a video are a function of."""
        weights_digest, config = hashing.tree_digest(self._params), dataclasses.asdict(self._config)
        tokenizer = {"weights": weights_digest, "config": config}
        return {"clip_frames": self._clip_frames, "clip_tokenizer": tokenizer}

    def encode(self, video: UInt8[np.ndarray, "f h w 3"]) -> Float[np.ndarray, "n q d"]:
        """Returns the tokens of each clip of a video, one of them for a shorter video."""
        count = max(1, len(video) // self._clip_frames)
        clips = [video] if count == 1 else np.array_split(video[: count * self._clip_frames], count)
        return np.concatenate([self._encode_clip(clip) for clip in clips])

    def _encode_clip(self, clip: UInt8[np.ndarray, "f h w 3"]) -> Float[np.ndarray, "1 q d"]:
        frames = np.ascontiguousarray(clip[frame_positions(len(clip), self._picked)])
        run = functools.partial(self._run, frames)
        return self._cache.get(hashing.content_key(frames), run)

    @context.no_mesh()
    def _run(self, frames: UInt8[np.ndarray, "f h w 3"]) -> Float[Array, "1 q d"]:
        return self._apply(self._params, frames[None]).astype(jnp.float32)


def frame_positions(num_frames: int, picked: int) -> Int[np.ndarray, " positions"]:
    """Returns the frames of a clip that the tokenizer reads: evenly spaced, the last one included.

    Of 16 frames these are 0, 4, 8, 12 and 15, as in Divot; of 17 frames 0, 4, 8, 12 and 16, which
    are those where the latent frames of the causal VAE begin. Of an image it is the one frame.
    """
    if num_frames == 1:
        return np.zeros(1, int)
    gaps = max(picked - 1, 1)
    return np.minimum(np.arange(picked) * num_frames // gaps, num_frames - 1)


def require_fits(config: DivotTokenizerConfig, model: AgentConfig, path: str | None) -> None:
    """Raises `InputError` unless an LLM reads the tokens that a tokenizer makes."""
    made = (config.num_tokens, config.token_width)
    read = (model.num_queries, model.token_width)
    if made != read:
        raise InputError(
            f"tokenizer of clips {path} must make the {read[0]} tokens of {read[1]} numbers that "
            f"the LLM reads, it makes {made[0]} of {made[1]}; set "
            f"{flag('system.model.llm.query_block')}={made[0]} and "
            f"{flag('system.model.token_width')}={made[1]}"
        )


def tokenizer_config(config: Any, path: str | pathlib.Path) -> DivotTokenizerConfig:
    """Returns the config of the tokenizer of clips that a network is, or has as a part.

    Args:
        config: Of the network.
        path: Of its weights, for messages.

    Raises:
        InputError: if there is none.
    """
    found = getattr(config, PART, config)
    if not isinstance(found, DivotTokenizerConfig):
        raise InputError(
            f"weights {path} must hold a tokenizer of clips, got a {type(config).__name__}; name "
            "a run of divot, or Divot_tokenizer.bin with its image tower"
        )
    return found
