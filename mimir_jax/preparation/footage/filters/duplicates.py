# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips that look alike, by perceptual hashes (pHash: signs of low frequencies).

A clip has three hashes of 64 bits, of frames at a quarter, half and three quarters of its length.
The distance of two clips is the mean of the three Hamming distances.
"""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from PIL import Image
from scipy import fft

from mimir_jax.preparation.footage import clip as clip_lib

FRAMES = 3
_SIDE, _KEPT = 32, 8
_WAVES = fft.dct(np.eye(_SIDE, dtype=np.float32), axis=0, norm="ortho")[:_KEPT]  # low frequencies
_FAR = 64
_BLOCK = 512  # pairs of two blocks fit a cache


def hashes(clip: clip_lib.Clip) -> UInt64[np.ndarray, "3"]:
    """Returns the perceptual hashes of a clip."""
    places = [len(clip.small) * (i + 1) // (FRAMES + 1) for i in range(FRAMES)]
    return np.array([_hash(clip.gray[place]) for place in places], np.uint64)


def _hash(gray: UInt8[np.ndarray, "h w"]) -> int:
    square = Image.fromarray(gray).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    waves = (_WAVES @ np.asarray(square, np.float32) @ _WAVES.T).ravel()
    bits = waves > np.median(waves[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def find(
    clips: Mapping[Hashable, Sequence[int]], min_distance: float
) -> dict[Hashable, tuple[Hashable | None, float]]:
    """Returns every clip's nearest kept clip before it with the distance; None and 64 without one.

    Clips come in order: of two that are alike, the first is kept. All pairs are compared.

    Args:
        clips: Hashes of each clip.
        min_distance: Distance from which two clips differ.
    """
    names = list(clips)
    rows = np.array([clips[name] for name in names], np.uint64).reshape(len(names), FRAMES)
    kept = np.empty((0,), np.int64)
    nearest = {}
    for start in range(0, len(names), _BLOCK):
        block = rows[start : start + _BLOCK]
        places, bits = _nearest(rows[kept], block)
        within = _bits(block, block)
        new: list[int] = []
        for number in range(len(block)):
            place, least = -1, _FAR * FRAMES
            if places[number] >= 0:
                place, least = int(kept[places[number]]), int(bits[number])
            if new and (other := within[new, number]).min() < least:
                place, least = start + new[int(other.argmin())], int(other.min())
            distance = least / FRAMES
            nearest[names[start + number]] = (names[place] if place >= 0 else None, distance)
            new += [number] if distance >= min_distance else []
        kept = np.concatenate([kept, start + np.array(new, np.int64)])
    return nearest


def _nearest(
    kept: UInt64[np.ndarray, "k 3"], block: UInt64[np.ndarray, "b 3"]
) -> tuple[Int64[np.ndarray, "b"], UInt8[np.ndarray, "b"]]:
    """Returns the first nearest of the kept clips for each of a block, and the bits they differ by.

    The place is -1 where no clip is kept.
    """
    places = np.full(len(block), -1)
    least = np.full(len(block), 255, np.uint8)
    for start in range(0, len(kept), _BLOCK):
        bits = _bits(kept[start : start + _BLOCK], block)
        nearer = (low := bits.min(0)) < least
        places[nearer] = start + bits.argmin(0)[nearer]
        least[nearer] = low[nearer]
    return places, least


def _bits(
    one: UInt64[np.ndarray, "n 3"], other: UInt64[np.ndarray, "m 3"]
) -> UInt8[np.ndarray, "n m"]:
    """Returns in how many bits of all hashes clips differ, at most 192."""
    return sum(np.bitwise_count(one[:, None, k] ^ other[:, k]) for k in range(FRAMES))
