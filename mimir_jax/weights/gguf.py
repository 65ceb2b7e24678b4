# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""GGUF files of Llama, Phi-3, Qwen and T5 under the tensor names and configs of transformers.

Quantised blocks are turned into float32 when they are read. Files of Llama keep q and k with the
channels of each head in pairs; they are put back into halves.
"""

import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mimir_jax.errors import InputError
from mimir_jax.weights import gguf_file
from mimir_jax.weights.gguf_file import find as find
from mimir_jax.weights.gguf_tokenizer import read_tokenizer as read_tokenizer
from mimir_jax.weights.tensors import Tensor, Tensors

_LLAMA = {
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
_PHI3 = _LLAMA | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_QWEN = _LLAMA | {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_T5 = {
    "token_embd": "shared",
    "output": "lm_head",
    "enc.output_norm": "encoder.final_layer_norm",
    "attn_norm": "layer.0.layer_norm",
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_norm": "layer.1.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}
_ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")


class Opened(NamedTuple):
    """A file under the names of transformers.

    Attributes:
        kind: Kind of network.
        class_name: Its class in transformers.
        raw: Its config.
        tensors: Its tensors.
        files: The file, or all its parts.
    """

    kind: str
    class_name: str
    raw: dict[str, Any]
    tensors: Tensors
    files: tuple[pathlib.Path, ...]


class _Architecture(NamedTuple):
    """How files of one architecture are read."""

    kind: str
    class_name: str
    names: dict[str, str]
    block: str  # where a block goes; its number follows
    config: Callable[["_Fields"], dict[str, Any]]


class _Fields:
    """The metadata of a file, numbers by their name below the architecture."""

    def __init__(self, file: gguf_file.File, prefix: str):
        self.file, self._prefix = file, prefix

    def number(self, name: str, default: int | float | None = None) -> Any:
        """Returns a number; without `default` it must be there."""
        name = f"{self._prefix}.{name}"
        value = self.file.value(name, (int, float), default)
        if value is None:
            raise InputError(f"file {self.file.path} must give {name}, which it lacks")
        return value

    def text(self, name: str) -> str | None:
        """Returns a text, None where it is absent."""
        return self.file.value(f"{self._prefix}.{name}", str)

    def factors(self, name: str) -> list[float] | None:
        """Returns a small tensor as numbers, None where it is absent."""
        tensor = self.file.tensors.get(name)
        return None if tensor is None else [float(x) for x in tensor.read().reshape(-1)]


def open_file(path: pathlib.Path) -> Opened:
    """Opens a file.

    Raises:
        InputError: if the file is damaged or of another architecture.
    """
    file = gguf_file.read(path)
    name = file.value("general.architecture", str)
    if name not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise InputError(f"file {path} must have an architecture among {known}, got {name!r}")
    known = _ARCHITECTURES[name]
    raw = known.config(_Fields(file, name))
    tensors: Tensors = {}
    for theirs, tensor in file.tensors.items():
        if theirs in _ROPE_TENSORS and known.kind == "llm":
            continue  # in the config
        ours = _rename(theirs, known)
        heads = {"q": raw.get("num_attention_heads"), "k": raw.get("num_key_value_heads")}
        match = re.search(r"\.([qk])_proj\.weight$", ours) if name == "llama" else None
        tensors[ours] = _unpaired(tensor, heads[match[1]]) if match else tensor
    if known.kind == "llm":
        raw["tie_word_embeddings"] = "lm_head.weight" not in tensors
    return Opened(known.kind, known.class_name, raw, tensors, file.parts)


def _llm_config(fields: _Fields) -> dict[str, Any]:
    heads, width = fields.number("attention.head_count"), fields.number("embedding_length")
    head_dim = fields.number("attention.key_length", width // max(heads, 1))
    if fields.number("rope.dimension_count", head_dim) != head_dim:
        raise InputError(
            f"file {fields.file.path} must rotate whole heads, got partial rotary positions"
        )
    eps = float(np.float32(fields.number("attention.layer_norm_rms_epsilon")))
    return {
        "vocab_size": _vocabulary(fields),
        "hidden_size": width,
        "num_hidden_layers": fields.number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.number("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": fields.number("feed_forward_length"),
        "hidden_act": "silu",
        "rms_norm_eps": float(f"{eps:.6g}"),
        "max_position_embeddings": fields.number("context_length"),
        "rope_parameters": _rope(fields),
        **_token_ids(fields.file),
    }


def _llama(fields: _Fields) -> dict[str, Any]:
    if fields.number("attention.sliding_window", 0):
        raise InputError(f"file {fields.file.path} must attend to everything, got a sliding window")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **_llm_config(fields)
    }  # fmt: skip


def _qwen2(fields: _Fields) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **_llm_config(fields)
    }  # fmt: skip


def _qwen3(fields: _Fields) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **_llm_config(fields)
    }  # fmt: skip


def _phi3(fields: _Fields) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        **_llm_config(fields),
        "sliding_window": fields.number("attention.sliding_window", 0) or None,
        "original_max_position_embeddings": fields.number(
            "rope.scaling.original_context_length", fields.number("context_length")
        ),
    }


def _t5(fields: _Fields) -> dict[str, Any]:
    gated = "enc.blk.0.ffn_gate.weight" in fields.file.tensors
    return {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": _vocabulary(fields),
        "d_model": fields.number("embedding_length"),
        "num_layers": fields.number("block_count"),
        "num_heads": fields.number("attention.head_count"),
        "d_kv": fields.number("attention.key_length"),
        "d_ff": fields.number("feed_forward_length"),
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "relative_attention_num_buckets": fields.number("attention.relative_buckets_count", 32),
        "layer_norm_epsilon": float(
            f"{float(fields.number('attention.layer_norm_rms_epsilon', 1e-6)):.6g}"
        ),
        "is_encoder_decoder": False,
        **_token_ids(fields.file),
    }


def _rope(fields: _Fields) -> dict[str, Any]:
    """Returns the rotary settings. Factors of a file, also those of Llama 3.1, are a LongRoPE."""
    rope: dict[str, Any] = {"rope_theta": float(fields.number("rope.freq_base", 10000.0))}
    context = fields.number("context_length")
    scaling = fields.text("rope.scaling.type")
    if (same := fields.factors("rope_freqs.weight")) is not None:
        short, long, original, attention = same, same, context, 1.0
    else:
        short, long = (fields.factors(f"rope_factors_{n}.weight") for n in ("short", "long"))
        original = fields.number("rope.scaling.original_context_length", context)
        attention = float(fields.number("rope.scaling.attn_factor", 0.0)) or None
    if short is not None and long is not None:
        rope |= {"rope_type": "longrope", "short_factor": short, "long_factor": long}
        rope["original_max_position_embeddings"] = original
        return rope if attention is None else rope | {"attention_factor": attention}
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 0))
    if scaling in (None, "linear") and factor:  # as in llama.cpp, also for the name of 2023
        return rope | {"rope_type": "linear", "factor": float(factor)}
    if scaling not in (None, "linear", "none"):
        raise InputError(
            f"file {fields.file.path} must have plain or linear RoPE or factors of its "
            f"frequencies, got scaling {scaling!r}"
        )
    return rope | {"rope_type": "default"}


def _vocabulary(fields: _Fields) -> int:
    table = fields.file.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise InputError(f"file {fields.file.path} must hold the table token_embd.weight, got none")
    return table.shape[0]


def _token_ids(file: gguf_file.File) -> dict[str, int | None]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {
        f"{ours}_token_id": file.value(f"tokenizer.ggml.{theirs}_token_id", int)
        for ours, theirs in names.items()
    }


def _rename(name: str, known: _Architecture) -> str:
    stem, _, leaf = name.rpartition(".")
    match = re.fullmatch(r"(?:enc\.)?blk\.(\d+)\.(\w+)", stem)
    target = known.names.get(match[2] if match else stem)
    if target is None:
        return name.replace("dec.", "decoder.", 1)  # unknown, which the check reports as extra
    return f"{known.block}.{match[1]}.{target}.{leaf}" if match else f"{target}.{leaf}"


def _unpaired(tensor: Tensor, heads: int) -> Tensor:
    """Moves the rows of each head from pair by pair to all first members, then all second ones."""

    def read() -> np.ndarray:
        value = tensor.read()
        paired = value.reshape(heads, value.shape[0] // heads // 2, 2, *value.shape[1:])
        return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(value.shape)

    return Tensor(tensor.shape, tensor.dtype, read)


_T5_ENCODER = _Architecture("t5", "T5EncoderModel", _T5, "encoder.block", _t5)
_ARCHITECTURES = {
    "llama": _Architecture("llm", "LlamaForCausalLM", _LLAMA, "model.layers", _llama),
    "phi3": _Architecture("llm", "Phi3ForCausalLM", _PHI3, "model.layers", _phi3),
    "qwen2": _Architecture("llm", "Qwen2ForCausalLM", _QWEN, "model.layers", _qwen2),
    "qwen3": _Architecture("llm", "Qwen3ForCausalLM", _QWEN, "model.layers", _qwen3),
    "t5": _T5_ENCODER,
    "t5encoder": _T5_ENCODER,
}
