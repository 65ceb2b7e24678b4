# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax.config import LLMConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, llm
from mimir_jax.models.divot import vocabulary
from tests import quick
from tests.helpers import relative_error
from tests.models.divot.rows import IDS, QUERIES

CFG = LLMConfig(
    vocab_size=20, width=12, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=6, mlp_dim=16
)


def test_tokens_are_looked_up_by_name():
    vocab = vocabulary.read(IDS, QUERIES, bos="<unk>", pad="</s>")
    assert (vocab.bos, vocab.eos, vocab.pad) == (IDS["<unk>"], IDS["</s>"], IDS["</s>"])
    assert vocab.image == (IDS["<img>"], IDS["</img>"])
    assert vocab.video == (IDS["<vid>"], IDS["</vid>"])
    assert vocab.clip == (IDS["<frame>"], IDS["</frame>"])
    assert vocab.indices == tuple(IDS[f"<frame_0000{i}>"] for i in range(4))


def test_missing_tokens_are_named():
    with pytest.raises(InputError, match="got one without <frame_00006>, <frame_00007>; add them"):
        vocabulary.read(IDS, 8)
    with pytest.raises(
        InputError, match="got one without <s>, </s>, <vid>, </vid> and others; add"
    ):
        vocabulary.read({"<unk>": 0}, 8)


@pytest.mark.parametrize("tied", quick.some([False, True], 1))
def test_new_tokens_start_at_the_mean(tied):
    cfg = dataclasses.replace(CFG, tie_embeddings=tied)
    model = functional.build(llm.LLM, cfg)
    params = jax.jit(model.init)(jax.random.key(0))
    grown = vocabulary.grow(params, 5)
    larger = functional.build(llm.LLM, dataclasses.replace(cfg, vocab_size=25))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), larger.abstract_params)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), grown) == shapes
    old = np.asarray(params["embed"]["table"])
    assert relative_error(grown["embed"]["table"][20:], np.tile(old.mean(0), (5, 1))) < 1e-6
    ids = np.arange(14).reshape(2, 7)
    before = np.asarray(model.apply(params, ids).logits)
    after = np.asarray(larger.apply(grown, ids).logits)
    assert relative_error(after[..., :20], before) < 1e-6
    mean = before.mean(-1, keepdims=True).repeat(5, -1)
    assert relative_error(after[..., 20:], mean if tied else 3 * mean) < 1e-5


def test_a_vocabulary_cannot_shrink():
    with pytest.raises(InputError, match="num_tokens must be at least 0, got -1"):
        vocabulary.grow({"embed": {"table": np.zeros((2, 3))}}, -1)
