# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP of transformers with both towers, where the kind `clip` is asked for.

Without a kind, a folder of a whole CLIP opens as its image tower; see `weights.vit`.
"""

import dataclasses
from collections.abc import Mapping

from mimir_jax.config import ClipConfig, ClipTextConfig
from mimir_jax.models.clip import model
from mimir_jax.weights import family, vit
from mimir_jax.weights.rules import Rule, in_blocks, inside, linear, norm
from mimir_jax.weights.tensors import Tensor

# The defaults of transformers, which configs inside those of whole models leave out.
_TEXT = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}


class Clip(family.Published):
    """Both towers and their projections."""

    kind = "clip"
    module = model.Clip
    library = "transformers"
    classes = ("CLIPModel",)
    holders = ("CLIPModel",)
    stem = "model"

    def __init__(self):
        self._vit = vit.ViT()

    def with_dtype(self, config: ClipConfig, dtype: str) -> ClipConfig:
        """Returns the config with both towers in another compute dtype."""
        parts = {
            name: dataclasses.replace(getattr(config, name), dtype=dtype)
            for name in ("vit", "text")
        }
        return dataclasses.replace(config, **parts)

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> ClipConfig:
        """Reads a `CLIPConfig` of transformers with the configs in it."""
        text = _TEXT | family.field(raw, "text_config", dict)
        family.demand(text, model_type="clip_text_model", hidden_act=("quick_gelu", "gelu"))
        return ClipConfig(
            vit=self._vit.read_clip_config(family.field(raw, "vision_config", dict)),
            text=ClipTextConfig(
                vocab_size=family.field(text, "vocab_size"),
                length=family.field(text, "max_position_embeddings"),
                width=family.field(text, "hidden_size"),
                num_layers=family.field(text, "num_hidden_layers"),
                num_heads=family.field(text, "num_attention_heads"),
                mlp_dim=family.field(text, "intermediate_size"),
                activation=text["hidden_act"],
                norm_eps=family.field(text, "layer_norm_eps", float),
                eos_token=family.field(text, "eos_token_id"),
            ),
            width=family.field({"projection_dim": 512} | raw, "projection_dim"),
        )

    def write_config(self, config: ClipConfig, name: str) -> family.Raw:
        """Writes the config of a whole CLIP."""
        text = config.text
        return {
            "architectures": [name],
            "model_type": "clip",
            "projection_dim": config.width,
            "vision_config": self._vit.write_config(config.vit, self._vit.classes[0]),
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": text.vocab_size,
                "max_position_embeddings": text.length,
                "hidden_size": text.width,
                "num_hidden_layers": text.num_layers,
                "num_attention_heads": text.num_heads,
                "intermediate_size": text.mlp_dim,
                "hidden_act": text.activation,
                "layer_norm_eps": text.norm_eps,
                "eos_token_id": text.eos_token,
            },
        }

    def rules(self, config: ClipConfig, name: str) -> list[Rule]:
        """Returns the tables of both towers and of what joins them."""
        width = config.text.width
        text = [
            Rule("tokens/table", ("embeddings.token_embedding.weight",)),
            Rule("positions", ("embeddings.position_embedding.weight",)),
            *in_blocks(vit.block_rules("encoder.layers.{i}", width)),
            *norm("norm", "final_layer_norm", bias=True),
        ]
        return [
            *inside(self._vit.rules(config.vit, self._vit.classes[0]), "vit", ""),
            *inside(text, "text", "text_model."),
            *linear("image_projection", "visual_projection"),
            *linear("text_projection", "text_projection"),
            Rule("log_scale", ("logit_scale",)),
        ]

    def licence(self, config: ClipConfig) -> str:
        """The layout is shared by models of several licences."""
        return self._vit.licence(config.vit)
