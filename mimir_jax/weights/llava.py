# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaVA of transformers: a CLIP tower, a projector and a decoder in any layout of ours.

The table has the names of the hub. transformers 5 writes the tower without its `vision_model`, and
in memory puts `model.` before everything but the head; all of these are read.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from mimir_jax.config import LlavaConfig
from mimir_jax.models.llava import model
from mimir_jax.weights import family, llm, vit
from mimir_jax.weights.rules import Rule, inside, linear
from mimir_jax.weights.tensors import Tensor, Tensors

# The defaults of transformers, which configs inside those of whole models leave out.
_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
}
_QWEN = _LLAMA | {
    "vocab_size": 151936, "intermediate_size": 22016, "max_position_embeddings": 32768
}  # fmt: skip
_DECODERS = {
    "qwen2": ("Qwen2ForCausalLM", _QWEN),
    "qwen3": ("Qwen3ForCausalLM", _QWEN),
    "llama": ("LlamaForCausalLM", _LLAMA),
    "mistral": (
        "MistralForCausalLM",
        _LLAMA
        | {
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
    ),
    "phi3": (
        "Phi3ForCausalLM",
        _LLAMA
        | {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
    ),
}
_TOWER = {
    "image_size": 336,
    "patch_size": 14,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
}  # where there is no `vision_config` at all
_SELECT = {"default": False, "full": True}
_LLM, _VIT = "language_model.", "vision_tower."
_RENAMES = (
    (re.compile(r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)"), ""),
    (re.compile(r"^lm_head\."), f"{_LLM}lm_head."),
    (re.compile(r"^language_model\.(?!model\.|lm_head\.)"), f"{_LLM}model."),
    (re.compile(r"^vision_tower\.(?!vision_model\.)"), f"{_VIT}vision_model."),
)


class Llava(family.Published):
    """The three parts under one roof."""

    kind = "llava"
    module = model.Llava
    library = "transformers"
    classes = ("LlavaForConditionalGeneration",)
    stem = "model"

    def __init__(self):
        self._llm, self._vit = llm.LLM(), vit.ViT()

    def with_dtype(self, config: LlavaConfig, dtype: str) -> LlavaConfig:
        """Returns the config with both parts in another compute dtype."""
        parts = {
            name: dataclasses.replace(getattr(config, name), dtype=dtype) for name in ("vit", "llm")
        }
        return dataclasses.replace(config, **parts)

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> LlavaConfig:
        """Reads a `LlavaConfig` of transformers with the configs in it."""
        family.demand(raw, projector_hidden_act="gelu")
        family.demand(raw, vision_feature_select_strategy=tuple(_SELECT))
        tower = _TOWER | {"model_type": "clip_vision_model"}
        if raw.get("vision_config") is not None:
            tower = family.field(raw, "vision_config", dict)
        layers = raw.get("vision_feature_layer", -2)
        bias = raw.get("multimodal_projector_bias", True)
        token = raw.get("image_token_index", raw.get("image_token_id", 32000))
        return LlavaConfig(
            vit=self._vit.read_clip_config(tower),
            llm=self._llm.read_config(_decoder(raw)[1], {}),
            image_token=family.field({"image_token_index": token}, "image_token_index"),
            vision_layers=tuple(layers) if isinstance(layers, list) else (layers,),
            class_token=_SELECT[raw.get("vision_feature_select_strategy", "default")],
            projector_bias=bias,
        )

    def write_config(self, config: LlavaConfig, name: str) -> family.Raw:
        """Writes the config of a LLaVA and those of its parts."""
        layers = list(config.vision_layers)
        select = {value: key for key, value in _SELECT.items()}
        return {
            "architectures": [name],
            "model_type": "llava",
            "image_token_index": config.image_token,
            "image_seq_length": config.tokens_per_image,
            "projector_hidden_act": "gelu",
            "multimodal_projector_bias": config.projector_bias,
            "vision_feature_layer": layers if len(layers) > 1 else layers[0],
            "vision_feature_select_strategy": select[config.class_token],
            "tie_word_embeddings": config.llm.tie_embeddings,
            "vision_config": self._vit.write_config(config.vit, self._vit.classes[0]),
            "text_config": self._llm.write_config(config.llm, llm.exported_class(config.llm)),
        }

    def rules(self, config: LlavaConfig, name: str) -> list[Rule]:
        """Returns the table with a decoder in the layout that `write_config` writes."""
        return self._rules(config, name, llm.exported_class(config.llm))

    def table(self, config: LlavaConfig, name: str, raw: family.Raw) -> list[Rule]:
        """Returns the table with a decoder in the layout of `text_config`."""
        return self._rules(config, name, _decoder(raw)[0])

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives the tensors the names of the hub, and drops the copy of tied embeddings."""
        named = {}
        for name, tensor in tensors.items():
            for pattern, prefix in _RENAMES:
                name = pattern.sub(prefix, name)
            named[name] = tensor
        if _decoder(raw)[1]["tie_word_embeddings"]:
            named = llm.one_table(
                named, f"{_LLM}model.embed_tokens.weight", f"{_LLM}lm_head.weight"
            )
        return named

    def licence(self, config: LlavaConfig) -> str:
        """The layout is shared by models of many licences."""
        return "LLaVA and its kin: see the model card of the weights and that of their decoder"

    def _rules(self, config: LlavaConfig, name: str, decoder: str) -> list[Rule]:
        del name
        projector = [
            *linear("up", "linear_1", bias=config.projector_bias),
            *linear("down", "linear_2", bias=config.projector_bias),
        ]
        return [
            *inside(self._vit.rules(config.vit, self._vit.classes[0]), "vit", _VIT),
            *inside(projector, "projector", "multi_modal_projector."),
            *inside(self._llm.rules(config.llm, decoder), "llm", _LLM),
        ]


def _decoder(raw: family.Raw) -> tuple[str, dict[str, Any]]:
    """Returns class and whole config of the decoder; a tie may stand in either config."""
    given = raw.get("text_config")
    given = {} if given is None else family.field(raw, "text_config", dict)
    family.demand(given, model_type=tuple(_DECODERS))
    name, defaults = _DECODERS[given.get("model_type", "llama")]
    tied = any(config.get("tie_word_embeddings", False) for config in (raw, given))
    return name, defaults | given | {"architectures": [name], "tie_word_embeddings": tied}
