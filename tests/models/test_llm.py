# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import LLMConfig, RopeConfig
from mimir_jax.models import functional, llm, rope_text
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
    norm_eps=1e-5,
)
RNG = np.random.default_rng(0)
LONG = RopeConfig(
    kind="longrope",
    max_length=120,
    original_max_length=16,
    short_factor=(1.0, 1.3, 1.9),
    long_factor=(1.5, 4.0, 11.0),
)
LLAMA3 = RopeConfig(
    kind="llama3", theta=5e3, factor=8.0, original_max_length=40, high_freq_factor=3.5
)
CASES = {  # layout, changes to CFG, prompt length
    "phi3": ("phi3", {}, 13),
    "phi3-partial-tied": (
        "phi3",
        dict(rope=RopeConfig(partial=0.5, theta=500.0), head_dim=12, width=72, tie_embeddings=True),
        13,
    ),
    "phi3-longrope-short": ("phi3", dict(rope=LONG), 16),
    "phi3-longrope-long-partial": (
        "phi3",
        dict(rope=dataclasses.replace(LONG, partial=0.5), head_dim=12, width=72),
        17,
    ),
    "phi3-longrope-given-scale-window": (
        "phi3",
        dict(rope=dataclasses.replace(LONG, attention_factor=1.7), sliding_window=7),
        21,
    ),
    "llama-linear-wide-heads-tied": (
        "llama",
        dict(rope=RopeConfig(kind="linear", factor=4.0), head_dim=10, tie_embeddings=True),
        13,
    ),
    "llama3": ("llama", dict(rope=LLAMA3, head_dim=16, norm_eps=1e-3), 33),
    "mistral-window": ("mistral", dict(sliding_window=6, num_kv_heads=3, head_dim=10), 13),
    "qwen2-tied": ("qwen2", dict(qkv_bias=True, tie_embeddings=True, norm_eps=1e-3), 13),
    "qwen2-window": ("qwen2", dict(qkv_bias=True, sliding_window=5), 13),
    "qwen3-wide-heads": ("qwen3", dict(qk_norm=True, head_dim=10, norm_eps=1e-3), 13),
}
ROPES = {  # layout and settings; heads of CFG
    "default": ("phi3", RopeConfig(theta=1e6)),
    "partial": ("phi3", RopeConfig(partial=0.7)),
    "linear": ("llama", RopeConfig(kind="linear", factor=4.0)),
    "llama3": ("llama", LLAMA3),
    "longrope": ("phi3", LONG),
    "longrope-factor": ("phi3", dataclasses.replace(LONG, factor=3.0)),
    "longrope-not-extended": ("phi3", dataclasses.replace(LONG, max_length=16)),
    "longrope-given-scale": ("phi3", dataclasses.replace(LONG, attention_factor=1.7)),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", ROPES)
def test_frequencies_equal_transformers(case):
    layout, rope = ROPES[case]
    cfg = dataclasses.replace(CFG, rope=rope)
    for long in (False, True):
        freqs, scale = llm_reference.frequencies(layout, cfg, long)
        ours = rope_text.frequencies(rope, cfg.head_dim, long=long)
        assert relative_error(ours, freqs) < 1e-6
        assert rope_text.attention_factor(rope) == pytest.approx(scale)


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
def test_forward_equals_transformers(case, strict_dtypes):
    layout, changes, length = CASES[case]
    cfg = dataclasses.replace(CFG, **changes)
    torch_model = llm_reference.build(layout, cfg)
    model, params = (
        functional.build(llm.LLM, cfg),
        params_of("llm", torch_model, cfg, type(torch_model).__name__),
    )
    ids = RNG.integers(1, cfg.vocab_size, (3, length))
    mask = np.ones((3, length), bool)  # no padding, then pads on the right and on the left
    mask[1, -5:] = mask[2, :4] = False
    hidden, logits = llm_reference.forward(torch_model, ids, mask)
    ours = jax.jit(model.apply)(params, jnp.asarray(ids), jnp.asarray(mask))
    assert relative_error(np.asarray(ours.last_hidden_state)[mask], hidden[-1][mask]) < 1e-5
    assert relative_error(np.asarray(ours.logits)[mask], logits[mask]) < 1e-5


def query_block(batch, length, start, stop):
    """A causal mask whose positions start..stop attend to each other in both directions."""
    mask = np.tril(np.ones((batch, 1, length, length), bool))
    mask[:, :, start:stop, start:stop] = True
    return mask


@pytest.mark.torch
@pytest.mark.parametrize("case", ["phi3", "phi3-longrope-long-partial", "mistral-window"])
def test_embeddings_and_a_block_mask_equal_transformers(case, strict_dtypes):
    layout, changes, length = CASES[case]
    cfg = dataclasses.replace(CFG, **changes)
    torch_model = llm_reference.build(layout, cfg)
    model = functional.build(llm.LLM, cfg)
    params = params_of("llm", torch_model, cfg, type(torch_model).__name__)
    x = RNG.normal(size=(3, length, cfg.width)).astype(np.float32)
    mask = query_block(3, length, 4, 11)
    mask[1] &= RNG.random((length, length)) < 0.5  # any pairs, every row with at least itself
    mask |= np.eye(length, dtype=bool)
    hidden, logits = llm_reference.forward(torch_model, None, mask, x)
    run = jax.jit(lambda p, x, m: model.apply(p, embeddings=x, block_mask=m))
    for given in (mask, mask[:, 0]):
        ours = run(params, jnp.asarray(x), jnp.asarray(given))
        assert relative_error(ours.last_hidden_state, hidden[-1]) < 1e-5
        assert relative_error(ours.logits, logits) < 1e-5


@pytest.mark.torch
def test_layers_are_counted_as_in_transformers():
    torch_model = llm_reference.build("phi3", CFG)
    model, params = (
        functional.build(llm.LLM, CFG),
        params_of("llm", torch_model, CFG, type(torch_model).__name__),
    )
    ids = RNG.integers(1, CFG.vocab_size, (2, 7))
    hidden, _ = llm_reference.forward(torch_model, ids, None)
    encode = jax.jit(model.encode, static_argnames="layer")
    for layer in (-4, -2, 3):
        ours = encode(params, jnp.asarray(ids), layer=layer)
        assert relative_error(ours, hidden[layer]) < 1e-5, layer
    every = jax.jit(model.hidden_states)(params, jnp.asarray(ids))
    assert relative_error(every, np.stack(hidden)) < 1e-5
    with pytest.raises(ValueError, match="layer must lie between -4 and 3 .* got 4"):
        encode(params, jnp.asarray(ids), layer=4)


@pytest.fixture(scope="module")
def windowed():
    cfg = dataclasses.replace(CFG, sliding_window=4, rope=LLAMA3)
    model = functional.build(llm.LLM, cfg)
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_reading_equals_one_forward(windowed, side, strict_dtypes):
    model, params = windowed
    tokens = RNG.integers(1, 60, (2, 9))
    start = np.array([6, 3])  # prompt lengths; the rest is read one by one
    prompt, mask = np.zeros((2, 6), np.int32), np.zeros((2, 6), bool)
    for row, n in enumerate(start):
        place = slice(6 - n, None) if side == "left" else slice(n)
        prompt[row, place], mask[row, place] = tokens[row, :n], True
    extend = jax.jit(model.extend)
    out = extend(
        params, jnp.asarray(prompt), jnp.asarray(mask), llm.init_cache(model.config, 2, 10)
    )
    states = [[np.asarray(out.final[row])[mask[row]]] for row in range(2)]
    for step in range(3):
        new = jnp.asarray(tokens[[0, 1], start + step])[:, None]
        out = extend(params, new, None, out.cache)
        for row in range(2):
            states[row].append(np.asarray(out.final[row]))
    whole = np.asarray(jax.jit(model.encode)(params, jnp.asarray(tokens)))
    for row in range(2):
        assert relative_error(np.concatenate(states[row]), whole[row, : start[row] + 3]) < 1e-5
    assert int(out.cache.used) == 9


def test_embeddings_and_a_block_mask_in_a_cache_equal_one_forward(windowed, strict_dtypes):
    model, params = windowed
    tokens = jnp.asarray(RNG.integers(1, 60, (2, 5)))
    queries = jnp.asarray(RNG.normal(size=(2, 3, CFG.width)), jnp.float32)
    whole = jnp.concatenate([jax.jit(model.embed_tokens)(params, tokens), queries], axis=1)
    mask = jnp.asarray(query_block(2, 8, 5, 8))
    encode = jax.jit(lambda p, x, m: model.encode(p, embeddings=x, block_mask=m))
    expected = encode(params, whole, mask)[:, 5:]

    @jax.jit
    def cached(params, tokens, queries, rows):  # prompt first, one pad; then the query block
        cache = llm.init_cache(model.config, 2, 10)
        prompt, real = jnp.pad(tokens, ((0, 0), (1, 0))), jnp.ones((2, 6), bool).at[:, 0].set(False)
        causal = jnp.tril(jnp.ones((2, 6, 10), bool))
        cache = model.extend(params, prompt, real, cache, block_mask=causal).cache
        out = model.extend(params, None, None, cache, embeddings=queries, block_mask=rows)
        return out.final

    rows = jnp.pad(mask[:, 0, 5:], ((0, 0), (0, 0), (1, 1)), constant_values=True)
    assert relative_error(cached(params, tokens, queries, rows), expected) < 1e-5


def test_ids_or_embeddings_must_be_given(windowed):
    model, params = windowed
    with pytest.raises(ValueError, match="one of input_ids and embeddings .* got neither"):
        model.apply(params)
    with pytest.raises(ValueError, match="got both; pass one"):
        model.encode(params, jnp.zeros((1, 2), int), embeddings=jnp.zeros((1, 2, CFG.width)))


def test_extend_returns_the_chosen_layer(windowed):
    model, params = windowed
    ids = jnp.asarray(RNG.integers(1, 60, (2, 6)))
    cache = llm.init_cache(model.config, 2, 6)
    out = jax.jit(model.extend, static_argnames="layer")(params, ids, None, cache, layer=2)
    both = jax.jit(lambda p, i: [model.encode(p, i, layer=n) for n in (-1, 2)])(params, ids)
    assert relative_error(out.final, both[0]) < 1e-5
    assert relative_error(out.states, both[1]) < 1e-5


def test_longrope_refuses_a_wrong_number_of_factors():
    cfg = dataclasses.replace(LONG, long_factor=(1.0,))
    with pytest.raises(ValueError, match="long_factor must hold .* got 1 for 3 pairs"):
        rope_text.frequencies(cfg, 6, long=True)


def test_phi_35_mini_has_the_published_size():
    assert functional.build(llm.LLM, LLMConfig()).num_params == 3_821_079_552


def test_every_leaf_has_axes():
    model = functional.build(llm.LLM, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert model.axes["blocks"]["block"]["attention"]["qkv"]["kernel"] == (
        "layers",
        "embed",
        "heads",
    )
    assert (
        "head"
        not in functional.build(
            llm.LLM, dataclasses.replace(CFG, tie_embeddings=True)
        ).abstract_params
    )


def test_bfloat16_follows_float32(windowed, strict_dtypes):
    model, params = windowed
    half = functional.build(llm.LLM, dataclasses.replace(model.config, dtype="bfloat16"))
    ids = jnp.asarray(RNG.integers(1, 60, (2, 6)))
    ours = jax.jit(half.encode)(params, ids)
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours, jax.jit(model.encode)(params, ids)) < 0.05


def test_outputs_pass_through_transforms(windowed):
    model, params = windowed
    shapes = jax.eval_shape(model.apply, params, jnp.zeros((2, 5), jnp.int32))
    assert shapes.logits.shape == (2, 5, 60)
    assert jax.eval_shape(lambda: llm.init_cache(model.config, 2, 5)).keys.shape == (3, 2, 5, 2, 6)


def test_masked_rows_stay_finite(windowed):
    model, params = windowed
    mask = jnp.ones((2, 5), bool).at[1].set(False)
    ids = jnp.zeros((2, 5), jnp.int32)
    assert jnp.isfinite(jax.jit(model.encode)(params, ids, mask)).all()
