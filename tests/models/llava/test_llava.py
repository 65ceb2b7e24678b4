# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mimir_jax
from mimir_jax.config import LlavaConfig, RopeConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.llava import model as llava
from tests import quick
from tests.helpers import relative_error
from tests.models.llava import llava_reference as reference

CFG = reference.CFG
LONG = RopeConfig(
    kind="longrope",
    max_length=64,
    original_max_length=8,
    short_factor=(1.0, 1.1, 1.3),
    long_factor=(1.0, 2.0, 3.0),
)
CASES = {  # layout of the decoder, config, images in each row, side of the padding
    "llama": ("llama", CFG, (2, 1), "right"),
    "llama-left": ("llama", CFG, (2, 1), "left"),
    "last-layer": ("llama", reference.change(CFG, vision_layers=(-1,)), (0, 2), "right"),
    "class-token": ("llama", reference.change(CFG, class_token=True), (1, 2), "left"),
    "layers": ("llama", reference.change(CFG, vision_layers=(-2, 1, -1)), (1,), "right"),
    "gelu-no-bias": (
        "llama",
        reference.change(CFG, vit=dict(activation="gelu"), projector_bias=False),
        (1, 1),
        "right",
    ),
    "tied": ("llama", reference.change(CFG, llm=dict(tie_embeddings=True)), (1,), "right"),
    "mistral": (
        "mistral",
        reference.change(CFG, llm=dict(sliding_window=6, num_kv_heads=1, head_dim=10)),
        (1, 2),
        "right",
    ),
    "phi3": ("phi3", reference.change(CFG, llm=dict(rope=LONG)), (2, 0), "left"),
    "qwen2": ("qwen2", reference.change(CFG, llm=dict(qkv_bias=True)), (1, 2), "left"),
    "qwen3": ("qwen3", reference.change(CFG, llm=dict(qk_norm=True)), (1,), "right"),
    "text": ("llama", CFG, (0, 0), "right"),
}


@pytest.mark.torch
@pytest.mark.parametrize("case", quick.some(CASES, "class-token"))
def test_states_and_logits_equal_transformers(case, tmp_path, strict_dtypes):
    layout, cfg, images, side = CASES[case]
    torch_model = reference.build(layout, cfg)
    torch_model.save_pretrained(str(tmp_path / "source"))
    model, params = mimir_jax.load(tmp_path / "source")
    assert dataclasses.replace(model.config, llm=cfg.llm) == cfg
    ids, mask, pixels = reference.batch(cfg, images, side)
    hidden, logits = reference.forward(torch_model, ids, mask, pixels)

    @jax.jit
    def run(params, ids, mask, pixels):
        args = (ids, mask, pixels if len(pixels) else None)
        return model.apply(params, *args), model.hidden_states(params, *args)

    ours, states = run(params, jnp.asarray(ids), jnp.asarray(mask), pixels)
    assert relative_error(ours.last_hidden_state[mask], hidden[-1][mask]) < 1e-5
    assert relative_error(ours.logits[mask], logits[mask]) < 1e-5
    assert len(states) == len(hidden) == cfg.llm.num_layers + 1
    for mine, theirs in zip(states, hidden, strict=True):
        assert relative_error(mine[mask], theirs[mask]) < 1e-5
    eager = model.apply(params, ids, mask.astype(int), pixels)  # numpy arrays, outside of jit
    assert relative_error(eager.logits[mask], logits[mask]) < 1e-5
    middle = model.encode(params, ids, mask, pixels, layer=1)
    assert relative_error(middle[mask], hidden[1][mask]) < 1e-5


@pytest.fixture(scope="module")
def tiny():
    model = functional.build(llava.Llava, CFG)
    return model, jax.jit(model.init)(jax.random.key(0))


def test_published_sizes():
    model = functional.build(llava.Llava, LlavaConfig())
    assert model.num_params == 7_063_427_072
    assert LlavaConfig().tokens_per_image == 576


def test_every_leaf_has_axes():
    model = functional.build(llava.Llava, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert model.axes["projector"]["up"]["kernel"] == ("embed", "mlp")


@pytest.mark.parametrize("number", [0, 1, 3])
def test_another_number_of_images_is_refused(tiny, number):
    model, params = tiny
    ids, mask, pixels = reference.batch(CFG, (2,))
    pixels = np.concatenate([pixels, pixels])[:number]
    message = rf"4 image tokens \(57\) for each image, got 8 for {number}; give 2"
    with pytest.raises(InputError, match=message):
        model.apply(params, ids, mask, pixels if number else None)
    states = jax.jit(model.encode)(params, ids, mask, pixels if number else None)
    assert np.isnan(states).all()


def test_images_of_another_size_are_refused(tiny):
    model, params = tiny
    ids, mask, _ = reference.batch(CFG, (1,))
    with pytest.raises(InputError, match="images must have 8 x 8 pixels, got 8 x 12"):
        model.apply(params, ids, mask, np.zeros((1, 8, 12, 3), np.float32))


@pytest.mark.slow
def test_half_precision_follows_float32(tiny, strict_dtypes):
    model, params = tiny
    half = functional.build(
        llava.Llava, reference.change(CFG, llm=dict(dtype="bfloat16"), vit=dict(dtype="bfloat16"))
    )
    args = reference.batch(CFG, (1, 1))
    ours = half.encode(params, *args)
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours, model.encode(params, *args)) < 0.1


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vision_layers": (-5,)}, r"vision_layers must lie between -4 and 3, got \(-5,\)"),
        ({"vision_layers": ()}, "vision_layers must name a layer"),
        ({"image_token": -1}, "image_token must be at least 0, got -1"),
        ({"llm": {"dtype": "bfloat16"}}, "vit.dtype must equal llm.dtype"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        reference.change(CFG, **changes)
