# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which clips are trained on and which are held out, by a number for each.

A clip keeps its split when others are added.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt32

from mimir_jax import hashing

_ONE_IN = 20


def code(name: str) -> int:
    """Returns the number of a clip, from its name."""
    return int(hashing.sha256(name)[:8], 16)


def choose(
    codes: UInt32[np.ndarray, "n"],
    split: Literal["train", "heldout"],
    is_readable: Callable[[int], bool],
) -> Int64[np.ndarray, "k"]:
    """Returns the places of the clips of a split, ascending.

    Args:
        codes: Numbers of the clips, in order of their names.
        split: `heldout` is one clip in twenty by number, or the first by number that can be read if
            none of these can be; `train` is the rest.
        is_readable: Whether the clip at a place can be read; asked until one can.

    Returns:
        The places; none if no clip of the split can be read.
    """
    readable = functools.cache(is_readable)
    order = np.argsort(codes, kind="stable")
    is_heldout = codes % _ONE_IN == 0
    if not any(readable(k) for k in order[is_heldout[order]].tolist()):
        others = order[~is_heldout[order]].tolist()
        is_heldout[[*itertools.islice(filter(readable, others), 1)]] = True
    chosen = np.flatnonzero(is_heldout if split == "heldout" else ~is_heldout)
    return chosen if any(map(readable, chosen.tolist())) else chosen[:0]
