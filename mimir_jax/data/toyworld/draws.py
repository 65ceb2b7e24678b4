# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random draws as a pure function of names: seed, split, index, stream.

Philox is a counter-based generator, so any stream starts at once and none overlap. Values are made
from its raw bits, which NumPy keeps stable across versions and platforms.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_BLOCK = 256


class Draws:
    """A reproducible sequence of draws.

    Args:
        seed: Names the dataset, 0 to 2^64 - 1.
        split: Names the split by number.
        index: Names the scene, 0 to 2^64 - 1.
        stream: Names the purpose, so that captions never shift scenes.
    """

    def __init__(self, seed: int, split: int, index: int, stream: int = 0):
        self._bits = np.random.Philox(
            key=np.array([seed, index], np.uint64),
            counter=np.array([0, stream, split, 0], np.uint64),
        )
        self._values: list[float] = []
        self._next = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draws a number in [low, high)."""
        if self._next == len(self._values):
            self._values = self.uniforms(_BLOCK).tolist()
            self._next = 0
        self._next += 1
        return low + (high - low) * self._values[self._next - 1]

    def uniforms(self, *shape: int) -> np.ndarray:
        """Draws an array of numbers in [0, 1)."""
        raw = self._bits.random_raw(math.prod(shape))
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def below(self, stop: int) -> int:
        """Draws an integer in [0, stop)."""
        return int(self.uniform() * stop)

    def chance(self, probability: float) -> bool:
        """Draws True with the given probability."""
        return self.uniform() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Draws one of `options`."""
        return options[self.below(len(options))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        """Draws a key with a probability in proportion to its value."""
        rest = self.uniform() * sum(weights.values())
        for option, weight in weights.items():
            rest -= weight
            if rest < 0:
                return option
        return option
