# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import LLMConfig, RopeConfig
from mimir_jax.encoders import decoding
from mimir_jax.models import functional
from mimir_jax.models import llm as llm_lib
from tests.helpers import params_of, relative_error
from tests.models import llm_reference

CFG = LLMConfig(
    vocab_size=60,
    width=36,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=6,
    mlp_dim=44,
)
LONG = RopeConfig(
    kind="longrope",
    max_length=120,
    original_max_length=12,
    short_factor=(1.0, 1.3, 1.9),
    long_factor=(1.5, 4.0, 11.0),
)
LLAMA3 = RopeConfig(kind="llama3", factor=8.0, original_max_length=20)
NEW = 9
SAMPLED = dict(max_new_tokens=NEW, temperature=1.0, top_p=0.9)


def prompts(lengths, width, side="left", seed=0):
    """Random prompts of `lengths`, padded with zeros to `width`."""
    rng = np.random.default_rng(seed)
    ids, mask = np.zeros((len(lengths), width), np.int32), np.zeros((len(lengths), width), bool)
    for row, n in enumerate(lengths):
        place = slice(width - n, None) if side == "left" else slice(n)
        ids[row, place], mask[row, place] = rng.integers(3, 60, n), True
    return jnp.asarray(ids), jnp.asarray(mask)


@pytest.fixture(scope="module")
def llm():
    # Wide embeddings spread the logits, so that draws differ and ties cannot occur.
    model = functional.build(llm_lib.LLM, dataclasses.replace(CFG, sliding_window=8))
    params = jax.jit(model.init)(jax.random.key(0))
    params["head"]["kernel"] *= 3
    return model, params


@pytest.mark.torch
@pytest.mark.parametrize(
    "layout, changes, lengths",
    [
        pytest.param("mistral", dict(sliding_window=6), [7, 4], id="mistral-window"),
        pytest.param("llama", dict(rope=LLAMA3, tie_embeddings=True), [7, 4], id="llama3-tied"),
        pytest.param("qwen2", dict(qkv_bias=True), [7, 4], id="qwen2"),
        pytest.param("qwen3", dict(qk_norm=True, head_dim=10), [7, 4], id="qwen3"),
        pytest.param("phi3", dict(rope=LONG), [13, 6], id="longrope-long"),
        pytest.param("phi3", dict(rope=LONG), [11, 6], id="longrope-crossing"),
    ],
)
def test_greedy_equals_transformers(layout, changes, lengths):
    cfg = dataclasses.replace(CFG, **changes)
    torch_model = llm_reference.build(layout, cfg)
    model, params = (
        functional.build(llm_lib.LLM, cfg),
        params_of("llm", torch_model, cfg, type(torch_model).__name__),
    )
    ids, mask = prompts(lengths, max(lengths))
    never = cfg.vocab_size
    theirs = llm_reference.generate(torch_model, ids, mask, NEW, eos_token_id=never)
    ours = decoding.generate_states(model, params, ids, mask, max_new_tokens=NEW)
    np.testing.assert_array_equal(ours.tokens, theirs)
    # The states are those of one forward over prompt and answer.
    whole, real, states = (
        np.concatenate(pair, axis=1)
        for pair in [(ids, ours.tokens), (mask, ours.mask), (ours.prompt_states, ours.states)]
    )
    read = jax.jit(model.encode)(params, jnp.asarray(whole), jnp.asarray(real))
    assert relative_error(states[real], np.asarray(read)[real]) < 1e-5


@pytest.mark.torch
def test_end_tokens_stop_rows_as_in_transformers():
    torch_model = llm_reference.build("llama", CFG)
    model, params = (
        functional.build(llm_lib.LLM, CFG),
        params_of("llm", torch_model, CFG, type(torch_model).__name__),
    )
    ids, mask = prompts([6, 4, 5], 6)
    free = np.asarray(decoding.generate(model, params, ids, mask, max_new_tokens=NEW))
    eos = (int(free[0, 2]), int(free[1, 4]))
    theirs = llm_reference.generate(torch_model, ids, mask, NEW, eos_token_id=list(eos))
    ours = decoding.generate_states(
        model, params, ids, mask, max_new_tokens=NEW, eos_ids=eos, pad_id=0
    )
    tokens = np.asarray(ours.tokens)
    np.testing.assert_array_equal(tokens[:, : theirs.shape[1]], theirs)
    ends = np.isin(tokens, eos)
    after = np.cumsum(ends, axis=1) - ends > 0
    np.testing.assert_array_equal(ours.mask, ~after)
    assert not tokens[after].any() and not np.asarray(ours.states)[after].any()


