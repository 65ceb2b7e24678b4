# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's tokenizer in its public layout: parity with torch, sizes, refusals, the way back."""

import dataclasses
import json
import logging
import shutil

import jax
import numpy as np
import pytest

import mimir_jax
from mimir_jax import weights
from mimir_jax.config import DivotTokenizerConfig
from mimir_jax.errors import InputError
from mimir_jax.weights import divot_tokenizer, rules, tensors
from tests.helpers import relative_error
from tests.models.divot.clips import ODD

torch = pytest.importorskip("torch")
reference = pytest.importorskip("tests.models.divot.tokenizer_reference")
pytestmark = pytest.mark.torch
TOKENIZER = divot_tokenizer.Tokenizer()
STATED = TOKENIZER.write_config(ODD, "DivotTokenizer")


@pytest.fixture(scope="module")
def state():
    return reference.draw(ODD)


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory):
    return reference.write(tmp_path_factory.mktemp("public") / "inside", state, config=STATED)


def test_every_stage_equals_torch(folder, state, strict_dtypes):
    model, params = mimir_jax.load(folder)
    assert model.config == ODD
    rng, twin = np.random.default_rng(0), reference.Twin(ODD, state)
    frames = rng.uniform(-1, 1, (2, ODD.frames, 27, 31, 3)).astype(np.float32)

    @jax.jit
    def stages(params, frames):
        features = model.features(params, frames)
        pooled = model.pooled(params, features)
        return features, pooled, model.encode(params, features), model.apply(params, frames)

    *ours, whole = stages(params, frames)
    for stage, expected in zip(ours, twin(frames), strict=True):
        assert relative_error(stage, expected) < 1e-5
    assert relative_error(whole, ours[-1]) < 1e-6


def fake(cfg):
    """Tensors without values."""
    dtype = np.dtype(np.float32)
    shapes = reference.shapes_of(cfg)
    return {name: tensors.Tensor(shape, dtype, lambda: None) for name, shape in shapes.items()}


def test_tensors_tell_the_sizes_of_divot():
    found = fake(DivotTokenizerConfig())
    assert TOKENIZER.read_config({}, found) == DivotTokenizerConfig()
    table = TOKENIZER.rules(DivotTokenizerConfig(), "")
    abstract = TOKENIZER.abstract(DivotTokenizerConfig())
    shapes = rules.expected_shapes(table, abstract)
    assert shapes == {name: tensor.shape for name, tensor in found.items()}
    starts = ("temporal_encoder.", "image_proj_model.", "image_proj_model.down_sampler.")
    assert [sum(n.startswith(start) for n in shapes) for start in starts] == [79, 125, 73]
    assert len(shapes) == 79 + 125 + 2 + 389


def test_heads_are_those_of_divot_where_the_config_is_silent(caplog):
    vit = dataclasses.replace(ODD.vit, width=160, num_heads=2)
    temporal = dataclasses.replace(ODD.temporal, width=24, num_heads=12)
    space_time = dataclasses.replace(ODD.space_time, width=256, num_heads=2)
    down = dataclasses.replace(ODD.resampler, num_heads=3, head_dim=64, in_width=256)
    cfg = dataclasses.replace(
        ODD, vit=vit, temporal=temporal, space_time=space_time, resampler=down
    )
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = TOKENIZER.read_config({}, fake(cfg))
    assert "temporal has no heads of 64 in its width of 24; taking 12 heads" in caplog.text
    assert found.vit.image_size == 20  # what the table of positions tells
    assert dataclasses.replace(found, frame_size=27, vit=vit) == cfg
    with pytest.raises(InputError, match="give vit.num_heads where neither heads of 80 nor 16 of"):
        TOKENIZER.read_config({}, fake(ODD))


def values(tree):
    return jax.tree.map(np.asarray, tree)


def same(first, second):
    return jax.tree.all(jax.tree.map(lambda a, b: (a == b).all() and a.dtype == b.dtype,
                                     values(first), values(second)))  # fmt: skip


