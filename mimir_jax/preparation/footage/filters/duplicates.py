# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips that look alike, by perceptual hashes (pHash: signs of low frequencies).

A clip has three hashes of 64 bits, of frames at a quarter, half and three quarters of its length.
The distance of two clips is the mean of the three Hamming distances.
"""

import collections
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8, UInt64
from PIL import Image
from scipy import fft

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.filters import quality

FRAMES = 3
_SIDE, _KEPT, _BANDS = 32, 8, 8


def hashes(clip: clip_lib.Clip) -> UInt64[np.ndarray, "3"]:
    """Returns the perceptual hashes of a clip."""
    frames = clip.small[[len(clip.small) * (i + 1) // (FRAMES + 1) for i in range(FRAMES)]]
    return np.array([_hash(frame) for frame in frames], np.uint64)


def _hash(frame: UInt8[np.ndarray, "h w 3"]) -> int:
    square = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    waves = fft.dctn(quality.luma(np.asarray(square)), norm="ortho")[:_KEPT, :_KEPT].ravel()
    bits = waves > np.median(waves[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def find(
    clips: Mapping[Hashable, Sequence[int]], min_distance: float
) -> dict[Hashable, tuple[Hashable, float]]:
    """Returns every clip's nearest kept clip before it with the distance, 64 where none is near.

    Clips come in order: of two that are alike, the first is kept. Only clips that share a byte of
    a hash are compared, which finds every pair that differs by less than eight bits.

    Args:
        clips: Hashes of each clip.
        min_distance: Distance from which two clips differ; at most 8.
    """
    kept: list[Hashable] = []
    rows: list[np.ndarray] = []
    bands: dict[tuple[int, int, int], list[int]] = collections.defaultdict(list)
    nearest = {}
    for name, values in clips.items():
        row = np.array(values, np.uint64)
        keys = _keys(row)
        near = sorted({number for key in keys for number in bands.get(key, ())})
        best, distance = None, 64.0
        if near:
            others = np.stack([rows[number] for number in near])  # (m, 3)
            distances = np.bitwise_count(others ^ row).mean(1)
            place = int(distances.argmin())
            best, distance = kept[near[place]], float(distances[place])
        nearest[name] = (best, distance)
        if distance >= min_distance:
            for key in keys:
                bands[key].append(len(kept))
            kept.append(name)
            rows.append(row)
    return nearest


def _keys(row: np.ndarray) -> list[tuple[int, int, int]]:
    data = row.astype(">u8").view(np.uint8).reshape(FRAMES, _BANDS)
    return [(i, j, int(data[i, j])) for i in range(FRAMES) for j in range(_BANDS)]
