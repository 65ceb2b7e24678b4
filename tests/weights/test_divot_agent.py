# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM in its public layout: parity with torch, what is refused, and the way back."""

import json
import logging

import jax
import numpy as np
import pytest

import mimir_jax
from mimir_jax import weights
from mimir_jax.errors import InputError
from mimir_jax.models.divot import mixture
from tests.helpers import relative_error
from tests.models.divot import agent_reference as reference

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def modules():
    return reference.build()


@pytest.fixture(scope="module")
def folder(modules, tmp_path_factory):
    return reference.write(tmp_path_factory.mktemp("public") / "agent_folder", modules)


def sequence():
    """Ids and roles of two rows: two blocks of queries; one block and padding."""
    roles = np.ones((2, 150), np.int32)
    roles[0, 6:70] = roles[0, 75:139] = -1
    roles[1, 3:67] = -1
    roles[1, 90:] = 0
    return RNG.integers(0, reference.LLM.vocab_size, roles.shape), roles


def test_ids_with_two_blocks_equal_torch(folder, modules):
    model, params = mimir_jax.load(folder)
    assert (model.config.token_width, model.config.num_components) == (5, 3)
    ids, roles = sequence()
    states, logits = reference.forward(modules, ids, roles)
    real = roles != 0
    ours = jax.jit(model.apply)(params, ids, roles)
    assert relative_error(ours.last_hidden_state[real], states[real]) < 1e-5
    assert relative_error(ours.logits[real], logits[real]) < 1e-5
    places = np.array([[np.arange(6, 70), np.arange(75, 139)], [np.arange(3, 67)] * 2])
    taken = np.stack([states[row][places[row]] for row in range(2)])
    out = reference.apply(modules["output_resampler.proj"], taken)
    ours = jax.jit(model.mixtures)(params, ids, roles, places)
    size = 15
    expected = mixture.Mixture(
        logits=out[..., 2 * size :],
        means=out[..., :size].reshape(*out.shape[:-1], 3, 5),
        variances=np.log1p(np.exp(out[..., size : 2 * size])).reshape(*out.shape[:-1], 3, 5),
    )
    for ours_part, part in zip(ours, expected, strict=True):
        assert relative_error(ours_part, part) < 1e-5


def test_embeddings_in_place_of_ids_equal_torch(folder, modules):
    model, params = mimir_jax.load(folder)
    ids, roles = sequence()
    clip = RNG.normal(size=(2, 1, 9, 5)).astype(np.float32)
    places = np.broadcast_to(np.arange(70, 79), (2, 1, 9))
    table = modules["llm"].model.embed_tokens
    embeddings = table(torch.tensor(ids)).detach().numpy().copy()
    embeddings[:, 70:79] = reference.apply(modules["input_resampler.proj"], clip[:, 0])
    ours = model.embed(params, ids, clip, places)
    assert relative_error(ours, embeddings) < 1e-5
    states, _ = reference.forward(modules, None, roles, embeddings)
    ours = jax.jit(lambda p, e, m: model.apply(p, None, m, embeddings=e))(params, embeddings, roles)
    real = roles != 0
    assert relative_error(ours.last_hidden_state[real], states[real]) < 1e-5


def test_llm_alone_reads_the_mask_too(folder, modules, tmp_path):
    ids, roles = sequence()
    states, _ = reference.forward(modules, ids, roles)
    alone = reference.write(tmp_path / "alone", modules, agent=False)
    for place in (folder / "llm", alone):
        model, params = mimir_jax.load(place)
        assert model.module.__name__ == "LLM"
        ours = jax.jit(model.apply)(params, ids, roles).last_hidden_state
        assert relative_error(ours[roles != 0], states[roles != 0]) < 1e-5


def test_missing_tensors_are_listed_and_others_reported(folder, modules, tmp_path, caplog):
    extra = {"proj_embeds": torch.zeros(2), "input_resampler.query": torch.zeros(3)}
    place = reference.write(tmp_path / "extra", modules, extra=extra)
    with caplog.at_level(logging.WARNING, logger="absl"):
        mimir_jax.load(place)
    assert "2 tensors not read: proj_embeds, input_resampler.query" in caplog.text
    state = reference.agent_tensors(modules)
    for name in ("input_resampler.proj.0.bias", "output_resampler.proj.2.weight"):
        del state[name]
    torch.save(state, place / "agent/pytorch_model.bin")
    with pytest.raises(InputError, match="2 missing: .*proj.0.bias, .*proj.2.weight"):
        mimir_jax.load(place)
    del state["input_resampler.proj.0.weight"]
    torch.save(state, place / "agent/pytorch_model.bin")
    with pytest.raises(InputError, match="must hold the kernels input_resampler.proj.0.weight"):
        mimir_jax.load(place)