def test_tower_beside_is_the_same(folder, state, tmp_path):
    expected = mimir_jax.load(folder)[1]
    beside = reference.write(tmp_path / "beside", state, inside=False, config=STATED)
    assert same(mimir_jax.load(beside)[1], expected)
    home = beside / "CLIP-ViT-H-14-laion2B-s32B-b79K"
    home.mkdir()
    file = beside / "open_clip_pytorch_model.bin"
    tower = torch.load(file) | {"visual.proj": torch.zeros(2), "logit_scale": torch.zeros(())}
    torch.save(tower | {"visual.ln_post.weight": torch.zeros(30)}, home / file.name)
    file.unlink()
    assert same(mimir_jax.load(beside)[1], expected)
    sizes = {"layers": 2, "width": 30, "head_width": 10, "patch_size": 4, "image_size": 22}
    config = {"model_cfg": {"vision_cfg": sizes}}
    (home / "open_clip_config.json").write_text(json.dumps(config))
    stated = {name: part for name, part in STATED.items() if name != "vit"}
    (beside / "config.json").write_text(json.dumps(stated))
    assert mimir_jax.load(beside)[0].config == ODD
    assert same(mimir_jax.load(beside / "Divot_tokenizer.bin")[1], expected)
    home.rename(tmp_path / home.name)
    assert same(mimir_jax.load(beside)[1], expected)
    (tmp_path / home.name / file.name).unlink()
    with pytest.raises(InputError, match="must hold the image tower of the tokenizer"):
        mimir_jax.load(beside)


def test_a_file_of_another_name_opens_by_its_tensors(folder, tmp_path):
    file = shutil.copy(folder / "Divot_tokenizer.bin", tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="config.json must give vit.num_heads"):
        mimir_jax.load(file)


def test_missing_tensors_are_listed_and_others_reported(state, tmp_path, caplog):
    extra = {"image_proj_model.proj.weight": torch.zeros(3), "vit_model.model.ln_final.bias":
             torch.zeros(2)}  # fmt: skip
    place = reference.write(tmp_path / "extra", state | extra, config=STATED)
    with caplog.at_level(logging.WARNING, logger="absl"):
        mimir_jax.load(place)
    assert "1 tensors not read: image_proj_model.proj.weight" in caplog.text
    lacking = dict(state)
    for name in ("temporal_encoder.ln_final.bias", "image_proj_model.blocks.1.attn.qkv.weight"):
        del lacking[name]
    reference.write(place, lacking)
    with pytest.raises(InputError, match="2 missing: temporal_encoder.ln_final.bias, image_proj"):
        mimir_jax.load(place)
    del lacking["image_proj_model.pos_embed_spatial"]
    reference.write(place, lacking)
    with pytest.raises(InputError, match="must include image_proj_model.pos_embed_spatial"):
        mimir_jax.load(place)


def test_float16_is_cast_up_and_goes_back_as_it_came(state, tmp_path):
    half = {n: x.half() if n.startswith("image_proj") else x for n, x in state.items()}
    place = reference.write(tmp_path / "half", half, config=STATED)
    model, params = mimir_jax.load(place)
    assert model.config.dtype == "float32"
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"float32"}
    weights.convert(place, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="divot")
    again = torch.load(tmp_path / "back/Divot_tokenizer.bin")
    again |= {
        n.replace("visual.", reference.TOWER): x
        for n, x in torch.load(tmp_path / "back/open_clip_pytorch_model.bin").items()
    }
    assert again.keys() == half.keys()
    for name, value in half.items():
        assert again[name].dtype == value.dtype and torch.equal(again[name], value)
    for other in ("native", "back"):
        found, values = mimir_jax.load(tmp_path / other)
        assert found.config == model.config and same(values, params)


def test_another_kind_is_refused(folder):
    for kind in ("llm", "divot_detokenizer", "image_vae"):
        with pytest.raises(InputError, match=f"must hold a {kind}, got a divot_tokenizer"):
            mimir_jax.load(folder, kind=kind)
