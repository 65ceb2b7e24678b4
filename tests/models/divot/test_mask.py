# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import LLMConfig
from mimir_jax.models import functional, llm
from mimir_jax.models.divot import mask

RNG = np.random.default_rng(0)
BLOCK = [-1] * 4

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def block_mask(roles, num_queries=4, window=None):
    """The mask of one row."""
    return np.asarray(mask.block_mask(jnp.asarray([roles]), num_queries, window))[0]


def reference(roles, num_queries, window):
    """The rule, pair by pair."""
    queries = [i for i, role in enumerate(roles) if role == -1]
    starts = [s for s in queries[::num_queries] if s + num_queries <= len(roles)]
    out = np.zeros((len(roles), len(roles)), bool)
    for i in range(len(roles)):
        for j in range(len(roles)):
            block = any(s <= i < s + num_queries and s <= j < s + num_queries for s in starts)
            near = window is None or i - j < window
            out[i, j] = (j <= i or block) and near and roles[j] != 0
    return out


def test_a_caption_and_its_queries():
    seen = block_mask([1] * 5 + BLOCK + [1] * 3 + [0])
    assert seen.shape == (13, 13)
    for row in range(5):
        assert np.flatnonzero(seen[row]).tolist() == list(range(row + 1))
    for row in range(5, 9):
        assert np.flatnonzero(seen[row]).tolist() == list(range(9))
    for row in range(9, 12):
        assert np.flatnonzero(seen[row]).tolist() == list(range(row + 1))
    assert not seen[:, 12].any()
    assert seen[12, :12].all()


def test_without_queries_the_mask_is_causal():
    assert (block_mask([1] * 9) == np.tril(np.ones((9, 9)))).all()


def test_several_clips_do_not_see_later_ones():
    seen = block_mask([1, *BLOCK, 1, 1, *BLOCK, 1])
    assert seen[1:5, :5].all() and not seen[1:5, 5:].any()
    assert seen[7:11, :11].all() and not seen[7:11, 11].any()


def test_adjacent_clips_are_separate_blocks():
    seen = block_mask([1, *BLOCK, *BLOCK])
    assert seen[1:5, 1:5].all() and not seen[1:5, 5:].any()
    assert seen[5:, :].all()


def test_a_broken_run_holds_the_text_inside_it():
    seen = block_mask([1, -1, -1, 1, -1, -1, 1])
    assert seen[1:5, 1:5].all()  # by position: the text at 3 is inside, the last query is not
    assert not seen[1:5, 5:].any()
    assert np.flatnonzero(seen[5]).tolist() == list(range(6))


def test_a_short_run_covers_what_follows():
    seen = block_mask([1, -1, -1, 1, 1, 1])
    assert seen[1:5, 1:5].all() and not seen[1:5, 5].any()


def test_a_block_past_the_end_stays_causal():
    roles = [1, 1, -1, -1, -1]
    assert (block_mask(roles) == np.tril(np.ones((5, 5)))).all()
    assert block_mask([1, *roles[2:], 1])[1:, 1:].all()  # one more token and it exists


def test_pads_inside_a_block_are_no_keys():
    seen = block_mask([1, -1, -1, 0, -1])
    assert not seen[:, 3].any()
    assert seen[1:, [0, 1, 2, 4]].all()


def test_padding_may_be_on_the_left():
    seen = block_mask([0, 0, 1, *BLOCK])
    assert not seen[:, :2].any()
    assert seen[3:, 2:].all()


def test_the_window_bounds_how_far_back_a_query_sees():
    seen = block_mask([1] * 5 + BLOCK + [1], window=3)
    assert np.flatnonzero(seen[4]).tolist() == [2, 3, 4]
    assert np.flatnonzero(seen[5]).tolist() == [3, 4, 5, 6, 7, 8]
    assert np.flatnonzero(seen[8]).tolist() == [6, 7, 8]


@pytest.mark.parametrize("num_queries, length", [(1, 11), (3, 17), (4, 29), (64, 140)])
@pytest.mark.parametrize("window", [None, 5])
def test_any_roles_follow_the_rule(num_queries, length, window):
    roles = RNG.choice([-1, -1, 1, 0], (5, length))
    roles[0] = -1
    run = jax.jit(mask.block_mask, static_argnums=(1, 2))
    ours = run(jnp.asarray(roles), num_queries, window)
    assert ours.dtype == bool
    for row, seen in zip(roles, ours, strict=True):
        assert (np.asarray(seen) == reference(row, num_queries, window)).all()


def test_queries_of_an_llm_depend_on_each_other_and_not_on_what_follows():
    cfg = LLMConfig(
        vocab_size=20, width=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6, mlp_dim=16
    )
    model = functional.build(llm.LLM, cfg)
    params = jax.jit(model.init)(jax.random.key(0))
    roles = jnp.asarray([[1, 1, *BLOCK, 1, 0]])
    seen = mask.block_mask(roles, 4)
    x = RNG.normal(size=(8, 12)).astype(np.float32)
    encode = jax.jit(lambda p, x: model.encode(p, embeddings=x, block_mask=seen)[0])
    states = encode(params, jnp.asarray(x)[None])
    for place, first in [(1, 1), (5, 2), (6, 6), (7, 7)]:  # text, query, text behind, pad
        other = encode(params, jnp.asarray(x).at[place].add(1.0)[None])
        moved = np.abs(np.asarray(other - states)).max(-1) > 1e-5
        assert moved.tolist() == [i >= first for i in range(8)]
