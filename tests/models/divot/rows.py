# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A small vocabulary and the sizes that the tests of rows share."""

import dataclasses

import numpy as np

from mimir_jax.config import ClipSequenceConfig
from mimir_jax.models.divot import vocabulary

QUERIES, WIDTH = 4, 3
CFG = ClipSequenceConfig(
    max_length=13, num_queries=QUERIES, token_width=WIDTH, max_inputs=3, max_outputs=1
)
LONG = dataclasses.replace(CFG, max_length=60, max_outputs=2)
NAMES = ["<unk>", "<s>", "</s>", "<img>", "</img>", "<vid>", "</vid>", "<frame>", "</frame>"]
NAMES += [f"<frame_{i:05d}>" for i in reversed(range(6))]  # more than needed, in another order
IDS = {name: 100 + i for i, name in enumerate(NAMES)}
VOCAB = vocabulary.read(IDS, QUERIES)
FRAMES = [IDS[f"<frame_{i:05d}>"] for i in range(QUERIES)]


def ids(text):
    """Ids of names and numbers; `F` is the block of a clip, delimiters included."""
    out = []
    for word in text.split():
        block = [IDS["<frame>"], *FRAMES, IDS["</frame>"]]
        out += block if word == "F" else [IDS[word] if word in IDS else int(word)]
    return out


def clips(*shape, seed=0):
    """Random clip tokens of shape (*shape, queries, width)."""
    return np.random.default_rng(seed).normal(size=(*shape, QUERIES, WIDTH)).astype(np.float32)
