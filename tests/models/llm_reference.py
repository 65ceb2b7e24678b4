# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random torch LLMs of each layout."""

import numpy as np
import pytest


def config_of(layout, cfg):
    """The transformers config of `cfg` in a layout: phi3, llama, mistral, qwen2 or qwen3."""
    import transformers

    extra = dict(head_dim=cfg.head_dim)
    if layout == "phi3":
        extra = dict(original_max_position_embeddings=cfg.rope.original_max_length)
    if layout != "llama":
        extra["sliding_window"] = cfg.sliding_window
    if layout.startswith("qwen"):
        extra |= dict(use_sliding_window=cfg.sliding_window is not None, max_window_layers=0)
    return getattr(transformers, f"{layout.title()}Config")(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.width,
        intermediate_size=cfg.mlp_dim,
        num_hidden_layers=cfg.num_layers,
        num_attention_heads=cfg.num_heads,
        num_key_value_heads=cfg.num_kv_heads,
        rms_norm_eps=cfg.norm_eps,
        max_position_embeddings=cfg.rope.max_length,
        tie_word_embeddings=cfg.tie_embeddings,
        rope_parameters=_rope(cfg.rope),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **extra,
    )


def build(layout, cfg, seed=0):
    """A random torch model of `cfg` in a layout."""
    torch = pytest.importorskip("torch")
    import transformers

    torch.manual_seed(seed)
    model_class = getattr(transformers, f"{layout.title()}ForCausalLM")
    model = model_class(config_of(layout, cfg)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.add_(torch.randn_like(p) * (0.3 if "norm" in name else 0.15))
    return model


def _rope(rope):
    settings = dict(rope_type=rope.kind, rope_theta=rope.theta)
    if rope.partial != 1:
        settings["partial_rotary_factor"] = rope.partial
    if rope.kind == "longrope":
        settings |= dict(short_factor=list(rope.short_factor), long_factor=list(rope.long_factor))
        if rope.attention_factor is not None:
            settings["attention_factor"] = rope.attention_factor
    if rope.kind == "llama3":
        settings |= dict(
            low_freq_factor=rope.low_freq_factor,
            high_freq_factor=rope.high_freq_factor,
            original_max_position_embeddings=rope.original_max_length,
        )
    if rope.factor is not None:
        settings["factor"] = rope.factor
    return settings


def frequencies(layout, cfg, long):
    """Rotary frequencies and table scale, for sequences within or beyond the original length."""
    pytest.importorskip("torch")
    from transformers import modeling_rope_utils
    from transformers.models.phi3 import modeling_phi3

    config = config_of(layout, cfg)
    if cfg.rope.kind == "default":
        make = modeling_phi3.Phi3RotaryEmbedding.compute_default_rope_parameters
        return make(config)
    make = modeling_rope_utils.ROPE_INIT_FUNCTIONS[cfg.rope.kind]
    return make(config, "cpu", seq_len=cfg.rope.original_max_length + long)


def forward(model, ids, mask, embeddings=None):
    """All hidden states and the logits as arrays; `mask` is one of tokens or a 4D one of pairs."""
    import torch

    if mask is not None:
        pairs = mask.ndim == 4  # transformers adds these to the scores
        mask = torch.tensor(np.where(mask, 0.0, -1e30).astype("f") if pairs else mask.astype(int))
    with torch.no_grad():
        out = model(
            None if ids is None else torch.tensor(ids),
            attention_mask=mask,
            inputs_embeds=None if embeddings is None else torch.tensor(embeddings),
            output_hidden_states=True,
        )
    return [h.numpy() for h in out.hidden_states], out.logits.numpy()


def generate(model, ids, mask, max_new_tokens, eos_token_id):
    """Greedy continuation, prompts cut off."""
    import torch

    with torch.no_grad():
        out = model.generate(
            torch.tensor(np.asarray(ids, np.int64)),
            attention_mask=torch.tensor(np.asarray(mask, np.int64)),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=eos_token_id,
        )
    return out[:, ids.shape[1] :].numpy()
