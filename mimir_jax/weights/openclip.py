# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Image towers of OpenCLIP under the config and the tensor names of transformers.

OpenCLIP joins q, k, v in one matrix, as torch's attention does. Parts are cut out when they are
read.
"""

import re

import numpy as np

from mimir_jax.weights import family
from mimir_jax.weights.tensors import Tensor, Tensors

CONFIG_FILE = "open_clip_config.json"

_PREFIX = "visual."
_TOWER = "vision_model"
_RENAMED = {
    r"class_embedding": "embeddings.class_embedding",
    r"conv1\.weight": "embeddings.patch_embedding.weight",
    r"positional_embedding": "embeddings.position_embedding.weight",
    r"ln_pre\.(\w+)": r"pre_layrnorm.\1",
    r"ln_post\.(\w+)": r"post_layernorm.\1",
    r"transformer\.resblocks\.(\d+)\.ln_([12])\.(\w+)": r"encoder.layers.\1.layer_norm\2.\3",
    r"transformer\.resblocks\.(\d+)\.attn\.(out_proj\.\w+)": r"encoder.layers.\1.self_attn.\2",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(\w+)": r"encoder.layers.\1.mlp.fc1.\2",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(\w+)": r"encoder.layers.\1.mlp.fc2.\2",
}
_QKV = r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)"


def is_openclip(tensors: Tensors) -> bool:
    """Whether the names are those of OpenCLIP."""
    return f"{_PREFIX}conv1.weight" in tensors


def tower(tensors: Tensors) -> Tensors:
    """Renames and splits the image tower, dropping the text tower and the projection."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX) or name == f"{_PREFIX}proj":
            continue
        name = name.removeprefix(_PREFIX)
        if match := re.fullmatch(_QKV, name):
            for index, part in enumerate("qkv"):
                target = f"{_TOWER}.encoder.layers.{match[1]}.self_attn.{part}_proj.{match[2]}"
                out[target] = _third(tensor, index)
        else:
            out[f"{_TOWER}.{_rename(name)}"] = tensor
    return out


def config(raw: family.Raw) -> family.Raw:
    """Returns the config of transformers for the image tower of an `open_clip_config.json`."""
    model = family.field(raw, "model_cfg", dict)
    sizes = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16}
    sizes |= {"image_size": 224} | family.field(model, "vision_cfg", dict)
    width = family.field(sizes, "width")
    family.demand(sizes, act_kwargs=({}, None), no_ln_pre=False, pool_type="tok")
    norm = family.field({"norm_kwargs": {}} | sizes, "norm_kwargs", dict)
    return {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "image_size": family.field(sizes, "image_size"),
        "patch_size": family.field(sizes, "patch_size"),
        "num_channels": 3,
        "hidden_size": width,
        "num_hidden_layers": family.field(sizes, "layers"),
        "num_attention_heads": width // family.field(sizes, "head_width"),
        "intermediate_size": int(width * family.field(sizes, "mlp_ratio", float)),
        "hidden_act": "quick_gelu" if model.get("quick_gelu", False) else "gelu",
        "layer_norm_eps": family.field({"eps": 1e-5} | norm, "eps", float),
    }


def _rename(name: str) -> str:
    for pattern, target in _RENAMED.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    return name  # unknown, which the check reports as extra


def _third(tensor: Tensor, index: int) -> Tensor:
    size = tensor.shape[0] // 3

    def read() -> np.ndarray:
        return tensor.read()[index * size : (index + 1) * size]

    return Tensor((size, *tensor.shape[1:]), tensor.dtype, read)
