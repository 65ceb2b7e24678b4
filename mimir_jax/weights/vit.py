# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Image towers of CLIP (transformers, alone or inside a whole model, and OpenCLIP) and of DINO.

What is read of a whole model is its tower, under the names of a `CLIPVisionModel` as published.
transformers 5 also writes these without their first part.
"""

import re
from collections.abc import Mapping

from mimir_jax.config import ViTConfig
from mimir_jax.models import vit
from mimir_jax.weights import dino, family, openclip
from mimir_jax.weights.rules import Rule, in_blocks, linear, norm, patch
from mimir_jax.weights.tensors import Tensor, Tensors

# The defaults of transformers, which configs inside those of whole models leave out.
_DEFAULTS = {
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
_PART = r"^(?:model\.)?(?:vision_tower\.)?(?:vision_model\.)?"
_NAME = re.compile(_PART + r"((?:embeddings|pre_layrnorm|encoder|post_layernorm)\..*)")


class ViT(family.Published):
    """The tower without the projections of CLIP."""

    kind = "vit"
    module = vit.ViT
    library = "transformers"
    classes = (
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "CLIPModel",
        dino.CLASS,
    )
    holders = ("LlavaForConditionalGeneration",)
    stem = "model"
    ignored = (
        r"text_model\..*",
        r"logit_scale",
        r"(text|visual)_projection\.weight",
        r"(model\.)?(language_model|multi_modal_projector)\..*",
        r"lm_head\.weight",
        *dino.IGNORED,
    )

    def part(self, raw: family.Raw) -> family.Raw:
        """Returns the config of the tower."""
        if "model_cfg" in raw:
            return openclip.config(raw)
        return family.field(raw, "vision_config", dict) if "vision_config" in raw else raw

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> ViTConfig:
        """Reads a `CLIPVisionConfig` or `ViTConfig` of transformers."""
        return dino.read_config(raw) if dino.is_dino(raw) else self.read_clip_config(raw)

    def read_clip_config(self, raw: family.Raw) -> ViTConfig:
        """Reads a `CLIPVisionConfig` of transformers."""
        raw = _DEFAULTS | raw
        family.demand(raw, model_type="clip_vision_model", hidden_act=("quick_gelu", "gelu"))
        return ViTConfig(
            image_size=family.field(raw, "image_size"),
            patch=family.field(raw, "patch_size"),
            in_channels=family.field(raw, "num_channels"),
            width=family.field(raw, "hidden_size"),
            num_layers=family.field(raw, "num_hidden_layers"),
            num_heads=family.field(raw, "num_attention_heads"),
            mlp_dim=family.field(raw, "intermediate_size"),
            activation=raw["hidden_act"],
            norm_eps=family.field(raw, "layer_norm_eps", float),
        )

    def write_config(self, config: ViTConfig, name: str) -> family.Raw:
        """Writes the config of a tower."""
        if not config.pre_norm:
            return dino.write_config(config)
        return {
            "architectures": [name],
            "model_type": "clip_vision_model",
            "image_size": config.image_size,
            "patch_size": config.patch,
            "num_channels": config.in_channels,
            "hidden_size": config.width,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "intermediate_size": config.mlp_dim,
            "hidden_act": config.activation,
            "layer_norm_eps": config.norm_eps,
            "attention_dropout": 0.0,
        }

    def rules(self, config: ViTConfig, name: str) -> list[Rule]:
        """Returns the table of the tower, whichever class it was part of."""
        if not config.pre_norm:
            return dino.rules(config)
        top = "vision_model"
        blocks = block_rules(f"{top}.encoder.layers.{{i}}", config.width)
        table = f"{top}.embeddings.position_embedding.weight"
        kernel = f"{top}.embeddings.patch_embedding.weight"
        return [
            Rule("class_token", (f"{top}.embeddings.class_embedding",)),
            Rule("positions", (table,)),
            Rule("patch/kernel", (kernel,), patch(config.in_channels, config.patch)),
            *norm("pre_norm", f"{top}.pre_layrnorm", bias=True),
            *in_blocks(blocks),
            *(norm("post_norm", f"{top}.post_layernorm", bias=True) if config.post_norm else ()),
        ]

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives the tensors of every form the names of a published `CLIPVisionModel`."""
        if dino.is_dino(raw):
            return tensors
        if openclip.is_openclip(tensors):
            return openclip.tower(tensors)
        return {_NAME.sub(r"vision_model.\1", name): tensor for name, tensor in tensors.items()}

    def export_class(self, config: ViTConfig, name: str | None) -> str:
        """Returns the tower alone, which is all that was read."""
        del config, name
        return self.classes[0]

    def architecture(self, config: ViTConfig, name: str) -> str:
        """Returns the class of transformers."""
        return name if config.pre_norm else dino.CLASS

    def licence(self, config: ViTConfig) -> str:
        """The layout is shared by models of several licences."""
        return "CLIP by OpenAI and by LAION: MIT; towers of other models: see their model card"


def block_rules(at: str, width: int) -> list[Rule]:
    """Returns the rules of a block of CLIP, in either tower, from the layers below `at`."""
    qkv = [f"{at}.self_attn.{n}_proj" for n in "qkv"]
    return [
        *norm("attention_norm", f"{at}.layer_norm1", bias=True),
        *linear("attention/qkv", *qkv, bias=True, rows=(width,) * 3),
        *linear("attention/out", f"{at}.self_attn.out_proj", bias=True),
        *norm("mlp_norm", f"{at}.layer_norm2", bias=True),
        *linear("mlp/up", f"{at}.mlp.fc1", bias=True),
        *linear("mlp/down", f"{at}.mlp.fc2", bias=True),
    ]
