# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoder-only LLMs of transformers, one network: Phi-3 (3.5 too), Llama, Mistral, Qwen2, Qwen3."""

import re
from collections.abc import Mapping

from mimir_jax import libraries
from mimir_jax.config import LLMConfig, RopeConfig
from mimir_jax.errors import InputError
from mimir_jax.models import llm
from mimir_jax.weights import family, recognition
from mimir_jax.weights.rules import Rule, in_blocks, linear, norm
from mimir_jax.weights.tensors import Tensor, Tensors

_TYPES = {
    "Phi3ForCausalLM": "phi3",
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_PLAIN, _QWEN = ("LlamaForCausalLM", "MistralForCausalLM"), ("Qwen2ForCausalLM", "Qwen3ForCausalLM")
_ALTERING = re.compile(
    r"multiplier|logits?_scal|no_rope|scale_emb|scale_depth|softcap|qk_norm|clip_qkv"
)
_ROPE_KINDS = {"default": "default", "linear": "linear", "llama3": "llama3"}
_ROPE_KINDS |= dict.fromkeys(("longrope", "su"), "longrope")


class LLM(family.Published):
    """The layouts: Phi-3 keeps q, k, v and gate, up together, the others apart."""

    kind = "llm"
    module = llm.LLM
    library = "transformers"
    classes = tuple(_TYPES)
    stem = "model"
    ignored = (r"(score|classifier)\..*",)
    anchor = r"layers\.0\.input_layernorm\.weight"

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> LLMConfig:
        """Reads a config of transformers, with old `rope_scaling` or new `rope_parameters`."""
        family.demand(raw, hidden_act="silu", attention_bias=False, mlp_bias=False)
        heads = family.field(raw, "num_attention_heads")
        width = family.field(raw, "hidden_size")
        kv_heads = raw.get("num_key_value_heads")
        layout = _stem_class(class_name(raw), raw)
        window = _read_window(raw, layout)
        _require_plain(raw, window)
        own_width = 128 if layout == "Qwen3ForCausalLM" else width // heads
        return LLMConfig(
            vocab_size=family.field(raw, "vocab_size"),
            width=width,
            num_layers=family.field(raw, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=heads if kv_heads is None else kv_heads,
            head_dim=raw.get("head_dim") or own_width,
            mlp_dim=family.field(raw, "intermediate_size"),
            qkv_bias=layout == "Qwen2ForCausalLM",
            qk_norm=layout == "Qwen3ForCausalLM",
            norm_eps=family.field(raw, "rms_norm_eps", float),
            tie_embeddings=None if _is_headless(raw, tensors) else _is_tied(raw),
            sliding_window=window,
            rope=_read_rope(raw, layout),
        )

    def write_config(self, config: LLMConfig, name: str) -> family.Raw:
        """Writes the config of class `name`."""
        raw = {
            "architectures": [self.architecture(config, name)],
            "model_type": _TYPES[name],
            "vocab_size": config.vocab_size,
            "hidden_size": config.width,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "intermediate_size": config.mlp_dim,
            "hidden_act": "silu",
            "rms_norm_eps": config.norm_eps,
            "max_position_embeddings": config.rope.max_length,
            "tie_word_embeddings": bool(config.tie_embeddings),
            "rope_parameters": _write_rope(config.rope),
            # Left out, they would be those of another model, beyond the vocabulary of this one.
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
        }
        if name != "LlamaForCausalLM":
            raw["sliding_window"] = config.sliding_window
        if name in _QWEN and config.sliding_window is not None:
            raw |= {"use_sliding_window": True, "max_window_layers": 0}
        if name == "Phi3ForCausalLM":
            raw["original_max_position_embeddings"] = config.rope.original_max_length
        return raw

    def rules(self, config: LLMConfig, name: str) -> list[Rule]:
        """Returns the table of class `name`."""
        top = "" if config.tie_embeddings is None else "model."
        at = f"{top}layers.{{i}}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        if name == "Phi3ForCausalLM":
            fused = [
                *linear("attention/qkv", f"{attention}.qkv_proj"),
                *linear("mlp/gate_up", f"{mlp}.gate_up_proj"),
            ]
        else:
            q, kv = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
            qkv = [f"{attention}.{n}_proj" for n in "qkv"]
            gate_up = [f"{mlp}.{n}_proj" for n in ("gate", "up")]
            fused = [
                *linear("attention/qkv", *qkv, rows=(q, kv, kv), bias=config.qkv_bias),
                *linear("mlp/gate_up", *gate_up, rows=(config.mlp_dim,) * 2),
            ]
        blocks = [
            *norm("attention_norm", f"{at}.input_layernorm"),
            *linear("attention/out", f"{attention}.o_proj"),
            *norm("mlp_norm", f"{at}.post_attention_layernorm"),
            *linear("mlp/down", f"{mlp}.down_proj"),
            *fused,
        ]
        if config.qk_norm:
            for n in "qk":
                blocks += norm(f"attention/{n}_norm", f"{attention}.{n}_norm")
        head = linear("head", "lm_head") if config.tie_embeddings is False else []
        return [
            Rule("embed/table", (f"{top}embed_tokens.weight",)),
            *in_blocks(blocks),
            *norm("norm", f"{top}norm"),
            *head,
        ]

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Names tensors as the class does, and tied embeddings once, stored as table, head or both.

        Classes without a head name them without `model.`, wrappers put more in front of it.
        """
        before = recognition.prefix(tensors, self.anchor)
        if before is not None and before.endswith(".model."):
            outer = before.removesuffix("model.")
            tensors = {name.removeprefix(outer): x for name, x in tensors.items()}
            before = "model."
        if _is_tied(raw) and before is not None:
            tensors = one_table(tensors, f"{before}embed_tokens.weight", "lm_head.weight")
        top = "" if _is_headless(raw, tensors) else "model."
        if before in (None, top):
            return tensors
        others = ("lm_head.", "score.", "classifier.")
        return {
            name if name.startswith(others) else top + name.removeprefix(before): x
            for name, x in tensors.items()
        }

    def find_class(self, name: str, raw: family.Raw, tensors: Mapping[str, Tensor]) -> str | None:
        """Returns the class with a head in the layout of the tensors."""
        if not family.has_anchor(tensors, self.anchor):
            return None
        if known := _stem_class(name, raw):
            return known
        if name or _is_known_elsewhere(raw):
            return None
        for part, known in (
            ("qkv_proj.weight", "Phi3ForCausalLM"),
            ("q_proj.bias", "Qwen2ForCausalLM"),
            ("q_norm.weight", "Qwen3ForCausalLM"),
        ):
            if family.has_anchor(tensors, rf"layers\.0\.self_attn\.{re.escape(part)}"):
                return known
        return "LlamaForCausalLM"

    def export_class(self, config: LLMConfig, name: str | None) -> str:
        """Returns the class that was read, for our own Qwen's or Phi-3."""
        return name or _qwen(config) or self.classes[0]

    def architecture(self, config: LLMConfig, name: str) -> str:
        """Returns the class of transformers that has the tensors of the table of class `name`."""
        return name.replace("ForCausalLM", "Model") if config.tie_embeddings is None else name

    def licence(self, config: LLMConfig) -> str:
        """The layouts are shared by models of many licences."""
        return "Phi-3 and 3.5: MIT; Llama, Mistral and their kin: see the model card of the weights"


def exported_class(config: LLMConfig) -> str:
    """Returns the class of a decoder of our own in a published form of a whole model."""
    if known := _qwen(config):
        return known
    if config.rope.kind == "longrope" or config.rope.partial != 1:
        return "Phi3ForCausalLM"
    return "LlamaForCausalLM" if config.sliding_window is None else "MistralForCausalLM"


def _qwen(config: LLMConfig) -> str | None:
    """Returns the class of Qwen that alone has the parts of a network."""
    return _QWEN[1] if config.qk_norm else _QWEN[0] if config.qkv_bias else None


def one_table(tensors: Tensors, table: str, head: str) -> Tensors:
    """Returns tensors with tied embeddings under the name `table` alone.

    safetensors keeps one name of a tensor that has several, the first by the alphabet.
    """
    others = {name: x for name, x in tensors.items() if name not in (table, head)}
    kept = tensors.get(table, tensors.get(head))
    return others if kept is None else {table: kept, **others}


def class_name(raw: family.Raw) -> str:
    """Returns the published class of a config, from `architectures` or else `model_type`."""
    by_type = {kind: name for name, kind in _TYPES.items()}
    names = raw.get("architectures")
    if isinstance(names, list) and names and isinstance(names[0], str):
        return names[0]
    kind = raw.get("model_type")
    return by_type.get(kind, "") if isinstance(kind, str) else ""


def _stem_class(name: str, raw: family.Raw) -> str | None:
    """Returns the class with a head of the network that class or type of a config name."""
    kind = str(raw.get("model_type")).lower()
    if name or kind not in _TYPES.values():
        # Of Qwen, others share the beginning of the name: mixtures of experts, models that see.
        ends = {"qwen2": r"qwen2(model|for)", "qwen3": r"qwen3(model|for)"}
        found = (k for k in _TYPES.values() if re.search(ends.get(k, k), name.lower()))
        kind = next(found, None)
    return {k: n for n, k in _TYPES.items()}.get(kind)


def _is_known_elsewhere(raw: family.Raw) -> bool:
    """Whether transformers has the type of a config as another network."""
    known = libraries.transformers().models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    return raw.get("model_type") in known


def _is_tied(raw: family.Raw) -> bool:
    return raw.get("tie_word_embeddings", False) is True


def _is_headless(raw: family.Raw, tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of a class without a head; one that lost its head is damaged."""
    has_head = not tensors or "lm_head.weight" in tensors or _is_tied(raw)
    return not has_head and not class_name(raw).endswith("ForCausalLM")


def _read_window(raw: family.Raw, layout: str | None) -> int | None:
    """Reads the sliding window; Qwen has one only if asked for, in layers after the first ones."""
    if layout == "LlamaForCausalLM":
        return None
    if layout not in _QWEN:
        return raw.get("sliding_window", 4096 if layout == "MistralForCausalLM" else None)
    window = raw.get("sliding_window", 4096)
    layers, first = family.field(raw, "num_hidden_layers"), raw.get("max_window_layers", 28)
    if not raw.get("use_sliding_window", False) or window is None or first >= layers:
        return None
    if first > 0 and raw.get("layer_types") is None:
        raise InputError(
            f"config.json must have a sliding_window in all layers or in none, got {first} of "
            f"{layers} without (max_window_layers), which this network does not implement"
        )
    return window


def _require_plain(raw: family.Raw, window: int | None) -> None:
    """Raises `InputError` for settings by which relatives with the same tensors differ."""
    for name, value in raw.items():
        if _ALTERING.search(name) and value not in (None, False, 1, [], {}):
            raise InputError(
                f"config.json must have no {name}, got {value!r:.60}, which this network does not "
                "implement"
            )
    kinds = raw.get("layer_types") or ()
    fine = {"full_attention"} if window is None else {"sliding_attention"}
    if not set(kinds) <= fine:
        raise InputError(
            f"config.json must have layer_types of {fine.pop()} alone, got "
            f"{', '.join(sorted(map(str, set(kinds))))}"
        )


def _read_rope(raw: family.Raw, layout: str | None) -> RopeConfig:
    """Reads the rotary settings; of those that stand twice, the ones transformers takes."""
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _ROPE_KINDS:
        raise InputError(
            f"config.json must have a rope type among {', '.join(_ROPE_KINDS)}, got {kind!r}"
        )
    max_length = raw.get("max_position_embeddings", 4096)
    length = "original_max_position_embeddings"
    default = 4096 if layout == "Phi3ForCausalLM" else scaling.get(length) or max_length
    original = raw.get(length) or default
    partial = scaling.get("partial_rotary_factor", raw.get("partial_rotary_factor"))
    whole = layout in (*_PLAIN, *_QWEN)  # whatever `partial` is
    if whole and kind != "default" and partial not in (None, 1):
        raise InputError(
            f"config.json must have no partial_rotary_factor beside rope type {kind} in a "
            f"{_TYPES[layout].title()}, got {partial!r:.60}; take it out"
        )
    rope = dict(
        kind=_ROPE_KINDS[kind],
        theta=float(scaling.get("rope_theta", raw.get("rope_theta", 10000.0))),
        partial=1.0 if whole or partial is None else float(partial),
        max_length=max_length,
        original_max_length=original,
    )
    for name in ("factor", "attention_factor", "low_freq_factor", "high_freq_factor"):
        if scaling.get(name) is not None:
            rope[name] = float(scaling[name])
    for name in ("short_factor", "long_factor"):
        if kind in ("longrope", "su"):
            rope[name] = tuple(map(float, family.field(scaling, name, list)))
    return RopeConfig(**rope)


def _write_rope(rope: RopeConfig) -> family.Raw:
    raw: family.Raw = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.partial != 1:
        raw["partial_rotary_factor"] = rope.partial
    if rope.factor is not None:
        raw["factor"] = rope.factor
    if rope.kind == "longrope":
        raw |= {"short_factor": list(rope.short_factor), "long_factor": list(rope.long_factor)}
        raw["original_max_position_embeddings"] = rope.original_max_length
        if rope.attention_factor is not None:
            raw["attention_factor"] = rope.attention_factor
    if rope.kind == "llama3":
        raw |= {
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_length,
        }
    return raw
