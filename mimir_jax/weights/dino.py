# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The plain vision transformer of transformers (`ViTModel`), the layout of DINO (arXiv 2104.14294).

Its pooler, which DINO does not train, is left out: an image is the normed class token.
"""

from mimir_jax.config import ViTConfig
from mimir_jax.weights import family
from mimir_jax.weights.rules import BATCHED, Layout, Rule, in_blocks, linear, norm, patch

CLASS = "ViTModel"
IGNORED = (r"pooler\..*", r"embeddings\.mask_token")

_TOKEN = Layout(lambda x: x[0, 0], lambda x: x[None, None])
# The defaults of transformers.
_DEFAULTS = {
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
}


def is_dino(raw: family.Raw) -> bool:
    """Whether a config is that of a `ViTModel`."""
    return raw.get("model_type") == "vit"


def read_config(raw: family.Raw) -> ViTConfig:
    """Reads a `ViTConfig` of transformers."""
    raw = _DEFAULTS | raw
    family.demand(raw, hidden_act="gelu", qkv_bias=True)
    return ViTConfig(
        image_size=family.field(raw, "image_size"),
        patch=family.field(raw, "patch_size"),
        in_channels=family.field(raw, "num_channels"),
        width=family.field(raw, "hidden_size"),
        num_layers=family.field(raw, "num_hidden_layers"),
        num_heads=family.field(raw, "num_attention_heads"),
        mlp_dim=family.field(raw, "intermediate_size"),
        activation="gelu",
        patch_bias=True,
        pre_norm=False,
        norm_eps=family.field(raw, "layer_norm_eps", float),
    )


def write_config(config: ViTConfig) -> family.Raw:
    """Writes the config of a `ViTModel`."""
    return {
        "architectures": [CLASS],
        "model_type": "vit",
        "image_size": config.image_size,
        "patch_size": config.patch,
        "num_channels": config.in_channels,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.mlp_dim,
        "hidden_act": config.activation,
        "layer_norm_eps": config.norm_eps,
        "qkv_bias": True,
    }


def rules(config: ViTConfig) -> list[Rule]:
    """Returns the table of a `ViTModel`, under the names of its files."""
    at = "encoder.layer.{i}"
    qkv = [f"{at}.attention.attention.{name}" for name in ("query", "key", "value")]
    blocks = [
        *norm("attention_norm", f"{at}.layernorm_before", bias=True),
        *linear("attention/qkv", *qkv, bias=True, rows=(config.width,) * 3),
        *linear("attention/out", f"{at}.attention.output.dense", bias=True),
        *norm("mlp_norm", f"{at}.layernorm_after", bias=True),
        *linear("mlp/up", f"{at}.intermediate.dense", bias=True),
        *linear("mlp/down", f"{at}.output.dense", bias=True),
    ]
    kernel = "embeddings.patch_embeddings.projection"
    return [
        Rule("class_token", ("embeddings.cls_token",), _TOKEN),
        Rule("positions", ("embeddings.position_embeddings",), BATCHED),
        Rule("patch/kernel", (f"{kernel}.weight",), patch(config.in_channels, config.patch)),
        *([Rule("patch/bias", (f"{kernel}.bias",))] if config.patch_bias else ()),
        *in_blocks(blocks),
        *(norm("post_norm", "layernorm", bias=True) if config.post_norm else ()),
    ]
