# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import re
import shutil

import numpy as np
import pytest

import mimir_jax
from mimir_jax.config import COGVIDEOX, DiTConfig
from mimir_jax.weights import dit, opening, rules, tensors
from tests.helpers import relative_error
from tests.weights import references

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
PREFIX = "model.diffusion_model."


def to_sat(state):
    """The tensors of a diffusers transformer under the names and in the joins of SAT."""
    out = {}
    block = "transformer_blocks"
    layers = {int(m[1]) for name in state if (m := re.match(rf"{block}\.(\d+)\.", name))}
    for i in layers:
        at, layer = f"{block}.{i}", f"transformer.layers.{i}"
        for leaf in ("weight", "bias"):
            qkv = [state.pop(f"{at}.attn1.to_{n}.{leaf}") for n in "qkv"]
            out[f"{layer}.attention.query_key_value.{leaf}"] = torch.cat(qkv)
            first, second = (state.pop(f"{at}.norm{n}.linear.{leaf}").chunk(6) for n in (1, 2))
            chunks = [*first[:3], *second[:3], *first[3:], *second[3:]]
            out[f"mixins.adaln_layer.adaLN_modulations.{i}.1.{leaf}"] = torch.cat(chunks)
            for theirs, ours in (
                (f"{layer}.attention.dense", "attn1.to_out.0"),
                (f"{layer}.mlp.dense_h_to_4h", "ff.net.0.proj"),
                (f"{layer}.mlp.dense_4h_to_h", "ff.net.2"),
                (f"{layer}.input_layernorm", "norm1.norm"),
                (f"{layer}.post_attention_layernorm", "norm2.norm"),
                (f"mixins.adaln_layer.query_layernorm_list.{i}", "attn1.norm_q"),
                (f"mixins.adaln_layer.key_layernorm_list.{i}", "attn1.norm_k"),
            ):
                out[f"{theirs}.{leaf}"] = state.pop(f"{at}.{ours}.{leaf}")
    outer = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "ofs_embedding.linear_1": "ofs_embed.0",
        "ofs_embedding.linear_2": "ofs_embed.2",
        "patch_embed.proj": "mixins.patch_embed.proj",
        "patch_embed.text_proj": "mixins.patch_embed.text_proj",
        "norm_final": "transformer.final_layernorm",
        "norm_out.norm": "mixins.final_layer.norm_final",
        "norm_out.linear": "mixins.final_layer.adaLN_modulation.1",
        "proj_out": "mixins.final_layer.linear",
    }
    for name, value in state.items():
        stem, _, leaf = name.rpartition(".")
        if name == "patch_embed.pos_embedding":
            out["mixins.pos_embed.pos_embedding"] = value
        else:
            out[f"{outer[stem]}.{leaf}"] = value
    return {PREFIX + name: value for name, value in out.items()}


@pytest.mark.parametrize("name", ["2b", "5b-i2v", "1.5-5b-i2v"])
def test_transformer_under_its_original_names(tmp_path, name):
    reference = references.save(name, tmp_path / "diffusers")
    state = to_sat(dict(reference.state_dict()))
    home = tmp_path / "sat" / "1"
    home.mkdir(parents=True)
    whole = state | {"conditioner.embedder.weight": torch.zeros(2)}
    torch.save({"module": whole, "iteration": 1}, home / "mp_rank_00_model_states.pt")
    config = (tmp_path / "diffusers" / "config.json").read_text()
    (tmp_path / "sat" / "config.json").write_text(config)
    case = references.REFERENCES[name]
    ours = case.ours(*mimir_jax.load(tmp_path / "sat"))
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


def test_a_released_model_is_known_by_its_tensors():
    known = dit.DiT()
    for variant in ("2b", "1.5-5b-i2v"):
        config = DiTConfig(**COGVIDEOX[variant])
        shapes = rules.expected_shapes(known.rules(config, ""), known.abstract(config))
        assert len(shapes) == {"2b": 736, "1.5-5b-i2v": 1028}[variant]
        found = {
            n: tensors.Tensor(s, np.dtype("float16"), lambda: np.zeros(()))
            for n, s in shapes.items()
        }
        assert known.read_config(dit.released_config(found), found) == config


def test_a_model_without_config_must_be_a_released_one(tmp_path):
    state = to_sat(dict(references.REFERENCES["2b"].build().state_dict()))
    torch.save({"module": state}, tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(ValueError, match="put the config.json of diffusers beside it"):
        mimir_jax.load(tmp_path)


def test_autoencoder_under_its_original_names(tmp_path):
    reference = references.save("vae", tmp_path / "diffusers")
    last = len(references.VAE.block_channels) - 1
    state = {"loss.logvar": torch.zeros(())}
    for name, value in reference.state_dict().items():
        name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
        name = re.sub(
            r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        state[name.replace("conv_shortcut", "nin_shortcut")] = value
    torch.save({"state_dict": state}, tmp_path / "vae.pt")
    shutil.copy(tmp_path / "diffusers" / "config.json", tmp_path)
    opened = opening.open_weights(tmp_path / "vae.pt")
    assert opened.config == references.VAE
    direct = opening.open_weights(tmp_path / "diffusers")
    assert opened.params.keys() == direct.params.keys()
    for path, tensor in direct.params.items():
        np.testing.assert_array_equal(opened.params[path].read(), tensor.read())