def test_head_of_other_sizes_is_refused(modules, tmp_path):
    other = {**modules, "output_resampler.proj": reference.mlp(3, 28, 34, 34)}
    place = reference.write(tmp_path / "odd", other)
    with pytest.raises(InputError, match=r"k \* \(2 d \+ 1\) outputs .* d = 5 .* got 34"):
        mimir_jax.load(place)
    place = reference.write(tmp_path / "stated", modules)
    (place / "agent/config.json").write_text(json.dumps({"num_components": 16, "token_width": 5}))
    with pytest.raises(InputError, match=r"num_components=16 of its config.json, .* have 3"):
        mimir_jax.load(place)


def test_float16_is_cast_up(modules, tmp_path):
    place = reference.write(tmp_path / "half", reference.build())
    state = torch.load(place / "agent/pytorch_model.bin")
    half = {name: x.half() for name, x in state.items()}
    torch.save(half, place / "agent/pytorch_model.bin")
    model, params = mimir_jax.load(place)
    assert model.config.dtype == "float32"
    kernel = params["projector"]["up"]["kernel"]
    assert kernel.dtype == np.float32
    assert (np.asarray(kernel).T == half["input_resampler.proj.0.weight"].float().numpy()).all()


@pytest.mark.parametrize("settings", [None, {"r": 2, "lora_alpha": 6}], ids=["one", "alpha"])
def test_unmerged_adapters_are_merged(modules, tmp_path, settings):
    """A checkpoint of training: everything in one file, under the names of peft."""
    place = tmp_path / "run"
    state, scale = reference.agent_tensors(modules), 1.0 if settings is None else 3.0
    expected = reference.build()
    plain = expected["llm"].state_dict()
    for name, value in modules["llm"].state_dict().items():
        key, kernel = f"llm.base_model.model.{name}", name.endswith("_proj.weight")
        if kernel:
            torch.manual_seed(len(state))
            a, b = torch.randn(2, value.shape[1]), torch.randn(value.shape[0], 2) * 0.1
            stem = key.removesuffix(".weight")
            state[f"{stem}.lora_A.default.weight"] = a
            state[f"{stem}.lora_B.default.weight"] = b
            base = ".base_layer" if settings else ""
            state[f"{stem}{base}.weight"] = value
            plain[name] = value + scale * b @ a
        elif "norm" in name or "embed" in name or "lm_head" in name:
            stem = key.removesuffix(".weight")
            state[f"{stem}.original_module.weight"] = torch.zeros_like(value)
            state[f"{stem}.modules_to_save.default.weight"] = value
        else:
            raise AssertionError(name)
    (place / "agent").mkdir(parents=True)
    reference.write_config(place, modules)
    if settings:
        (place / "agent/adapter_config.json").write_text(json.dumps(settings))
    torch.save(state, place / "agent/pytorch_model.bin")
    expected["llm"].load_state_dict(plain)
    model, params = mimir_jax.load(place)
    ids, roles = sequence()
    states, _ = reference.forward(expected, ids, roles)
    ours = jax.jit(model.apply)(params, ids, roles).last_hidden_state
    assert relative_error(ours[roles != 0], states[roles != 0]) < 1e-4
    state.pop(next(name for name in state if "lora_B" in name))
    torch.save(state, place / "agent/pytorch_model.bin")
    with pytest.raises(InputError, match="lacks lora_B"):
        mimir_jax.load(place)


def test_native_folder_and_export_give_the_tensors_back(folder, modules, tmp_path):
    weights.convert(folder, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="divot")
    again = torch.load(tmp_path / "back/agent/pytorch_model.bin")
    for name, value in reference.agent_tensors(modules).items():
        assert torch.equal(again[name], value)
    _, first = mimir_jax.load(folder)
    model, second = mimir_jax.load(tmp_path / "back")
    native, third = mimir_jax.load(tmp_path / "native")
    assert model.config == native.config
    assert jax.tree.all(jax.tree.map(lambda *x: (x[0] == x[1]).all(), first, second))
    assert jax.tree.all(jax.tree.map(lambda *x: (x[0] == x[1]).all(), first, third))
