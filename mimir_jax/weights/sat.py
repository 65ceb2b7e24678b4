# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Original (SAT) checkpoints of CogVideoX under the tensor names of diffusers.

SAT joins what diffusers keeps apart: q, k, v in one matrix, and the modulations of both norms of a
block in twelve chunks. Parts are cut out when they are read.
"""

import re

import numpy as np

from mimir_jax.weights.tensors import Tensor, Tensors

FILE = "mp_rank_00_model_states.pt"
"""Name of a checkpoint, in a folder named after its step."""

_PREFIX = "model.diffusion_model."
_FIRST_STAGE = "first_stage_model."

_RENAMED = {
    r"time_embed\.0": "time_embedding.linear_1",
    r"time_embed\.2": "time_embedding.linear_2",
    r"ofs_embed\.0": "ofs_embedding.linear_1",
    r"ofs_embed\.2": "ofs_embedding.linear_2",
    r"mixins\.patch_embed\.(proj|text_proj)": r"patch_embed.\1",
    r"transformer\.layers\.(\d+)\.attention\.dense": r"transformer_blocks.\1.attn1.to_out.0",
    r"transformer\.layers\.(\d+)\.mlp\.dense_h_to_4h": r"transformer_blocks.\1.ff.net.0.proj",
    r"transformer\.layers\.(\d+)\.mlp\.dense_4h_to_h": r"transformer_blocks.\1.ff.net.2",
    r"transformer\.layers\.(\d+)\.input_layernorm": r"transformer_blocks.\1.norm1.norm",
    r"transformer\.layers\.(\d+)\.post_attention_layernorm": r"transformer_blocks.\1.norm2.norm",
    r"mixins\.adaln_layer\.query_layernorm_list\.(\d+)": r"transformer_blocks.\1.attn1.norm_q",
    r"mixins\.adaln_layer\.key_layernorm_list\.(\d+)": r"transformer_blocks.\1.attn1.norm_k",
    r"transformer\.final_layernorm": "norm_final",
    r"mixins\.final_layer\.norm_final": "norm_out.norm",
    r"mixins\.final_layer\.adaLN_modulation\.1": "norm_out.linear",
    r"mixins\.final_layer\.linear": "proj_out",
}
# Computed, not learned, or of the language model that SAT derives from.
_DROPPED = re.compile(r"(.*\.)?(freqs_(sin|cos)|embed_tokens|position_embedding\w*)(\.weight)?")
_FACTOR = re.compile(r"matrix_([AB])\.(\d+)")  # of an adapter, one per part of a joined matrix
_BASE = ".original"  # of a kernel with an adapter
_QKV = r"transformer\.layers\.(\d+)\.attention\.query_key_value"
_MODULATION = r"mixins\.adaln_layer\.adaLN_modulations\.(\d+)\.1"
# Chunks: shift, scale, gate of video attention, video feed-forward, text attention, text
# feed-forward. A norm of diffusers has those of video, then of text.
_CHUNKS = {"norm1": (0, 1, 2, 6, 7, 8), "norm2": (3, 4, 5, 9, 10, 11)}


def is_transformer(tensors: Tensors) -> bool:
    """Whether the names are those of a SAT transformer, or of its adapters alone."""
    return any(
        name.removeprefix(_PREFIX).startswith("mixins.") or _FACTOR.search(name) for name in tensors
    )


def transformer(tensors: Tensors) -> Tensors:
    """Renames and splits the tensors of a transformer; others pass unchanged."""
    if not is_transformer(tensors):
        return tensors
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX) and any(n.startswith(_PREFIX) for n in tensors):
            continue  # the autoencoder and text encoder of a whole training checkpoint
        name = name.removeprefix(_PREFIX)
        if match := _FACTOR.search(name):
            out[f"{_adapted(name[: match.start() - 1], match[2])}.lora_{match[1]}.weight"] = tensor
            continue
        stem, _, leaf = name.rpartition(".")
        stem = stem.removesuffix(_BASE)
        if _DROPPED.fullmatch(name):
            continue
        if name == "mixins.pos_embed.pos_embedding":
            out["patch_embed.pos_embedding"] = tensor
        elif match := re.fullmatch(_QKV, stem):
            for index, part in enumerate("qkv"):
                target = f"transformer_blocks.{match[1]}.attn1.to_{part}.{leaf}"
                out[target] = _chunks(tensor, 3, (index,))
        elif match := re.fullmatch(_MODULATION, stem):
            for norm, chunks in _CHUNKS.items():
                target = f"transformer_blocks.{match[1]}.{norm}.linear.{leaf}"
                out[target] = _chunks(tensor, 12, chunks)
        else:
            out[f"{_rename(stem, _RENAMED)}.{leaf}"] = tensor
    return out


def _adapted(stem: str, part: str) -> str:
    """Returns the layer of diffusers that the adapter of a part of a SAT layer is on."""
    if match := re.fullmatch(_QKV, stem):
        return f"transformer_blocks.{match[1]}.attn1.to_{'qkv'[int(part) % 3]}"
    return _rename(stem, _RENAMED)


_VAE_RENAMED = (
    (r"\.block\.", ".resnets."),
    (r"(down_blocks\.\d+)\.downsample\.conv", r"\1.downsamplers.0.conv"),
    (r"(up_blocks\.\d+)\.upsample\.conv", r"\1.upsamplers.0.conv"),
    (r"nin_shortcut", "conv_shortcut"),
    (r"mid\.block_1", "mid_block.resnets.0"),
    (r"mid\.block_2", "mid_block.resnets.1"),
)


def is_vae(tensors: Tensors) -> bool:
    """Whether the names are those of a SAT autoencoder."""
    return any(re.search(r"(encoder|decoder)\.mid\.block_1\.", name) for name in tensors)


def vae(tensors: Tensors) -> Tensors:
    """Renames the tensors of an autoencoder, dropping its losses; others pass unchanged."""
    if not is_vae(tensors):
        return tensors
    out: Tensors = {}
    ups = [int(m[1]) for n in tensors if (m := re.search(r"decoder\.up\.(\d{1,4})\.", n))]
    last = max(ups, default=0)
    whole = any(name.startswith(_FIRST_STAGE) for name in tensors)
    for name, tensor in tensors.items():
        if whole and not name.startswith(_FIRST_STAGE):
            continue  # the transformer and text encoder of a whole training checkpoint
        name = name.removeprefix(_FIRST_STAGE)
        if name.startswith("loss."):
            continue
        name = re.sub(r"encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", name)
        name = re.sub(
            r"decoder\.up\.(\d{1,4})\.", lambda m: f"decoder.up_blocks.{last - int(m[1])}.", name
        )
        for pattern, replacement in _VAE_RENAMED:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor
    return out


def _rename(stem: str, table: dict[str, str]) -> str:
    for pattern, target in table.items():
        if match := re.fullmatch(pattern, stem):
            return match.expand(target)
    return stem  # unknown, which the check reports as extra


def _chunks(tensor: Tensor, count: int, chosen: tuple[int, ...]) -> Tensor:
    """Joins some of `count` equal chunks along the first axis."""
    size = tensor.shape[0] // count

    def read() -> np.ndarray:
        value = tensor.read()
        return np.concatenate([value[i * size : (i + 1) * size] for i in chosen])

    return Tensor((size * len(chosen), *tensor.shape[1:]), tensor.dtype, read)
