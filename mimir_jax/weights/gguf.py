# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""GGUF files of the Llama layout under the tensor names and config of transformers.

Quantised blocks are turned into float32 when they are read. The format keeps q and k with the
channels of each head in pairs; they are put back into halves.
"""

import pathlib
import re

import numpy as np

from mimir_jax.errors import InputError
from mimir_jax.weights.tensors import Tensor, Tensors

_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

# How byte-level BPE cuts text beforehand, by the names of llama.cpp: as GPT-2 does, or with every
# digit apart.
_PLAIN_SPLITS = ("gpt-2", "mpt", "olmo", "jais")
_DIGIT_SPLITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")


def open_file(path: pathlib.Path) -> tuple[dict, Tensors]:
    """Opens a file.

    Returns:
        The config of transformers and its tensors by name.

    Raises:
        ValueError: if the file is damaged or of another architecture.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except Exception as error:  # the reader raises whatever a damaged file provokes
        raise InputError(f"file {path} must be whole and in GGUF format: {error}") from None
    raw = _config(reader, path)
    heads = {"q": raw["num_attention_heads"], "k": raw["num_key_value_heads"]}
    tensors: Tensors = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            raise InputError(f"file {path} must have plain RoPE, got frequency factors")
        name = _rename(tensor.name)
        match = re.search(r"\.([qk])_proj\.weight$", name)
        tensors[name] = _lazy(tensor, heads[match[1]] if match else None)
    raw["tie_word_embeddings"] = "lm_head.weight" not in tensors
    return raw, tensors


def read_tokenizer(path: pathlib.Path):
    """Builds the fast tokenizer that the file describes (byte-level BPE).

    Returns:
        A `PreTrainedTokenizerFast`.

    Raises:
        ValueError: if it is of another kind.
    """
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    reader = gguf.GGUFReader(path)
    kind = _value(reader, "tokenizer.ggml.model")
    if kind != "gpt2":
        raise InputError(f"file {path} must have a byte-level BPE tokenizer, got {kind!r}")
    tokens = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in _value(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    pre = _value(reader, "tokenizer.ggml.pre")
    if pre not in (*_PLAIN_SPLITS, *_DIGIT_SPLITS):
        known = ", ".join((*_PLAIN_SPLITS, *_DIGIT_SPLITS))
        raise InputError(f"file {path} must split words as one of {known}, got {pre!r}")
    steps = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if pre in _DIGIT_SPLITS:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    types = _value(reader, "tokenizer.ggml.token_type")
    control = [t for t, kind in zip(tokens, types, strict=True) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
    special = {}
    for name in ("bos", "eos", "unknown", "padding"):
        index = _value(reader, f"tokenizer.ggml.{name}_token_id")
        if index is not None:
            ours = {"unknown": "unk", "padding": "pad"}.get(name, name)
            special[f"{ours}_token"] = tokens[index]
    if _value(reader, "tokenizer.ggml.add_bos_token"):
        bos = special["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary[bos])]
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    wrapped.chat_template = _value(reader, "tokenizer.chat_template")
    return wrapped


def _config(reader, path: pathlib.Path) -> dict:
    kind = _value(reader, "general.architecture")
    if kind != "llama":
        raise InputError(f"file {path} must have architecture llama, got {kind!r}")

    def get(name: str, default=None):
        value = _value(reader, f"llama.{name}")
        if value is None and default is None:
            raise InputError(f"file {path} must give llama.{name}, which it lacks")
        return default if value is None else value

    scaling = _value(reader, "llama.rope.scaling.type")
    if scaling not in (None, "none"):
        raise InputError(f"file {path} must have plain RoPE, got scaling {scaling!r}")
    heads, width = get("attention.head_count"), get("embedding_length")
    head_dim = get("attention.key_length", width // heads)
    if get("rope.dimension_count", head_dim) != head_dim:
        raise InputError(f"file {path} must rotate whole heads, got partial rotary positions")
    if _value(reader, "llama.attention.sliding_window"):
        raise InputError(f"file {path} must attend to everything, got a sliding window")
    eps = float(np.float32(get("attention.layer_norm_rms_epsilon")))
    vocabulary = next(t for t in reader.tensors if t.name == "token_embd.weight").shape[1]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": int(vocabulary),
        "hidden_size": width,
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": get("feed_forward_length"),
        "hidden_act": "silu",
        "rms_norm_eps": float(f"{eps:.6g}"),
        "max_position_embeddings": get("context_length"),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(get("rope.freq_base", 10000.0)),
        },
        "bos_token_id": _value(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _value(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _value(reader, "tokenizer.ggml.padding_token_id"),
    }


def _rename(name: str) -> str:
    stem, _, leaf = name.rpartition(".")
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    key = match[2] if match else stem
    if key not in _NAMES:
        return name  # unknown, which the check reports as extra
    return f"model.layers.{match[1]}.{_NAMES[key]}.{leaf}" if match else f"{_NAMES[key]}.{leaf}"


def _lazy(tensor, heads: int | None) -> Tensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))

    def read() -> np.ndarray:
        from gguf.quants import dequantize

        value = np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        if heads is None:
            return value
        # Rows of a head: pair by pair -> all first members, then all second ones.
        paired = value.reshape(heads, shape[0] // heads // 2, 2, *shape[1:])
        return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(shape)

    return Tensor(shape, np.dtype(np.float32), read)


def _value(reader, name: str):
    entry = reader.fields.get(name)
    return None if entry is None else entry.contents()
