# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""De-tokenizers of Divot in their public layout, in and out, and their parts alone."""

import dataclasses
import functools
import logging

import jax
import numpy as np
import pytest

import mimir_jax
from mimir_jax.config import (
    DiffusionConfig,
    ImageVAEConfig,
    PublishedDetokenizerConfig,
    ResamplerConfig,
    UNetConfig,
)
from mimir_jax.diffusion import schedules
from mimir_jax.models import functional
from mimir_jax.models.divot import detokenizer
from mimir_jax.models.unet import unet as unet_lib
from mimir_jax.weights import (
    divot_detokenizer,
    divot_tokenizer,
    opening,
    rules,
    tensors,
    unet,
)
from tests import quick
from tests.helpers import relative_error

pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CFG = PublishedDetokenizerConfig(
    resampler=ResamplerConfig(
        in_width=6, out_width=12, num_queries=80, width=64, num_layers=1, num_heads=1, mlp_dim=16
    ),
    unet=UNetConfig(width=64, multipliers=(1, 2), blocks_per_level=1, attention_scales=(2,),
                    first_heads=2, context_width=12),
    vae=ImageVAEConfig(block_channels=(32, 64), layers_per_block=1),
)  # fmt: skip
FILE = divot_detokenizer.FILES[0]
LEVELS = schedules.make_schedule(DiffusionConfig()).alphas_cumprod


@functools.cache
def state():
    """Random tensors under the public names, those that were frozen in float16, with a schedule."""
    known = opening.FAMILIES["divot_detokenizer"]
    shapes = rules.expected_shapes(known.rules(CFG, ""), known.abstract(CFG))
    rng = np.random.default_rng(0)
    named = {}
    for name, shape in shapes.items():
        value = rng.normal(size=shape) * 0.3
        half = not name.startswith(unet.PREFIX)
        named[name] = value.astype(np.float16 if half else np.float32)
    return named | {"alphas_cumprod": LEVELS.astype(np.float16), "betas": np.ones(1000, "f4")}


def write(folder, named, file=FILE):
    folder.mkdir(exist_ok=True)
    tensors.write_torch(folder / file, named)
    return folder


def part(prefix, target=""):
    return {target + n.removeprefix(prefix): x for n, x in state().items() if n.startswith(prefix)}


@pytest.mark.slow
def test_public_file_opens_and_comes_back(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        opened = opening.open_weights(write(tmp_path / "public", state()))
    assert "alphas_cumprod of the checkpoint (float16) differs by at most 2.42e-04" in caplog.text
    assert "betas of the checkpoint (float32) differs by at most 9.99e-01" in caplog.text
    stored = tuple(LEVELS.astype(np.float16).astype(float).tolist())
    assert opened.config == dataclasses.replace(CFG, stored=stored)
    model, loaded = mimir_jax.load(tmp_path / "public")
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype("float32")}
    mimir_jax.weights.convert(tmp_path / "public", tmp_path / "native")
    assert mimir_jax.load(tmp_path / "native")[0].config == model.config
    mimir_jax.weights.convert(tmp_path / "native", tmp_path / "back", to="divot")
    back = tensors.open_single(tmp_path / "back" / FILE)[0]
    assert back.keys() == state().keys() - {"alphas_cumprod", "betas"}
    for name, tensor in back.items():
        value = tensor.read()
        assert value.dtype == state()[name].dtype
        np.testing.assert_array_equal(value, state()[name])


def test_schedule_is_a_choice(tmp_path):
    config = opening.open_weights(write(tmp_path / "public", state())).config
    given = divot_detokenizer.schedule(config).alphas_cumprod
    np.testing.assert_array_equal(given, LEVELS.astype(np.float16))
    computed = dataclasses.replace(config, schedule="computed")
    np.testing.assert_array_equal(divot_detokenizer.schedule(computed).alphas_cumprod, LEVELS)


