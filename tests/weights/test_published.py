# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import mimir_jax
from mimir_jax import weights
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.weights import tensors
from tests.helpers import relative_error
from tests.weights import references

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch
NAMES = list(references.REFERENCES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns folder and torch model of a published checkpoint, written once."""
    cache = {}

    def get(name):
        if name not in cache:
            folder = tmp_path_factory.mktemp("published") / name
            cache[name] = folder, references.save(name, folder)
        return cache[name]

    return get


def tensors_of(folder):
    """All tensors of a folder as raw bytes, by name."""
    out = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "np") as opened:
            for name in opened.keys():  # noqa: SIM118
                value = opened.get_tensor(name)
                out[name] = (str(value.dtype), value.shape, value.tobytes())
    return out


@pytest.mark.parametrize("name", NAMES)
def test_loads_and_equals_its_reference(saved, name):
    folder, reference = saved(name)
    case = references.REFERENCES[name]
    ours = case.ours(*mimir_jax.load(folder))
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_with_the_config_beside_it(saved, name):
    folder, _ = saved(name)
    (file,) = folder.glob("*.safetensors")
    whole, alone = weights.open_weights(folder), weights.open_weights(file)
    assert alone.config == whole.config and alone.params.keys() == whole.params.keys()


@pytest.mark.parametrize("name", NAMES)
def test_comes_back_byte_for_byte_and_opens_there(saved, tmp_path, name):
    folder, reference = saved(name)
    case = references.REFERENCES[name]
    report = weights.convert(folder, tmp_path / "native")
    assert report.num_params == sum(p.numel() for p in reference.state_dict().values()) - (
        reference.state_dict()["lm_head.weight"].numel() if name in ("llama", "qwen2") else 0
    ) - (reference.shared.weight.numel() if name.startswith("t5") else 0)
    library = "transformers" if report.kind in ("t5", "llm") else "diffusers"
    weights.convert(tmp_path / "native", tmp_path / "back", to=library)
    assert tensors_of(tmp_path / "back") == tensors_of(folder)
    again = type(reference).from_pretrained(str(tmp_path / "back")).eval()
    assert np.array_equal(case.theirs(again), case.theirs(reference))


@pytest.mark.parametrize("name", ["phi3", "2b"])
def test_native_folder_says_where_it_comes_from(saved, tmp_path, name):
    folder, reference = saved(name)
    weights.convert(folder, tmp_path / "native")
    manifest = json.loads((tmp_path / "native" / "manifest.json").read_text())
    assert manifest["source"]["class"] == type(reference).__name__
    assert [len(file["sha256"]) for file in manifest["source"]["files"]] == [64]
    assert set(manifest["dtypes"].values()) == {"float32"} and manifest["licence"]
    ours, theirs = mimir_jax.load(tmp_path / "native"), mimir_jax.load(folder)
    assert ours[0].config == theirs[0].config
    jax.tree.map(np.testing.assert_array_equal, ours[1], theirs[1])


@pytest.mark.parametrize("name", ["mistral", "1.5-5b"])
def test_shards_and_half_precision(saved, tmp_path, monkeypatch, name):
    _, reference = saved(name)
    reference = references.REFERENCES[name].build().to(torch.bfloat16)
    reference.save_pretrained(str(tmp_path / "sharded"), max_shard_size="10KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    model, params = mimir_jax.load(tmp_path / "sharded")
    assert model.config.dtype == "bfloat16"
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"bfloat16"}
    weights.convert(tmp_path / "sharded", tmp_path / "native")
    monkeypatch.setattr(tensors, "SHARD_BYTES", 10_000)
    library = "transformers" if name == "mistral" else "diffusers"
    weights.convert(tmp_path / "native", tmp_path / "back", to=library)
    assert tensors_of(tmp_path / "back") == tensors_of(tmp_path / "sharded")
    again = type(reference).from_pretrained(str(tmp_path / "back"), torch_dtype=torch.bfloat16)
    theirs = {k: v for k, v in again.state_dict().items()}
    assert all(torch.equal(v, theirs[k]) for k, v in reference.state_dict().items())
    model, params = mimir_jax.load(tmp_path / "native", dtype="float32")
    assert model.config.dtype == "float32" and {str(x.dtype) for x in jax.tree.leaves(params)} == {
        "float32"
    }


def test_mixed_precision_comes_back(saved, tmp_path):
    folder, _ = saved("t5-gated")
    state = load_file(folder / "model.safetensors")
    half = {k: v.astype(np.float32 if k.endswith("wo.weight") else np.float16)
            for k, v in state.items()}  # fmt: skip
    half["encoder.block.1.layer.0.layer_norm.weight"] = state[
        "encoder.block.1.layer.0.layer_norm.weight"
    ].astype(ml_dtypes.bfloat16)
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text((folder / "config.json").read_text())
    save_file(half, source / "model.safetensors")
    weights.convert(source, tmp_path / "native")
    weights.convert(tmp_path / "native", tmp_path / "back", to="transformers")
    assert tensors_of(tmp_path / "back") == tensors_of(source)


def test_encoder_of_a_whole_t5(tmp_path):
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=10, d_ff=40, num_layers=2, num_decoder_layers=1,
        num_heads=3, feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    whole = transformers.T5ForConditionalGeneration(config).eval()
    whole.save_pretrained(str(tmp_path / "whole"))
    case = references.REFERENCES["t5-gated"]
    ours = case.ours(*mimir_jax.load(tmp_path / "whole"))
    assert relative_error(ours, case.theirs(whole.get_encoder())) < case.tolerance
    weights.convert(tmp_path / "whole", tmp_path / "encoder", to="transformers")
    encoder = transformers.T5EncoderModel.from_pretrained(str(tmp_path / "encoder")).eval()
    assert relative_error(ours, case.theirs(encoder)) < case.tolerance


def test_rope_settings_of_older_configs(saved, tmp_path):
    folder, reference = saved("phi3")
    old = tmp_path / "old"
    old.mkdir()
    (old / "model.safetensors").symlink_to(folder / "model.safetensors")
    (old / "config.json").write_text((folder / "config.json").read_text())
    rope = json.loads((old / "config.json").read_text())["rope_parameters"]
    scaling = {"type": "su"} | {k: rope[k] for k in ("short_factor", "long_factor")}
    references.edit_config(
        old, rope_parameters=None, rope_scaling=scaling, rope_theta=rope["rope_theta"]
    )
    case = references.REFERENCES["phi3"]
    ours = case.ours(*mimir_jax.load(old))
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


def test_patch_bias_follows_the_tensors(saved, tmp_path):
    folder, reference = saved("1.5-5b")
    lying = tmp_path / "lying"
    weights.convert(folder, lying, to="diffusers")
    references.edit_config(lying, patch_bias=False)
    case = references.REFERENCES["1.5-5b"]
    ours = case.ours(*mimir_jax.load(lying))
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


def test_a_patch_convolution_without_bias_is_refused(saved):
    folder, _ = saved("2b")
    wrong = damage(folder, "unbiased", lambda state: state.pop("patch_embed.proj.bias"))
    references.edit_config(wrong, patch_bias=False)
    with pytest.raises(ValueError, match="must have patch_bias True, got False"):
        mimir_jax.load(wrong)


def test_torch_files(saved, tmp_path):
    folder, reference = saved("llama")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    case = references.REFERENCES["llama"]
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(reference)) < case.tolerance


def test_nothing_in_a_pickle_is_executed(saved, tmp_path):
    folder, _ = saved("llama")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())

    class Bomb:
        def __reduce__(self):
            return (tmp_path / "exploded").touch, ()

    torch.save({"model.norm.weight": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="must be a torch checkpoint of plain tensors"):
        mimir_jax.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["5b", "phi3", pytest.param("vae", marks=pytest.mark.slow)])
def test_loads_straight_into_shards(saved, name):
    folder, reference = saved(name)
    case = references.REFERENCES[name]
    mesh = mesh_lib.make_mesh((1, 2, 1, 2), jax.devices()[:4])
    model, params = mimir_jax.load(folder, mesh=mesh)
    leaves = jax.tree.leaves(params)
    assert any(not x.sharding.is_fully_replicated for x in leaves)
    assert all(x.sharding.mesh == mesh for x in leaves)
    assert relative_error(case.ours(model, params), case.theirs(reference)) < case.tolerance


def damage(folder, name, change):
    """Copies a checkpoint with changed tensors."""
    target = folder.parent / f"{folder.name}-{name}"
    target.mkdir()
    (target / "config.json").write_text((folder / "config.json").read_text())
    file = next(folder.glob("*.safetensors"))
    state = load_file(file)
    change(state)
    save_file(state, target / file.name)
    return target


def test_every_wrong_tensor_is_listed(saved, tmp_path):
    folder, _ = saved("5b")

    def change(state):
        del state["norm_final.bias"], state["transformer_blocks.1.attn1.to_q.weight"]
        state["wings.weight"] = np.zeros(3, np.float32)
        state["proj_out.bias"] = np.zeros(5, np.float32)

    wrong = damage(folder, "wrong", change)
    with pytest.raises(ValueError) as error:
        mimir_jax.load(wrong)
    text = str(error.value)
    assert "2 missing: " in text and "norm_final.bias" in text and "1.attn1.to_q.weight" in text
    assert "1 extra: wings.weight" in text and re.search(r"proj_out.bias \(5,\) for \(16,\)", text)
    assert "\n" not in text
    with pytest.raises(ValueError, match="2 missing"):
        weights.convert(wrong, tmp_path / "native")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("llama", {"num_hidden_layers": 3}, "9 missing: model.layers.2"),
        ("llama", {"intermediate_size": 41}, "6 misshaped"),
        ("llama", {"architectures": ["BertModel"]}, "must name a class among .*got 'BertModel'"),
        ("llama", {"hidden_act": "gelu"}, "must have hidden_act 'silu', got 'gelu'"),
        ("llama", {"hidden_size": "wide"}, "must give hidden_size as int, got 'wide'"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn"}},
            "must have a rope type among .*got 'yarn'",
        ),
        ("qwen2", {"architectures": ["Qwen2MoeForCausalLM"]}, "must name a class among"),
        (
            "qwen3",
            dict(use_sliding_window=True, sliding_window=4, max_window_layers=1, layer_types=None),
            "must have a sliding_window in all layers or in none, got 1 of 2 without",
        ),
        ("2b", {"num_layers": 1}, "24 extra: transformer_blocks.1"),
        ("2b", {"_class_name": "UNet"}, "must name a class among .*got 'UNet'"),
        ("vae", {"block_out_channels": [4, 8, 16]}, "misshaped"),
        ("t5-gated", {"feed_forward_proj": "gated-silu"}, "got 'gated-silu'"),
        ("t5-gated", {"dense_act_fn": "silu"}, "must have dense_act_fn 'gelu_new' or .*'silu'"),
        ("t5-relu", {"is_gated_act": True}, "must have is_gated_act False, got True"),
    ],
)
def test_configs_that_do_not_fit(saved, tmp_path, name, changes, message):
    folder, _ = saved(name)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    references.edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        mimir_jax.load(tmp_path)


def test_damaged_files(saved, tmp_path):
    folder, _ = saved("mistral")
    config = (folder / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=r"must hold \*.safetensors, \*.bin, .*, found none"):
        mimir_jax.load(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    for content in (whole[:-10], b"no such format", b""):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="must be whole and in safetensors format"):
            mimir_jax.load(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "model-00002.safetensors"}}))
    with pytest.raises(ValueError, match="1 are absent: model-00002.safetensors"):
        mimir_jax.load(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(ValueError, match="must name files beside it"):
        mimir_jax.load(tmp_path)
    index.write_text("{")
    with pytest.raises(ValueError, match="must be JSON with a weight_map"):
        mimir_jax.load(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="must be a JSON object"):
        mimir_jax.load(tmp_path)