def test_padding_side_does_not_change_an_answer(llm):
    model, params = llm
    keys = jax.random.split(jax.random.key(3), 3)
    left, right = (
        decoding.generate(model, params, *prompts([6, 3, 5], 6, side), key=keys, **SAMPLED)
        for side in ("left", "right")
    )
    np.testing.assert_array_equal(left, right)


def test_states_come_from_the_chosen_layer(llm):
    model, params = llm
    ids, mask = prompts([6, 3], 6, "right")
    out = decoding.generate_states(model, params, ids, mask, max_new_tokens=2, layer=1)
    whole, real, states = (
        np.concatenate(pair, axis=1)
        for pair in [(ids, out.tokens), (mask, out.mask), (out.prompt_states, out.states)]
    )
    # Moving the pads of the second prompt out of the way gives one plain sequence.
    order = np.array([range(8), [0, 1, 2, 6, 7, 3, 4, 5]])
    whole, real, states = (
        np.stack([x[row, order[row]] for row in range(2)]) for x in (whole, real, states)
    )
    encode = jax.jit(model.encode, static_argnames="layer")
    read = np.asarray(encode(params, jnp.asarray(whole), layer=1))
    assert relative_error(states[real], read[real]) < 1e-5


def test_draws_depend_on_the_key_of_the_row_alone(llm):
    model, params = llm
    ids, mask = prompts([6, 3, 5], 6)
    keys = jax.random.split(jax.random.key(3), 3)

    def run(ids, mask, key):
        return np.asarray(decoding.generate(model, params, ids, mask, key=key, **SAMPLED))

    together = run(ids, mask, keys)
    np.testing.assert_array_equal(together, run(ids, mask, keys))
    np.testing.assert_array_equal(together[1:2], run(ids[1:2], mask[1:2], keys[1:2]))
    assert (run(ids, mask, keys[::-1])[:, 0] != together[:, 0]).any()
    # One key is folded with the index of each row.
    folded = jax.vmap(jax.random.fold_in, (None, 0))(keys[0], jnp.arange(3))
    np.testing.assert_array_equal(run(ids, mask, keys[0]), run(ids, mask, folded))


@pytest.mark.parametrize("top_p, kept", [(1.0, 4), (0.71, 3), (0.69, 2), (1e-6, 1)])
def test_nucleus_keeps_the_fewest_tokens_of_enough_mass(top_p, kept):
    probs = np.array([0.2, 0.4, 0.1, 0.3])  # likeliest first: 0.4, 0.7, 0.9, 1.0
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(probs, jnp.float32)), (20_000, 4))
    keys = jax.random.split(jax.random.key(0), len(logits))
    draws = np.asarray(decoding.sample(logits, keys, temperature=1.0, top_p=top_p))
    order = np.argsort(-probs)[:kept]
    expected = np.zeros(4)
    expected[order] = probs[order] / probs[order].sum()
    counts = np.bincount(draws, minlength=4) / len(draws)
    assert set(np.flatnonzero(counts)) == set(order)
    np.testing.assert_allclose(counts, expected, atol=0.02)


def test_nucleus_agrees_with_sorting():
    logits = jax.random.normal(jax.random.key(0), (6, 500)) * jnp.arange(1, 7)[:, None]
    for top_p in (0.1, 0.5, 0.9, 0.999):
        probs = np.asarray(jax.nn.softmax(logits, axis=-1), np.float64)
        order = np.argsort(-probs, axis=-1)
        ranked = np.take_along_axis(probs, order, axis=-1)
        expected = np.zeros(probs.shape, bool)
        np.put_along_axis(expected, order, ranked.cumsum(-1) - ranked < top_p, axis=-1)
        np.testing.assert_array_equal(decoding.nucleus(logits, top_p), expected)


def test_temperature_sharpens_the_draws():
    probs = np.array([0.2, 0.5, 0.3])
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(probs, jnp.float32)), (20_000, 3))
    keys = jax.random.split(jax.random.key(0), len(logits))
    draws = np.asarray(decoding.sample(logits, keys, temperature=0.5))
    np.testing.assert_allclose(
        np.bincount(draws) / len(draws), probs**2 / (probs**2).sum(), atol=0.02
    )
    assert (decoding.sample(logits[:5], None, temperature=0.0) == 1).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(temperature=0.7), "key must be given at temperature 0.7, got None"),
        (dict(temperature=-1.0), r"temperature must not be negative, got -1.0"),
        (dict(top_p=0.0), r"top_p must be in \(0, 1\], got 0.0"),
        (dict(max_new_tokens=0), "max_new_tokens must be positive, got 0"),
    ],
)
def test_bad_settings_are_refused(llm, options, message):
    with pytest.raises(ValueError, match=message):
        decoding.generate(*llm, *prompts([3], 3), **{"max_new_tokens": 1, **options})