@pytest.mark.slow
def test_parts_run_as_one(tmp_path):
    model, params = mimir_jax.load(write(tmp_path / "public", state()))
    assert isinstance(model.config, PublishedDetokenizerConfig)
    alone = functional.build(unet_lib.UNet, CFG.unet)
    rng = np.random.default_rng(1)
    tokens, xt = rng.normal(size=(2, 5, 6)).astype("f4"), rng.normal(size=(2, 2, 4, 4, 4))
    xt, time = xt.astype("f4"), np.array([7, 900])

    @jax.jit
    def run(params, tokens, xt, time):
        rows = model.condition(params, tokens).tokens
        whole = model.apply(params, xt, time, tokens)
        return whole, alone.apply(params["unet"], xt, rows, time, np.array([3, 3]))

    whole, parts = run(params, tokens, xt, time)
    assert relative_error(whole, parts) < 1e-6
    frames = jax.eval_shape(model.decode, params, xt)
    assert frames.shape == (2, 2, 8, 8, 3)


STARTS = ("diffusion_model.", "model.diffusion_model.", "")


@pytest.mark.parametrize("start", quick.some(STARTS, "model.diffusion_model."))
def test_unet_opens_by_its_tensors(start, tmp_path):
    folder = write(tmp_path / "unet", part(unet.PREFIX, start), "any.bin")
    model, params = mimir_jax.load(folder)
    assert model.config == CFG.unet
    kernel = params["conv_in"]["kernel"]
    published = state()["diffusion_model.input_blocks.0.0.weight"]
    np.testing.assert_array_equal(kernel, np.transpose(published, (2, 3, 1, 0)))
    if not start:
        mimir_jax.weights.convert(folder, tmp_path / "back", to="divot")
        back = mimir_jax.load(tmp_path / "back")[1]
        jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.parametrize("ending", tensors.PICKLES)
def test_checkpoints_of_training_open_by_their_tensors(ending, tmp_path):
    import torch

    whole = part(unet.PREFIX, "model.diffusion_model.")
    named = {name: torch.tensor(value) for name, value in whole.items()}
    file = tmp_path / f"model{ending}"
    torch.save({"state_dict": named, "epoch": 3, "hyper_parameters": {}}, file)
    for place in (file, tmp_path):
        opened = opening.open_weights(place)
        assert (opened.family.kind, opened.config) == ("unet", CFG.unet)


def test_a_unet_with_heads_of_another_width_needs_a_config(tmp_path):
    named = part(unet.PREFIX, unet.PREFIX)
    first = f"{unet.PREFIX}init_attn.0.proj_in.weight"
    named[first] = named[first][:72]
    with pytest.raises(ValueError, match="heads of 64 channels, got 72 channels .*; state their"):
        mimir_jax.load(write(tmp_path / "unet", named, "any.bin"))


