# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Rotary positions of decoder-only LLMs (arXiv 2104.09864) with the Phi-3 and Llama scalings.

LongRoPE (arXiv 2402.13753) divides the frequencies by one list of factors up to the original
context length and by another beyond it, for all positions at once.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mimir_jax.config import RopeConfig
from mimir_jax.errors import InputError


class Rotation(NamedTuple):
    """Cosines and sines of the rotated channel pairs."""

    cos: Float[Array, "#b l half"]
    sin: Float[Array, "#b l half"]


def frequencies(cfg: RopeConfig, head_dim: int, *, long: bool = False) -> np.ndarray:
    """Returns the angle per position of every rotated channel pair.

    Args:
        cfg: Rotary settings.
        head_dim: Channels of a head, of which the first `cfg.partial` are rotated.
        long: Use the factors for sequences beyond `cfg.original_max_length` (LongRoPE only).
    """
    dim = int(head_dim * cfg.partial)
    # float32 throughout, in the order of the reference: long contexts amplify the last bit.
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    periods = np.float32(cfg.theta) ** exponents
    match cfg.kind:
        case "default":
            return 1 / periods
        case "linear":
            return 1 / periods / np.float32(cfg.factor or 1.0)
        case "longrope":
            return 1 / (_factors(cfg, len(periods), long) * periods)
        case "llama3":
            return _llama3(cfg, 1 / periods)
    raise InputError(
        "rope.kind must be default, linear, longrope or llama3, "
        f"got {cfg.kind!r}; choose one of them"
    )


def attention_factor(cfg: RopeConfig) -> float:
    """Returns the scale of both tables, which LongRoPE raises with the context extension."""
    if cfg.kind != "longrope":
        return 1.0
    if cfg.attention_factor is not None:
        return cfg.attention_factor
    extension = cfg.factor or cfg.max_length / cfg.original_max_length
    if extension <= 1:
        return 1.0
    return math.sqrt(1 + math.log(extension) / math.log(cfg.original_max_length))


def rotation(
    cfg: RopeConfig, head_dim: int, positions: Int[Array, "#b l"], length: int | Int[Array, ""]
) -> Rotation:
    """Returns the tables of `positions`.

    Args:
        cfg: Rotary settings.
        head_dim: Channels of a head.
        positions: Positions, counted from 0.
        length: Length of the sequence, which chooses the factors of LongRoPE.
    """
    freqs = jnp.asarray(frequencies(cfg, head_dim))
    if cfg.kind == "longrope":
        long = jnp.asarray(frequencies(cfg, head_dim, long=True))
        freqs = jnp.where(length > cfg.original_max_length, long, freqs)
    angles = positions.astype(jnp.float32)[..., None] * freqs[None, None]
    scale = attention_factor(cfg)
    return Rotation(jnp.cos(angles) * scale, jnp.sin(angles) * scale)


def rotate(x: Float[Array, "b l n h"], tables: Rotation) -> Float[Array, "b l n h"]:
    """Rotates channel `i` with channel `i + half`; channels past `2 * half` pass unchanged."""
    cos, sin = tables.cos[:, :, None], tables.sin[:, :, None]
    half = cos.shape[-1]
    a = x[..., :half].astype(jnp.float32)
    b = x[..., half : 2 * half].astype(jnp.float32)
    rotated = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)
    return jnp.concatenate([rotated, x[..., 2 * half :]], axis=-1)


def _factors(cfg: RopeConfig, num: int, long: bool) -> np.ndarray:
    name = "long_factor" if long else "short_factor"
    factors = np.asarray(getattr(cfg, name), np.float32)
    if factors.shape != (num,):
        raise InputError(
            f"rope.{name} must hold one factor per rotated channel pair, got {factors.size} "
            f"for {num} pairs; set it from the config of the weights"
        )
    return factors


def _llama3(cfg: RopeConfig, freqs: np.ndarray) -> np.ndarray:
    """Keeps short wavelengths, divides long ones by `factor`, and blends those between."""
    factor = np.float32(cfg.factor or 1.0)
    turns = np.float32(cfg.original_max_length) * freqs / np.float32(2 * math.pi)
    span = cfg.high_freq_factor - cfg.low_freq_factor
    keep = (turns - np.float32(cfg.low_freq_factor)) / np.float32(span)
    keep = np.clip(keep, np.float32(0), np.float32(1))
    return (1 - keep) * freqs / factor + keep * freqs
