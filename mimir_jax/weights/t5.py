# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 encoders of transformers: v1.1 with gated GELU, and the original with ReLU."""

from collections.abc import Mapping

from mimir_jax.config import T5Config
from mimir_jax.errors import InputError
from mimir_jax.models import t5
from mimir_jax.weights import family
from mimir_jax.weights.rules import Rule, in_blocks, linear, norm
from mimir_jax.weights.tensors import Tensor, Tensors

_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
_TABLE = "shared.weight"
_TABLES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
"""Other names of the table; the last is one where a config ties the head."""


class T5(family.Published):
    """Encoder alone, or that of a whole encoder-decoder."""

    kind = "t5"
    module = t5.T5Encoder
    library = "transformers"
    classes = ("T5EncoderModel", "T5ForConditionalGeneration", "T5Model")
    stem = "model"
    stems = ("t5",)
    anchor = r"encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight"
    ignored = (r"decoder\..*", r"lm_head\..*")

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> T5Config:
        """Reads a `T5Config` of transformers."""
        raw = raw or _sizes(tensors)
        activation = raw.get("feed_forward_proj", "relu")
        if activation not in ("gated-gelu", "relu"):
            raise InputError(
                f"config.json must have feed_forward_proj 'gated-gelu' or 'relu', got "
                f"{activation!r}, which this network does not implement"
            )
        gated = activation == "gated-gelu"  # what a config states beside it has the last word
        function = ("gelu_new", "gelu_pytorch_tanh") if gated else "relu"
        family.demand(raw, dense_act_fn=function, is_gated_act=gated)
        return T5Config(
            vocab_size=family.field(raw, "vocab_size"),
            width=family.field(raw, "d_model"),
            num_layers=family.field(raw, "num_layers"),
            num_heads=family.field(raw, "num_heads"),
            head_dim=family.field(raw, "d_kv"),
            mlp_dim=family.field(raw, "d_ff"),
            activation=activation,
            num_buckets=raw.get("relative_attention_num_buckets", 32),
            max_distance=raw.get("relative_attention_max_distance", 128),
            norm_eps=raw.get("layer_norm_epsilon", 1e-6),
        )

    def write_config(self, config: T5Config, name: str) -> family.Raw:
        """Writes the config of an encoder."""
        return {
            "architectures": [self.classes[0]],
            "model_type": "t5",
            "vocab_size": config.vocab_size,
            "d_model": config.width,
            "num_layers": config.num_layers,
            "num_decoder_layers": config.num_layers,
            "num_heads": config.num_heads,
            "d_kv": config.head_dim,
            "d_ff": config.mlp_dim,
            "feed_forward_proj": config.activation,
            "relative_attention_num_buckets": config.num_buckets,
            "relative_attention_max_distance": config.max_distance,
            "layer_norm_epsilon": config.norm_eps,
            "dropout_rate": 0.0,
            "is_encoder_decoder": False,
            "use_cache": False,
        }

    def rules(self, config: T5Config, name: str) -> list[Rule]:
        """Returns the encoder's table."""
        at = "encoder.block.{i}.layer."
        attention, mlp = f"{at}0.SelfAttention", f"{at}1.DenseReluDense"
        gated = config.activation == "gated-gelu"
        halves = {"gate": "wi_0", "up": "wi_1"} if gated else {"up": "wi"}
        blocks = [
            *norm("attention_norm", f"{at}0.layer_norm"),
            *(r for n in "qkv" for r in linear(f"attention/{n}", f"{attention}.{n}")),
            *linear("attention/out", f"{attention}.o"),
            *norm("mlp_norm", f"{at}1.layer_norm"),
            *(r for ours, n in halves.items() for r in linear(f"mlp/{ours}", f"{mlp}.{n}")),
            *linear("mlp/down", f"{mlp}.wo"),
        ]
        return [
            Rule("embed/table", (_TABLE,)),
            Rule("relative_bias", (_BIAS,)),
            *in_blocks(blocks),
            *norm("norm", "encoder.final_layer_norm"),
        ]

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Names the embedding table, which is stored under one or several of four names."""
        names = _TABLES if raw.get("tie_word_embeddings", True) is True else _TABLES[:2]
        found = [tensors[name] for name in (_TABLE, *names) if name in tensors]
        others = {n: x for n, x in tensors.items() if n not in (_TABLE, _TABLES[0])}
        return {_TABLE: found[0], **others} if found else others

    def export_class(self, config: T5Config, name: str | None) -> str:
        """Returns the encoder alone, which is all that was read."""
        del config, name
        return self.classes[0]

    def licence(self, config: T5Config) -> str:
        """T5 v1.1 was released openly."""
        return "T5 v1.1 by Google: Apache-2.0; other T5 encoders: see their model card"


def _sizes(tensors: Mapping[str, Tensor]) -> family.Raw:
    """Returns the config of an encoder that comes without one, such as a file of ComfyUI."""
    sizes = family.Sizes(tensors)
    at = "encoder.block.0.layer"
    heads = sizes.of((_BIAS, 1))
    vocabulary, width = (sizes.of((_TABLE, axis)) for axis in (0, 1))
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_layers": 1 + sizes.last("encoder.block."),
        "num_heads": heads,
        "d_kv": sizes.of((f"{at}.0.SelfAttention.q.weight", 0)) // heads,
        "d_ff": sizes.of((f"{at}.1.DenseReluDense.wo.weight", 1)),
        "feed_forward_proj": "gated-gelu" if sizes.any(f"{at}.1.DenseReluDense.wi_0.") else "relu",
        "relative_attention_num_buckets": sizes.of((_BIAS, 0)),
    }