@pytest.mark.parametrize("head_dim", [32, 48, 64])
def test_the_first_attention_tells_the_width_of_heads(head_dim):
    """It has 8 heads in Divot and DynamiCrafter, which count where heads of 64 do not fit."""
    cfg = UNetConfig(
        width=96 if head_dim == 48 else head_dim, multipliers=(1, 2), blocks_per_level=1,
        attention_scales=(1, 2), context_width=12, head_dim=head_dim,
    )  # fmt: skip
    shapes = rules.expected_shapes(unet.table(cfg), opening.FAMILIES["unet"].abstract(cfg))
    found = {name: tensors.of_array(np.zeros(shape, "f4")) for name, shape in shapes.items()}
    assert unet.infer(found, {}) == cfg
    other = unet.infer(found, {"head_dim": 16})
    assert (other.head_dim, other.first_heads) == (16, head_dim // 2)


def test_a_checkpoint_of_dynamicrafter_holds_both_networks(tmp_path):
    import torch

    named = {n: torch.tensor(x) for n, x in state().items() if not n.startswith("resampler")}
    start = f"model.{unet.PREFIX}"
    named = {n.replace(unet.PREFIX, start, 1): x for n, x in named.items()}
    torch.save(
        {"state_dict": named | {"cond_stage_model.a": torch.ones(1)}}, tmp_path / "model.ckpt"
    )
    for path in (tmp_path, tmp_path / "model.ckpt"):
        assert opening.open_weights(path).config.widths == CFG.unet.widths
    opened = opening.open_weights(tmp_path, kind="image_vae")
    assert opened.config.block_channels == CFG.vae.block_channels
    want = state()["first_stage_model.encoder.conv_in.bias"]
    np.testing.assert_array_equal(opened.params["encoder/conv_in/bias"].read(), want)


def test_missing_tensors_are_listed_and_unknown_ones_reported(tmp_path, caplog):
    gone = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.alpha"
    lacking = {name: x for name, x in state().items() if name != gone}
    with pytest.raises(ValueError, match=f"1 missing: {gone}"):
        mimir_jax.load(write(tmp_path / "lacking", lacking))
    lacking = {n: x for n, x in state().items() if not n.startswith("first_stage_model.")}
    with pytest.raises(ValueError, match=r"first_stage_model\..* it is missing"):
        mimir_jax.load(write(tmp_path / "no-vae", lacking))
    more = state() | {"embedder.weight": np.ones(3, "f4")}
    with caplog.at_level(logging.WARNING):
        opening.open_weights(write(tmp_path / "more", more))
    assert "1 tensors not read: embedder.weight" in caplog.text


@pytest.mark.parametrize("inner", ["transformer_blocks.1.ff", "relative_position_k"])
def test_other_transformers_of_a_unet_are_refused(inner):
    name = f"diffusion_model.input_blocks.1.2.{inner}.weight"
    with pytest.raises(ValueError, match=f"must have one block without .* got {name}"):
        unet.infer({name: tensors.of_array(np.ones(3, "f4"))}, {})


def test_both_stages_in_a_folder_are_a_choice(tmp_path):
    for file in divot_detokenizer.FILES:
        folder = write(tmp_path / "both", state(), file)
    with pytest.raises(ValueError, match="name one of the files, stage1 for reconstruction"):
        mimir_jax.load(folder)
    assert mimir_jax.load(folder / FILE)[0].config.unet == CFG.unet


def test_a_file_of_another_part_is_named(tmp_path):
    folder = write(tmp_path / "swapped", state(), divot_tokenizer.FILE)
    message = "Divot_tokenizer.bin must hold a divot_tokenizer, got a divot_detokenizer; download"
    with pytest.raises(ValueError, match=message):
        mimir_jax.load(folder)
    temporal = {"temporal_encoder.ln_final.bias": np.ones(3, "f4")}
    other = write(tmp_path / "other", temporal)
    with pytest.raises(ValueError, match=f"{FILE} must hold a divot_detokenizer, got a divot_tok"):
        mimir_jax.load(other)
    write(other, temporal, divot_tokenizer.FILE)
    for kind in ("llm", "vit"):
        with pytest.raises(ValueError, match="must hold the image tower of the tokenizer"):
            mimir_jax.load(other, kind=kind)


def test_the_vae_of_a_folder_opens_alone(tmp_path):
    folder = write(tmp_path / "public", state())
    assert opening.open_weights(folder, kind="image_vae").config == CFG.vae


def test_unknown_tensors_are_of_no_kind(tmp_path):
    folder = write(tmp_path / "other", {"weight": np.ones(3, "f4")}, "any.bin")
    with pytest.raises(ValueError, match="of a kind that their tensors tell, got weight"):
        mimir_jax.load(folder)


@pytest.mark.slow
def test_names_are_as_many_as_in_divot():
    known, cfg = opening.FAMILIES["divot_detokenizer"], PublishedDetokenizerConfig()
    shapes = rules.expected_shapes(known.rules(cfg, ""), known.abstract(cfg))
    counts = [sum(name.startswith(p) for name in shapes) for p in divot_detokenizer.PREFIXES]
    assert counts == [73, 1532, 248]
    sizes = [
        sum(np.prod(shape, dtype=int) for name, shape in shapes.items() if name.startswith(p))
        for p in divot_detokenizer.PREFIXES
    ]
    assert sizes == [76_977_152, 1_438_843_476, 83_653_863]
    assert isinstance(functional.build(detokenizer.PublishedDetokenizer, cfg).module, type)
